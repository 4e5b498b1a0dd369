/** Connections from a port of the test's choice, in a pod of a lab. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../../../src/lab/lab.ts';
import { type Family, familyOf, formatAddress } from '../../../src/policy/address.ts';
import { eventually } from './eventually.ts';

const CLIENT = fileURLToPath(new URL('fixed-port-client.ts', import.meta.url));

export interface FixedPortConnection {
  readonly from: string;
  readonly sourcePort: number;
  readonly to: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP';
  readonly family: Family;
}

export class FixedPortClient {
  readonly #process: ReturnType<Lab['spawn']>;
  readonly #ended: Promise<void>;
  #answer = '';
  #error = '';

  constructor(lab: Lab, { from, sourcePort, to, port, protocol, family }: FixedPortConnection) {
    const [source, destination] = [from, to].map((name) => lab.addresses(name).find((address) => familyOf(address) === family));
    if (source === undefined || destination === undefined) assert.fail(`${from} or ${to} has no IPv${family} address`);
    const argv = [protocol, formatAddress(source), `${sourcePort}`, formatAddress(destination), `${port}`];
    this.#process = lab.spawn(from, [process.execPath, CLIENT, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#ended = new Promise((resolve) => {
      this.#process.once('exit', () => resolve());
    });
    this.#process.stdout?.on('data', (data: Buffer) => (this.#answer += data.toString()));
    this.#process.stderr?.on('data', (data: Buffer) => (this.#error += data.toString()));
  }

  /** Waits for the name of the server. */
  async answered(by: string): Promise<void> {
    await eventually(
      () => this.#answer.startsWith(`${by}\n`),
      () => `an answer of ${by}: ${this.#answer || this.#error || 'none'}`,
    );
  }

  /** Fails if anything answers within the time. */
  async unanswered(forMs: number): Promise<void> {
    await sleep(forMs);
    assert.deepEqual([this.#answer, this.#error], ['', '']);
  }

  /** Resets the connection, and waits until the port is free. */
  async close(): Promise<void> {
    this.#process.kill('SIGTERM');
    await this.#ended;
  }
}
