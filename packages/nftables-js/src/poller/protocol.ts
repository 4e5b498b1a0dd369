/** What the main thread and the thread of a {@link Poller} say to each other. */

/** What the thread is started with. */
export interface PollerWorkerData {
  /** The read end of the pipe of commands. The thread closes it. */
  readonly wakeFd: number;
}

/** What the thread tells: watches by their token. */
export interface PollerReport {
  /** Readable, or with an error waiting to be read; not waited for again until a command says so. */
  readonly ready: readonly number[];
  /** Their descriptor is closed; forgotten by the thread. */
  readonly invalid: readonly number[];
}

/** A command is two 32-bit numbers in host order: a token, and the descriptor to wait for. */
export const COMMAND_BYTES = 8;

/** In place of a descriptor: wait for the token no more. */
export const FORGET = -1;
