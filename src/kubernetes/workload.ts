/**
 * Deployments and the like, projected: which pods are theirs, and what their next pod will look like. Policy itself never asks for them;
 * questions that name one do, and so does whoever judges policies before there are pods.
 */
import * as z from 'zod';
import type { Pod } from '../policy/objects.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import { readSelector, type Selector, selectorOf } from '../policy/selector.ts';
import { Report } from './report.ts';
import { projectPod } from './pod.ts';
import type { Sharing } from './sharing.ts';

export const WORKLOAD_KINDS = ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job', 'CronJob', 'ReplicationController'] as const;
export type WorkloadKind = (typeof WORKLOAD_KINDS)[number];

export interface Workload {
  readonly kind: WorkloadKind;
  readonly namespace: string;
  readonly name: string;
  /** Which pods of its namespace are its own. Undefined: it does not say so in a way that can be read. */
  readonly selector: Selector | undefined;
  /** A pod of it as it will be: named like the workload, without addresses or node. */
  readonly template: Pod;
  /** It has one pod at a time: a Job, or one replica is asked for. */
  readonly single: boolean;
}

const WORKLOAD = z.object({
  metadata: z.object({ name: z.string().min(1), namespace: z.string().min(1).default('default') }),
  spec: z.object({
    selector: z.unknown().optional(),
    replicas: z.int().nullish(),
    template: z.record(z.string(), z.unknown()).nullish(),
    jobTemplate: z.object({ spec: z.object({ template: z.record(z.string(), z.unknown()).nullish() }).nullish() }).nullish(),
  }),
});

/** A text: what is wrong with it. */
export function projectWorkload(kind: WorkloadKind, value: unknown, sharing: Sharing): Workload | string {
  const { data, error } = WORKLOAD.safeParse(value);
  if (data === undefined) return z.prettifyError(error);
  const { metadata, spec } = data;
  const template: Fields = (kind === 'CronJob' ? spec.jobTemplate?.spec?.template : spec.template) ?? {};
  const report = new Report();
  const own = isFields(template['metadata']) ? template['metadata'] : {};
  const object = { metadata: { labels: own['labels'], name: metadata.name, namespace: metadata.namespace }, spec: template['spec'] };
  const pod = projectPod(object, report, sharing);
  if (report.refused) {
    return report.problems
      .told()
      .map(({ path, message }) => `spec.template.${path}: ${message}`)
      .join('; ');
  }
  return {
    kind,
    namespace: metadata.namespace,
    name: metadata.name,
    selector: selectorOfWorkload(kind, spec.selector, pod),
    template: pod,
    single: kind === 'Job' || kind === 'CronJob' || spec.replicas === 1,
  };
}

function selectorOfWorkload(kind: WorkloadKind, value: unknown, template: Pod): Selector | undefined {
  // A CronJob selects nothing; the pods of its Jobs have the labels of its template.
  const labels = kind === 'CronJob' || (kind === 'ReplicationController' && !isFields(value)) ? Object.fromEntries(template.labels) : value;
  if (kind === 'CronJob' || kind === 'ReplicationController') {
    if (!isFields(labels) || Object.keys(labels).length === 0) return undefined;
    return selectorOf(Object.entries(labels).map(([key, text]) => ({ key, operator: 'In', values: [String(text)] })));
  }
  // Of these the API makes a selector obligatory, but for Jobs, which it gives one by an id of their own.
  if (!isFields(value)) {
    if (template.labels.size === 0) return undefined;
    return selectorOf([...template.labels].map(([key, text]) => ({ key, operator: 'In', values: [text] })));
  }
  return readSelector(value, 'spec.selector').selector;
}
