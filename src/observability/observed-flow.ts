/**
 * What an agent tells of connections, as JSON: one object a line, on its socket as in `sluice observe -o json`. The schemas are the
 * contract; a field may come to be, and none changes its meaning or goes within a version.
 */
import * as z from 'zod';
import { API_VERSION } from '../output/api-version.ts';

export { API_VERSION };

/** So many policies are named in one record: thousands may isolate a pod, and each of its refused packets would hold all their names. */
export const NAMED_POLICIES = 20;

const apiVersion = z.literal(API_VERSION);
/** RFC 3339, UTC, milliseconds. */
const time = z.iso.datetime();
/** `namespace/name`; of more than {@link NAMED_POLICIES} the first. */
const policies = z.array(z.string());
/** How many policies there are beyond those that `policies` names. Absent: none. */
const morePolicies = z.int().min(1).optional();
const port = z.int().min(0).max(65_535);
const direction = z.enum(['ingress', 'egress']);
/** Of a filter: whoever asks makes the agent look each of them up. */
const names = z.array(z.string()).max(100);

/** One end of a connection, named as the agent knew it at that time: later the address may be somebody else's. */
const END = z.object({
  address: z.string(),
  /** Of the pod that the address belongs to; both are absent where it is no pod's. */
  namespace: z.string().optional(),
  pod: z.string().optional(),
  /** Where it is no pod's: the node that the address is local to. */
  node: z.string().optional(),
  port: port.optional(),
});

const CONNECTION = {
  apiVersion,
  time,
  /** Who saw it. */
  node: z.string(),
  source: END,
  /** After DNAT: who really would have answered. */
  destination: END,
  protocol: z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'other']),
  /** IPPROTO_*. */
  protocolNumber: z.int(),
  icmp: z.object({ type: z.int(), code: z.int() }).optional(),
};

const SUGGESTION = z.object({
  direction,
  /** A NetworkPolicy, as `kubectl apply` takes it. */
  policy: z.record(z.string(), z.unknown()),
  admits: z.string(),
  notes: z.array(z.string()),
});

/** A packet that no policy admitted. */
export const DENIED = z.object({
  kind: z.literal('Denied'),
  ...CONNECTION,
  /** Whose side refused it: of the source (egress) or of the destination (ingress). */
  direction,
  /** Its pod is audited: the packet was let through all the same. */
  audited: z.boolean(),
  /** Those that isolate the pod in this direction, none of which admits it. */
  policies,
  morePolicies,
  /**
   * `changed`: by the time that the packet was read, policy allowed it. `unknown`: which policies refused it is not known, as the agent
   * has just started, or the pod is gone; `policies` is empty then.
   */
  reason: z.enum(['refused', 'changed', 'unknown']),
  /**
   * Only where they were asked for; none where policy allows the connection by now, where it is not known who refuses it or what it is, and
   * where they would be longer than 64 KiB.
   */
  suggestions: z.array(SUGGESTION).optional(),
});

/** What policy says of one direction: see `DirectionVerdict` of the evaluator. */
const VERDICT = z.object({
  allowed: z.boolean(),
  reason: z.enum(['external', 'node', 'not-isolated', 'same-pod', 'own-node', 'admitted', 'refused']),
  /** Of `admitted` the one that does, of `refused` all that isolate. */
  policies,
  morePolicies,
  /** Of `admitted`: which rule of the policy, `ingress[0].from[1]`. */
  place: z.string().optional(),
  /** The node of the pod that the direction is about, where that is another: its agent judges. */
  node: z.string().optional(),
});

/**
 * A new connection that was let through here. `refused` means that it is audited, that policy has changed meanwhile, or of `ingress` with
 * a `node` that it gets no further than there.
 */
export const ALLOWED = z.object({ kind: z.literal('Allowed'), ...CONNECTION, egress: VERDICT, ingress: VERDICT });

/** Connections that are not shown. */
export const DROPPED = z.object({
  kind: z.literal('Dropped'),
  apiVersion,
  time,
  node: z.string(),
  /** Which records they would have been. */
  of: z.enum(['Denied', 'Allowed']),
  /**
   * `rate`: more packets were refused than are logged and described; `sampling`: more connections began than are described; `overrun`:
   * the kernel had no room for them; `reader`: this reader was slow.
   */
  reason: z.enum(['rate', 'sampling', 'overrun', 'reader']),
  /** Since the last record of this kind and reason. Absent: nobody knows. */
  count: z.int().min(1).optional(),
});

/** The first record of every connection to an agent, and again when something of it changes. */
export const OBSERVING = z.object({
  kind: z.literal('Observing'),
  apiVersion,
  time,
  node: z.string(),
  /** Refused packets: `busy` means that another program reads their log group; `off` that the agent has none. */
  denied: z.enum(['on', 'busy', 'off']),
  /** `unavailable`: the kernel does not tell of new connections (net.netfilter.nf_conntrack_events is 0). */
  allowed: z.enum(['on', 'unavailable', 'not asked for']),
  logGroup: z.int().optional(),
});

/** What was remembered has been told, and what follows happens now. */
export const LIVE = z.object({ kind: z.literal('Live'), apiVersion, time });

/** The last record: the agent cannot do what it was asked for. */
export const FAILED = z.object({
  kind: z.literal('Failed'),
  apiVersion,
  /** `NAME_UNKNOWN`, `REQUEST_UNREADABLE`, `READERS_TOO_MANY`, `LOG_GROUP_OFF`. */
  code: z.string(),
  message: z.string(),
  /** Of `NAME_UNKNOWN`: what there is in its place, or a part of it. */
  name: z.string().optional(),
  known: z.array(z.string()).optional(),
});

export const OBSERVED = z.discriminatedUnion('kind', [DENIED, ALLOWED, DROPPED, OBSERVING, LIVE, FAILED]);

/** What a reader says first, in one line. */
export const OBSERVE_REQUEST = z.object({
  kind: z.literal('Observe'),
  apiVersion,
  allowed: z.boolean().default(false),
  suggest: z.boolean().default(false),
  /** Also what is remembered from then on; absent: only what happens from now on. */
  since: time.optional(),
  /** False: what is remembered, and then the end. */
  follow: z.boolean().default(true),
  filter: z
    .object({
      /** An end is a pod of one of these namespaces. */
      namespaces: names.optional(),
      /** An end is one of these, `namespace/pod`. */
      pods: names.optional(),
      /** The source is: `namespace/pod`, `namespace/*`, `namespace`, an address or a CIDR. */
      from: names.optional(),
      to: names.optional(),
      /** The destination's. */
      ports: z
        .array(z.object({ port, protocol: z.enum(['TCP', 'UDP', 'SCTP']).optional() }))
        .max(100)
        .optional(),
      /** Of what is refused, whose side refuses; of what is allowed, that a pod of this node is that side. */
      direction: direction.optional(),
    })
    .default({}),
});

export type FlowEnd = z.output<typeof END>;
export type Denied = z.output<typeof DENIED>;
export type AllowedFlow = z.output<typeof ALLOWED>;
export type FlowVerdict = z.output<typeof VERDICT>;
export type Dropped = z.output<typeof DROPPED>;
export type Observing = z.output<typeof OBSERVING>;
export type Failed = z.output<typeof FAILED>;
export type ObservedRecord = z.output<typeof OBSERVED>;
export type ObserveRequest = z.output<typeof OBSERVE_REQUEST>;
export type FlowRecord = Denied | AllowedFlow;
