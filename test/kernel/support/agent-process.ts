/**
 * One `sluice agent` process in the network namespace of a lab's node, with a log and a status file of its own: what an earlier
 * agent of the node left is never taken for this one's.
 */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../../../src/lab/lab.ts';
import type { StatusDocument } from '../../../src/observability/status.ts';
import { eventually } from './eventually.ts';

export const PROGRAM = fileURLToPath(new URL('../../../bin/sluice.js', import.meta.url));

export interface AgentProcessOptions {
  /** Where it has its objects from: `--source DIRECTORY`, or `--kubeconfig FILE`. */
  readonly source: readonly string[];
  /** Where its log and its status go; `name` keeps them apart from others'. */
  readonly state: string;
  readonly name: string;
  /** Further arguments of `sluice agent`. */
  readonly args: readonly string[];
  /** What to start it with: a program that executes its arguments. */
  readonly wrapper?: readonly string[];
}

export interface LogLine {
  readonly level: string;
  /** ms since the epoch. */
  readonly at: number;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface AgentEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class AgentProcess {
  readonly node: string;
  /** ms since the epoch. */
  readonly startedAt: number;
  /** For `sluice observe --socket`. */
  readonly observeSocket: string;
  readonly #log: string;
  readonly #status: string;
  readonly #process: ReturnType<Lab['spawn']>;
  readonly #end: Promise<AgentEnd>;
  #ended: AgentEnd | undefined;

  constructor(lab: Lab, node: string, options: AgentProcessOptions) {
    const { source, state, name, args, wrapper = [] } = options;
    this.node = node;
    this.#log = join(state, `${name}.log`);
    this.#status = join(state, `${name}.status.json`);
    this.observeSocket = join(state, `${name}.observe.sock`);
    const own = ['agent', ...source, '--node', node, '--status-file', this.#status, '--observe-socket', this.observeSocket, ...args];
    const fd = openSync(this.#log, 'a');
    this.startedAt = Date.now();
    this.#process = lab.spawn(`node/${node}`, [...wrapper, process.execPath, PROGRAM, ...own], { stdio: ['ignore', fd, fd] });
    closeSync(fd);
    this.#end = new Promise((resolve) => {
      this.#process.once('exit', (code, signal) => {
        this.#ended = { code, signal };
        resolve(this.#ended);
      });
    });
  }

  get pid(): number {
    return this.#process.pid ?? assert.fail('the agent was not started');
  }

  get running(): boolean {
    return this.#ended === undefined;
  }

  /** What it last said of itself; undefined before that. */
  get status(): StatusDocument | undefined {
    return existsSync(this.#status) ? (JSON.parse(readFileSync(this.#status, 'utf8')) as StatusDocument) : undefined;
  }

  /** What it has logged. A line that is no JSON (a crash) fails the test. */
  log(): readonly LogLine[] {
    const lines = readFileSync(this.#log, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => {
      assert.ok(line.startsWith('{'), `the agent of ${this.node} printed:\n${lines.join('\n')}`);
      const fields = JSON.parse(line) as Record<string, unknown>;
      return { ...fields, level: String(fields['level']), message: String(fields['message']), at: Date.parse(String(fields['time'])) };
    });
  }

  /** Lines with this message. */
  logged(message: string): readonly LogLine[] {
    return this.log().filter((line) => line.message === message);
  }

  /** Waits for a state of the agent, and shows its log where it does not come. */
  async reaches(condition: (status: StatusDocument) => boolean, what: string, withinMs?: number): Promise<StatusDocument> {
    let status: StatusDocument | undefined;
    await eventually(
      () => {
        assert.ok(this.running, `the agent of ${this.node} has ended: ${this.#tail()}`);
        ({ status } = this);
        return status !== undefined && condition(status);
      },
      () => `the agent of ${this.node}: ${what}\n${JSON.stringify(status)}\n${this.#tail()}`,
      withinMs === undefined ? {} : { withinMs },
    );
    return status ?? assert.fail('no status');
  }

  #tail(): string {
    return readFileSync(this.#log, 'utf8').split('\n').slice(-12).join('\n');
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<AgentEnd> {
    if (this.#ended === undefined) this.signal(signal);
    return this.#end;
  }
}
