/**
 * What peers need in the kernel, as data: neighbours, forwarding entries and routes, and the table that says which of them are wanted.
 *
 * Two nodes may want different things of the same key (the same podCIDR, the same VTEP address): the node whose name sorts first gets
 * it, so that all nodes decide alike, and the conflict is told. What a change costs follows the node that changed.
 */
import { type Address, formatAddress, formatPrefix, type Prefix } from '../policy/address.ts';

/** The address of a peer's VTEP on an overlay device, always permanent. */
export interface NeighbourEntry {
  readonly kind: 'neighbour';
  readonly device: string;
  readonly address: Address;
  /** Lower-case, with colons. */
  readonly mac: string;
}

/** Which node a VTEP is behind (a VXLAN device's forwarding database), always permanent. */
export interface ForwardingEntry {
  readonly kind: 'forwarding';
  readonly device: string;
  readonly mac: string;
  readonly destination: Address;
}

export interface RouteEntry {
  readonly kind: 'route';
  readonly destination: Prefix;
  /** Undefined: the destination is reached on the device itself, or nowhere (`blackhole`). */
  readonly gateway: Address | undefined;
  /** Empty for a blackhole. */
  readonly device: string;
  /** The gateway counts as reachable on the device, whatever its address. */
  readonly onlink: boolean;
  readonly blackhole?: true;
}

export type Entry = NeighbourEntry | ForwardingEntry | RouteEntry;

/** The order in which a peer's entries are made and removed: a packet that finds the route must find the rest. */
const ORDER: Readonly<Record<Entry['kind'], number>> = { neighbour: 0, forwarding: 1, route: 2 };

export interface KeyChange {
  readonly key: string;
  /** Undefined: there was none. */
  readonly before: Entry | undefined;
  /** Undefined: it is not wanted any more. */
  readonly after: Entry | undefined;
}

export interface Conflict {
  readonly key: string;
  /** Who has it. */
  readonly winner: string;
  /** Who would have it otherwise. */
  readonly losers: readonly string[];
}

/** What the kernel tells entries apart by: of two with one key there can be only one. */
export function keyOf(entry: Entry): string {
  switch (entry.kind) {
    case 'neighbour':
      return neighbourKey(entry.device, entry.address);
    case 'forwarding':
      return forwardingKey(entry.device, entry.mac);
    case 'route':
      return routeKey(entry.destination);
  }
}

export function neighbourKey(device: string, address: Address): string {
  return `neighbour ${formatAddress(address)} ${device}`;
}

export function forwardingKey(device: string, mac: string): string {
  return `forwarding ${mac} ${device}`;
}

export function routeKey(destination: Prefix): string {
  return `route ${formatPrefix(destination)}`;
}

export function sameEntry(a: Entry | undefined, b: Entry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.kind === 'neighbour') return b.kind === 'neighbour' && a.mac === b.mac;
  if (a.kind === 'forwarding') return b.kind === 'forwarding' && a.destination === b.destination;
  return b.kind === 'route' && a.gateway === b.gateway && a.device === b.device && a.onlink === b.onlink && a.blackhole === b.blackhole;
}

/** As `ip` and `bridge` would be told. */
export function describeEntry(entry: Entry): string {
  switch (entry.kind) {
    case 'neighbour':
      return `neighbour ${formatAddress(entry.address)} lladdr ${entry.mac} dev ${entry.device}`;
    case 'forwarding':
      return `forwarding entry ${entry.mac} dev ${entry.device} dst ${formatAddress(entry.destination)}`;
    case 'route': {
      if (entry.blackhole === true) return `route blackhole ${formatPrefix(entry.destination)}`;
      const via = entry.gateway === undefined ? '' : ` via ${formatAddress(entry.gateway)}`;
      return `route ${formatPrefix(entry.destination)}${via} dev ${entry.device}${entry.onlink ? ' onlink' : ''}`;
    }
  }
}

/** All entries that are wanted, by key. */
export class DesiredEntries {
  /** For each key who wants what, by the node's name. */
  readonly #claims = new Map<string, Map<string, Entry>>();
  /** The keys of each node. */
  readonly #keys = new Map<string, readonly string[]>();
  readonly #contested = new Set<string>();
  /** How many claims name each device. */
  readonly #devices = new Map<string, number>();

  /** Says what a node wants from now on; nothing: it is gone. What that changes, in the order it is to be done. */
  set(node: string, entries: readonly Entry[]): KeyChange[] {
    const before = new Map<string, Entry | undefined>();
    const remember = (key: string): void => {
      if (!before.has(key)) before.set(key, this.get(key));
    };
    const keys = entries.map(keyOf);
    const kept = new Set(keys);
    for (const key of this.#keys.get(node) ?? []) {
      remember(key);
      if (!kept.has(key)) this.#unclaim(key, node);
    }
    for (const entry of entries) {
      const key = keyOf(entry);
      remember(key);
      const claims = this.#claims.get(key);
      this.#count(claims?.get(node), -1);
      this.#count(entry, 1);
      if (claims === undefined) this.#claims.set(key, new Map([[node, entry]]));
      else claims.set(node, entry);
      if (claims !== undefined && claims.size > 1) this.#contested.add(key);
    }
    if (keys.length > 0) this.#keys.set(node, keys);
    else this.#keys.delete(node);
    const changes = [...before]
      .map(([key, was]): KeyChange => ({ key, before: was, after: this.get(key) }))
      .filter((change) => !sameEntry(change.before, change.after));
    // New ones first: a peer's new VTEP is known before the old one is forgotten.
    return changes.sort((a, b) => rank(a) - rank(b));
  }

  #unclaim(key: string, node: string): void {
    const claims = this.#claims.get(key);
    this.#count(claims?.get(node), -1);
    claims?.delete(node);
    if (claims === undefined || claims.size < 2) this.#contested.delete(key);
    if (claims?.size === 0) this.#claims.delete(key);
  }

  #count(entry: Entry | undefined, by: 1 | -1): void {
    if (entry === undefined) return;
    const count = (this.#devices.get(entry.device) ?? 0) + by;
    if (count === 0) this.#devices.delete(entry.device);
    else this.#devices.set(entry.device, count);
  }

  /** Whether anything that is wanted is on this device. */
  uses(device: string): boolean {
    return this.#devices.has(device);
  }

  get(key: string): Entry | undefined {
    const claims = this.#claims.get(key);
    if (claims === undefined) return undefined;
    return claims.get(firstName(claims));
  }

  /** All that are wanted, one a key, in the order they are to be made. */
  all(): Entry[] {
    const entries: Entry[] = [];
    for (const claims of this.#claims.values()) {
      const entry = claims.get(firstName(claims));
      if (entry !== undefined) entries.push(entry);
    }
    return entries.sort((a, b) => ORDER[a.kind] - ORDER[b.kind]);
  }

  get size(): number {
    return this.#claims.size;
  }

  /** Keys that several nodes want. */
  conflicts(): Conflict[] {
    return [...this.#contested].map((key) => {
      const names = [...(this.#claims.get(key)?.keys() ?? [])].sort();
      const [winner = '', ...losers] = names;
      return { key, winner, losers };
    });
  }
}

function rank({ before, after }: KeyChange): number {
  if (after !== undefined) return ORDER[after.kind];
  return 10 + (before === undefined ? 0 : ORDER[before.kind]);
}

function firstName(claims: ReadonlyMap<string, Entry>): string {
  let first: string | undefined;
  for (const name of claims.keys()) if (first === undefined || name < first) first = name;
  return first ?? '';
}
