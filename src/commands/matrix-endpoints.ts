/** Who the matrix is about: names given with --from and --to, or every pod; and why somebody is left out. */
import { type Address, familyOf, formatAddress, parseAddress } from '../policy/address.ts';
import type { Pod } from '../policy/objects.ts';
import { ownsAddresses, type World } from '../policy/world.ts';
import { SluiceError } from '../errors.ts';
import { nearest } from '../output/nearest.ts';

export interface Endpoint {
  /** `namespace/pod`, or the address of what is no pod by name. */
  readonly name: string;
  /** Undefined: named by its address. */
  readonly pod: Pod | undefined;
  /** The first address of each family that is its own; at least one. */
  readonly addresses: readonly Address[];
}

export interface Endpoints {
  readonly endpoints: readonly Endpoint[];
  /** Pods that were meant and cannot be asked about, with the reason. */
  readonly leftOut: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * The endpoints that `names` stand for (`namespace/pod`, `namespace/*`, `namespace`, an address), each once, in the order given;
 * no names: every pod. Throws a SluiceError for a name that stands for nothing.
 */
export function selectEndpoints(names: readonly string[], pods: readonly Pod[], world: World): Endpoints {
  const endpoints = new Map<string, Endpoint>();
  const leftOut = new Map<string, string>();
  const addPod = (pod: Pod): void => {
    const name = nameOf(pod);
    const addresses = ownAddresses(pod, world);
    if (addresses.length > 0) endpoints.set(name, { name, pod, addresses });
    else leftOut.set(name, pod.addresses.length === 0 ? 'it has no address (status.podIPs)' : 'its address belongs to a newer pod');
  };
  // Pods that have ended are in the cluster only by name (row 33).
  const living = pods.filter((pod) => !pod.terminal);
  if (names.length === 0) living.forEach(addPod);
  for (const name of names) {
    const address = parseAddress(name);
    if (address !== undefined) {
      const text = formatAddress(address);
      endpoints.set(text, { name: text, pod: undefined, addresses: [address] });
    } else podsNamed(name, pods, living).forEach(addPod);
  }
  return { endpoints: [...endpoints.values()], leftOut: [...leftOut].map(([name, reason]) => ({ name, reason })) };
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
  const hint = meant === undefined ? 'Name namespace/pod, namespace/*, namespace or an address.' : `Did you mean ${meant}?`;
  return new SluiceError('ENDPOINT_UNKNOWN', `${JSON.stringify(name)} ${fault}`, { hint, exitStatus: 2 });
}

/** Those that packets of the pod really carry: an address that was reused belongs to the newer pod (row 40). */
function ownAddresses(pod: Pod, world: World): Address[] {
  const own = ownsAddresses(pod) ? pod.addresses.filter((address) => isOf(pod, world.podAt(address))) : pod.addresses;
  return own.filter((address, i) => own.findIndex((other) => familyOf(other) === familyOf(address)) === i);
}

function isOf(pod: Pod, owner: Pod | undefined): boolean {
  return owner !== undefined && nameOf(owner) === nameOf(pod);
}

function nameOf(pod: Pod): string {
  return `${pod.namespace}/${pod.name}`;
}
