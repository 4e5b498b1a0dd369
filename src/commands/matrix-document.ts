/** The document that `sluice matrix -o json|yaml` prints, and its lines for CSV; all of it made piece by piece, since it may be large. */
import * as z from 'zod';
import { isAssumed } from '../audit/assumed-addresses.ts';
import type { MissingKind } from '../audit/inventory.ts';
import { type Address, formatAddress } from '../policy/address.ts';
import type { Group, Party } from '../policy/equivalence-parties.ts';
import { API_VERSION } from '../output/document.ts';
import { type Grid, NO_PAIR, type PortSpan, type Verdicts } from './matrix-grid.ts';
import { countFlows, portLines } from './matrix-lines.ts';
import { type Reason, reasonOf } from './matrix-records.ts';

const EndpointGroup = z.strictObject({
  name: z.string().describe('What flows call it; unique among sources, and among destinations.'),
  kind: z.enum(['pod', 'node', 'outside']).describe('outside: addresses that are neither a pod’s nor a node’s.'),
  namespace: z.string().optional().describe('Of pods.'),
  labels: z.record(z.string(), z.string()).optional().describe('Of pods: what all of them have, without labels that controllers generate.'),
  members: z.array(
    z.strictObject({
      name: z
        .string()
        .describe(
          'namespace/pod, node/NAME (with “at ADDRESS” behind it where another than its first address is meant), or what is meant by outside.',
        ),
      addresses: z
        .array(z.string())
        .describe('One of each family that it has; none of a pod that has none yet; of what is outside, an example.'),
    }),
  ),
});

const DirectionReason = z.strictObject({
  allowed: z.boolean(),
  reason: z
    .enum(['external', 'node', 'not-isolated', 'same-pod', 'own-node', 'admitted', 'refused'])
    .describe(
      'external, node: the end is no pod, and no policy is asked; not-isolated: no policy selects the pod; own-node: a pod and the node that it runs on; admitted: by a rule; refused: policies isolate the pod, and none admits it.',
    ),
  policies: z.array(z.string()).describe('namespace/name of the policy that admits it, or of all that isolate and do not.'),
  fields: z.array(z.string()).optional().describe('Field paths in the policy of what admits it: the peer or the rule, and the port.'),
});

const Flow = z.strictObject({
  source: z.string().describe('Name of one of sources.'),
  destination: z.string().describe('Name of one of destinations.'),
  protocol: z.enum(['TCP', 'UDP', 'SCTP']),
  port: z.int(),
  endPort: z.int().optional().describe('The last port of a range that begins with port.'),
  families: z.array(z.literal([4, 6])),
  allowed: z.boolean().describe('Egress of the source and ingress of the destination both allow it.'),
  egress: DirectionReason,
  ingress: DirectionReason,
});

export const MatrixDocument = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal('Matrix'),
    origin: z.string().describe('Where the objects are from, for people.'),
    by: z.enum(['group', 'pod']).describe('group: endpoints with equal labels and equal verdicts are one; pod: each is by itself.'),
    allowed: z.int().describe('Connections between two endpoints on a port that was named or declared, counted for each family.'),
    denied: z.int(),
    missing: z
      .array(z.strictObject({ what: z.string(), reason: z.string(), consequence: z.string() }))
      .describe('Objects that may not be read, and what that means for the answer.'),
    sources: z.array(EndpointGroup),
    destinations: z.array(EndpointGroup),
    flows: z.array(Flow).describe('One for each source, destination, port and verdict; none for a pod and itself.'),
  })
  .describe('Who reaches whom, by the policies alone.');

export type MatrixDocument = z.infer<typeof MatrixDocument>;
export type FlowRecord = z.infer<typeof Flow>;

export interface MatrixFacts {
  readonly grid: Grid;
  readonly origin: string;
  readonly by: 'group' | 'pod';
  readonly missing: readonly MissingKind[];
}

/** Text of the document, in pieces. JSON has a flow on each line, and so has YAML, which JSON is a part of. */
export function* matrixDocument(format: 'json' | 'yaml', { grid, origin, by, missing }: MatrixFacts): Generator<string> {
  const { allowed, denied } = countFlows(grid);
  const head = { apiVersion: API_VERSION, kind: 'Matrix', origin, by, allowed, denied } satisfies Partial<MatrixDocument>;
  const isJson = format === 'json';
  const list = function* (name: string, items: Iterable<unknown>, isLast: boolean): Generator<string> {
    let count = 0;
    for (const item of items) {
      const text = JSON.stringify(item);
      yield isJson ? `${count === 0 ? `  "${name}": [\n` : ',\n'}    ${text}` : `${count === 0 ? `${name}:\n` : ''}  - ${text}\n`;
      count++;
    }
    const end = isLast ? '' : ',';
    if (isJson) yield count === 0 ? `  "${name}": []${end}\n` : `\n  ]${end}\n`;
    else if (count === 0) yield `${name}: []\n`;
  };
  if (isJson) yield '{\n';
  for (const [name, value] of Object.entries(head)) {
    yield isJson ? `  "${name}": ${JSON.stringify(value)},\n` : `${name}: ${JSON.stringify(value)}\n`;
  }
  const targets = grid.blocks.map(({ destination }) => destination);
  yield* list('missing', missing, false);
  yield* list('sources', grid.sources.map(groupRecord), false);
  yield* list('destinations', targets.map(groupRecord), false);
  yield* list('flows', flowRecords(grid), true);
  if (isJson) yield '}\n';
}

function groupRecord({ name, kind, namespace, labels, parties }: Group): z.infer<typeof EndpointGroup> {
  return {
    name,
    kind,
    ...(kind === 'pod' ? { namespace, labels: Object.fromEntries(labels) } : {}),
    members: parties.map((party) => ({ name: party.name, addresses: shownAddresses(party).map(formatAddress) })),
  };
}

/** Without those that were made up so that the pod could be asked about. */
function shownAddresses({ kind, addresses }: Party): readonly Address[] {
  return kind === 'pod' ? addresses.filter((address) => !isAssumed(address)) : addresses;
}

/** By destination, port and source. */
export function* flowRecords(grid: Grid): Generator<FlowRecord> {
  for (const block of grid.blocks) {
    for (const { spans, verdicts } of portLines(block)) {
      for (const [row, source] of grid.sources.entries()) {
        for (const verdict of verdictRecords(grid, verdicts, row)) {
          for (const span of spans) {
            yield { source: source.name, destination: block.destination.name, ...portFields(span), ...verdict };
          }
        }
      }
    }
  }
}

export function portFields({ protocol, first, last }: PortSpan): Pick<FlowRecord, 'protocol' | 'port' | 'endPort'> {
  return { protocol, port: first, ...(last > first ? { endPort: last } : {}) };
}

type VerdictRecord = Pick<FlowRecord, 'families' | 'allowed' | 'egress' | 'ingress'>;

/** Of both families one, where they have the same verdict for the same reasons. */
export function verdictRecords({ equivalence }: Grid, verdicts: Verdicts, row: number): VerdictRecord[] {
  const [v4 = NO_PAIR, v6 = NO_PAIR] = [verdicts[4][row], verdicts[6][row]];
  const record = (number: number, families: (4 | 6)[]): VerdictRecord => {
    const { allowed, egress, ingress } = equivalence.verdictNumbered(number);
    return { families, allowed, egress: copyOf(reasonOf(egress, 'egress')), ingress: copyOf(reasonOf(ingress, 'ingress')) };
  };
  if (v4 === v6) return v4 === NO_PAIR ? [] : [record(v4, [4, 6])];
  return [...(v4 === NO_PAIR ? [] : [record(v4, [4])]), ...(v6 === NO_PAIR ? [] : [record(v6, [6])])];
}

function copyOf({ allowed, reason, policies, fields }: Reason): z.infer<typeof DirectionReason> {
  return { allowed, reason, policies: [...policies], ...(fields === undefined ? {} : { fields: [...fields] }) };
}

const CSV_HEAD = [
  'source',
  'destination',
  'protocol',
  'port',
  'endPort',
  'families',
  'allowed',
  'egress',
  'egressPolicies',
  'ingress',
  'ingressPolicies',
];

/** RFC 4180: a line a flow, a head first, CR LF behind each. */
export function* matrixCsv(grid: Grid): Generator<string> {
  yield `${CSV_HEAD.join()}\r\n`;
  for (const { source, destination, protocol, port, endPort, families, allowed, egress, ingress } of flowRecords(grid)) {
    const fields = [
      source,
      destination,
      protocol,
      String(port),
      endPort === undefined ? '' : String(endPort),
      families.map((family) => `IPv${family}`).join(' '),
      String(allowed),
      egress.reason,
      egress.policies.join(' '),
      ingress.reason,
      ingress.policies.join(' '),
    ];
    yield `${fields.map(csvField).join()}\r\n`;
  }
}

/** In quotes where it has to be; and never so that a spreadsheet takes it for a formula. */
function csvField(text: string): string {
  const safe = /^[=+\-@\t\r]/u.test(text) ? `'${text}` : text;
  return /[",\r\n]/u.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
