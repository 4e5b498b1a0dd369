/**
 * v1 Namespace, projected. Refused where its name or its labels cannot be read. That it terminates is not looked at: its policies are
 * in force while they exist (row 37).
 */
import type { Namespace } from '../policy/objects.ts';
import type { Fields } from '../policy/problems.ts';
import { NAMESPACE_NAME_LABEL } from '../policy/world.ts';
import { readLabelEntries, readMetadata, readName } from './metadata.ts';
import type { Report } from './report.ts';
import type { Sharing } from './sharing.ts';

export function projectNamespace(object: Fields, report: Report, sharing: Sharing): Namespace {
  const metadata = readMetadata(object, report);
  const name = readName(metadata, report);
  const labels = readLabelEntries(metadata, report) ?? new Map<string, string>();
  const said = labels.get(NAMESPACE_NAME_LABEL);
  if (said !== undefined && said !== name && name !== '') {
    report.leaveOut(
      `metadata.labels[${NAMESPACE_NAME_LABEL}]`,
      'LABEL_RESERVED',
      `is ${JSON.stringify(said)}, and the API sets it to the namespace's name`,
      `it counts as ${JSON.stringify(name)}`,
    );
  }
  labels.set(NAMESPACE_NAME_LABEL, name);
  return { name, labels: sharing.labels(labels) };
}
