/**
 * The cluster's objects as the few fields that policy is made of. Sources produce them, everything downstream reads them.
 * All of it is plain, immutable data; whether an object came from the API or from a file cannot be seen.
 */
import type { Address, Family, Prefix, Range } from './address.ts';
import type { Labels } from './labels.ts';
import type { Mode } from './mode.ts';
import type { Selector } from './selector.ts';

/** What a NetworkPolicyPort may name, and `other` for packets of any further protocol. */
export type PolicyProtocol = 'TCP' | 'UDP' | 'SCTP';
export type Protocol = PolicyProtocol | 'ICMP' | 'other';

/** A container port that has a name; only containers and sidecar (restartPolicy: Always) init containers declare ports. */
export interface NamedPort {
  readonly name: string;
  readonly protocol: PolicyProtocol;
  readonly port: number;
}

export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** Name of the node it runs on; empty until it is scheduled. */
  readonly node: string;
  readonly labels: Labels;
  /** status.podIPs, in their order; with hostNetwork the node's own. */
  readonly addresses: readonly Address[];
  /** Neither subject nor peer of any policy (semantics row 29). */
  readonly hostNetwork: boolean;
  /** Phase Succeeded or Failed: out of every set (row 33). A terminating pod is not terminal (row 34). */
  readonly terminal: boolean;
  /** metadata.creationTimestamp, ms since the epoch; 0 where unknown. */
  readonly createdAt: number;
  readonly ports: readonly NamedPort[];
  /** Every container port that is declared, named or not: what `matrix` asks for. */
  readonly declaredPorts: readonly { readonly protocol: PolicyProtocol; readonly port: number }[];
}

export interface Namespace {
  readonly name: string;
  /** With kubernetes.io/metadata.name, always. */
  readonly labels: Labels;
  /** What its annotation asks for; absent: nothing, or nothing that could be read. Whether it counts is the agent's affair (`isAudited`). */
  readonly mode?: Mode;
}

export interface Node {
  readonly name: string;
  /** status.addresses of types InternalIP and ExternalIP. */
  readonly addresses: readonly Address[];
  readonly podCIDRs: readonly Prefix[];
}

export type Direction = 'ingress' | 'egress';

/** Something about an object that its author should know. `path` is a field path as the API writes it: `spec.ingress[0].from[1].ipBlock.cidr`. */
export interface Problem {
  readonly path: string;
  /** Stable, e.g. `CIDR_INVALID`. */
  readonly code: string;
  /** What is wrong, what is done about it (what matches nothing now), and what would be right. */
  readonly message: string;
}

/**
 * What a NetworkPolicy means: the result of reading its spec once, defaults applied, failing closed part by part.
 * `ingress` and `egress` are present exactly where the policy isolates in that direction; no rules: nothing is admitted.
 */
export interface Policy {
  readonly namespace: string;
  readonly name: string;
  /** Which pods of its namespace it selects. A selector that cannot be read selects them all. */
  readonly subject: Selector;
  readonly ingress: readonly Rule[] | undefined;
  readonly egress: readonly Rule[] | undefined;
  readonly problems: readonly Problem[];
}

export interface Rule {
  /** Position in spec.ingress or spec.egress. */
  readonly index: number;
  /** Undefined: every peer, external addresses included (row 3). */
  readonly peers: readonly Peer[] | undefined;
  /** Undefined: every protocol and port. Empty: none could be read; nothing is admitted. */
  readonly ports: readonly PortMatch[] | undefined;
}

/** `index` is the position in `from` or `to`. */
export type Peer =
  | {
      readonly kind: 'pods';
      readonly index: number /** Undefined: the policy's own namespace only (row 5). */;
      readonly namespaces: Selector | undefined;
      readonly pods: Selector;
    }
  /** `ranges` are disjoint and ascending, `except` taken out of `cidr`; empty: nothing is left of it. `text` is for people. */
  | {
      readonly kind: 'block';
      readonly index: number;
      readonly family: Family;
      readonly cidr: Prefix;
      readonly ranges: readonly Range[];
      readonly text: string;
    }
  /** Could not be read, or may not be there: matches nothing (rows 4, 11). */
  | { readonly kind: 'nothing'; readonly index: number };

/** `index` is the position in `ports`. Entries that cannot be read are left out, and are among the policy's problems. */
export type PortMatch =
  | {
      readonly kind: 'numbers';
      readonly index: number;
      readonly protocol: PolicyProtocol /** Inclusive; 0–65535 where no port is given (row 13). */;
      readonly first: number;
      readonly last: number;
    }
  | { readonly kind: 'name'; readonly index: number; readonly protocol: PolicyProtocol; readonly name: string };
