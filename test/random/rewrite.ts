/**
 * Rewriting objects part by part: every policy, rule, peer, block, port, selector or pod is given to a function, and what it returns
 * takes its place. Lists and objects in which nothing changes stay the same values, so that it is seen at once that nothing did.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from './cluster.ts';

export type Fields = Readonly<Record<string, unknown>>;
export type Rewrite = (objects: readonly ApiObject[]) => readonly ApiObject[];

/** Where a rule, peer or port stands. */
export interface Place {
  readonly direction: 'ingress' | 'egress';
  readonly side: 'from' | 'to';
  readonly namespace: string;
  /** Of the policy, before anything was rewritten. */
  readonly spec: Fields;
}

type PodObject = ApiObject & { readonly spec: Fields; readonly status: Fields };
type PolicyObject = ApiObject & { readonly spec: Fields };

const DIRECTIONS = [
  ['ingress', 'from'],
  ['egress', 'to'],
] as const;

function asList<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

function rewriteKind(kind: ApiObject['kind'], change: (object: ApiObject) => ApiObject): Rewrite {
  return (objects) => {
    let changed = false;
    const result = objects.map((object) => {
      if (object.kind !== kind) return object;
      const next = change(object);
      if (isDeepStrictEqual(next, object)) return object;
      changed = true;
      return next;
    });
    return changed ? result : objects;
  };
}

export function eachPod(change: (pod: PodObject) => { readonly spec: unknown; readonly status?: unknown }): Rewrite {
  // Generated pods have both.
  return rewriteKind('Pod', (object) => change(object as PodObject) as unknown as ApiObject);
}

export function withoutPolicies(predicate: (policy: PolicyObject) => boolean): Rewrite {
  return (objects) => {
    const kept = objects.filter((object) => object.kind !== 'NetworkPolicy' || !predicate(object as PolicyObject));
    return kept.length === objects.length ? objects : kept;
  };
}

export function eachPolicy(change: (spec: Fields, namespace: string) => Fields): Rewrite {
  return rewriteKind('NetworkPolicy', (object) => ({ ...object, spec: change(object['spec'] as Fields, object.metadata.namespace ?? '') }));
}

/** Undefined: the rule goes. */
export function eachRule(change: (rule: Fields, place: Place) => Fields | readonly Fields[] | undefined): Rewrite {
  return eachPolicy((spec, namespace) => {
    const rewritten: Record<string, unknown> = { ...spec };
    for (const [direction, side] of DIRECTIONS) {
      const rules = spec[direction];
      if (!Array.isArray(rules)) continue;
      rewritten[direction] = rules.flatMap((rule: Fields) => asList(change(rule, { direction, side, namespace, spec })));
      // An egress list that becomes empty would not isolate any more; it is the rules that are misread, not the policy.
      if (rules.length > 0 && spec['policyTypes'] === undefined && direction === 'egress') rewritten['policyTypes'] = ['Ingress', 'Egress'];
    }
    return rewritten;
  });
}

/** A peer that goes leaves an empty peer behind, which matches nothing: without it the rule might admit everyone. */
export function eachPeer(change: (peer: Fields, place: Place) => Fields | readonly Fields[] | undefined): Rewrite {
  return eachRule((rule, place) => {
    const peers = rule[place.side];
    if (!Array.isArray(peers) || peers.length === 0) return rule;
    const changed = peers.flatMap((peer: Fields) => asList(change(peer, place)));
    return { ...rule, [place.side]: changed.length === 0 ? [{}] : changed };
  });
}

/** Undefined: the peer goes. */
export function eachBlock(change: (block: Fields, place: Place) => Fields | undefined): Rewrite {
  return eachPeer((peer, place) => {
    const block = peer['ipBlock'];
    if (typeof block !== 'object' || block === null) return peer;
    const changed = change(block as Fields, place);
    return changed === undefined ? {} : { ...peer, ipBlock: changed };
  });
}

const NO_PORT: Fields = { protocol: 'none' };

/** A port that goes leaves one behind that matches nothing. */
export function eachPort(
  change: (port: Fields) => Fields | readonly Fields[],
  where: (rule: Fields, place: Place) => boolean = () => true,
): Rewrite {
  return eachRule((rule, place) => {
    const ports = rule['ports'];
    if (!Array.isArray(ports) || ports.length === 0 || !where(rule, place)) return rule;
    const changed = ports.flatMap((port: Fields) => asList(change(port)));
    return { ...rule, ports: changed.length === 0 ? [NO_PORT] : changed };
  });
}

/** The policy's own selector, and those of its peers. */
export function eachSelector(change: (selector: Fields) => Fields): Rewrite {
  const at = (holder: Fields, field: string): Fields =>
    typeof holder[field] === 'object' && holder[field] !== null ? { [field]: change(holder[field] as Fields) } : {};
  const subjects = eachPolicy((spec) => ({ ...spec, ...at(spec, 'podSelector') }));
  const peers = eachPeer((peer) => ({ ...peer, ...at(peer, 'podSelector'), ...at(peer, 'namespaceSelector') }));
  return (objects) => peers(subjects(objects));
}
