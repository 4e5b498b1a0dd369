/** What `sluice verify` prints for programs. */
import * as z from 'zod';
import { API_VERSION } from '../output/document.ts';

const Line = z.object({
  side: z
    .enum(['desired', 'kernel', 'both'])
    .describe('Which side has the line: desired only, the kernel only, or both (shown to say where the others stand).'),
  text: z.string().describe('In the words of nft(8), without counters.'),
  handle: z.string().optional().describe('Of a rule that the kernel has: its handle, as `nft -a list` shows it.'),
});

const DifferenceDocument = z.object({
  object: z.enum(['table', 'chain', 'set', 'map', 'bridge']),
  name: z.string().describe('Of the table `inet sluice`; of the others as they are called in it; of a bridge that of the interface.'),
  kernel: z
    .enum(['missing', 'extra', 'different'])
    .describe('The kernel lacks the object, has it although nobody asked for it, or has it otherwise than it should be.'),
  lines: z.array(Line).describe('Empty of a table that is missing.'),
});

export const VerificationDocument = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal('Verification'),
  node: z.string().describe('The node whose kernel was compared.'),
  equal: z.boolean().describe('Whether the kernel has what the cluster asks of it.'),
  table: z.enum(['present', 'absent']).describe('Whether the kernel has the table `inet sluice` at all.'),
  desired: z
    .object({ chains: z.number().int(), sets: z.number().int(), isolatedPods: z.number().int() })
    .describe('How much was compared; isolated pods are those of this node that a policy isolates in either direction.'),
  differences: z.array(DifferenceDocument),
  looks: z
    .object({ cluster: z.number().int(), kernel: z.number().int() })
    .describe('How often the cluster and the kernel were read; a difference is one that was there every time.'),
  passing: z.number().int().describe('Rules, elements and objects that differed at one time and not at another: something is in motion.'),
  notes: z.array(z.string()).describe('What else may matter, as sentences.'),
});
export type VerificationDocument = z.infer<typeof VerificationDocument>;
