/**
 * SARIF 2.1.0, sections 3.13 to 3.58, as far as sluice writes it: every property that is written is of the standard and of its type,
 * and what the standard requires is there. Nothing else may be (the standard's schema forbids properties that it does not name).
 */
import * as z from 'zod';

const Level = z.enum(['none', 'note', 'warning', 'error']);
/** 3.11 */
const Message = z.strictObject({ text: z.string().min(1), markdown: z.string().optional() });
/** 3.4: a URI reference (RFC 3986), without blanks. */
const ArtifactLocation = z.strictObject({ uri: z.string().regex(/^[\w.~!$&'()*+,;=:@%/-]+$/u) });
/** 3.28, 3.29, 3.30, 3.33 */
const Location = z.strictObject({
  id: z.int().min(-1).optional(),
  message: Message.optional(),
  physicalLocation: z
    .strictObject({ artifactLocation: ArtifactLocation, region: z.strictObject({ startLine: z.int().min(1) }).optional() })
    .optional(),
  logicalLocations: z.array(z.strictObject({ name: z.string(), fullyQualifiedName: z.string(), kind: z.string() })).optional(),
});

export const SarifSchema = z.strictObject({
  $schema: z.url(),
  version: z.literal('2.1.0'),
  runs: z.array(
    z.strictObject({
      tool: z.strictObject({
        driver: z.strictObject({
          name: z.string(),
          version: z.string(),
          // 3.49
          rules: z.array(
            z.strictObject({
              id: z.string(),
              name: z.string(),
              shortDescription: Message,
              fullDescription: Message,
              help: Message,
              defaultConfiguration: z.strictObject({ level: Level }),
            }),
          ),
        }),
      }),
      columnKind: z.enum(['utf16CodeUnits', 'unicodeCodePoints']),
      invocations: z.array(
        z.strictObject({
          executionSuccessful: z.boolean(),
          toolExecutionNotifications: z.array(z.strictObject({ level: Level, message: Message })),
        }),
      ),
      // 3.27
      results: z.array(
        z.strictObject({
          ruleId: z.string(),
          ruleIndex: z.int().min(0),
          level: Level,
          message: Message,
          locations: z.array(Location),
          relatedLocations: z.array(Location).optional(),
          partialFingerprints: z.record(z.string().regex(/^[\w./-]+$/u), z.string()),
        }),
      ),
    }),
  ),
});
