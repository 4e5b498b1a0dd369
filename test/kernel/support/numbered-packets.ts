/**
 * A stream of UDP packets that are each a flow of their own: every packet has a number and a source port that no other has, nothing is
 * answered, and nothing is sent again. So each is judged by the rules of its moment, and what is lost is lost.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../../../src/lab/lab.ts';
import { type Address, type Family, familyOf } from '../../../src/policy/address.ts';
import { eventually } from './eventually.ts';
import { TestSocket } from './raw-packets.ts';

/** Of the next packet of this process: connection tracking remembers those of an earlier stream, and whether they were cut. */
let nextPort = 10_000;

export interface NumberedPacketsOptions {
  readonly from: string;
  readonly to: string;
  /** Nobody else listens there. */
  readonly port: number;
  readonly family: Family;
  readonly everyMs: number;
}

export class NumberedPackets {
  readonly #netns: string;
  readonly #source: Address;
  readonly #destination: Address;
  readonly #port: number;
  readonly #server: TestSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #arrived = new Set<number>();
  static readonly #sending = new Set<NumberedPackets>();
  #stopped: Promise<boolean[]> | undefined;
  /** How many have been sent: the number of the next. */
  sent = 0;

  /** Begins to send. */
  constructor(lab: Lab, { from, to, port, family, everyMs }: NumberedPacketsOptions) {
    const addressOf = (name: string): Address => lab.addresses(name).find((each) => familyOf(each) === family) ?? assert.fail(name);
    this.#netns = lab.netns(from);
    this.#source = addressOf(from);
    this.#destination = addressOf(to);
    this.#port = port;
    this.#server = TestSocket.udp(lab.netns(to), this.#destination, port);
    this.#timer = setInterval(() => this.#turn(), everyMs);
    NumberedPackets.#sending.add(this);
  }

  /** Ends what a test that failed has left. */
  static async stopAll(): Promise<void> {
    await Promise.all([...NumberedPackets.#sending].map((stream) => stream.stop()));
  }

  #turn(): void {
    this.#receive();
    const socket = TestSocket.udp(this.#netns, this.#source, nextPort++);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, this.sent++);
    socket.send(bytes, this.#destination, this.#port);
    socket.close();
  }

  #receive(): void {
    for (let data = this.#server.receive(); data !== undefined; data = this.#server.receive())
      this.#arrived.add(new DataView(data.buffer, data.byteOffset).getUint32(0));
  }

  /** Waits until so many more have been sent. */
  async more(count: number): Promise<void> {
    const until = this.sent + count;
    await eventually(() => this.sent >= until, `${count} packets are sent`);
  }

  /** Sends no more. By number, whether each packet arrived. */
  async stop(): Promise<boolean[]> {
    clearInterval(this.#timer);
    this.#stopped ??= this.#collect();
    return await this.#stopped;
  }

  async #collect(): Promise<boolean[]> {
    NumberedPackets.#sending.delete(this);
    const last = this.sent - 1;
    // Nearly always it has arrived by now: a packet is judged and delivered while it is sent.
    for (let turn = 0; turn < 20 && !this.#arrived.has(last); turn++) {
      this.#receive();
      await sleep(5);
    }
    this.#server.close();
    return Array.from({ length: this.sent }, (_, number) => this.#arrived.has(number));
  }
}
