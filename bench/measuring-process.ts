/** A Node process of its own, in a network namespace of its own, that is told what to measure and answers over its IPC channel. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

export interface ProcessOptions {
  readonly args?: readonly string[];
  readonly nodeFlags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export class MeasuringProcess<Request extends object, Answer> {
  readonly #process: ChildProcess;
  readonly #left: Promise<never>;

  constructor(script: URL, { args = [], nodeFlags = [], env = {} }: ProcessOptions = {}) {
    // unshare becomes the program that it is given, and hands the channel through.
    this.#process = fork(script, args, {
      execPath: 'unshare',
      execArgv: ['--net', process.execPath, ...nodeFlags],
      env: { ...process.env, ...env },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#left = once(this.#process, 'exit').then(([status]: unknown[]) => {
      throw new Error(`the process that measures (${script.pathname}) ended with status ${String(status)}`);
    });
    this.#left.catch(() => undefined);
  }

  async ask(request: Request): Promise<Answer> {
    const answer = this.answer();
    this.#process.send(request);
    return await answer;
  }

  /** The next thing that it says. */
  async answer(): Promise<Answer> {
    const waiting = new AbortController();
    const answered = once(this.#process, 'message', { signal: waiting.signal });
    try {
      const [answer] = (await Promise.race([answered, this.#left])) as [Answer];
      return answer;
    } finally {
      answered.catch(() => undefined);
      waiting.abort();
    }
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }
}
