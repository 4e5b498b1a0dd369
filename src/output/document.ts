/** Answers for programs: documents with a version and a kind, as JSON or YAML. */
import { stringify } from 'yaml';
import { API_VERSION } from './api-version.ts';

export { API_VERSION };

export type DocumentFormat = 'json' | 'yaml';

export interface OutputDocument {
  readonly apiVersion: typeof API_VERSION;
  readonly kind: string;
}

/** The whole document as text, with a line feed at its end. */
export function formatDocument(format: DocumentFormat, document: OutputDocument): string {
  if (format === 'json') return `${JSON.stringify(document, undefined, 2)}\n`;
  return stringify(document, { lineWidth: 0, aliasDuplicateObjects: false });
}
