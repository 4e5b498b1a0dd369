/**
 * The main thread's side of the prober: one thread that holds listening sockets in every pod, node and outside host, and makes
 * probes from any of them. See protocol.ts for what can be asked of it.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { LabError } from '../errors.ts';
import { SOCK_CLOEXEC, checked, libc } from '../libc.ts';
import type { Input, OperationName, Reply, Result } from './protocol.ts';

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Prober {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wakeRead: number;
  readonly #wakeWrite: number;
  readonly #pending = new Map<number, Pending>();
  #last = 0;
  #closing: Promise<void> | undefined;

  constructor() {
    const ends = new Uint8Array(8);
    checked(libc().pipe2(ends, SOCK_CLOEXEC), 'making a pipe');
    const view = new DataView(ends.buffer);
    this.#wakeRead = view.getInt32(0, true);
    this.#wakeWrite = view.getInt32(4, true);
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), {
      workerData: { port: port2, wake: this.#wakeRead },
      transferList: [port2],
    });
    this.#worker.on('error', (cause) =>
      this.#failAll(new LabError('LAB_PROBER', `the prober's thread failed: ${String(cause)}`, { cause })),
    );
    this.#worker.on('exit', () => this.#failAll(new LabError('LAB_PROBER', "the prober's thread has ended")));
    this.#port.on('message', (reply: Reply) => {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      this.#hold();
      if (reply.ok) pending?.resolve(reply.result);
      else pending?.reject(new LabError(reply.code, reply.message));
    });
    // A lab that somebody forgot to close keeps no process alive, except while an answer is awaited.
    this.#worker.unref();
    this.#hold();
  }

  #hold(): void {
    if (this.#pending.size > 0) this.#port.ref();
    else this.#port.unref();
  }

  #failAll(error: LabError): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#hold();
  }

  /** @throws LabError what the prober's thread says, or `LAB_PROBER` where it has ended */
  ask<Name extends OperationName>(operation: Name, input: Input<Name>): Promise<Result<Name>> {
    if (this.#closing !== undefined) return Promise.reject(new LabError('LAB_PROBER', `${operation}: the lab is closed`));
    return this.#ask(operation, input);
  }

  #ask<Name extends OperationName>(operation: Name, input: Input<Name>): Promise<Result<Name>> {
    const id = ++this.#last;
    return new Promise<Result<Name>>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (result: unknown) => void, reject });
      this.#hold();
      this.#port.postMessage({ id, operation, input }, []);
      libc().write(this.#wakeWrite, Uint8Array.of(1), 1);
    });
  }

  /** Closes every socket and ends the thread. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<void> {
    this.#worker.ref();
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    // The thread may be gone before its answer is read.
    await Promise.all([exited, this.#ask('close', undefined).catch(() => undefined)]);
    this.#port.close();
    libc().close(this.#wakeRead);
    libc().close(this.#wakeWrite);
  }
}
