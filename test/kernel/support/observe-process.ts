/** One `sluice observe` process in the network namespace of a lab's node, and what it has printed. */
import assert from 'node:assert/strict';
import type { Lab } from '../../../src/lab/lab.ts';
import { type AllowedFlow, type Denied, type Dropped, OBSERVED, type ObservedRecord } from '../../../src/observability/observed-flow.ts';
import { PROGRAM } from './agent-process.ts';
import { eventually } from './eventually.ts';

export class ObserveProcess {
  readonly #process: ReturnType<Lab['spawn']>;
  readonly #end: Promise<number | NodeJS.Signals | null>;
  #stdout = '';
  #stderr = '';

  constructor(lab: Lab, node: string, socket: string, args: readonly string[] = []) {
    this.#process = lab.spawn(`node/${node}`, [process.execPath, PROGRAM, 'observe', '--socket', socket, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#end = new Promise((resolve) => {
      this.#process.once('close', (code, signal) => resolve(code ?? signal));
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** What it has printed with `-o json`; a line that is no record fails the test. */
  records(): readonly ObservedRecord[] {
    return this.#stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => OBSERVED.parse(JSON.parse(line)));
  }

  denied(): readonly Denied[] {
    return this.records().flatMap((record) => (record.kind === 'Denied' ? [record] : []));
  }

  allowed(): readonly AllowedFlow[] {
    return this.records().flatMap((record) => (record.kind === 'Allowed' ? [record] : []));
  }

  dropped(): readonly Dropped[] {
    return this.records().flatMap((record) => (record.kind === 'Dropped' ? [record] : []));
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    await eventually(condition, () => `${what}\nstdout: ${this.#stdout}\nstderr: ${this.#stderr}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Ends it as a person does, and says its exit status, or the signal that ended it. */
  async end(signal: NodeJS.Signals = 'SIGINT'): Promise<number | NodeJS.Signals | null> {
    this.signal(signal);
    return this.ended();
  }

  /** Waits until it has ended by itself. */
  ended(): Promise<number | NodeJS.Signals | null> {
    return this.#end;
  }

  /** Its exit status is 0, and it has printed nothing on stderr. */
  async endsWell(): Promise<void> {
    assert.deepEqual([await this.end(), this.#stderr], [0, '']);
  }
}
