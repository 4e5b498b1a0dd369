/** ICMP echoes through ping (iputils): single ones that must not be fragmented, and a steady stream whose losses are counted. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { run, spawnIn } from '../../../../src/lab/namespaces.ts';

/** `too big`: this host or one on the way has said so. */
export type Echo = 'answered' | 'too big' | 'silence';

/** Bytes of headers in an echo request: IPv4 or IPv6, and ICMP. */
export const HEADERS = { 4: 28, 6: 48 } as const;

/** One echo request of so many bytes, headers included, that must not be fragmented; `waitS`: seconds for an answer. */
export async function echo(netns: string, address: string, bytes: number, waitS = 2): Promise<Echo> {
  const payload = bytes - HEADERS[address.includes(':') ? 6 : 4];
  const argv = ['ping', '-n', '-c', '1', '-W', String(waitS), '-M', 'do', '-s', String(payload), address];
  const { status, stdout, stderr } = await run(netns, argv, { check: false });
  if (status === 0) return 'answered';
  return /too long|frag needed|Packet too big/i.test(stdout + stderr) ? 'too big' : 'silence';
}

export interface EchoCounts {
  readonly sent: number;
  readonly lost: number;
}

const INTERVAL_S = 0.01;

/** A hundred echo requests a second, until it is stopped. */
export class EchoStream {
  readonly #process: ChildProcess;
  readonly #end: Promise<void>;
  #said = '';

  constructor(netns: string, address: string) {
    this.#process = spawnIn(netns, ['ping', '-n', '-q', '-i', String(INTERVAL_S), '-W', '1', address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text;
    });
    this.#end = new Promise((resolve, reject) => {
      this.#process.once('error', reject);
      this.#process.once('close', () => resolve());
    });
  }

  async stop(): Promise<EchoCounts> {
    this.#process.kill('SIGINT');
    await this.#end;
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(this.#said) ?? assert.fail(`ping said: ${this.#said}`);
    return { sent: Number(sent), lost: Number(sent) - Number(received) };
  }
}
