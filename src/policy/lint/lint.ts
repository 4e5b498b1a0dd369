/** All checks of policies, over one cluster. Pure: what is there goes in, what is wrong with it comes out, always in the same order. */
import type { Labels } from '../labels.ts';
import type { Pod } from '../objects.ts';
import { Addresses } from './addresses.ts';
import { blocks } from './blocks.ts';
import { budgets } from './budgets.ts';
import { CODES, type LintCode } from './codes.ts';
import { contradictions } from './contradictions.ts';
import { Covering } from './covering.ts';
import { directions } from './directions.ts';
import { dns } from './dns.ts';
import { excepts } from './excepts.ts';
import { type Finding, LINT_SEVERITIES, type LintObject } from './finding.ts';
import type { Check, LintCluster, LintInput } from './input.ts';
import { interpretation } from './interpretation.ts';
import { isolation } from './isolation.ts';
import { absentKeys, labelValues } from './label-values.ts';
import { namespaceLabels } from './namespace-labels.ts';
import { type Vocabulary, vocabularyOf } from './near-miss.ts';
import { otherSide } from './other-side.ts';
import { peersThatMiss, unitedSelectors } from './peers-that-miss.ts';
import { PodGroups } from './pods.ts';
import { portNames } from './port-names.ts';
import { portNumbers } from './port-numbers.ts';
import { repeated } from './repeated.ts';
import { selectsNothing } from './selects-nothing.ts';
import { shadowed } from './shadowed.ts';

export const CHECKS: readonly Check[] = [
  interpretation,
  contradictions,
  directions,
  selectsNothing,
  peersThatMiss,
  unitedSelectors,
  namespaceLabels,
  labelValues,
  absentKeys,
  blocks,
  excepts,
  portNames,
  portNumbers,
  repeated,
  dns,
  shadowed,
  otherSide,
  isolation,
  budgets,
];

export interface LintResult {
  /** By namespace, object and field; of one field the worst first. */
  readonly findings: readonly Finding[];
  /** What could not be looked for. */
  readonly skipped: readonly { readonly codes: readonly LintCode[]; readonly reason: string }[];
}

/** @param wanted only these are looked for; undefined: all */
export function lint(input: LintInput, wanted?: ReadonlySet<LintCode>): LintResult {
  const cluster = clusterOf(input);
  const findings: Finding[] = [];
  const skipped: LintCode[] = [];
  const hasPods = input.pods.length > 0 || input.templates.length > 0;
  for (const check of CHECKS) {
    const codes = check.codes.filter((code) => wanted?.has(code) ?? true);
    if (codes.length === 0) continue;
    if (check.needs === 'pods' && !hasPods) {
      for (const each of codes) skipped.push(each);
      continue;
    }
    for (const found of check.run(cluster)) if (codes.includes(found.code)) findings.push(found);
  }
  const reason = 'no pods and no workloads are known, and these are found by comparing policies with them';
  return { findings: inOrder(findings), skipped: skipped.length === 0 ? [] : [{ codes: skipped, reason }] };
}

function clusterOf(input: LintInput): LintCluster {
  const vocabularies = new Map<string | undefined, Vocabulary>();
  const all = [...input.pods, ...input.templates];
  let byNamespace: ReadonlyMap<string, readonly Pod[]> | undefined;
  const labelsOf = (namespace: string | undefined): Labels[] => {
    if (namespace === undefined) return all.map(({ labels }) => labels);
    byNamespace ??= Map.groupBy(all, (pod) => pod.namespace);
    return (byNamespace.get(namespace) ?? []).map(({ labels }) => labels);
  };
  return {
    ...input,
    groups: new PodGroups(input),
    addresses: new Addresses(input),
    covering: new Covering(input.policies),
    namespaceLabels: vocabularyOf(input.namespaces.map(({ labels }) => labels)),
    podLabels: (namespace) => {
      let vocabulary = vocabularies.get(namespace);
      if (vocabulary === undefined) {
        vocabulary = vocabularyOf(labelsOf(namespace));
        vocabularies.set(namespace, vocabulary);
      }
      return vocabulary;
    },
  };
}

function inOrder(findings: readonly Finding[]): readonly Finding[] {
  const keys = new Map(findings.map((found) => [found, sortKey(found)]));
  return findings.toSorted((a, b) => compare(keys.get(a) ?? '', keys.get(b) ?? ''));
}

/** A Namespace before its policies; numbers in paths by value, so that rule 10 comes after rule 9. */
function sortKey({ object, path, code, message }: Finding): string {
  const place = path.replace(/\d+/gu, (digits) => digits.padStart(6, '0'));
  return [...objectKey(object), place, String(LINT_SEVERITIES.indexOf(CODES[code].severity)), code, message].join('\u0000');
}

function objectKey({ kind, namespace, name }: LintObject): readonly string[] {
  return kind === 'Namespace' ? [name, ''] : [namespace ?? '', name];
}

/** By code units, the same everywhere. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
