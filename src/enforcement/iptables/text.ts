/**
 * A ruleset in the words of iptables and ipset: rules of equal meaning, as `iptables-save` and `ipset save` would print them. Nothing
 * programs these; they are for whoever reads iptables, or compares with other engines.
 *
 * Where nftables has two base chains that both have to agree, `FORWARD` here calls a chain a direction, and what a direction admits
 * returns from it: an `ACCEPT` would end them both. For the same reason each pod's chain holds the rules of its policies itself: what a
 * chain that it calls admitted could not return past it.
 */
import { createHash } from 'node:crypto';
import { type Family, familyOf, formatAddress, formatPrefix, ipv4, ipv6, type Prefix } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import { rangeToPrefixes } from '../../policy/ranges.ts';
import type { PortRange } from '../../policy/ports.ts';
import {
  type AdmitRule,
  type DesiredChain,
  type DesiredSet,
  type ObjectName,
  policyChainsOf,
  type Ruleset,
  type SetElement,
} from '../../ruleset/objects.ts';
import { CUT_LABEL } from '../conntrack/flow-sweep.ts';
import { FRAME_COMMENTS, type TableOptions } from '../nftables/frame.ts';
import { LOGGED_A_SECOND, LOGGED_AT_ONCE, logPrefix } from '../nftables/render.ts';

/** What each of the three programs reads, in the order in which they have to: rules name sets. */
export interface IptablesText {
  /** For `ipset restore`. */
  readonly sets: string;
  /** For `iptables-restore --noflush` and `ip6tables-restore --noflush`. */
  readonly rules: Readonly<Record<Family, string>>;
}

const DIRECTION_CHAIN: Readonly<Record<Direction, string>> = { egress: 'SLUICE-EGRESS', ingress: 'SLUICE-INGRESS' };
const INITIAL: Readonly<Record<Direction, string>> = { egress: 'E', ingress: 'I' };
const FAMILY_NAME: Readonly<Record<Family, string>> = { 4: 'inet', 6: 'inet6' };
const WIDTH: Readonly<Record<Family, number>> = { 4: 32, 6: 128 };
/** What ipset takes where nothing is said. */
const USUAL_ELEMENTS = 65_536;
/** XT_MULTI_PORTS (linux/netfilter/xt_multiport.h): a range counts two. */
const MULTIPORT_PORTS = 15;
/** NFLOG's prefix has 64 bytes, its terminating zero included (linux/netfilter/xt_NFLOG.h). */
const LONGEST_PREFIX = 63;
/** XT_MAX_COMMENT_LEN is 256. */
const LONGEST_COMMENT = 255;

export function iptablesText(ruleset: Ruleset, options: TableOptions): IptablesText {
  return {
    sets: [...ruleset.sets.values()].flatMap((set) => setLines(set)).join(''),
    rules: { 4: familyText(ruleset, 4, options), 6: familyText(ruleset, 6, options) },
  };
}

/** All three parts in one text, each behind a comment that says who reads it. */
export function iptablesDump(ruleset: Ruleset, options: TableOptions): string {
  const { sets, rules } = iptablesText(ruleset, options);
  return `# ipset restore\n${sets}# iptables-restore --noflush\n${rules[4]}# ip6tables-restore --noflush\n${rules[6]}`;
}

// --- names

function hash(name: ObjectName): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 16).toUpperCase();
}

/** Of a pod and direction; chains have at most 28 characters. */
export function chainName({ name, direction }: Pick<DesiredChain, 'name' | 'direction'>): string {
  return `SLUICE-${INITIAL[direction]}-${hash(name)}`;
}

/** Sets have at most 31 characters. */
export function setName(name: ObjectName): string {
  return `SLUICE-${hash(name)}`;
}

// --- sets

function setLines(set: DesiredSet): string[] {
  const { description } = set;
  // Ports are said in the rules (multiport).
  if (description.kind === 'ports') return [];
  const name = setName(description.name);
  const elements =
    description.kind === 'block'
      ? description.ranges.flatMap((range) => rangeToPrefixes(range).flatMap(halves).map(formatPrefix))
      : [...set.elements()].map(elementText);
  const type = { pods: 'hash:ip', 'named-ports': 'hash:ip,port', block: 'hash:net' }[description.kind];
  const size = Math.max(USUAL_ELEMENTS, elements.length);
  return [
    `create ${name} ${type} family ${FAMILY_NAME[description.family]} hashsize 1024 maxelem ${size}\n`,
    ...elements.map((element) => `add ${name} ${element}\n`),
  ];
}

/** hash:net has no element for all addresses. */
function halves(prefix: Prefix): Prefix[] {
  if (prefix.length > 0) return [prefix];
  const family = familyOf(prefix.address);
  const upper = family === 4 ? ipv4(0x8000_0000) : ipv6(1n << 127n);
  return [prefix.address, upper].map((address) => ({ address, length: 1 }));
}

function elementText(element: SetElement): string {
  return typeof element === 'object'
    ? `${formatAddress(element.address)},${element.protocol.toLowerCase()}:${element.port}`
    : formatAddress(element);
}

// --- rules

function familyText(ruleset: Ruleset, family: Family, options: TableOptions): string {
  const pods = [...ruleset.chains.values()].filter(({ kind }) => kind === 'pod').sort((a, b) => (a.name < b.name ? -1 : 1));
  const chains = [DIRECTION_CHAIN.egress, DIRECTION_CHAIN.ingress, ...pods.map(chainName)];
  return [
    '*filter',
    ':FORWARD ACCEPT [0:0]',
    ...chains.map((chain) => `:${chain} - [0:0]`),
    ...(['egress', 'ingress'] as const).map((direction) => `-A FORWARD ${comment(`sluice ${direction}`)} -j ${DIRECTION_CHAIN[direction]}`),
    ...(['egress', 'ingress'] as const).flatMap((direction) => frameLines(ruleset, direction, family, options)),
    ...pods.flatMap((chain) => podLines(ruleset, chain, family, options)),
    'COMMIT',
    '',
  ].join('\n');
}

function frameLines({ verdicts, chains }: Ruleset, direction: Direction, family: Family, { cutMark }: TableOptions): string[] {
  const chain = DIRECTION_CHAIN[direction];
  const mark = `0x${cutMark.toString(16)}`;
  const icmp = family === 4 ? '-p icmp -m icmp' : '-p ipv6-icmp -m icmp6';
  const type = family === 4 ? '--icmp-type' : '--icmpv6-type';
  // ICMP redirect, ND redirect; neighbour solicitation and advertisement.
  const redirect = family === 4 ? 5 : 137;
  const lines: string[] = [];
  if (direction === 'egress') {
    lines.push(`-m connlabel --label "${CUT_LABEL}" ${comment(FRAME_COMMENTS.cutLabel)} -j DROP`);
    lines.push(`-m connmark --mark ${mark}/${mark} ${comment(FRAME_COMMENTS.cutMark)} -j DROP`);
  }
  lines.push(`-m conntrack --ctstate ESTABLISHED ${comment(FRAME_COMMENTS.established)} -j RETURN`);
  lines.push(`${icmp} ! ${type} ${redirect} -m conntrack --ctstate RELATED ${comment(FRAME_COMMENTS.related)} -j RETURN`);
  if (family === 6) {
    for (const neighbour of [135, 136])
      lines.push(`${icmp} ${type} ${neighbour} -m hl --hl-eq 255 ${comment(FRAME_COMMENTS.neighbourDiscovery)} -j RETURN`);
  }
  for (const [address, name] of verdicts[direction]) {
    const pod = chains.get(name);
    if (pod === undefined || familyOf(address) !== family) continue;
    const side = direction === 'ingress' ? '-d' : '-s';
    lines.push(`${side} ${formatAddress(address)}/${WIDTH[family]} ${comment(pod.of)} -g ${chainName(pod)}`);
  }
  return lines.map((line) => `-A ${chain} ${line}`);
}

function podLines(ruleset: Ruleset, chain: DesiredChain, family: Family, { logGroup }: TableOptions): string[] {
  const lines: string[] = [];
  for (const rule of chain.rules) {
    if (rule.kind === 'self') {
      if (familyOf(rule.address) === family)
        lines.push(`${chain.direction === 'ingress' ? '-s' : '-d'} ${formatAddress(rule.address)}/${WIDTH[family]} -j RETURN`);
    } else if (rule.kind === 'jump') {
      for (const name of policyChainsOf(ruleset, { ...chain, rules: [rule] })) {
        const policy = ruleset.chains.get(name);
        for (const admit of policy?.rules ?? [])
          if (admit.kind === 'admit') for (const each of admitLines(ruleset, chain, policy?.of ?? '', admit, family)) lines.push(each);
      }
    } else for (const each of admitLines(ruleset, chain, chain.of, rule, family)) lines.push(each);
  }
  if (logGroup !== undefined) {
    const limit = `-m limit --limit ${LOGGED_A_SECOND}/sec --limit-burst ${LOGGED_AT_ONCE}`;
    lines.push(`${limit} -j NFLOG --nflog-prefix "${logPrefix(chain).slice(0, LONGEST_PREFIX)}" --nflog-group ${logGroup}`);
  }
  lines.push(chain.audited ? '-j RETURN' : '-j DROP');
  return lines.map((line) => `-A ${chainName(chain)} ${line}`);
}

function admitLines({ sets }: Ruleset, { direction }: DesiredChain, policy: string, rule: AdmitRule, family: Family): string[] {
  if (rule.family !== undefined && rule.family !== family) return [];
  const matches: string[] = [];
  const protocol = rule.protocol?.toLowerCase();
  if (protocol !== undefined) matches.push(`-p ${protocol}`);
  if (rule.peer !== undefined) matches.push(`-m set --match-set ${setName(rule.peer)} ${direction === 'ingress' ? 'src' : 'dst'}`);
  if (rule.named !== undefined) matches.push(`-m set --match-set ${setName(rule.named)} dst,dst`);
  const end = `${comment(`${policy} ${rule.comment}`)} -j RETURN`;
  const { port } = rule;
  if (port === undefined || protocol === undefined) return [[...matches, end].join(' ')];
  const ranges = typeof port === 'string' ? portsOf(sets.get(port)) : [port];
  const [only, another] = ranges;
  if (only !== undefined && another === undefined) return [[...matches, `-m ${protocol} --dport ${portText(only)}`, end].join(' ')];
  return inMultiports(ranges).map((group) => [...matches, `-m multiport --dports ${group.map(portText).join(',')}`, end].join(' '));
}

function portsOf(set: DesiredSet | undefined): readonly PortRange[] {
  return set?.description.kind === 'ports' ? set.description.ranges : [];
}

function portText({ first, last }: PortRange): string {
  return first === last ? `${first}` : `${first}:${last}`;
}

/** As many rules as are needed: each takes fifteen numbers. */
function inMultiports(ranges: readonly PortRange[]): PortRange[][] {
  const groups: PortRange[][] = [];
  let [group, count]: [PortRange[], number] = [[], 0];
  for (const range of ranges) {
    const numbers = range.first === range.last ? 1 : 2;
    if (count + numbers > MULTIPORT_PORTS) {
      groups.push(group);
      [group, count] = [[], 0];
    }
    group.push(range);
    count += numbers;
  }
  return group.length === 0 ? groups : [...groups, group];
}

function comment(text: string): string {
  return `-m comment --comment "${text.replaceAll(/["\\]/gu, '').slice(0, LONGEST_COMMENT)}"`;
}
