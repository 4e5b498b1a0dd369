/** What the process that measures changes is told and tells. */
import type { ClusterShape } from '../synthetic-cluster.ts';

/** The things that are changed, one at a time. */
export const CHANGES = ['pod elsewhere', 'pod here', 'ports of a policy', 'peers of a policy'] as const;
export type ChangeKind = (typeof CHANGES)[number];

/** From event to kernel commit, ms. */
export interface Sample {
  /** From handing the event in to the kernel's answer. */
  readonly total: number;
  /** Its part in the indexes and the desired rules. */
  readonly compute: number;
  /** Its part in the backend: rendering, encoding, reading the rules of a chain that changes, and the kernel's work. */
  readonly commit: number;
  /** From handing the event in until another could be taken: live flows have been judged as well. */
  readonly busy: number;
  /** Objects, rules and elements that were written or removed. */
  readonly operations: number;
}

export interface NodeDescription {
  readonly shape: ClusterShape;
  readonly isolatedPods: number;
  readonly activePolicies: number;
  readonly sets: number;
  readonly chains: number;
}

export type Request = { readonly start: ClusterShape } | { readonly measure: ChangeKind; readonly events: number };
export type Answer = { readonly started: NodeDescription } | { readonly samples: readonly Sample[] };
