/** What the audit commands say of the flows that a lab has probed. */
import type { AtHand } from '../../../src/audit/at-hand.ts';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { explain } from '../../../src/commands/explain.ts';
import type { Lab } from '../../../src/lab/lab.ts';
import type { VerdictRecord } from '../../../src/lab/verdicts.ts';
import { type Address, familyOf, formatAddress } from '../../../src/policy/address.ts';

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
