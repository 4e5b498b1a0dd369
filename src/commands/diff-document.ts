/** The document that `sluice diff -o json|yaml` prints. */
import * as z from 'zod';
import type { AppliedObject } from '../audit/difference-objects.ts';
import type { FlowDifference } from '../audit/difference-flows.ts';
import { type Change, type Difference, type IsolationChange, type PortSet, turning } from '../audit/difference.ts';
import type { MissingKind } from '../audit/inventory.ts';
import { API_VERSION } from '../output/document.ts';
import { formatAddress } from '../policy/address.ts';
import type { Group } from '../policy/equivalence-parties.ts';
import type { DirectionVerdict, Question } from '../policy/evaluate.ts';
import type { Direction } from '../policy/objects.ts';
import { reasonOf } from './matrix-records.ts';

const ChangedObject = z.strictObject({
  change: z.enum(['created', 'configured', 'unchanged', 'deleted', 'absent']).describe('absent: it was to be deleted, and is not there.'),
  kind: z.enum(['NetworkPolicy', 'Namespace', 'Pod', 'Node']),
  name: z.string().describe('namespace/name, or name of what has no namespace.'),
});

const EndpointGroup = z.strictObject({
  name: z.string().describe('For people.'),
  kind: z.enum(['pod', 'node', 'outside']),
  members: z
    .array(z.string())
    .describe(
      'namespace/pod, node/NAME (with “at ADDRESS” behind it where another than its first address is meant), or the addresses that are meant by outside.',
    ),
});

const Reason = z.enum(['external', 'node', 'not-isolated', 'same-pod', 'own-node', 'admitted', 'refused']);

const Answer = z.strictObject({
  allowed: z.boolean(),
  reason: Reason,
  policies: z.array(z.string()).describe('namespace/name of the policy that admits it, or of all that isolate and do not.'),
  fields: z.array(z.string()).optional().describe('Field paths in the policy of what admits it.'),
});

const Turn = z.strictObject({
  direction: z.enum(['ingress', 'egress']),
  before: z.strictObject({ allowed: z.boolean(), reason: Reason }),
  after: Answer,
});

const Ports = z.strictObject({
  protocol: z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'other']),
  ranges: z
    .array(z.strictObject({ port: z.int(), endPort: z.int() }))
    .describe('Of TCP, UDP and SCTP; both ends belong to it, and 0 to 65535 is every port.'),
});

const ConnectionChange = z.strictObject({
  becomes: z.enum(['allowed', 'denied']),
  sources: z.array(EndpointGroup),
  destinations: z.array(EndpointGroup),
  families: z.array(z.literal([4, 6])),
  ports: z.array(Ports),
  turns: z
    .array(Turn)
    .describe('Of each direction whose answer turns, what was said of it and what is; another direction may go on refusing.'),
});

const IsolationRecord = z.strictObject({
  direction: z.enum(['ingress', 'egress']),
  becomes: z.enum(['isolated', 'open']).describe('open: no policy isolates the pods in this direction any more.'),
  pods: z.array(EndpointGroup),
  policies: z.array(z.string()).describe('Those that isolate the pods, after it or before it.'),
});

const LiveFlow = z.strictObject({
  source: z.string(),
  destination: z.string().describe('Who answers: never a Service.'),
  protocol: z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'other']),
  port: z.int().optional(),
});

export const DiffDocument = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal('Difference'),
    origin: z.string().describe('Where the objects of now are from, for people.'),
    objects: z.array(ChangedObject),
    changes: z.array(ConnectionChange).describe('Connections that become allowed or denied; a pod and itself, and its own node, never do.'),
    isolation: z.array(IsolationRecord),
    missing: z
      .array(z.strictObject({ what: z.string(), reason: z.string(), consequence: z.string() }))
      .describe('Objects that may not be read, and what that means for the answer.'),
    flows: z
      .strictObject({
        node: z.string(),
        judged: z.int(),
        cut: z.array(LiveFlow).describe('Live flows that would be cut.'),
        restored: z.array(LiveFlow).describe('Flows that are cut, and would go on.'),
      })
      .optional()
      .describe('Absent where no node is at hand.'),
  })
  .describe('What would change if these objects were applied, or deleted.');

export type DiffDocument = z.infer<typeof DiffDocument>;
export type LiveFlow = z.infer<typeof LiveFlow>;

export interface DiffFacts {
  readonly origin: string;
  readonly missing: readonly MissingKind[];
  readonly done: readonly AppliedObject[];
  readonly difference: Difference;
  readonly flows: (FlowDifference & { readonly node: string }) | undefined;
  /** Who has an address, for flows. */
  readonly nameOf: (question: Question, end: 'source' | 'destination') => string;
}

export function diffDocument({ origin, missing, done, difference, flows, nameOf }: DiffFacts): DiffDocument {
  const flow = (question: Question): LiveFlow => ({
    source: nameOf(question, 'source'),
    destination: nameOf(question, 'destination'),
    protocol: question.protocol,
    ...(question.port === undefined ? {} : { port: question.port }),
  });
  return {
    apiVersion: API_VERSION,
    kind: 'Difference',
    origin,
    objects: done.map((one) => ({ ...one })),
    changes: difference.changes.map(changeRecord),
    isolation: difference.isolation.map(isolationRecord),
    missing: missing.map((one) => ({ ...one })),
    ...(flows === undefined
      ? {}
      : { flows: { node: flows.node, judged: flows.judged, cut: flows.cut.map(flow), restored: flows.restored.map(flow) } }),
  };
}

function changeRecord(change: Change): z.infer<typeof ConnectionChange> {
  const { becomes, sources, destinations, families, ports, before, after } = change;
  return {
    becomes,
    sources: sources.map(groupRecord),
    destinations: destinations.map(groupRecord),
    families: [...families],
    ports: ports.map(portsRecord),
    turns: turning(change).map((direction) => ({
      direction,
      before: { allowed: before[direction].allowed, reason: before[direction].reason },
      after: answerRecord(after[direction], direction),
    })),
  };
}

function isolationRecord({ direction, becomes, pods, policies }: IsolationChange): z.infer<typeof IsolationRecord> {
  return { direction, becomes, pods: pods.map(groupRecord), policies: policies.map(({ namespace, name }) => `${namespace}/${name}`) };
}

function groupRecord({ name, kind, parties }: Group): z.infer<typeof EndpointGroup> {
  return { name, kind, members: parties.map((party) => party.name) };
}

function portsRecord({ protocol, ranges }: PortSet): z.infer<typeof Ports> {
  return { protocol, ranges: ranges.map(({ first, last }) => ({ port: first, endPort: last })) };
}

function answerRecord(verdict: DirectionVerdict, direction: Direction): z.infer<typeof Answer> {
  const { policies, fields, ...reason } = reasonOf(verdict, direction);
  return { ...reason, policies: [...policies], ...(fields === undefined ? {} : { fields: [...fields] }) };
}

/** An address, and the pod that has it. */
export function endText(name: string | undefined, address: Question['source']): string {
  return name === undefined ? formatAddress(address) : `${name} (${formatAddress(address)})`;
}
