/**
 * metav1.ObjectMeta, the fields in use. What an object is called and what it is labelled with has to be readable, or the object
 * is refused: a name guessed wrongly is another object, and a label guessed wrongly is another verdict.
 */
import { type Labels, LABELS_MAX, TOO_MANY_LABELS } from '../policy/labels.ts';
import { type Fields, isAbsent, isFields, quote, typeName } from '../policy/problems.ts';
import { found, noString, type Report } from './report.ts';
import { NO_LABELS, type Sharing } from './sharing.ts';

/** Namespace and name make up keys, joined with a slash, and file names: neither may hold one, nor what a terminal would act on. */
// oxlint-disable-next-line no-control-regex -- control characters are what it looks for
const UNUSABLE_NAME = /[/\u0000-\u001f\u007f-\u009f]|^\.{1,2}$/u;

/** RFC 3339, as metav1.Time is written. */
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/u;

export const DEFAULT_NAMESPACE = 'default';

/** metadata of an object; refused where it is none. */
export function readMetadata(object: Fields, report: Report): Fields {
  const metadata = object['metadata'];
  if (isFields(metadata)) return metadata;
  const fault = isAbsent(metadata) ? 'is missing' : `expected an object, not ${found(metadata)}`;
  report.refuse('metadata', 'METADATA_INVALID', fault);
  return {};
}

/** metadata.name. Empty only if the object is refused. */
export function readName(metadata: Fields, report: Report): string {
  const name = metadata['name'];
  if (typeof name === 'string' && name !== '' && !UNUSABLE_NAME.test(name)) return name;
  if (typeof name === 'string' && name !== '') {
    report.refuse('metadata.name', 'NAME_INVALID', `${quote(name)} cannot be a name`);
  } else if (isAbsent(name) || name === '') {
    const generated = typeof metadata['generateName'] === 'string' ? '; metadata.generateName names only what the API creates' : '';
    report.refuse('metadata.name', 'NAME_MISSING', `the object has no name${generated}`);
  } else {
    report.refuse('metadata.name', 'TYPE_INVALID', noString(name));
  }
  return '';
}

/** metadata.namespace; `default` where it is missing, as kubectl applies it. Shared. */
export function readNamespace(metadata: Fields, report: Report, sharing: Sharing): string {
  const namespace = report.neededString(metadata, 'namespace', 'metadata.namespace', '');
  if (namespace === '') return DEFAULT_NAMESPACE;
  if (UNUSABLE_NAME.test(namespace)) report.refuse('metadata.namespace', 'NAME_INVALID', `${quote(namespace)} cannot be a namespace`);
  return sharing.string(namespace);
}

const TOO_MANY_CONSEQUENCE =
  'no peer of a policy selects it, whatever it asks for, no named port leads to it, and every policy of its namespace isolates it';

/** metadata.labels as they are written, not yet shared; {@link TOO_MANY_LABELS} where they are more than are carried. A null value is the empty one, as the API decodes it. */
export function readLabelEntries(metadata: Fields, report: Report): Labels | undefined {
  const labels = metadata['labels'];
  if (isAbsent(labels)) return undefined;
  if (!isFields(labels)) {
    report.refuse('metadata.labels', 'TYPE_INVALID', `expected an object of strings, not ${typeName(labels)}`);
    return undefined;
  }
  const entries = new Map<string, string>();
  const keys = Object.keys(labels);
  if (keys.length > LABELS_MAX) {
    const fault = `there are ${keys.length} labels, and ${LABELS_MAX} are carried`;
    report.leaveOut('metadata.labels', 'LABELS_TOO_MANY', fault, TOO_MANY_CONSEQUENCE);
    return TOO_MANY_LABELS;
  }
  for (const key of keys) {
    const value = labels[key];
    if (typeof value === 'string') entries.set(key, value);
    else if (value === null) entries.set(key, '');
    else report.refuse(`metadata.labels[${key}]`, 'TYPE_INVALID', noString(value));
  }
  return entries;
}

export function readLabels(metadata: Fields, report: Report, sharing: Sharing): Labels {
  const entries = readLabelEntries(metadata, report);
  return entries === undefined ? NO_LABELS : entries === TOO_MANY_LABELS ? entries : sharing.labels(entries);
}

/** metadata.creationTimestamp in ms since the epoch; 0 where it is missing or cannot be read. */
export function readCreatedAt(metadata: Fields, report: Report): number {
  const text = metadata['creationTimestamp'];
  if (isAbsent(text)) return 0;
  const time = typeof text === 'string' && RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(time)) return time;
  report.leaveOut(
    'metadata.creationTimestamp',
    'TIMESTAMP_INVALID',
    `${quote(text)} is no RFC 3339 time`,
    'the object counts as older than any other',
  );
  return 0;
}
