/**
 * Manifests from before there is a cluster: pods without an address, and workloads without pods. So that policies can be judged in a checkout,
 * they are taken to have addresses that no cluster gives: of ipBlocks only those of the whole address space hold them (`0.0.0.0/0`, `::/0`,
 * whatever they except). What an ipBlock will make of their real addresses nobody can know, and whoever assumes says so.
 */
import type { Workload } from '../kubernetes/workload.ts';
import { type Address, type Family, familyOf, ipv4, ipv6 } from '../policy/address.ts';
import type { Pod } from '../policy/objects.ts';
import { matches } from '../policy/selector.ts';
import { worldOf } from '../policy/world.ts';
import type { Inventory } from './inventory.ts';

/** 0.0.0.0/8, "this network" (RFC 1122, section 3.2.1.3), and 100::/64, which is discarded (RFC 6666). */
const FIRST = { 4: 0, 6: 0x0100n << 112n } as const;
const COUNT = 2 ** 24;

/** Whether it is an address that {@link assumeAddresses} gave. */
export function isAssumed(address: Address): boolean {
  return typeof address === 'number' ? address < COUNT : address >= FIRST[6] && address < FIRST[6] + BigInt(COUNT);
}

export interface Assumption {
  readonly inventory: Inventory;
  /** Pods that are there and have no address, `namespace/name`. */
  readonly pods: readonly string[];
  /** Pods that are not there, of the workload that will make them. */
  readonly workloads: readonly { readonly workload: Workload; readonly pods: readonly string[] }[];
}

/**
 * The inventory with an address for each pod that has none and may have one of its own, and with two pods (one of a Job, or where a single
 * replica is asked for) for each workload that has none: two, since what its pods may say to each other is a question too.
 */
export async function assumeAddresses(inventory: Inventory): Promise<Assumption> {
  const families = familiesOf(inventory);
  let given = 0;
  const withAddresses = (pod: Pod): Pod => {
    given++;
    return { ...pod, addresses: families.map((family) => (family === 4 ? ipv4(FIRST[4] + given) : ipv6(FIRST[6] + BigInt(given)))) };
  };
  const without = new Map(
    inventory.pods.flatMap((pod) => {
      const lacksOne = pod.addresses.length === 0 && !pod.terminal && !pod.hostNetwork;
      return lacksOne ? [[pod, withAddresses(pod)] as const] : [];
    }),
  );
  const workloads = podless(inventory.pods, await inventory.workloads()).map((workload) => {
    const names = workload.single ? ['1'] : ['1', '2'];
    return { workload, pods: names.map((name) => withAddresses({ ...workload.template, name: `${workload.name}-${name}` })) };
  });
  if (without.size + workloads.length === 0) return { inventory, pods: [], workloads: [] };
  const pods = [...inventory.pods.map((pod) => without.get(pod) ?? pod), ...workloads.flatMap((made) => made.pods)];
  const { namespaces, nodes, policies } = inventory;
  return {
    inventory: { ...inventory, pods, world: worldOf({ pods, namespaces, nodes, policies }) },
    pods: [...without.keys()].map(keyOf),
    workloads: workloads.map(({ workload, pods: made }) => ({ workload, pods: made.map(keyOf) })),
  };
}

/** Those that the cluster has, as far as anything tells; IPv4 where nothing does. */
function familiesOf({ pods, nodes }: Inventory): readonly Family[] {
  const found = new Set<Family>();
  for (const pod of pods) for (const address of pod.addresses) found.add(familyOf(address));
  for (const { podCIDRs } of nodes) for (const { address } of podCIDRs) found.add(familyOf(address));
  return found.size === 0 ? [4] : [...found].toSorted((a, b) => a - b);
}

/** Those that no pod belongs to, and that no other of them makes: a Deployment's ReplicaSet and a CronJob's Job are not asked twice. */
function podless(pods: readonly Pod[], workloads: readonly Workload[]): Workload[] {
  const own = ({ namespace, selector }: Workload, of: Pick<Pod, 'namespace' | 'labels'>): boolean =>
    selector !== undefined && of.namespace === namespace && matches(selector, of.labels);
  const makers = workloads.filter(({ kind }) => kind === 'Deployment' || kind === 'CronJob');
  return workloads.filter((workload) => {
    if (workload.template.hostNetwork || pods.some((pod) => own(workload, pod))) return false;
    const isMade = workload.kind === 'ReplicaSet' || workload.kind === 'Job';
    return !isMade || !makers.some((maker) => own(maker, workload.template));
  });
}

function keyOf({ namespace, name }: Pod): string {
  return `${namespace}/${name}`;
}
