/** Which flows a reader wants to see: the filters of a request, read once. */
import { type Address, familyOf, parseAddress, parsePrefix, type Prefix, prefixRange } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import type { FlowEnd, ObserveRequest } from '../observed-flow.ts';
import type { ObservedFlow } from './describe.ts';

/** An end that is meant by a name. */
export type EndSelector =
  | { readonly kind: 'pod'; readonly namespace: string; readonly pod: string }
  | { readonly kind: 'namespace'; readonly namespace: string }
  | { readonly kind: 'block'; readonly block: Prefix };

/** `namespace/pod`, `namespace/*`, `namespace`, an address, or a CIDR; undefined: none of these. */
export function parseEnd(text: string): EndSelector | undefined {
  const address = parseAddress(text);
  if (address !== undefined) return { kind: 'block', block: { address, length: familyOf(address) === 4 ? 32 : 128 } };
  const block = parsePrefix(text);
  if (block !== undefined) return { kind: 'block', block };
  const [, namespace, pod = '*'] = /^([a-z0-9.-]+)(?:\/([a-z0-9.-]+|\*))?$/.exec(text) ?? [];
  // What begins like an address was meant as one.
  if (namespace === undefined || /^[\d.]+(\/\d+)?$/.test(text)) return undefined;
  return pod === '*' ? { kind: 'namespace', namespace } : { kind: 'pod', namespace, pod };
}

export class FlowFilter {
  readonly #filter: ObserveRequest['filter'];
  readonly #pods: readonly EndSelector[];
  readonly #from: readonly EndSelector[];
  readonly #to: readonly EndSelector[];
  /** What it names, in the order of the request: each has to exist. */
  readonly names: readonly Exclude<EndSelector, { readonly kind: 'block' }>[];

  /** With `unreadable`: the text that no end can be read from. */
  static read(filter: ObserveRequest['filter']): FlowFilter | { readonly unreadable: string } {
    for (const text of [...(filter.pods ?? []), ...(filter.from ?? []), ...(filter.to ?? [])]) {
      if (parseEnd(text) === undefined) return { unreadable: text };
    }
    return new FlowFilter(filter);
  }

  private constructor(filter: ObserveRequest['filter']) {
    this.#filter = filter;
    this.#pods = selectors(filter.pods);
    this.#from = selectors(filter.from);
    this.#to = selectors(filter.to);
    const namespaces = (filter.namespaces ?? []).map((namespace) => ({ kind: 'namespace', namespace }) as const);
    this.names = [...namespaces, ...this.#pods, ...this.#from, ...this.#to].filter((end) => end.kind !== 'block');
  }

  wants({ record, question, local }: ObservedFlow): boolean {
    const { namespaces, ports, direction } = this.#filter;
    const { source, destination, protocol } = record;
    if (namespaces !== undefined && !namespaces.some((each) => each === source.namespace || each === destination.namespace)) return false;
    if (
      this.#pods.length > 0 &&
      !this.#pods.some((pod) => isEnd(pod, source, question.source) || isEnd(pod, destination, question.destination))
    )
      return false;
    if (this.#from.length > 0 && !this.#from.some((from) => isEnd(from, source, question.source))) return false;
    if (this.#to.length > 0 && !this.#to.some((to) => isEnd(to, destination, question.destination))) return false;
    if (ports !== undefined && !ports.some((each) => each.port === destination.port && (each.protocol ?? protocol) === protocol))
      return false;
    if (direction === undefined) return true;
    // Of what is refused the refusing end is the local one that counts.
    return direction === 'ingress' ? local.destination : local.source;
  }

  /** Whether what this pod refuses in this direction may be meant, as far as that can be said without the packet. */
  mayWant(direction: Direction, pod: string): boolean {
    const { namespaces } = this.#filter;
    if (this.#filter.direction !== undefined && this.#filter.direction !== direction) return false;
    const [namespace = '', name = ''] = pod.split('/');
    if (namespaces !== undefined && !namespaces.includes(namespace)) return false;
    const isSelf = (end: EndSelector): boolean =>
      end.kind === 'block' || (end.namespace === namespace && (end.kind === 'namespace' || end.pod === name));
    if (this.#pods.length > 0 && !this.#pods.some(isSelf)) return false;
    const own = direction === 'ingress' ? this.#to : this.#from;
    return own.length === 0 || own.some(isSelf);
  }
}

function selectors(texts: readonly string[] = []): EndSelector[] {
  return texts.flatMap((text) => parseEnd(text) ?? []);
}

function isEnd(selector: EndSelector, end: FlowEnd, address: Address): boolean {
  switch (selector.kind) {
    case 'pod':
      return end.namespace === selector.namespace && end.pod === selector.pod;
    case 'namespace':
      return end.namespace === selector.namespace;
    case 'block': {
      const { first, last } = prefixRange(selector.block);
      return typeof address === typeof first && first <= address && address <= last;
    }
  }
}
