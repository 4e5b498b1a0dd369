/** What `sluice dump` prints for programs. */
import * as z from 'zod';
import { API_VERSION } from '../output/document.ts';

const CountRecord = z.object({ packets: z.number().int(), bytes: z.number().int() });

const SetRecord = z.object({
  set: z.string().describe('Its name in the table.'),
  of: z.string().describe('What the policy says: a selector, or a block.'),
  elements: z.array(z.string()).describe('What that is now: addresses, prefixes, or `address:port/protocol`.'),
});
export type SetRecord = z.infer<typeof SetRecord>;

const RuleRecord = z
  .object({
    path: z.string().describe('Where in the policy’s spec: `ingress[0].from[1]`.'),
    family: z
      .union([z.literal(4), z.literal(6)])
      .optional()
      .describe('Absent: both.'),
    peer: SetRecord.optional().describe('Whom it admits; absent: everybody, or those that `named` says.'),
    protocol: z.enum(['TCP', 'UDP', 'SCTP']).optional().describe('Absent: every protocol, or the one that `named` says.'),
    ports: z.array(z.string()).optional().describe('`80`, or `8000-8080`; one of them has to hold. Absent: every port.'),
    named: SetRecord.optional().describe('Destination address, protocol and port of a named port.'),
    counted: CountRecord.optional().describe(
      'Connections that the rule has admitted on this node since it was made, by their first packets, for all pods that the policy selects.',
    ),
  })
  .describe('All that is given has to hold; what is absent is not asked.');
export type RuleRecord = z.infer<typeof RuleRecord>;

const PolicyRecord = z.object({
  policy: z.string().describe('`namespace/name`'),
  chain: z.string().describe('Its chain in the table.'),
  rules: z.array(RuleRecord),
});
export type PolicyRecord = z.infer<typeof PolicyRecord>;

const IsolationRecord = z
  .object({
    pod: z.string().describe('`namespace/name`'),
    node: z.string(),
    direction: z.enum(['ingress', 'egress']),
    audited: z.boolean().describe('Whether what nothing admits is let through, and only counted and logged.'),
    addresses: z.array(z.string()),
    chain: z.string().describe('The chain that judges it.'),
    policies: z.array(PolicyRecord).describe('Every policy that isolates it in this direction; what none of them admits is refused.'),
    refused: CountRecord.optional().describe('Packets that nothing admitted, since the chain was made.'),
  })
  .describe('One direction of one isolated pod.');
export type IsolationRecord = z.infer<typeof IsolationRecord>;

export const DumpDocument = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Dump'),
  nodes: z.array(z.string()).describe('The nodes whose pods were asked about.'),
  countedOn: z.string().nullable().describe('The node whose kernel was at hand, and counts; null: none was.'),
  pods: z.array(IsolationRecord),
});
export type DumpDocument = z.infer<typeof DumpDocument>;
