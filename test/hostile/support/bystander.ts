/**
 * Somebody else on the node of a hostile tenant: changes a policy of its own again and again and takes the time until the kernel has it, and asks
 * for the agent's health as kubelet does. A process of its own in the node's network namespace, so that nothing the test does holds it up; started
 * by {@link Bystander}, below, which collects what it prints.
 *
 *     node bystander.ts '{"kubeconfig":"…"}'        changes the policy in an API server
 *     node bystander.ts '{"directory":"…"}'         or in a directory of manifests
 */
import { type ChildProcess } from 'node:child_process';
import { renameSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NftConnection } from '../../../packages/nftables-js/src/index.ts';
import { ApiClient } from '../../../src/kubernetes/api/client.ts';
import type { Lab } from '../../../src/lab/lab.ts';
import { type KubernetesObject, policyObject } from '../../kernel/support/objects.ts';
import { HEALTH_MS } from './hostile-size.ts';

export type BystanderSource = { readonly kubeconfig: string } | { readonly directory: string };

/** Of the last change that a bystander made; what is in force is the whole of it. */
export const VICTIM = { namespace: 'victim', policy: 'server', label: 'server', port: 80 } as const;

const PROGRAM = fileURLToPath(import.meta.url);
const HEALTH = { host: '127.0.0.1', port: 9478, path: '/healthz' } as const;
const HEALTH_EVERY_MS = 100;
/** Whoever waits longer for a change says that, and makes the next one. */
const IN_FORCE_MS = 30_000;
const CHANGE_EVERY_MS = 20;
const PORTS = { first: 20_000, last: 60_000 } as const;

/** The victim's policy: one port that is always open, and one that tells changes apart. */
export function victimPolicy(port: number): KubernetesObject {
  return policyObject(VICTIM.namespace, VICTIM.policy, {
    podSelector: { matchLabels: { app: VICTIM.label } },
    ingress: [{ ports: [{ port: VICTIM.port }] }, { ports: [{ protocol: 'TCP', port }] }],
  });
}

export interface Sample {
  readonly kind: 'change' | 'health';
  /** Of a change until the kernel has it, of a question until its answer; Infinity where it did not come. */
  readonly ms: number;
  /** When it was begun, `performance.timeOrigin + performance.now()`. */
  readonly at: number;
}

/** The process, seen from the test. */
export class Bystander {
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;
  readonly samples: Sample[] = [];
  #answered: (() => void) | undefined;

  constructor(lab: Lab, node: string, source: BystanderSource) {
    this.#process = lab.spawn(`node/${node}`, [process.execPath, PROGRAM, JSON.stringify(source)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = new Promise((resolve) => {
      this.#process.once('close', () => resolve());
    });
    if (this.#process.stdout === null) throw new Error('the bystander has no stdout');
    createInterface({ input: this.#process.stdout }).on('line', (line) => {
      const { ms, ...said } = JSON.parse(line) as { kind: Sample['kind'] | 'resting'; ms: number | null; at: number };
      if (said.kind === 'resting') this.#answered?.();
      else this.samples.push({ kind: said.kind, at: said.at, ms: ms ?? Number.POSITIVE_INFINITY });
    });
  }

  /** Resolves when it changes nothing any more; it goes on asking for the agent's health. */
  async rest(): Promise<void> {
    const answered = new Promise<void>((resolve) => {
      this.#answered = resolve;
    });
    this.#process.stdin?.write('rest\n');
    await answered;
  }

  goOn(): void {
    this.#process.stdin?.write('go on\n');
  }

  async end(): Promise<void> {
    this.#process.stdin?.end();
    await this.#ended;
  }

  /** ms, ascending. @param since as of {@link Sample}.at */
  times(kind: Sample['kind'], since = 0): number[] {
    return this.samples
      .filter((sample) => sample.kind === kind && sample.at >= since)
      .map(({ ms }) => ms)
      .sort((a, b) => a - b);
  }
}

// --- in the process

function say(kind: Sample['kind'] | 'resting', ms: number, startedAt: number): void {
  process.stdout.write(`${JSON.stringify({ kind, ms: Number.isFinite(ms) ? ms : null, at: performance.timeOrigin + startedAt })}\n`);
}

async function writer(source: BystanderSource): Promise<(policy: KubernetesObject) => Promise<void>> {
  if ('directory' in source) {
    const file = join(source.directory, `networkpolicy.${VICTIM.namespace}.${VICTIM.policy}.json`);
    return async (policy) => {
      writeFileSync(`${file}.new`, JSON.stringify(policy));
      renameSync(`${file}.new`, file);
    };
  }
  const client = await ApiClient.open({ file: source.kubeconfig, userAgent: 'sluice-bystander' });
  const path = `/apis/networking.k8s.io/v1/namespaces/${VICTIM.namespace}/networkpolicies/${VICTIM.policy}`;
  return async ({ spec }) => {
    await client.call({ method: 'PATCH', path, contentType: 'application/merge-patch+json', body: { spec } });
  };
}

/** Whether a rule of the victim's chain is about this port. */
function isInForce(connection: NftConnection, port: number): boolean {
  const chain = `policy/${VICTIM.namespace}/${VICTIM.policy}/ingress`;
  return connection
    .rules({ family: 'inet', table: 'sluice', chain })
    .some(({ expressions }) =>
      expressions.some((each) => each.expr === 'cmp' && each.value.length === 2 && Buffer.from(each.value).readUInt16BE() === port),
    );
}

async function changeAgainAndAgain(source: BystanderSource): Promise<void> {
  const connection = NftConnection.open();
  const write = await writer(source);
  const asked = { toRest: false, toEnd: false };
  let isResting = false;
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    asked.toRest = line === 'rest';
    if (!asked.toRest) isResting = false;
    else if (isResting) say('resting', 0, performance.now());
  });
  lines.on('close', () => {
    asked.toEnd = true;
  });
  for (let port: number = PORTS.first; !asked.toEnd; port = port < PORTS.last ? port + 1 : PORTS.first) {
    while (asked.toRest && !asked.toEnd) {
      if (!isResting) say('resting', 0, performance.now());
      isResting = true;
      await sleep(10);
    }
    await write(victimPolicy(port));
    const startedAt = performance.now();
    let ms = 0;
    while (!isInForce(connection, port)) {
      ms = performance.now() - startedAt;
      if (ms > IN_FORCE_MS) ms = Number.POSITIVE_INFINITY;
      if (ms > IN_FORCE_MS || asked.toEnd) break;
      await sleep(2);
    }
    say('change', ms === 0 ? performance.now() - startedAt : ms, startedAt);
    await sleep(CHANGE_EVERY_MS);
  }
}

async function askForHealth(): Promise<void> {
  for (;;) {
    const startedAt = performance.now();
    const ok = await new Promise<boolean>((resolve) => {
      const request = get({ ...HEALTH, agent: false }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      });
      request.once('error', () => resolve(false));
      setTimeout(() => {
        request.destroy();
        resolve(false);
      }, HEALTH_MS);
    });
    say('health', ok ? performance.now() - startedAt : Number.POSITIVE_INFINITY, startedAt);
    await sleep(HEALTH_EVERY_MS);
  }
}

if (process.argv[1] === PROGRAM) {
  void askForHealth();
  await changeAgainAndAgain(JSON.parse(process.argv[2] ?? '{}') as BystanderSource);
  process.exit(0);
}
