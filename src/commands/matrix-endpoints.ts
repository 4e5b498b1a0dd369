/** Who the matrix is about: names given with --from and --to, or every pod, every node and the outside; and why somebody is left out. */
import { nearest } from '../output/nearest.ts';
import { type Address, formatAddress, parseAddress } from '../policy/address.ts';
import { type Equivalence, outsideClasses } from '../policy/equivalence.ts';
import { outsideParties, partiesOfNode, type Party, partyOfAddress, partyOfPod } from '../policy/equivalence-parties.ts';
import type { Node, Pod } from '../policy/objects.ts';
import type { World } from '../policy/world.ts';
import { SluiceError } from '../errors.ts';

export interface Endpoints {
  readonly parties: readonly Party[];
  /** Pods that were meant and cannot be asked about, with the reason. */
  readonly leftOut: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * The pods and addresses that `names` stand for (`namespace/pod`, `namespace/*`, `namespace`, an address), each once, in the order given;
 * no names: every pod. Throws a SluiceError for a name that stands for nothing.
 */
export function selectEndpoints(names: readonly string[], pods: readonly Pod[], world: World): Endpoints {
  const parties = new Map<string, Party>();
  const leftOut = new Map<string, string>();
  const addPod = (pod: Pod): void => {
    const party = partyOfPod(pod, world);
    if (party !== undefined) parties.set(party.name, party);
    else leftOut.set(nameOf(pod), pod.addresses.length === 0 ? 'it has no address (status.podIPs)' : 'its address belongs to a newer pod');
  };
  // Pods that have ended are in the cluster only by name (row 33).
  const living = pods.filter((pod) => !pod.terminal);
  if (names.length === 0) living.forEach(addPod);
  for (const name of names) {
    const address = parseAddress(name);
    if (address !== undefined) {
      const text = formatAddress(address);
      parties.set(text, partyOfAddress(address, text, world));
    } else podsNamed(name, pods, living).forEach(addPod);
  }
  return { parties: [...parties.values()], leftOut: [...leftOut].map(([name, reason]) => ({ name, reason })) };
}

/** Nodes, and what is outside, as far as policies tell it apart. */
export function othersOf(equivalence: Equivalence, nodes: readonly Node[]): Party[] {
  const classOf = (address: Address): string => String(equivalence.end(address).class);
  return [...nodes.flatMap((node) => partiesOfNode(node, equivalence.world, classOf)), ...outsideParties(outsideClasses([equivalence]))];
}

function podsNamed(name: string, pods: readonly Pod[], living: readonly Pod[]): readonly Pod[] {
  const [namespace = '', podName = '*', ...rest] = name.split('/');
  if (rest.length > 0) throw unknown(name, 'is no namespace/pod, namespace or address', undefined);
  const inNamespace = living.filter((pod) => pod.namespace === namespace);
  const found = podName === '*' ? inNamespace : inNamespace.filter((pod) => pod.name === podName);
  if (found.length > 0) return found;
  if (pods.some((pod) => nameOf(pod) === name)) throw unknown(name, 'has ended (phase Succeeded or Failed)', undefined);
  if (podName === '*') {
    throw unknown(namespace, 'is no namespace with pods', nearest(namespace, new Set(living.map((pod) => pod.namespace))));
  }
  throw unknown(name, 'is no pod that is known', nearest(name, living.map(nameOf)));
}

function unknown(name: string, fault: string, meant: string | undefined): SluiceError {
  const hint =
    meant === undefined
      ? 'Name namespace/pod, namespace/KIND/name (deploy, sts, svc …), namespace or an address.'
      : `Did you mean ${meant}?`;
  return new SluiceError('ENDPOINT_UNKNOWN', `${JSON.stringify(name)} ${fault}`, { hint, exitStatus: 2 });
}

function nameOf(pod: Pod): string {
  return `${pod.namespace}/${pod.name}`;
}
