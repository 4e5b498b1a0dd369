/** Findings as they are shown: those that were asked for, with their places in files. */
import { createHash } from 'node:crypto';
import type { Inventory } from '../audit/inventory.ts';
import { API_VERSION } from '../output/document.ts';
import { CODES, LINT_CODES, type LintCode } from '../policy/lint/codes.ts';
import { type Finding, LINT_SEVERITIES, type LintObject, type LintSeverity } from '../policy/lint/finding.ts';
import type { LintResult } from '../policy/lint/lint.ts';
import type { LintDocument, PlacedFinding } from './lint-document.ts';

export interface LintSelection {
  /** Only these; empty: all. */
  readonly only: readonly LintCode[];
  readonly ignore: readonly LintCode[];
  /** The least that is shown. */
  readonly severity: LintSeverity;
  /** Only objects of these; empty: all. */
  readonly namespaces: readonly string[];
}

/** What is looked for. */
export function wantedCodes({ only, ignore }: LintSelection): ReadonlySet<LintCode> {
  return new Set((only.length > 0 ? only : LINT_CODES).filter((code) => !ignore.includes(code)));
}

export function lintDocument(
  inventory: Inventory,
  { findings, skipped }: LintResult,
  { namespaces, severity }: LintSelection,
): LintDocument {
  const isAsked = (namespace: string): boolean => namespaces.length === 0 || namespaces.includes(namespace);
  const asked = findings.filter(({ object }) => isAsked(object.kind === 'Namespace' ? object.name : (object.namespace ?? '')));
  const shown = asked.filter(({ code }) => isAtLeast(CODES[code].severity, severity));
  const number = (severity: LintSeverity): number => shown.filter(({ code }) => CODES[code].severity === severity).length;
  return {
    apiVersion: API_VERSION,
    kind: 'Lint',
    origin: inventory.origin,
    policies: inventory.policies.filter(({ namespace }) => isAsked(namespace)).length,
    errors: number('error'),
    warnings: number('warning'),
    notes: number('note'),
    hidden: asked.length - shown.length,
    findings: placed(inventory, shown),
    skipped: skipped.map(({ codes, reason }) => ({ codes: [...codes], reason })),
    missing: inventory.missing.map((missing) => ({ ...missing })),
  };
}

/** Whether a severity is as bad as another, or worse. */
export function isAtLeast(severity: LintSeverity, threshold: LintSeverity): boolean {
  return LINT_SEVERITIES.indexOf(severity) <= LINT_SEVERITIES.indexOf(threshold);
}

function placed(inventory: Inventory, findings: readonly Finding[]): PlacedFinding[] {
  const seen = new Map<string, number>();
  return findings.map(({ code, object, path, message, remedy, related }) => {
    const identity = [code, object.kind, object.namespace ?? '', object.name, path].join('\n');
    // Several of one code at one place are told apart by their order.
    const ordinal = seen.get(identity) ?? 0;
    seen.set(identity, ordinal + 1);
    return {
      code,
      severity: CODES[code].severity,
      object: { ...object },
      ...placeOf(inventory, object, path),
      message,
      remedy,
      related: related.map((one) => ({ object: { ...one.object }, ...placeOf(inventory, one.object, one.path), message: one.message })),
      fingerprint: createHash('sha256').update(`${identity}\n${ordinal}`).digest('hex').slice(0, 32),
    };
  });
}

function placeOf(
  inventory: Inventory,
  { kind, namespace = '', name }: LintObject,
  path: string,
): Pick<PlacedFinding, 'path' | 'file' | 'line'> {
  const place = kind === 'NetworkPolicy' ? inventory.written({ namespace, name })?.place(path) : undefined;
  return {
    path,
    ...(place?.file === undefined ? {} : { file: place.file }),
    ...(place?.line === undefined ? {} : { line: place.line }),
  };
}
