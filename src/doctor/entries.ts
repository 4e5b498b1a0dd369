/**
 * What the kernel holds for the peers, against what their leases want: neighbours, forwarding entries, routes. What is wanted is said by
 * the backends; what counts as left over is what the daemon removes at its start (src/network/kernel.ts).
 */
import { strictlyInside } from '../network/devices.ts';
import { describeEntry, type Entry, keyOf, type NeighbourEntry, type ForwardingEntry, type RouteEntry } from '../network/entries.ts';
import { familyOf, formatAddress, formatPrefix } from '../policy/address.ts';
import { ROUTE_PROTOCOL, type Route } from '../rtnetlink/routes.ts';
import { podAddress } from './collect-kernel.ts';
import type { Evidence, KernelTables } from './evidence.ts';
import { ofKind, peerPlanOf, type PeerPlan, type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, type FindingCode, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

/** One entry that is not as it should be. */
interface Difference {
  readonly code: FindingCode;
  /** What those of one code and subject have in common. */
  readonly subject: string;
  readonly severity: Finding['severity'];
  /** What follows, as a sentence of all of them. */
  readonly message: string;
  readonly evidence: string;
  readonly remedy: string;
  /** Undefined: of no node that there is. */
  readonly node: string | undefined;
}

export function checkEntries(evidence: Evidence): CheckOutcome {
  const { leases, tables, conf } = evidence;
  if ('blind' in leases) return blind(leases.blind);
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const peers = peerPlanOf(plan.seen, evidence, tables.seen, leases.seen);
  const table = new KernelEntries(plan.seen, tables.seen);
  const wanted = peers.entries.all().filter((entry) => table.hasDevice(entry));
  const differences = [
    ...ofKind(wanted, 'neighbour').flatMap((entry) => table.neighbour(entry)),
    ...ofKind(wanted, 'forwarding').flatMap((entry) => table.forwarding(entry)),
    ...ofKind(wanted, 'route').flatMap((entry) => table.route(entry)),
    ...table.leftOver(peers, conf.backend.type !== 'alloc'),
  ].map((difference) => ({ ...difference, node: difference.key === undefined ? undefined : peers.owners.get(difference.key) }));
  return foundBy(grouped(differences, wanted.length));
}

/** One finding for all of a kind: a table that was flushed is one fault and not a thousand. */
function grouped(differences: readonly Difference[], total: number): Finding[] {
  return [...Map.groupBy(differences, ({ code, subject }) => `${code} ${subject}`).values()].flatMap((list): Finding[] => {
    const [first] = list;
    if (first === undefined) return [];
    const nodes = [...new Set(list.flatMap(({ node }) => node ?? []))];
    const whose =
      nodes.length === 0
        ? ''
        : ` (${nodes.length > 5 ? `${nodes.slice(0, 5).join(', ')} and ${nodes.length - 5} more nodes` : nodes.join(', ')})`;
    return [
      {
        code: first.code,
        severity: first.severity,
        subject: first.subject,
        message: `${first.message}: ${list.length} of ${Math.max(total, list.length)} entries${whose}`,
        evidence: list.map((each) => each.evidence),
        remedy: lines(list.map((each) => each.remedy)),
      },
    ];
  });
}

type KeyedDifference = Omit<Difference, 'node'> & { readonly key: string | undefined };

/** With the port and VNI of its device. */
function isPlain({ port, vni }: KernelTables['forwarding'][number]): boolean {
  return port === undefined && vni === undefined;
}

/** The kernel's tables, as far as they concern the pod network. */
class KernelEntries {
  readonly #plan: Plan;
  readonly #tables: KernelTables;
  readonly #indexes: ReadonlyMap<string, number>;
  readonly #names: ReadonlyMap<number, string>;
  readonly #neighbours: ReadonlyMap<string, KernelTables['neighbours']>;
  readonly #forwarding: ReadonlyMap<string, KernelTables['forwarding']>;
  readonly #routes: ReadonlyMap<string, readonly Route[]>;

  constructor(plan: Plan, tables: KernelTables) {
    this.#plan = plan;
    this.#tables = tables;
    this.#indexes = new Map(tables.links.map(({ name, index }) => [name, index]));
    this.#names = new Map(tables.links.map(({ name, index }) => [index, name]));
    this.#neighbours = Map.groupBy(tables.neighbours, ({ link, address }) => `${link} ${formatAddress(address)}`);
    this.#forwarding = Map.groupBy(
      tables.forwarding.filter(({ permanent, self }) => permanent && self),
      ({ link, mac }) => `${link} ${mac}`,
    );
    this.#routes = Map.groupBy(tables.routes, ({ destination }) => formatPrefix(destination));
  }

  /** What is missing with its device is said of the device. */
  hasDevice(entry: Entry): boolean {
    return entry.device === '' || this.#indexes.has(entry.device);
  }

  neighbour(entry: NeighbourEntry): KeyedDifference[] {
    const { device, address, mac } = entry;
    const there = this.#neighbours.get(`${this.#indexes.get(device)} ${formatAddress(address)}`) ?? [];
    const permanent = there.find((each) => each.permanent);
    if (permanent?.mac === mac) return [];
    const remedy = `ip neigh replace ${formatAddress(address)} lladdr ${mac} dev ${word(device)} nud permanent`;
    const has = permanent === undefined ? 'not there' : `there is lladdr ${permanent.mac ?? 'none'}`;
    return [this.#wanted(entry, 'NEIGHBOUR', permanent === undefined, device, has, remedy)];
  }

  forwarding(entry: ForwardingEntry): KeyedDifference[] {
    const { device, mac, destination } = entry;
    const there = this.#forwarding.get(`${this.#indexes.get(device)} ${mac}`) ?? [];
    if (there.some((each) => each.destination === destination && isPlain(each))) return [];
    const remedy = lines(
      // Those with a port or VNI of their own are others to the kernel, and would stay.
      there.every(isPlain) ? undefined : `bridge fdb del ${mac} dev ${word(device)} self`,
      `bridge fdb replace ${mac} dev ${word(device)} self permanent dst ${formatAddress(destination)}`,
    );
    const others = there.map(
      (each) =>
        (each.destination === undefined ? 'none' : formatAddress(each.destination)) +
        (isPlain(each) ? '' : ` port ${each.port} vni ${each.vni}`),
    );
    const has = there.length === 0 ? 'not there' : `there is dst ${others.join(', ')}`;
    return [this.#wanted(entry, 'FORWARDING', there.length === 0, device, has, remedy)];
  }

  route(entry: RouteEntry): KeyedDifference[] {
    const { destination, gateway, device, onlink, blackhole } = entry;
    const there = this.#routes.get(formatPrefix(destination)) ?? [];
    const subject = 'routes';
    const ip = familyOf(destination.address) === 6 ? 'ip -6' : 'ip';
    if (there.some((route) => this.#isRoute(entry, route))) return this.#overruled(entry);
    const via = gateway === undefined ? '' : ` via ${formatAddress(gateway)}`;
    const remedy =
      blackhole === true
        ? `${ip} route replace blackhole ${formatPrefix(destination)}`
        : `${ip} route replace ${formatPrefix(destination)}${via} dev ${word(device)}${onlink ? ' onlink' : ''}`;
    const has = there.length === 0 ? 'not there' : `there is ${there.map((route) => this.#show(route)).join(', ')}`;
    return [this.#wanted(entry, 'ROUTE', there.length === 0, subject, has, remedy)];
  }

  #wanted(
    entry: Entry,
    kind: 'NEIGHBOUR' | 'FORWARDING' | 'ROUTE',
    isMissing: boolean,
    subject: string,
    has: string,
    remedy: string,
  ): KeyedDifference {
    return {
      code: `${kind}_${isMissing ? 'MISSING' : 'WRONG'}`,
      severity: 'error',
      subject,
      message: isMissing
        ? 'pods of other nodes cannot be reached, for what leads to them is missing'
        : 'packets for pods of other nodes go astray',
      evidence: `wanted: ${describeEntry(entry)}; ${has}`,
      remedy,
      key: keyOf(entry),
    };
  }

  /** The route is there, and packets take another: a rule (`ip rule`), or a route that says more. */
  #overruled(entry: RouteEntry): KeyedDifference[] {
    const { destination, device } = entry;
    const pod = podAddress(destination);
    if (entry.blackhole === true || !this.#tables.routesTo.has(pod)) return [];
    const taken = this.#tables.routesTo.get(pod);
    if (taken?.link === this.#indexes.get(device)) return [];
    // A device that is down takes its routes with it, and says so itself.
    return [
      {
        code: 'ROUTE_OVERRULED',
        severity: 'error',
        subject: 'routes',
        message: 'the route to pods of another node is there, and packets take another',
        evidence: `wanted: ${describeEntry(entry)}; ip route get ${formatAddress(pod)}: ${taken === undefined ? 'no way there' : `${this.#show(taken)}, table ${taken.table}`}`,
        remedy: lines('# By a rule for another table, or a route to a smaller block:', 'ip rule', `ip route get ${formatAddress(pod)}`),
        key: keyOf(entry),
      },
    ];
  }

  leftOver({ entries }: PeerPlan, sweepsRoutes: boolean): KeyedDifference[] {
    const differences: KeyedDifference[] = [];
    const add = (code: FindingCode, subject: string, message: string, evidence: string, remedy: string): void =>
      void differences.push({ code, severity: 'warning', subject, message, evidence, remedy, key: undefined });
    const devices = new Map(this.#plan.devices.map(({ name }) => [this.#indexes.get(name), name]));
    const nobody = 'it is for a node that is not there, or not there any more';
    for (const { link, address, mac, permanent } of this.#tables.neighbours) {
      const device = devices.get(link);
      if (device === undefined || !permanent) continue;
      const entry: Entry = { kind: 'neighbour', device, address, mac: mac ?? '' };
      if (entries.get(keyOf(entry)) !== undefined) continue;
      add('NEIGHBOUR_LEFT_OVER', device, nobody, describeEntry(entry), `ip neigh del ${formatAddress(address)} dev ${word(device)}`);
    }
    for (const { link, mac, destination, permanent, self } of this.#tables.forwarding) {
      const device = devices.get(link);
      if (device === undefined || !permanent || !self || destination === undefined) continue;
      const entry: Entry = { kind: 'forwarding', device, mac, destination };
      const wanted = entries.get(keyOf(entry));
      // The only one of a key that leads elsewhere is said to be wrong.
      if (wanted?.kind === 'forwarding' && (wanted.destination === destination || this.#isOnly(link, mac))) continue;
      const message = wanted === undefined ? nobody : 'it is a second destination: every packet for that node is sent to both';
      const remedy = `bridge fdb del ${mac} dev ${word(device)} self dst ${formatAddress(destination)}`;
      add('FORWARDING_LEFT_OVER', device, message, describeEntry(entry), remedy);
    }
    if (!sweepsRoutes) return differences;
    for (const route of this.#tables.routes) {
      if (!this.#isLeftOver(route, devices)) continue;
      const { destination } = route;
      if (entries.get(`route ${formatPrefix(destination)}`) !== undefined) continue;
      const text = this.#show(route);
      const ip = familyOf(destination.address) === 6 ? 'ip -6' : 'ip';
      add('ROUTE_LEFT_OVER', 'routes', nobody, `route ${text}`, `${ip} route del ${text}`);
    }
    return differences;
  }

  #isOnly(link: number, mac: string): boolean {
    return (this.#forwarding.get(`${link} ${mac}`) ?? []).length === 1;
  }

  #isRoute({ gateway, device, onlink, blackhole }: RouteEntry, route: Route): boolean {
    if (blackhole === true) return route.type === 'blackhole';
    return (
      route.type === 'unicast' &&
      route.gateway === gateway &&
      route.hops === 1 &&
      route.link === this.#indexes.get(device) &&
      route.onlink === onlink
    );
  }

  #isLeftOver({ type, protocol, destination, gateway, link }: Route, devices: ReadonlyMap<number | undefined, string>): boolean {
    if (type !== 'unicast' || protocol !== ROUTE_PROTOCOL.boot) return false;
    if (!this.#plan.networks.some((network) => strictlyInside(network, destination))) return false;
    return gateway !== undefined || (link !== undefined && devices.has(link));
  }

  /** As `ip route` has it, so that it can be deleted by these words. */
  #show({ type, destination, gateway, link, onlink }: Route): string {
    const device = link === undefined ? undefined : this.#names.get(link);
    return [
      ...(type === 'unicast' ? [] : [type]),
      formatPrefix(destination),
      ...(gateway === undefined ? [] : ['via', formatAddress(gateway)]),
      ...(device === undefined ? [] : ['dev', word(device)]),
      ...(onlink ? ['onlink'] : []),
    ].join(' ');
  }
}
