/** Manifests and a listener for the tests of sources. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SourceEvent, SourceListener, SourceProblem } from '../../../src/sources/source.ts';

export function podYaml(name: string, labels = '{app: web}', namespace = 'dev'): string {
  return `apiVersion: v1\nkind: Pod\nmetadata:\n  name: ${name}\n  namespace: ${namespace}\n  labels: ${labels}\n`;
}

export function policyYaml(name: string, cidr = '10.0.0.0/8'): string {
  return [
    'apiVersion: networking.k8s.io/v1',
    'kind: NetworkPolicy',
    `metadata: {name: ${name}, namespace: dev}`,
    'spec:',
    '  podSelector: {}',
    '  ingress:',
    '    - from:',
    `        - ipBlock: {cidr: ${cidr}}`,
    '',
  ].join('\n');
}

export function namespaceYaml(name: string): string {
  return `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;
}

export function documents(...texts: readonly string[]): string {
  return texts.join('---\n');
}

/** `upsert Pod dev/web`, `synced`. */
export function eventText(event: SourceEvent): string {
  return event.type === 'synced' ? 'synced' : `${event.type} ${event.kind} ${event.key}`;
}

/** `a.yaml:4 error TYPE_INVALID`. */
export function problemText({ origin, line, severity, code }: SourceProblem): string {
  return `${origin}:${line ?? '-'} ${severity} ${code}`;
}

/** Holds what a source's stream adds up to, as any consumer of it would. */
export class Recorder implements SourceListener {
  readonly batches: string[][] = [];
  readonly objects = new Map<string, unknown>();
  readonly wrong = new Map<string, readonly SourceProblem[]>();
  synced = 0;

  events(events: readonly SourceEvent[]): void {
    assert.ok(events.length > 0);
    this.batches.push(events.map(eventText));
    for (const event of events) {
      if (event.type === 'synced') this.synced++;
      else if (event.type === 'upsert') this.objects.set(`${event.kind} ${event.key}`, event.object);
      else assert.ok(this.objects.delete(`${event.kind} ${event.key}`), `${event.key} is deleted and was not there`);
    }
  }

  problems(origin: string, problems: readonly SourceProblem[]): void {
    for (const problem of problems) assert.equal(problem.origin, origin);
    if (problems.length > 0) this.wrong.set(origin, problems);
    else assert.ok(this.wrong.delete(origin), `${origin} is mended and was not broken`);
  }

  names(): string[] {
    return [...this.objects.keys()].toSorted();
  }

  problemTexts(): string[] {
    return [...this.wrong.values()].flat().map(problemText).toSorted();
  }
}

/**
 * Waits until `check` no longer throws; at the end, throws what it threw. Shorter than the source's regular look, which would
 * make up for a notice that the watch missed.
 */
export async function eventually(check: () => void): Promise<void> {
  const end = performance.now() + 7000;
  for (;;) {
    try {
      check();
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(2);
    }
  }
}
