/**
 * What lint found as SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), for code scanning and editors. Files are named
 * relative to where the command is called, as those who show them expect; one elsewhere by its whole URI.
 */
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import packageJson from '../../package.json' with { type: 'json' };
import { CODES, LINT_CODES, type LintCode } from '../policy/lint/codes.ts';
import type { LintSeverity } from '../policy/lint/finding.ts';
import type { LintDocument, PlacedFinding } from './lint-document.ts';

type Level = 'error' | 'warning' | 'note';

interface Message {
  readonly text: string;
  readonly markdown?: string;
}

interface ReportingDescriptor {
  readonly id: LintCode;
  readonly name: string;
  readonly shortDescription: Message;
  readonly fullDescription: Message;
  readonly help: Message;
  readonly defaultConfiguration: { readonly level: Level };
}

interface Location {
  readonly id?: number;
  readonly message?: Message;
  readonly physicalLocation?: {
    readonly artifactLocation: { readonly uri: string };
    readonly region?: { readonly startLine: number };
  };
  readonly logicalLocations: readonly { readonly name: string; readonly fullyQualifiedName: string; readonly kind: string }[];
}

interface Result {
  readonly ruleId: string;
  readonly ruleIndex: number;
  readonly level: Level;
  readonly message: Message;
  readonly locations: readonly Location[];
  readonly relatedLocations?: readonly Location[];
  readonly partialFingerprints: Readonly<Record<string, string>>;
}

export interface SarifLog {
  readonly $schema: string;
  readonly version: '2.1.0';
  readonly runs: readonly {
    readonly tool: { readonly driver: { readonly name: string; readonly version: string; readonly rules: readonly ReportingDescriptor[] } };
    readonly columnKind: 'utf16CodeUnits';
    readonly invocations: readonly {
      readonly executionSuccessful: boolean;
      readonly toolExecutionNotifications: readonly { readonly level: Level; readonly message: Message }[];
    }[];
    readonly results: readonly Result[];
  }[];
}

const SCHEMA = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json';

/**
 * @param directory that the objects were read from; undefined: from no files
 * @param from the directory that URIs are relative to
 */
export function sarif({ findings, skipped, missing }: LintDocument, directory: string | undefined, from: string): SarifLog {
  const uriOf = (file: string): string => fileUri(resolve(from, directory ?? '', file), from);
  const locationOf = ({ object, path, file, line }: Pick<PlacedFinding, 'object' | 'path' | 'file' | 'line'>): Location => {
    const { kind, namespace, name } = object;
    const fullyQualifiedName = [kind, namespace, name, path].filter((part) => part !== undefined && part !== '').join('/');
    const logicalLocations = [{ name, fullyQualifiedName, kind: 'object' }];
    // What is of no file in a directory is of the directory: code scanning wants a place.
    const uri = file === undefined ? (directory === undefined ? undefined : uriOf('')) : uriOf(file);
    if (uri === undefined) return { logicalLocations };
    return {
      physicalLocation: { artifactLocation: { uri }, ...(line === undefined || file === undefined ? {} : { region: { startLine: line } }) },
      logicalLocations,
    };
  };
  const results = findings.map((found): Result => {
    const related = found.related.map((other, id) => ({ id, message: { text: sentence(other.message) }, ...locationOf(other) }));
    return {
      ruleId: found.code,
      ruleIndex: LINT_CODES.findIndex((code) => code === found.code),
      level: found.severity,
      message: { text: `${sentence(found.message)} ${sentence(found.remedy)}` },
      locations: [locationOf(found)],
      ...(related.length === 0 ? {} : { relatedLocations: related }),
      partialFingerprints: { 'sluiceLint/v1': found.fingerprint },
    };
  });
  const notifications = [
    ...skipped.map(({ codes, reason }) => `Not looked for, since ${reason}: ${codes.join(', ')}.`),
    ...missing.map(({ what, reason, consequence }) => `Missing are ${what}: ${reason}. ${consequence}`),
  ];
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: { driver: { name: 'sluice', version: packageJson.version, rules: LINT_CODES.map(rule) } },
        columnKind: 'utf16CodeUnits',
        invocations: [
          { executionSuccessful: true, toolExecutionNotifications: notifications.map((text) => ({ level: 'warning', message: { text } })) },
        ],
        results,
      },
    ],
  };
}

function rule(code: LintCode): ReportingDescriptor {
  const { severity, summary, meaning, example, instead } = CODES[code];
  return {
    id: code,
    name: code
      .split('_')
      .map((word) => word.slice(0, 1) + word.slice(1).toLowerCase())
      .join(''),
    shortDescription: { text: sentence(summary) },
    fullDescription: { text: meaning },
    help: {
      text: `${meaning}\n\nFound in:\n\n${example}\n\nInstead:\n\n${instead}\n`,
      markdown: `${meaning}\n\nFound in:\n\n\`\`\`yaml\n${example}\n\`\`\`\n\nInstead:\n\n\`\`\`yaml\n${instead}\n\`\`\`\n`,
    },
    defaultConfiguration: { level: severity satisfies LintSeverity },
  };
}

/** With a capital and a full stop. */
function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.?]$/u.test(text) ? '' : '.'}`;
}

/** RFC 3986: what is not of a path is escaped. */
function fileUri(file: string, from: string): string {
  const below = relative(from, file);
  if (below === '..' || below.startsWith(`..${sep}`) || isAbsolute(below)) return pathToFileURL(file).href;
  return below === '' ? '.' : below.split(sep).map(encodeURIComponent).join('/');
}
