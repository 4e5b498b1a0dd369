/** What a group's members put into a set. */
import type { Member } from '../cluster/records.ts';
import { type Address, familyOf } from '../policy/address.ts';
import type { NamedPortElement, PortName, SetDescription, SetElement } from './objects.ts';

/** Equal for equal elements, as a key of a Map. */
export function elementKey(element: SetElement): Address | string {
  return typeof element === 'object' ? `${element.address} ${element.protocol} ${element.port}` : element;
}

export function addressOf(element: SetElement): Address {
  return typeof element === 'object' ? element.address : element;
}

function portKey({ name, protocol }: PortName): string {
  return `${protocol} ${name}`;
}

/** Made once for a description, and not for each of its members. */
const KEYS = new WeakMap<readonly PortName[], ReadonlySet<string>>();

function keysOf(ports: readonly PortName[]): ReadonlySet<string> {
  let keys = KEYS.get(ports);
  if (keys === undefined) {
    keys = new Set(ports.map(portKey));
    KEYS.set(ports, keys);
  }
  return keys;
}

/** What a member adds to a set; each element once. */
export function elementsOf(description: SetDescription, { pod, addresses }: Member): readonly SetElement[] {
  switch (description.kind) {
    case 'pods':
      return addresses.filter((address) => familyOf(address) === description.family);
    case 'named-ports': {
      if (pod.ports.length === 0) return [];
      const wanted = keysOf(description.ports);
      // Two names may be one number.
      const ports = new Map<string, Omit<NamedPortElement, 'address'>>();
      for (const named of pod.ports) {
        const { protocol, port } = named;
        if (wanted.has(portKey(named))) ports.set(`${protocol} ${port}`, { protocol, port });
      }
      if (ports.size === 0) return [];
      return addresses
        .filter((address) => familyOf(address) === description.family)
        .flatMap((address) => [...ports.values()].map((port) => ({ address, ...port })));
    }
    case 'block':
    case 'ports':
      return [];
  }
}
