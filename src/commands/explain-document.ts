/** What `sluice explain` prints for programs. */
import * as z from 'zod';
import { API_VERSION } from '../output/document.ts';

const PolicyName = z.object({ namespace: z.string(), name: z.string() });

const Part = z.object({
  policy: PolicyName,
  path: z.string().describe('Field path in the policy: `spec.ingress[0].from[1]`; `spec` where the policy has no rule.'),
  file: z.string().optional().describe('Below the directory that was read; absent where the policy is from no file.'),
  line: z.number().int().optional().describe('Where the part begins in the file; 1 is the first line.'),
  yaml: z.string().optional().describe('What stands there, cut to a few lines.'),
});

const Fault = z.object({
  kind: z
    .enum([
      'no-rules',
      'port',
      'portless',
      'ports-unreadable',
      'label',
      'contradiction',
      'own-namespace',
      'no-pod',
      'block',
      'peer-unreadable',
    ])
    .describe('Stable; what each means is in docs/cli/explain.md.'),
  text: z.string().describe('For people.'),
});

const Kernel = z.union([
  z.object({ judged: z.literal(false), reason: z.string().describe('Why the kernel of the node at hand does not judge this direction.') }),
  z.object({
    judged: z.literal(true),
    effect: z.enum(['accept', 'drop', 'unknown']).describe('`unknown`: it cannot be told from the rules.'),
    chain: z.string().describe('The chain that decides.'),
    rule: z
      .object({
        handle: z.string().optional(),
        text: z.string().describe('Nearly as nft prints it.'),
        place: z.string().optional().describe('Of a policy’s rule: where it stands in the policy, `ingress[0].from[1]`.'),
        packets: z.number().int().optional().describe('What its counter has counted since the rule was made.'),
        bytes: z.number().int().optional(),
      })
      .optional()
      .describe('Absent: the policy of the base chain decides.'),
    via: z.array(z.string()).describe('The chains that lead to it, the base chain first.'),
    audited: z.boolean().describe('It is let through by audit mode alone, and counted as refused.'),
    agrees: z.enum(['yes', 'no', 'unknown']).describe('Whether the kernel does what the objects say.'),
    difference: z.string().optional().describe('How it does not.'),
    followed: z.number().int().describe('How many flows of the entry were followed through the rules.'),
    source: z.string().describe('Of the flow that is shown.'),
    destination: z.string(),
  }),
]);

const Direction = z.object({
  allowed: z.boolean(),
  reason: z
    .enum(['external', 'node', 'not-isolated', 'same-pod', 'own-node', 'admitted', 'refused'])
    .describe(
      '`external`, `node`: this end is no pod, so that no policy is asked; `not-isolated`: no policy isolates the pod; `same-pod`: a pod and itself; ' +
        '`own-node`: a pod and the node that it runs on; `admitted`: by a rule; `refused`: by all policies that isolate the pod.',
    ),
  by: Part.optional().describe('With `admitted`: the peer that admits it, or the rule where it is open to everybody. Others may as well.'),
  port: z.number().int().optional().describe('With `admitted`: index in `ports` of the rule; absent: the rule is open to every port.'),
  isolatedBy: z.array(PolicyName).optional().describe('With `refused`: every policy that isolates the pod in this direction.'),
  misses: z
    .array(Part.extend({ faults: z.array(Fault).min(1) }))
    .optional()
    .describe('With `refused`: of each of these policies what comes nearest to admitting it, the nearest of all first.'),
  missesLeftOut: z.number().int().optional().describe('With `refused`: how many policies are not among `misses`.'),
  beyondBudget: z
    .array(z.string())
    .optional()
    .describe('With `refused`: what budgets have no room for, a sentence each; it isolates, and admits nothing.'),
  missesVary: z
    .boolean()
    .optional()
    .describe(
      'Flows of the entry differ in their misses, since there would be too many entries otherwise; those of one of them are given.',
    ),
  kernel: Kernel.optional().describe('What the kernel of the node at hand does.'),
});

const End = z.object({
  name: z.string().describe('As it was asked about.'),
  of: z.number().int().describe('How many pods and addresses the end has as a whole.'),
  count: z.number().int().describe('How many of them this entry is about.'),
  members: z
    .array(
      z.object({
        name: z.string(),
        addresses: z.array(z.string()).describe('None of a pod of a directory that has none yet: it is taken to be in no ipBlock.'),
        node: z.string().optional(),
      }),
    )
    .describe('The first 100 of them: pods by `namespace/name`, others by their address.'),
  blocks: z
    .array(z.string())
    .describe('Of a block of addresses: the parts of it that this entry is about, apart from pods and nodes in it.'),
});

const Flow = z.object({
  source: End,
  destination: End,
  itself: z.boolean().describe('Each pod and itself.'),
  families: z.array(z.union([z.literal(4), z.literal(6)])),
  protocol: z.enum(['TCP', 'UDP', 'SCTP', 'ICMP', 'any']).describe('`any`: the answer is the same for every port of every protocol.'),
  ports: z
    .array(
      z.object({
        port: z.number().int().describe('Of the destination itself, after a Service has been translated.'),
        servicePort: z.number().int().optional().describe('The port of the Service that leads there.'),
      }),
    )
    .describe('Empty for ICMP and `any`.'),
  allowed: z.boolean().describe('Egress of the source and ingress of the destination both allow it.'),
  egress: Direction,
  ingress: Direction,
  suggestions: z
    .array(
      z.object({
        direction: z.enum(['egress', 'ingress']),
        admits: z.string(),
        notes: z.array(z.string()),
        policy: z.record(z.string(), z.unknown()).describe('A NetworkPolicy as `kubectl apply` takes it.'),
      }),
    )
    .optional()
    .describe('With --suggest, of a flow that is refused: policies that would allow it for the first source and destination of the entry.'),
});

export const ExplainDocument = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Explanation'),
  origin: z.string().describe('Where the objects were read.'),
  question: z.object({ source: z.string(), destination: z.string(), namespace: z.string().describe('Of names without one.') }),
  allowed: z.boolean().describe('Everything that was asked is answered, and allowed.'),
  flows: z.array(Flow).describe('Flows with the same explanation are one entry.'),
  unanswered: z
    .array(z.object({ name: z.string(), reason: z.string() }))
    .describe('What nothing is said of, and why: pods without an address, Services without endpoints.'),
  notes: z.array(z.object({ code: z.string().describe('Stable.'), message: z.string() })).describe('What else matters for the answer.'),
  kernel: z
    .object({
      node: z.string(),
      saidBy: z.string().describe('How it is known that it is this node’s.'),
      unread: z.string().optional().describe('Why it could not be asked.'),
    })
    .optional()
    .describe('The kernel that was asked; absent: none is at hand, or it is of a node that this is not about.'),
  missing: z
    .array(z.object({ what: z.string(), reason: z.string(), consequence: z.string() }))
    .describe('Objects that may not be read, and what that means for the answer.'),
});
export type ExplainDocument = z.infer<typeof ExplainDocument>;
