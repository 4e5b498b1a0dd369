/**
 * Names of sets and chains: they say what the object is for, so that `nft list` can be read without this program. Where a name
 * cannot hold all that tells an object from others, a hash of the whole ends it.
 */
import { createHash } from 'node:crypto';
import type { GroupDefinition } from '../cluster/groups.ts';
import { groupKey } from '../cluster/groups.ts';
import type { Family } from '../policy/address.ts';
import type { Direction } from '../policy/objects.ts';
import type { PortRange } from '../policy/ports.ts';
import type { ObjectName, PortName } from './objects.ts';

/** Below the kernel's 255, so that there is room for what other backends put before a name. */
const LONGEST_NAME = 200;
const LONGEST_HINT = 60;

/** 80 bits: nobody finds a second selector with the hash of another's. */
function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 20);
}

/** What can stand in a name; the rest becomes dots. */
function readable(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9_-]+/g, '.').replaceAll(/^\.+|\.+$/g, '');
}

/**
 * A name of its own for each object. Names of Kubernetes hold only letters, digits, `-` and `.`; longer ones, and what a directory
 * may hold beside, end in a hash behind `_`, which no name that is kept as it is can hold: nobody can name a pod like another's hash.
 */
function bounded(name: string): ObjectName {
  if (name.length <= LONGEST_NAME && /^[A-Za-z0-9./-]+$/.test(name)) return name;
  return `${name.replaceAll(/[^A-Za-z0-9./-]/g, '.').slice(0, LONGEST_NAME - 21)}_${hash(name)}`;
}

export function podChainName(direction: Direction, namespace: string, pod: string): ObjectName {
  return bounded(`${direction}/${namespace}/${pod}`);
}

export function policyChainName(namespace: string, policy: string, direction: Direction): ObjectName {
  return bounded(`policy/${namespace}/${policy}/${direction}`);
}

/** Of several policies of a namespace, in their order: `policies/shop/ingress/5c0e…`. */
export function policiesChainName(namespace: string, direction: Direction, policies: readonly { readonly name: string }[]): ObjectName {
  return bounded(`policies/${namespace}/${direction}/${hash(policies.map(({ name }) => name).join('\n'))}`);
}

/** `pods-v4/shop/app.web/5c0e…`: namespace (or namespace selector), pod selector, hash of both. */
function groupName(group: GroupDefinition): string {
  const where = readable(typeof group.namespace === 'string' ? group.namespace : group.namespace.text) || 'all-namespaces';
  const who = readable(group.pods.text) || 'all-pods';
  return `${where.slice(0, LONGEST_HINT)}/${who.slice(0, LONGEST_HINT)}${group.local ? '/local' : ''}/${hash(groupKey(group))}`;
}

/** The same for several groups, in any order: `pods-v4/3-selectors/5c0e…`. */
function groupsName(groups: readonly GroupDefinition[]): string {
  const [only] = groups;
  if (only !== undefined && groups.length === 1) return groupName(only);
  return `${groups.length}-selectors/${hash(groups.map(groupKey).sort().join('\n'))}`;
}

export function podSetName(family: Family, groups: readonly GroupDefinition[]): ObjectName {
  return `pods-v${family}/${groupsName(groups)}`;
}

export function namedPortSetName(family: Family, groups: readonly GroupDefinition[], ports: readonly PortName[]): ObjectName {
  const [only] = ports;
  const what =
    only !== undefined && ports.length === 1
      ? `${only.protocol.toLowerCase()}/${readable(only.name).slice(0, 20)}.${hash(only.name)}`
      : `${ports.length}-names/${hash(
          ports
            .map(({ name, protocol }) => `${protocol} ${name}`)
            .sort()
            .join('\n'),
        )}`;
  return `port-v${family}/${what}/${groupsName(groups)}`;
}

/** `block-v4/10.244.0.0-16/1f…`; `text` is the block and its exceptions as written, `exact` the ranges that are left. */
export function blockSetName(family: Family, text: string, exact: string): ObjectName {
  return `block-v${family}/${readable(text).slice(0, LONGEST_HINT)}/${hash(exact)}`;
}

/** `ports/80.443.8000-8080`, with a hash where they are many. */
export function portSetName(ranges: readonly PortRange[]): ObjectName {
  const text = ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join('.');
  return text.length <= LONGEST_HINT ? `ports/${text}` : `ports/${text.slice(0, LONGEST_HINT)}/${hash(text)}`;
}

/** What groups hold, for comments. */
export function describeGroups(groups: readonly GroupDefinition[]): string {
  const [only] = groups;
  return only !== undefined && groups.length === 1 ? describeGroup(only) : `pods of ${groups.length} selectors`;
}

function describeGroup({ namespace, pods, local }: GroupDefinition): string {
  const where =
    typeof namespace === 'string' ? `namespace ${namespace}` : namespace.text === '' ? 'all namespaces' : `namespaces ${namespace.text}`;
  return `${pods.text === '' ? 'all pods' : `pods ${pods.text}`} of ${where}${local ? ' on this node' : ''}`;
}
