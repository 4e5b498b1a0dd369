/** What a group's members put into a set. */
import type { Member } from '../cluster/records.ts';
import { type Address, familyOf } from '../policy/address.ts';
import type { SetDescription, SetElement } from './objects.ts';

/** Equal for equal elements, as a key of a Map. */
export function elementKey(element: SetElement): Address | string {
  return typeof element === 'object' ? `${element.address} ${element.protocol} ${element.port}` : element;
}

export function addressOf(element: SetElement): Address {
  return typeof element === 'object' ? element.address : element;
}

/** What a member adds to a set. */
export function elementsOf(description: SetDescription, { pod, addresses }: Member): readonly SetElement[] {
  switch (description.kind) {
    case 'pods':
      return addresses.filter((address) => familyOf(address) === description.family);
    case 'named-ports': {
      const numbers = new Set<number>();
      for (const { name, protocol, port } of pod.ports) {
        if (name === description.port && protocol === description.protocol) numbers.add(port);
      }
      if (numbers.size === 0) return [];
      return addresses
        .filter((address) => familyOf(address) === description.family)
        .flatMap((address) => [...numbers].map((port) => ({ address, protocol: description.protocol, port })));
    }
    case 'block':
    case 'ports':
      return [];
  }
}
