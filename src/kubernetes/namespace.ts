/**
 * v1 Namespace, projected. Refused where its name or its labels cannot be read. That it terminates is not looked at: its policies are
 * in force while they exist (row 37). Of its annotations only the mode is read; one that cannot be read asks for nothing, which enforces.
 */
import { TOO_MANY_LABELS } from '../policy/labels.ts';
import { type Mode, MODE_ANNOTATION, MODES } from '../policy/mode.ts';
import type { Namespace } from '../policy/objects.ts';
import { type Fields, isAbsent, isFields, quote } from '../policy/problems.ts';
import { NAMESPACE_NAME_LABEL } from '../policy/world.ts';
import { readLabelEntries, readMetadata, readName } from './metadata.ts';
import { found, type Report } from './report.ts';
import type { Sharing } from './sharing.ts';

export function projectNamespace(object: Fields, report: Report, sharing: Sharing): Namespace {
  const metadata = readMetadata(object, report);
  const name = readName(metadata, report);
  const read = readLabelEntries(metadata, report);
  const labels = new Map(read);
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
  const mode = readMode(metadata, report);
  return { name, labels: read === TOO_MANY_LABELS ? read : sharing.labels(labels), ...(mode === undefined ? {} : { mode }) };
}

function readMode(metadata: Fields, report: Report): Mode | undefined {
  const annotations = metadata['annotations'];
  if (isAbsent(annotations)) return undefined;
  if (!isFields(annotations)) {
    const fault = `expected an object of strings, not ${found(annotations)}`;
    report.leaveOut('metadata.annotations', 'TYPE_INVALID', fault, 'the namespace counts as having none');
    return undefined;
  }
  if (!Object.hasOwn(annotations, MODE_ANNOTATION)) return undefined;
  const said = annotations[MODE_ANNOTATION];
  const mode = MODES.find((known) => known === said);
  if (mode === undefined) {
    const fault = `${quote(said)} is none of ${MODES.join(' and ')}`;
    report.leaveOut(`metadata.annotations[${MODE_ANNOTATION}]`, 'NAMESPACE_MODE_UNKNOWN', fault, 'the annotation has no effect');
  }
  return mode;
}
