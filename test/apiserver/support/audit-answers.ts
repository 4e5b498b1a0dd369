/** What the audit commands say of the flows that a lab has probed. */
import type { AtHand } from '../../../src/audit/at-hand.ts';
import { type Comparison, differenceOf } from '../../../src/audit/difference.ts';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { explain } from '../../../src/commands/explain.ts';
import { matrix } from '../../../src/commands/matrix-records.ts';
import type { Lab } from '../../../src/lab/lab.ts';
import type { VerdictRecord } from '../../../src/lab/verdicts.ts';
import { type Address, familyOf, formatAddress } from '../../../src/policy/address.ts';
import { Equivalence } from '../../../src/policy/equivalence.ts';
import { type Party, partyOfAddress, partyOfPod } from '../../../src/policy/equivalence-parties.ts';
import type { PolicyProtocol } from '../../../src/policy/objects.ts';
import { isAbout } from '../../kernel/support/said-to-turn.ts';

type Probed = Pick<VerdictRecord, 'source' | 'destination' | 'family' | 'port' | 'protocol' | 'measured'>;

/** No kernel is asked: it is what the answers are compared with. */
export const NO_KERNEL: AtHand = {
  node: undefined,
  saidBy: '',
  status: undefined,
  readTable: () => undefined,
  readBridges: () => undefined,
  readBypasses: () => [],
};

/** Flows of which `sluice explain` says something else than the packets do, as a line each. */
export async function explainedOtherwise(inventory: Inventory, lab: Lab, records: readonly Probed[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const { source, destination, family, port, protocol, measured } of records) {
    const of = (name: string): string => (isPod(inventory, name) ? name : formatAddress(addressOf(lab, name, family)));
    const to = of(destination);
    const what = protocol === 'ICMP' ? 'icmp' : `${port}/${protocol}`;
    const target = to.includes(':') ? `[${to}]:${what}` : `${to}:${what}`;
    const { flows } = await explain(inventory, of(source), target, { namespace: 'default' }, NO_KERNEL);
    const asked = flows.filter((flow) => flow.families.includes(family));
    const said = asked.map(({ allowed }) => (allowed ? 'allowed' : 'denied')).join(', ') || 'nothing';
    if (said !== measured) wrong.push(`${of(source)} -> ${target} IPv${family}: ${said}, and packets are ${measured}`);
  }
  return wrong;
}

/** Flows of which `sluice matrix` says something else than the packets do, as a line each; it does not ask about ICMP. */
export function tabledOtherwise(inventory: Inventory, lab: Lab, records: readonly Probed[]): string[] {
  const { world, pods } = inventory;
  const equivalence = new Equivalence(world, pods);
  const said = new Map<string, boolean>();
  const asked = records.filter((record) => record.protocol !== 'ICMP');
  const partyOf = (name: string, family: 4 | 6): Party => {
    const pod = pods.find((one) => `${one.namespace}/${one.name}` === name && !one.terminal);
    return (pod && partyOfPod(pod, world)) ?? partyOfAddress(addressOf(lab, name, family), name, world);
  };
  for (const destination of new Set(asked.map((record) => record.destination))) {
    const to = asked.filter((record) => record.destination === destination);
    const ports = new Map(to.map(({ port, protocol }) => [`${port}/${protocol}`, { port, protocol: protocol as PolicyProtocol }]));
    for (const family of new Set(to.map((record) => record.family))) {
      const sources = [...new Set(to.filter((record) => record.family === family).map(({ source }) => source))];
      const parties = sources.map((source) => partyOf(source, family));
      for (const one of matrix(equivalence, parties, [partyOf(destination, family)], () => [...ports.values()])) {
        said.set([one.source, one.destination, one.family, one.port, one.protocol].join(' '), one.allowed);
      }
    }
  }
  return asked.flatMap(({ source, destination, family, port, protocol, measured }) => {
    const allowed = said.get([source, destination, family, port, protocol].join(' '));
    const answer = allowed === undefined ? 'nothing' : allowed ? 'allowed' : 'denied';
    return answer === measured
      ? []
      : [`${source} -> ${destination}:${port}/${protocol} IPv${family}: ${answer}, and packets are ${measured}`];
  });
}

export interface Measured {
  readonly inventory: Inventory;
  readonly records: readonly Probed[];
}

/** Flows that turned though `sluice diff` does not say so, or the other way round, as a line each. */
export function turnedOtherwise(lab: Lab, was: Measured, is: Measured): string[] {
  const comparison: Comparison = {
    before: new Equivalence(was.inventory.world, was.inventory.pods),
    after: new Equivalence(is.inventory.world, is.inventory.pods),
    pods: is.inventory.pods,
    nodes: is.inventory.nodes,
    onlyPolicies: false,
  };
  const { changes } = differenceOf(comparison);
  const keyOf = ({ source, destination, family, port, protocol }: Probed): string =>
    [source, destination, family, port, protocol].join(' ');
  const before = new Map(was.records.map((record) => [keyOf(record), record.measured]));
  return is.records.flatMap((record) => {
    const { source, destination, family, port, protocol, measured } = record;
    const measuredBefore = before.get(keyOf(record));
    if (measuredBefore === undefined) return [];
    const flow = {
      source: locate(is.inventory, lab, source, family),
      destination: locate(is.inventory, lab, destination, family),
      port,
      protocol,
    };
    const said = new Set(changes.filter((change) => isAbout(comparison, change, flow)).map(({ becomes }) => becomes));
    const turned = measured === measuredBefore ? [] : [measured];
    return [...said].join() === turned.join()
      ? []
      : [`${keyOf(record)}: said to become ${[...said].join() || 'nothing else'}, became ${turned.join() || 'nothing else'}`];
  });
}

/** Whether the pods and their addresses are the same: of others a difference of policies says nothing. */
export function samePods(a: Inventory, b: Inventory): boolean {
  const of = ({ pods }: Inventory): string =>
    pods.map((pod) => `${pod.namespace}/${pod.name} ${pod.terminal} ${pod.addresses.map(formatAddress).join()}`).join('; ');
  return of(a) === of(b);
}

function locate(inventory: Inventory, lab: Lab, name: string, family: 4 | 6): Address {
  const pod = inventory.pods.find((one) => `${one.namespace}/${one.name}` === name);
  const address = pod?.addresses.find((one) => familyOf(one) === family);
  return address ?? addressOf(lab, name, family);
}

function isPod({ pods }: Inventory, name: string): boolean {
  return pods.some((pod) => `${pod.namespace}/${pod.name}` === name);
}

function addressOf(lab: Lab, name: string, family: 4 | 6): Address {
  const node = lab.nodes.find((one) => `node/${one.name}` === name);
  const addresses = node?.addresses ?? lab.outside.get(name) ?? [];
  const address = addresses.find((one) => familyOf(one) === family);
  if (address === undefined) throw new Error(`${name} has no address of IPv${family}`);
  return address;
}
