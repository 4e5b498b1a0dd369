/**
 * Which interface the packets between nodes go through, and which of its addresses the others send to. The rules and their order are
 * flanneld's (main.go, pkg/ipmatch), chosen from data: links, addresses and routes as they are at one moment.
 */
import { SluiceError } from '../errors.ts';
import { type Address, type Family, familyOf, formatAddress, parseAddress } from '../policy/address.ts';
import { quote } from '../policy/problems.ts';
import { ADDRESS_FLAG, type InterfaceAddress } from '../rtnetlink/addresses.ts';
import type { Link } from '../rtnetlink/links.ts';
import { ROUTE_TABLE, type Route } from '../rtnetlink/routes.ts';

export interface InterfaceInput {
  /** In the kernel's order. */
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
  /** How packets to an address leave this node, as `ip route get` says; undefined: they do not. */
  readonly routeTo: (address: Address) => Route | undefined;
}

export interface InterfaceOptions {
  /** `--iface`: names or addresses, the first that is there counts. */
  readonly iface: readonly string[];
  /** `--iface-regex`: of names or addresses; looked at after `iface`. */
  readonly ifaceRegex: readonly string[];
  /** `--iface-can-reach`: an address; looked at after `ifaceRegex`. */
  readonly ifaceCanReach: string | undefined;
  /** `--public-ip`: what is published instead of the interface's own; alone it also says which interface. */
  readonly publicIP: Address | undefined;
  readonly publicIPv6: Address | undefined;
  /** The families that the network has; at least one. */
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

export interface ExternalInterface {
  readonly index: number;
  readonly name: string;
  /** Bytes. */
  readonly mtu: number;
  /** There for each family that the network has. */
  readonly v4?: InterfaceFamily | undefined;
  readonly v6?: InterfaceFamily | undefined;
}

export interface InterfaceFamily {
  /** Of the interface. */
  readonly own: Address;
  /** Published for the others. */
  readonly public: Address;
}

/** An interface, and those of its addresses that were already chosen by the choice of it. */
interface Choice {
  readonly link: Link;
  readonly v4?: Address;
  readonly v6?: Address;
}

/** What an attempt comes to; a text says why there is nothing. */
type Attempt<T> = T | string;

/**
 * Chooses by `iface`, `ifaceRegex` and `ifaceCanReach`, in this order; where none of them is given by the public address, and where that
 * is not given either by the default route, of several the one with the lowest metric.
 * @throws SluiceError `NO_INTERFACE`: what was tried, and which interfaces there are with which addresses
 */
export function chooseInterface(input: InterfaceInput, options: InterfaceOptions): ExternalInterface {
  const misses: string[] = [];
  for (const [how, attempt] of attempts(input, options)) {
    const choice = attempt();
    const chosen = typeof choice === 'string' ? choice : complete(input, options, choice);
    if (typeof chosen !== 'string') return chosen;
    misses.push(`${how}: ${chosen}`);
  }
  throw new SluiceError(
    'NO_INTERFACE',
    `choosing the interface for packets between nodes: ${misses.join('; ')}. There are ${describeAll(input)}`,
    { hint: 'Name one with --iface NAME, --iface ADDRESS or --iface-can-reach ADDRESS.' },
  );
}

type NamedAttempt = readonly [how: string, attempt: () => Attempt<Choice>];

function attempts(input: InterfaceInput, options: InterfaceOptions): NamedAttempt[] {
  const { iface, ifaceRegex, ifaceCanReach } = options;
  const list: NamedAttempt[] = [
    ...iface.map((text) => [`--iface ${text}`, () => byNameOrAddress(input, options, text)] as const),
    ...ifaceRegex.map((text) => [`--iface-regex ${text}`, () => byPattern(input, options, text)] as const),
  ];
  if (ifaceCanReach !== undefined) list.push([`--iface-can-reach ${ifaceCanReach}`, () => byRouteTo(input, ifaceCanReach)]);
  if (list.length > 0) return list;
  const given = (options.ipv4 ? options.publicIP : undefined) ?? (options.ipv6 ? options.publicIPv6 : undefined);
  if (given === undefined) return [['the default route', () => byDefaultRoute(input, options)]];
  return [[`the public address ${formatAddress(given)}`, () => byAddress(input, options, given)]];
}

function byNameOrAddress(input: InterfaceInput, options: InterfaceOptions, text: string): Attempt<Choice> {
  const address = parseAddress(text);
  if (address !== undefined) return byAddress(input, options, address);
  const link = input.links.find(({ name }) => name === text);
  return link === undefined ? 'there is no interface of this name' : { link };
}

function byAddress(input: InterfaceInput, options: InterfaceOptions, address: Address): Attempt<Choice> {
  const family = familyOf(address);
  if (!familiesOf(options).includes(family)) return `the network has no IPv${family}`;
  const link = linkWith(input, address);
  if (link === undefined) return `no interface has the address ${formatAddress(address)}`;
  if (family === 6) return { link, v6: address };
  if (!options.ipv6 || options.publicIPv6 === undefined) return { link, v4: address };
  // With both families, and an address given for each, flanneld wants both of them on one interface.
  const other = linkWith(input, options.publicIPv6);
  if (other === link) return { link, v4: address, v6: options.publicIPv6 };
  const where = other === undefined ? 'no interface' : `interface ${other.name}`;
  return `it is on interface ${link.name}, and the public IPv6 address ${formatAddress(options.publicIPv6)} on ${where}: it has to be one`;
}

/** First an interface whose addresses match, of each family one; then one whose name does. */
function byPattern(input: InterfaceInput, options: InterfaceOptions, text: string): Attempt<Choice> {
  const pattern = readPattern(text);
  if (typeof pattern === 'string') return pattern;
  for (const link of input.links) {
    const matching = new Map<Family, Address>();
    for (const family of familiesOf(options)) {
      const address = usableAddresses(input, link, family).find((each) => pattern.test(formatAddress(each)));
      if (address !== undefined) matching.set(family, address);
    }
    if (matching.size === familiesOf(options).length) return choiceOf(link, matching.get(4), matching.get(6));
  }
  const link = input.links.find(({ name }) => pattern.test(name));
  const both = options.ipv4 && options.ipv6 ? ' of each family' : '';
  return link === undefined ? `it matches neither an address${both} nor a name of any interface` : { link };
}

/** As far as Go's syntax differs in what people write: flags for the whole (`(?i)eth`), and how groups are named. A text: why it is none. */
export function readPattern(text: string): RegExp | string {
  const [, flags = '', rest = ''] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(text) ?? [];
  try {
    return new RegExp(rest.replaceAll('(?P<', '(?<'), `u${[...new Set(flags)].join('')}`);
  } catch (error) {
    return `it is no regular expression: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function byRouteTo(input: InterfaceInput, text: string): Attempt<Choice> {
  const address = parseAddress(text);
  if (address === undefined) return `${quote(text)} is no address`;
  const route = input.routeTo(address);
  const link = route === undefined ? undefined : input.links.find(({ index }) => index === route.link);
  if (route === undefined || link === undefined) return `there is no route to ${formatAddress(address)}`;
  // The source of an IPv6 route may be one of the addresses that change every day.
  return choiceOf(link, typeof route.source === 'number' ? route.source : undefined, undefined);
}

function byDefaultRoute(input: InterfaceInput, options: InterfaceOptions): Attempt<Choice> {
  const found: Link[] = [];
  for (const family of familiesOf(options)) {
    const link = defaultLink(input, family);
    if (link === undefined) return `there is no IPv${family} default route`;
    found.push(link);
  }
  const [link, other] = found;
  if (link === undefined) return 'the network has no address family';
  if (other === undefined || other === link) return { link };
  return `that of IPv4 goes through ${link.name} and that of IPv6 through ${other.name}: it has to be one interface`;
}

/** Of equal metrics the first, as the kernel lists them. */
function defaultLink({ links, routes }: InterfaceInput, family: Family): Link | undefined {
  const candidates = routes.filter((route) => {
    return route.family === family && route.destination.length === 0 && route.type === 'unicast' && route.table === ROUTE_TABLE.main;
  });
  for (const { link: index } of candidates.toSorted((a, b) => (a.metric ?? 0) - (b.metric ?? 0))) {
    const link = links.find((each) => each.index === index);
    if (link !== undefined) return link;
  }
  return undefined;
}

/** Adds the addresses that the choice of the interface has left open. */
function complete(input: InterfaceInput, options: InterfaceOptions, { link, v4, v6 }: Choice): Attempt<ExternalInterface> {
  if (link.mtu === 0) return `the MTU of interface ${link.name} is 0`;
  const own = { 4: v4, 6: v6 };
  for (const family of familiesOf(options)) {
    own[family] ??= usableAddresses(input, link, family)[0];
    if (own[family] === undefined) return `interface ${link.name} has no IPv${family} address`;
  }
  const of = (family: Family, given: Address | undefined): InterfaceFamily | undefined => {
    const address = own[family];
    return address === undefined || !familiesOf(options).includes(family) ? undefined : { own: address, public: given ?? address };
  };
  const { index, name, mtu } = link;
  return { index, name, mtu, v4: of(4, options.publicIP), v6: of(6, options.publicIPv6) };
}

/** Those that others could send to, the best first: flanneld's compareAddrs. */
function usableAddresses({ addresses }: InterfaceInput, link: Link, family: Family): Address[] {
  return addresses
    .filter((each) => each.link === link.index && each.family === family && isUsable(each))
    .toSorted((a, b) => rank(a) - rank(b))
    .map(({ address }) => address);
}

/** Global or link-local unicast, as Go has them, and still preferred. One that another host has too (RFC 4862) is of no use. */
function isUsable({ address, flags }: InterfaceAddress): boolean {
  if ((flags & (ADDRESS_FLAG.deprecated | ADDRESS_FLAG.duplicate)) !== 0) return false;
  if (typeof address === 'number') return address !== 0 && address >>> 24 !== 127 && address >>> 28 !== 0xe && address !== 0xffff_ffff;
  return address > 1n && address >> 120n !== 0xffn;
}

/** Less is better: not link-local, then given by hand instead of by a router, then not temporary (in IPv4: not secondary). */
function rank({ address, flags }: InterfaceAddress): number {
  const isPermanent = (flags & ADDRESS_FLAG.permanent) !== 0;
  // linux/if_addr.h: IFA_F_TEMPORARY is the same bit as IFA_F_SECONDARY.
  const isTemporary = (flags & ADDRESS_FLAG.secondary) !== 0;
  return (isLinkLocal(address) ? 4 : 0) + (isPermanent ? 0 : 2) + (isTemporary ? 1 : 0);
}

/** 169.254.0.0/16 and fe80::/10 (RFC 3927, RFC 4291): nobody behind a router reaches it. */
export function isLinkLocal(address: Address): boolean {
  return typeof address === 'number' ? address >>> 16 === 0xa9fe : address >> 118n === 0x3fan;
}

function linkWith({ links, addresses }: InterfaceInput, address: Address): Link | undefined {
  return links.find(({ index }) => addresses.some((each) => each.link === index && each.address === address));
}

function familiesOf({ ipv4, ipv6 }: InterfaceOptions): Family[] {
  return [...(ipv4 ? [4 as const] : []), ...(ipv6 ? [6 as const] : [])];
}

function choiceOf(link: Link, v4: Address | undefined, v6: Address | undefined): Choice {
  return { link, ...(v4 === undefined ? {} : { v4 }), ...(v6 === undefined ? {} : { v6 }) };
}

/** `lo (127.0.0.1, ::1), eth0 (10.0.0.5)` */
function describeAll({ links, addresses }: InterfaceInput): string {
  if (links.length === 0) return 'no interfaces';
  return links
    .map(({ index, name }) => {
      const own = addresses.filter(({ link }) => link === index).map(({ address }) => formatAddress(address));
      return `${name} (${own.length === 0 ? 'no address' : own.join(', ')})`;
    })
    .join(', ');
}
