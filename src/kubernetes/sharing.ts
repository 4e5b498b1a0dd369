/**
 * Equal parts of different objects held once. 100,000 pods have a few thousand distinct label sets, port lists and node names
 * between them.
 *
 * What is shared is bounded: parts that are peculiar to one object (a StatefulSet's pod-name label) fall out of the cache again,
 * which costs sharing and never correctness. Nothing here keeps the parsed JSON alive.
 */
import { LRUCache } from 'lru-cache';
import type { NamedPort, Pod } from '../policy/objects.ts';
import { hashOfLabels, type Labels, sameLabels } from '../policy/labels.ts';

/** Entries of each cache: above the number of distinct workloads of a large cluster. */
const CAPACITY = 32_768;
/** What has more entries is not shared: its author would fill the cache with what nobody else has. */
const ENTRIES_SHARED = 64;

export type DeclaredPort = Pod['declaredPorts'][number];

export const NO_LABELS: Labels = new Map();
export const NO_PORTS: readonly never[] = [];

export class Sharing {
  readonly #strings = new LRUCache<string, string>({ max: CAPACITY });
  /** By their hash: of labels that share one, the last are kept. */
  readonly #labels = new LRUCache<number, Labels>({ max: CAPACITY });
  readonly #ports = new LRUCache<string, readonly NamedPort[]>({ max: CAPACITY });
  readonly #declared = new LRUCache<string, readonly DeclaredPort[]>({ max: CAPACITY });

  string(text: string): string {
    if (text === '') return '';
    const shared = this.#strings.get(text);
    if (shared !== undefined) return shared;
    this.#strings.set(text, text);
    return text;
  }

  /** Takes the map over: the caller does not touch it again. */
  labels(labels: Labels): Labels {
    if (labels.size === 0) return NO_LABELS;
    if (labels.size > ENTRIES_SHARED) return labels;
    const hash = hashOfLabels(labels);
    const shared = this.#labels.get(hash);
    if (shared !== undefined && sameLabels(shared, labels)) return shared;
    const own = new Map<string, string>();
    for (const [key, value] of labels) own.set(this.string(key), this.string(value));
    this.#labels.set(hash, own);
    return own;
  }

  ports(ports: readonly NamedPort[]): readonly NamedPort[] {
    if (ports.length === 0) return NO_PORTS;
    if (ports.length > ENTRIES_SHARED) return ports;
    let text = '';
    for (const { name, protocol, port } of ports) text += `${name.length}:${name}${protocol}${port},`;
    const shared = this.#ports.get(text);
    if (shared !== undefined) return shared;
    this.#ports.set(text, ports);
    return ports;
  }

  declaredPorts(ports: readonly DeclaredPort[]): readonly DeclaredPort[] {
    if (ports.length === 0) return NO_PORTS;
    if (ports.length > ENTRIES_SHARED) return ports;
    let text = '';
    for (const { protocol, port } of ports) text += `${protocol}${port},`;
    const shared = this.#declared.get(text);
    if (shared !== undefined) return shared;
    this.#declared.set(text, ports);
    return ports;
  }
}
