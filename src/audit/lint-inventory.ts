/** An inventory as checks of policies take it. */
import { type Address, familyOf } from '../policy/address.ts';
import type { LintInput, LintService } from '../policy/lint/input.ts';
import type { Service } from '../kubernetes/service.ts';
import type { Inventory } from './inventory.ts';

/**
 * Reads Services and workloads too. What may not be read of them is among the inventory's `missing` then.
 * @throws SluiceError where the API server does not answer
 */
export async function lintInput(inventory: Inventory): Promise<LintInput> {
  const [{ services }, workloads] = await Promise.all([inventory.services(), inventory.workloads()]);
  const { pods, namespaces, nodes, policies, world } = inventory;
  return {
    pods,
    namespaces,
    nodes,
    policies,
    world,
    templates: workloads.map(({ template }) => template),
    services: services.filter(({ externalName }) => externalName === undefined).map(lintService),
    isWhole: inventory.kind !== 'directory' && !inventory.missing.some(({ what }) => /^(?:pods|namespaces)\b/u.test(what)),
    spec: (policy) => inventory.written(policy)?.spec,
  };
}

function lintService({ namespace, name, addresses, headless, selector, ports }: Service): LintService {
  return { namespace, name, addresses: headless ? [] : clusterAddresses(addresses), headless, selector, ports };
}

/** The cluster's own come first, one of each family: others are addresses of the world outside too. */
function clusterAddresses(addresses: readonly Address[]): Address[] {
  return ([4, 6] as const).flatMap((family) => addresses.find((address) => familyOf(address) === family) ?? []);
}
