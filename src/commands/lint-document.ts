/** The document that `sluice lint -o json|yaml` prints; the table and SARIF are made of it too. */
import * as z from 'zod';
import { API_VERSION } from '../output/document.ts';

const ObjectName = z.strictObject({
  kind: z.enum(['NetworkPolicy', 'Namespace']),
  namespace: z.string().optional().describe('Of a NetworkPolicy.'),
  name: z.string(),
});

const place = {
  path: z.string().describe('Field path as the API writes it; empty: the object as a whole.'),
  file: z.string().optional().describe('Below the directory; absent where the object is from no file.'),
  line: z.int().optional().describe('1-based, in the file.'),
};

export const Severity = z.enum(['error', 'warning', 'note']);

export const LintFinding = z.strictObject({
  code: z.string().describe('Stable; sluice lint --explain CODE says what it means.'),
  severity: Severity,
  object: ObjectName,
  ...place,
  message: z.string().describe('What is there, and what it means in effect.'),
  remedy: z.string().describe('What to write instead.'),
  related: z.array(z.strictObject({ object: ObjectName, ...place, message: z.string() })).describe('Other places that have to do with it.'),
  fingerprint: z.string().describe('The same for the same finding at the same place, from run to run.'),
});

export const LintDocument = z
  .strictObject({
    apiVersion: z.literal(API_VERSION),
    kind: z.literal('Lint'),
    origin: z.string().describe('Where the objects were read, for people.'),
    policies: z.int().describe('How many were looked at.'),
    errors: z.int(),
    warnings: z.int(),
    notes: z.int(),
    hidden: z.int().describe('Findings that are below --severity, and not shown.'),
    findings: z.array(LintFinding).describe('By namespace, object and field.'),
    skipped: z.array(z.strictObject({ codes: z.array(z.string()), reason: z.string() })).describe('What could not be looked for, and why.'),
    missing: z
      .array(z.strictObject({ what: z.string(), reason: z.string(), consequence: z.string() }))
      .describe('Objects that may not be read, and what that means for the answer.'),
  })
  .describe('What is wrong with policies.');

export type LintDocument = z.infer<typeof LintDocument>;
export type PlacedFinding = z.infer<typeof LintFinding>;
