/**
 * What may happen to a node's network, drawn at random: leases of other nodes and of its own, sound and not; damage by `ip` and `bridge`;
 * what happens to its interface; what others do beside it. A chaos knows what is left of all that in the end, and so can tell another
 * namespace to be like it.
 */
import type { FamilyLease, Lease } from '../../../../src/network/lease.ts';
import type { LeaseSourceListener, OwnLease } from '../../../../src/network/lease-source.ts';
import { Dice } from '../../../random/cluster.ts';
import { address, OWN, prefix } from './network-node.ts';

export interface Scenario {
  readonly title: string;
  readonly conf: object;
  readonly blackholeRoute: boolean;
  readonly overlay: boolean;
}

const VXLAN = { Type: 'vxlan' };
export const SCENARIOS: readonly Scenario[] = [
  { title: 'vxlan', conf: { Backend: VXLAN }, blackholeRoute: false, overlay: true },
  { title: 'vxlan with DirectRouting', conf: { Backend: { ...VXLAN, DirectRouting: true } }, blackholeRoute: true, overlay: true },
  { title: 'host-gw', conf: { Backend: { Type: 'host-gw' } }, blackholeRoute: true, overlay: false },
];

/** Lines for `ip -batch` or `bridge -batch`, those that fail are passed over; or something told by the source of leases. */
export type Step = { readonly what: string } & (
  | { readonly ip: readonly string[] }
  | { readonly bridge: readonly string[] }
  | { readonly tell: (listener: LeaseSourceListener) => void }
);

/** Peers and their subnets; there are more nodes than subnets, addresses and VTEPs. */
const NUMBERS = [1, 2, 3, 4, 5, 6] as const;
const NODES = ['peer-a', 'peer-b', 'peer-c', 'peer-d', 'peer-e', 'peer-f', 'peer-g'] as const;
const MTUS = [1500, 1400, 1450, 9000] as const;
/** Of eth0; the last number of its addresses. */
const OWN_ADDRESSES = [1, 50] as const;
/** That this node may have. */
const OWN_SUBNETS = [0, 50] as const;
/** Behind the router, unless there is a route that says otherwise. */
const FAR = '10.9.9.9';

/** Things of others, that have to be left as they are; also in the cluster's network. */
export const FOREIGN: { readonly ip: readonly string[]; readonly bridge: readonly string[] } = {
  ip: [
    'link add foreign0 type veth peer name foreign1',
    'link set foreign1 up',
    'link set foreign0 up',
    'addr add 192.0.2.1/24 dev foreign0',
    'addr add 2001:db8::1/64 dev foreign0 nodad',
    'neigh add 192.0.2.9 lladdr 02:00:00:00:09:09 dev foreign0 nud permanent',
    'neigh add 2001:db8::9 lladdr 02:00:00:00:09:09 dev foreign0 nud permanent',
    'route add 198.51.100.0/24 via 192.0.2.9',
    'route add 10.244.200.0/24 via 192.0.2.9 proto static',
    'route add fd00:10:244:c8::/64 via 2001:db8::9 proto static',
    'route add blackhole 10.244.201.0/24',
    'route add 10.244.1.0/24 via 192.0.2.9 table 100',
    'rule add fwmark 9 lookup 100',
    'link add cni0 type bridge',
    'addr add 10.244.210.1/24 dev cni0',
    'link set cni0 up',
    'link add vxlan9 address 02:00:00:00:09:09 type vxlan id 9 dstport 4789 dev foreign0 local 192.0.2.1 nolearning',
    'link set vxlan9 up',
    'neigh add 10.250.0.9 lladdr 02:00:00:00:09:07 dev vxlan9 nud permanent',
  ],
  bridge: ['fdb append 02:00:00:00:09:07 dev vxlan9 dst 192.0.2.7 self permanent'],
};

export class Chaos {
  readonly scenario: Scenario;
  readonly #dice: Dice;
  readonly leases = new Map<string, Lease>();
  #own: OwnLease = ownLease(OWN_SUBNETS[0]);
  #isWaiting = false;
  #mtu: number = MTUS[0];
  #address: number = OWN_ADDRESSES[0];
  #farIsNear = false;
  /** Somebody has put a device of his own in the place of an overlay device. Under another name that would be his, and stay. */
  #isReplaced = false;
  /** What others have done so far. */
  readonly foreign: Step[] = [];
  #count = 0;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.scenario = this.#dice.pick(SCENARIOS);
    for (const node of this.#dice.some(NODES, 60)) this.leases.set(node, this.#lease(node));
  }

  roll(sides: number): number {
    return this.#dice.roll(sides);
  }

  /** What the source of leases says of this node now. */
  get own(): OwnLease | { readonly waiting: string } {
    return this.#isWaiting ? { waiting: 'the node is not there' } : this.#own;
  }

  /** Something that may happen while no daemon is there. */
  offlineStep(): Step {
    return this.#dice.chance(70) ? this.#damage() : this.#interfaceStep();
  }

  step(): Step {
    const kind = this.#dice.roll(100);
    if (kind < 35) return this.#leaseStep();
    if (kind < 70) return this.#damage();
    if (kind < 85) return this.#interfaceStep();
    return this.#foreignStep();
  }

  /** What undoes the passing ones: from then on nothing keeps the node from being as it should be. */
  end(): Step[] {
    this.#isWaiting = false;
    const blackholes = [...NUMBERS, 9, ...OWN_SUBNETS].flatMap((number) => [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`]);
    return [
      { what: 'the interface is as it should be', ip: this.interfaceLines() },
      // Of a node that is not there they are an administrator's, or of an earlier start, and are left alone.
      { what: 'no blackholes any more', ip: blackholes.map((subnet) => `route del blackhole ${subnet}`) },
      { what: 'the own lease is there', tell: (listener) => listener.own(this.#own) },
    ];
  }

  /** The interface as it has come to be; also in a namespace where nothing has happened to it. */
  interfaceLines(): string[] {
    const others = OWN_ADDRESSES.filter((number) => number !== this.#address);
    return [
      'link set wan0 name eth0',
      `link set eth0 up mtu ${this.#mtu}`,
      // First: a second IPv4 address would go with it.
      ...others.flatMap(addresses).map((text) => `addr del ${text} dev eth0`),
      ...addresses(this.#address).map((text) => `addr replace ${text} dev eth0 nodad`),
      'route replace default via 172.18.0.254',
      'route replace default via fd00:172:18::fe',
      `route ${this.#farIsNear ? 'replace' : 'del'} ${FAR}/32 dev eth0`,
    ];
  }

  // --- leases

  #leaseStep(): Step {
    const kind = this.#dice.roll(12);
    if (kind === 0) return this.#ownStep();
    const node = this.#dice.pick(NODES);
    if (kind < 4 && this.leases.delete(node)) return { what: `${node} leaves`, tell: (listener) => listener.remove(node) };
    const lease = this.#lease(node);
    this.leases.set(node, lease);
    return { what: `${node} is ${describe(lease)}`, tell: (listener) => listener.upsert(lease) };
  }

  #ownStep(): Step {
    if (!this.#isWaiting && this.#dice.chance(50)) {
      this.#isWaiting = true;
      return { what: 'the own lease is lost', tell: (listener) => listener.own(this.own) };
    }
    this.#isWaiting = false;
    const own = ownLease(this.#dice.pick(OWN_SUBNETS));
    this.#own = own;
    return { what: `the own lease is ${JSON.stringify(own.v4)}`, tell: (listener) => listener.own(own) };
  }

  #lease(node: string): Lease {
    const dice = this.#dice;
    const number = dice.pick(NUMBERS);
    // Most are as they should be; the others share something, claim what is this node's, or say nonsense.
    const subnet = dice.chance(85) ? number : dice.pick([0, 50, 999]);
    const at = dice.chance(85) ? 100 + dice.pick(NUMBERS) : dice.pick([1, 50]);
    const backendType = dice.chance(95) ? (this.scenario.overlay ? 'vxlan' : 'host-gw') : 'wireguard';
    const mac = (family: number): string => `0e:0${family}:00:00:00:0${dice.pick(NUMBERS)}`;
    const data = (family: number): unknown => {
      if (!this.scenario.overlay) return null;
      return dice.chance(90)
        ? { VNI: 1, VtepMAC: mac(family) }
        : dice.pick([
            null,
            undefined,
            'x',
            { VNI: 2, VtepMAC: mac(family) },
            { VNI: 1, VtepMAC: 'zz' },
            { VNI: 1, VtepMAC: mac(family), x: 1 },
          ]);
    };
    const v4: FamilyLease = {
      subnet: prefix(subnet === 999 ? '10.99.1.0/24' : `10.244.${subnet}.0/24`),
      publicAddress: address(dice.chance(85) ? `172.18.0.${at}` : FAR),
      data: data(4),
    };
    const v6: FamilyLease = {
      subnet: prefix(subnet === 999 ? 'fd00:99::/64' : `fd00:10:244:${subnet}::/64`),
      publicAddress: address(`fd00:172:18::${at}`),
      data: data(6),
    };
    const families = dice.roll(10);
    return { node, backendType, v4: families === 0 ? undefined : v4, v6: families === 1 ? undefined : v6 };
  }

  // --- damage

  #damage(): Step {
    const { overlay } = this.scenario;
    const family = this.#dice.pick([4, 6] as const);
    const device = family === 4 ? 'flannel.1' : 'flannel-v6.1';
    const ip = (...lines: string[]): Step => ({ what: lines.join('; '), ip: lines });
    const bridge = (...lines: string[]): Step => ({ what: lines.join('; '), bridge: lines });
    const replaced = (by: string): Step => {
      this.#isReplaced = true;
      return ip(`link del ${device}`, `link add ${device} ${by}`, `link set ${device} up`);
    };
    const number = this.#dice.pick([...NUMBERS, 9]);
    const subnet = family === 4 ? `10.244.${number}.0/24` : `fd00:10:244:${number}::/64`;
    const host = family === 4 ? `10.244.${number}.0` : `fd00:10:244:${number}::`;
    const peer = family === 4 ? `172.18.0.${100 + number}` : `fd00:172:18::${100 + number}`;
    const other = family === 4 ? '172.18.0.77' : 'fd00:172:18::77';
    const mac = `0e:0${family}:00:00:00:0${number}`;
    const wrong = '02:00:00:00:00:99';
    const own = family === 4 ? '10.244.0.0' : 'fd00:10:244::';
    const width = family === 4 ? 32 : 128;
    const local = family === 4 ? '172.18.0.1' : 'fd00:172:18::1';
    const routes: readonly (() => Step)[] = [
      () => ip(`route del ${subnet}`),
      () => ip(`route replace ${subnet} via ${other}`),
      () => ip(`route append ${subnet} via ${other}`),
      () => ip(`route prepend ${subnet} via ${other}`),
      () => ip(`route add ${subnet} via ${other} metric 50`),
      () => ip(`route replace ${subnet} via ${other} metric 2000`),
      () => ip(`route replace blackhole ${subnet}`),
      () => ip(`route replace ${subnet} via ${other} proto static`, `route del ${subnet} via ${other} proto static`),
      () => ip(`route replace ${subnet} nexthop via ${other} nexthop via ${peer}`),
      () => ip(`route replace ${subnet} via ${peer}`),
      () => ip(`route flush ${subnet}`),
      () => ip(`route flush root ${family === 4 ? '10.244.0.0/21' : 'fd00:10:244::/60'} proto boot`),
      () => ip('route del blackhole 10.244.0.0/24', 'route del blackhole fd00:10:244::/64'),
    ];
    const overlays: readonly (() => Step)[] = [
      () => ip(`link del ${device}`),
      () => ip('link del flannel.1', 'link del flannel-v6.1'),
      () => ip(`link set ${device} down`),
      () => ip(`link set ${device} down`, `link set ${device} up`),
      () => ip(`link set ${device} mtu ${this.#dice.pick([1300, 1400, 1429])}`),
      () => ip(`link set ${device} address ${wrong}`),
      () => ip(`link set ${device} type vxlan learning`),
      ...(this.#isReplaced
        ? []
        : [
            () => ip(`link set ${device} name lost0`),
            () => ip(`link set ${device} down`, `link set ${device} name lost0`, 'link set lost0 up'),
          ]),
      () => replaced('type bridge'),
      () => replaced(`type vxlan id 7 dstport 8472 dev eth0 local ${local} nolearning`),
      () => replaced(`type vxlan id 1 dstport 4789 dev eth0 local ${local}`),
      () => replaced(`type vxlan id 1 dstport 8472 local ${local} nolearning`),
      () => ip(`addr del ${own}/${width} dev ${device}`),
      () => ip(`addr add ${own}/${family === 4 ? 24 : 64} dev ${device}`),
      () => ip(`addr del ${own}/${width} dev ${device}`, `addr add ${own}/${family === 4 ? 24 : 64} dev ${device}`),
      () => ip(`addr add ${host}/${width} dev ${device}`),
      () => ip(`addr flush dev ${device} scope global`),
      () => ip(`neigh del ${host} dev ${device}`),
      () => ip(`neigh flush dev ${device} nud permanent`),
      () => ip(`neigh replace ${host} lladdr ${wrong} dev ${device} nud permanent`),
      () => ip(`neigh replace ${host} lladdr ${mac} dev ${device} nud ${this.#dice.pick(['reachable', 'stale', 'noarp'])}`),
      () => ip(`route flush dev ${device}`),
      () => ip(`route add ${subnet} via ${host} dev ${device} onlink metric 70`),
      () => ip(`route replace ${subnet} via ${host} dev ${device} onlink src ${own}`),
      () => ip(`route replace ${subnet} dev ${device}`),
      () => bridge(`fdb del ${mac} dev ${device} self`),
      () => bridge(`fdb replace ${mac} dev ${device} self permanent dst ${other}`),
      () => bridge(`fdb append ${mac} dev ${device} self permanent dst ${other}`),
      () => bridge(`fdb append ${wrong} dev ${device} self permanent dst ${other}`),
      () => bridge(`fdb replace ${mac} dev ${device} self permanent dst ${peer} port 9999`),
      () => bridge(`fdb append ${mac} dev ${device} self permanent dst ${peer} port 9999`),
      () => bridge(`fdb replace ${mac} dev ${device} self permanent dst ${peer} vni 77`),
      () => bridge(`fdb append 00:00:00:00:00:00 dev ${device} self permanent dst ${other}`),
      () => bridge(`fdb replace ${mac} dev ${device} self dynamic dst ${peer}`),
    ];
    return this.#dice.pick(overlay && this.#dice.chance(70) ? overlays : routes)();
  }

  // --- the interface

  #interfaceStep(): Step {
    const dice = this.#dice;
    const ip = (...lines: string[]): Step => ({ what: lines.join('; '), ip: lines });
    const here = addresses(this.#address);
    const steps: readonly (() => Step)[] = [
      () => ip('link set eth0 down'),
      () => ip('link set eth0 down', ...this.interfaceLines()),
      () => ip(...this.interfaceLines()),
      () => {
        this.#mtu = dice.pick(MTUS);
        return ip(`link set eth0 mtu ${this.#mtu}`);
      },
      () => ip(...here.map((text) => `addr del ${text} dev eth0`)),
      // As when an address is renewed.
      () => ip(...here.flatMap((text) => [`addr del ${text} dev eth0`, `addr add ${text} dev eth0 nodad`])),
      () => {
        this.#address = dice.pick(OWN_ADDRESSES);
        return ip(...this.interfaceLines());
      },
      () => {
        this.#farIsNear = !this.#farIsNear;
        return ip(`route ${this.#farIsNear ? 'replace' : 'del'} ${FAR}/32 dev eth0`);
      },
      () => ip('link set eth0 name wan0'),
      () => ip('link set eth0 down', 'link set eth0 name wan0', 'link set wan0 up', 'link set wan0 name eth0', ...this.interfaceLines()),
      () =>
        ip(
          'link set wan0 name eth0',
          'link del eth0',
          'link add eth0 type veth peer name segment',
          'link set segment up',
          ...this.interfaceLines(),
        ),
    ];
    return dice.pick(steps)();
  }

  // --- others

  #foreignStep(): Step {
    const dice = this.#dice;
    const number = ++this.#count;
    const lines = dice.pick<readonly string[]>([
      [`route add 198.18.${number}.0/24 via 192.0.2.9`],
      [`route add 10.244.${100 + number}.0/24 via 192.0.2.9 proto static`],
      [`route add 10.244.${dice.pick(NUMBERS)}.0/24 via 192.0.2.9 table ${100 + number}`],
      [`neigh replace 192.0.2.${10 + number} lladdr 02:00:00:00:09:09 dev foreign0 nud permanent`],
      [`addr add 192.0.3.${number}/24 dev foreign0`],
      [`link add veth${number} type veth peer name pod${number}`, `link set veth${number} master cni0 up`],
      [`link add veth${number} type veth peer name pod${number}`, `link del veth${number}`],
      [`neigh replace 10.250.0.${10 + number} lladdr 02:00:00:00:09:07 dev vxlan9 nud permanent`],
    ]);
    const step = { what: `somebody else: ${lines.join('; ')}`, ip: lines };
    this.foreign.push(step);
    return step;
  }
}

function ownLease(subnet: number): OwnLease {
  if (subnet === 0) return OWN;
  return { ...OWN, v4: prefix(`10.244.${subnet}.0/24`), v6: prefix(`fd00:10:244:${subnet}::/64`) };
}

function addresses(number: number): string[] {
  return [`172.18.0.${number}/24`, `fd00:172:18::${number}/64`];
}

function describe({ backendType, v4, v6 }: Lease): string {
  const show = (value: unknown): string =>
    JSON.stringify(value, (_key, each: unknown) => (typeof each === 'bigint' ? each.toString(16) : each)) ?? 'nothing';
  return `${backendType} ${show(v4)} ${show(v6)}`;
}
