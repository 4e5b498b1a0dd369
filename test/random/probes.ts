/**
 * The packets that can be sent in the lab of {@link LAB_SPEC}, and what to ask the evaluator about each: every slot, node and the
 * host outside to every other, both families, TCP, UDP, SCTP and ICMP, directly and through Service addresses.
 */
import { type Address, type Family, parseAddress } from '../../src/policy/address.ts';
import type { Backend, LabService } from '../../src/lab/services.ts';
import { evaluate, type Question, type Verdict } from '../../src/policy/evaluate.ts';
import type { World } from '../../src/policy/world.ts';
import { NODE_ADDRESSES, NODES, OUTSIDE, POD_CIDRS, PORTS, PROTOCOLS } from './cluster.ts';
import { SLOTS, type Slot, slotAddress } from './lab-cluster.ts';

export interface Probe {
  /** Names in the lab: `slot/a2`, `node/node-a`, `outside`. */
  readonly from: string;
  readonly to: string;
  readonly family: Family;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  /** Of the Service where there is one, otherwise the destination's; 0 with ICMP. */
  readonly port: number;
  /** The address that is sent to, where it is not `to`'s first. */
  readonly via: Address | undefined;
  /** What leaves the sender, after DNAT. */
  readonly leaving: Question;
  /** What arrives at the destination: another source where it was masqueraded on the way (row 31). */
  readonly arriving: Question;
  readonly path: 'same node' | 'across nodes' | 'outside' | 'own node' | 'other node' | 'itself';
  readonly through: 'directly' | 'DNAT' | 'DNAT and masquerade';
}

/** What the evaluator says of a probe: of each direction, whether anybody judges it, and the whole. */
export interface Expectation {
  readonly allowed: boolean;
  readonly egress: Verdict['egress'];
  readonly ingress: Verdict['ingress'];
}

export function expectationOf(world: World, { leaving, arriving }: Pick<Probe, 'leaving' | 'arriving'>): Expectation {
  const { egress, ingress } = evaluate(world, leaving);
  const arrived = arriving === leaving ? ingress : evaluate(world, arriving).ingress;
  return { allowed: egress.allowed && arrived.allowed, egress, ingress: arrived };
}

interface Party {
  readonly name: string;
  readonly node: string | undefined;
  readonly slot: Slot | undefined;
  readonly addresses: Readonly<Record<Family, string | undefined>>;
}

const PARTIES: readonly Party[] = [
  ...SLOTS.map((slot) => ({
    name: `slot/${slot.name}`,
    node: slot.node,
    slot,
    addresses: {
      4: slot.families.includes(4) ? slotAddress(slot, 4) : undefined,
      6: slot.families.includes(6) ? slotAddress(slot, 6) : undefined,
    },
  })),
  ...NODES.map((node) => ({
    name: `node/${node}`,
    node,
    slot: undefined,
    addresses: { 4: NODE_ADDRESSES[node]?.[0], 6: NODE_ADDRESSES[node]?.[1] },
  })),
  { name: 'outside', node: undefined, slot: undefined, addresses: { 4: OUTSIDE[0], 6: OUTSIDE[1] } },
];

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new Error(`${text} is no address`);
  return parsed;
}

function pathOf(from: Party, to: Party): Probe['path'] {
  if (from === to) return 'itself';
  if (from.node === undefined || to.node === undefined) return 'outside';
  if (from.slot !== undefined && to.slot !== undefined) return from.node === to.node ? 'same node' : 'across nodes';
  return from.node === to.node ? 'own node' : 'other node';
}

const PORTS_OF_PROTOCOLS: readonly (readonly [protocol: Probe['protocol'], port: number])[] = [
  ...PROTOCOLS.flatMap((protocol) => PORTS.map((port) => [protocol, port] as const)),
  ['ICMP', 0],
];

function directProbes(): Probe[] {
  return PARTIES.flatMap((from) =>
    PARTIES.flatMap((to) => {
      // Nothing is enforced between machines that are no pods, nor within one.
      if (from === to || (from.slot === undefined && to.slot === undefined)) return [];
      return ([4, 6] as const).flatMap((family) => {
        const [source, target] = [from.addresses[family], to.addresses[family]];
        if (source === undefined || target === undefined) return [];
        return PORTS_OF_PROTOCOLS.map(([protocol, port]) => probe(from, to, family, protocol, address(source), address(target), port));
      });
    }),
  );
}

function probe(
  from: Party,
  to: Party,
  family: Family,
  protocol: Probe['protocol'],
  source: Address,
  destination: Address,
  port: number,
  via?: Address,
): Probe {
  const leaving: Question = { source, destination, protocol, ...(protocol === 'ICMP' ? {} : { port }) };
  return {
    from: from.name,
    to: to.name,
    family,
    protocol,
    port,
    via,
    leaving,
    arriving: leaving,
    path: pathOf(from, to),
    through: 'directly',
  };
}

/** The bridge of a node, and its overlay device: local to it as its own address is (row 28). */
function deviceProbes(): Probe[] {
  return NODES.flatMap((node) => {
    const to = PARTIES.find(({ name }) => name === `node/${node}`);
    return PARTIES.filter(({ slot }) => slot !== undefined).flatMap((from) =>
      ([4, 6] as const).flatMap((family) => {
        const source = from.addresses[family];
        const [v4, v6] = POD_CIDRS[node] ?? ['', ''];
        if (source === undefined || to === undefined) return [];
        const devices = family === 4 ? [v4.replace('0/24', '0'), v4.replace('0/24', '1')] : [v6.replace('/64', '1')];
        return devices.map((device) => {
          const destination = address(device);
          return probe(from, to, family, 'TCP', address(source), destination, 80, destination);
        });
      }),
    );
  });
}

/** Number of the first Service address; one further for each slot. */
const SERVICE_NUMBER = 10;
const MASQUERADED_NUMBER = 50;
/** Port of the Service and of its backends: never the same, so that it shows which of them is judged (row 18). */
const SERVICE_PORTS: readonly (readonly [service: number, target: number])[] = [
  [80, 81],
  [8080, 80],
];

function serviceAddress(family: Family, number: number): Address {
  return address(family === 4 ? `10.96.0.${number}` : `fd00:96::${number.toString(16)}`);
}

/** One of each slot and family, on every protocol; and another whose packets to another node are masqueraded. */
export const SERVICES: readonly LabService[] = SLOTS.flatMap((slot, index) =>
  slot.families.flatMap((family) =>
    [SERVICE_NUMBER, MASQUERADED_NUMBER].flatMap((first) =>
      PROTOCOLS.flatMap((protocol) =>
        SERVICE_PORTS.map(([port, target]): LabService => {
          const backend: Backend = { address: address(slotAddress(slot, family)), port: target };
          return { address: serviceAddress(family, first + index), port, protocol, backends: [backend] };
        }),
      ),
    ),
  ),
);

/** For `nft -f` on every node: what goes to one of the second Service addresses leaves through the overlay under the node's address. */
export const MASQUERADE = (['ip', 'ip6'] as const)
  .map((family) => {
    const version = family === 'ip' ? 4 : 6;
    const last = MASQUERADED_NUMBER + SLOTS.length - 1;
    const text = (number: number): string => (version === 4 ? `10.96.0.${number}` : `fd00:96::${number.toString(16)}`);
    return `table ${family} lab-masquerade {
  chain postrouting {
    type nat hook postrouting priority srcnat - 1; policy accept;
    oifname "flannel*" ct original ${family} daddr ${text(MASQUERADED_NUMBER)}-${text(last)} masquerade
  }
}
`;
  })
  .join('');

/** Pods and nodes to every slot's Service, itself included (row 30). */
function serviceProbes(): Probe[] {
  return SLOTS.flatMap((slot, index) =>
    slot.families.flatMap((family) => {
      const to = PARTIES.find(({ name }) => name === `slot/${slot.name}`);
      if (to === undefined) return [];
      return PARTIES.filter((from) => from.node !== undefined && from.addresses[family] !== undefined).flatMap((from) => {
        const source = address(from.addresses[family] ?? '');
        const destination = address(slotAddress(slot, family));
        return PROTOCOLS.flatMap((protocol) =>
          SERVICE_PORTS.flatMap(([service, target]) => {
            const leaving: Question = { source, destination, protocol, port: target };
            const common = { from: from.name, to: to.name, family, protocol, port: service, leaving, path: pathOf(from, to) };
            const direct: Probe = { ...common, via: serviceAddress(family, SERVICE_NUMBER + index), arriving: leaving, through: 'DNAT' };
            if (from.slot === undefined || from.node === to.node) return [direct];
            const via = serviceAddress(family, MASQUERADED_NUMBER + index);
            const arriving = { ...leaving, source: overlayAddress(from.node ?? '', family) };
            return [direct, { ...common, via, arriving, through: 'DNAT and masquerade' as const }];
          }),
        );
      });
    }),
  );
}

/** Of the device that the overlay is reached through: the podCIDR's first. */
function overlayAddress(node: string, family: Family): Address {
  const [v4, v6] = POD_CIDRS[node] ?? ['', ''];
  return address(family === 4 ? v4.replace('/24', '') : v6.replace('/64', ''));
}

/** Every one there is. */
export const PROBES: readonly Probe[] = [...directProbes(), ...deviceProbes(), ...serviceProbes()];
