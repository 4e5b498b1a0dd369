/** A cgroup that bounds an agent's memory, kernel memory included, as the limit of its container would. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

let made = 0;

export class MemoryCgroup {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Below that of this process, version 1 or 2. @returns why there is none, where none can be made: mostly for want of rights */
  static create(bytes: number): MemoryCgroup | string {
    const own = readFileSync('/proc/self/cgroup', 'utf8');
    const [, v1] = /^\d+:memory:(.*)$/m.exec(own) ?? [];
    const [, v2] = /^0::(.*)$/m.exec(own) ?? [];
    const parent = v1 === undefined ? join('/sys/fs/cgroup', v2 ?? '') : join('/sys/fs/cgroup/memory', v1);
    const directory = join(parent, `sluice-test-${process.env['SLUICE_SANDBOX_PID'] ?? ''}-${process.pid}-${++made}`);
    const limit = join(directory, v1 === undefined ? 'memory.max' : 'memory.limit_in_bytes');
    try {
      mkdirSync(directory);
    } catch (error) {
      return String(error);
    }
    if (!existsSync(limit)) {
      rmdirSync(directory);
      return `${limit} is not there`;
    }
    writeFileSync(limit, String(bytes));
    return new MemoryCgroup(directory);
  }

  /** What a command is started with, so that it runs within. */
  get wrapper(): readonly string[] {
    return ['sh', '-c', 'echo 0 > "$0/cgroup.procs"; exec "$@"', this.#directory];
  }

  /** How often the kernel has ended a process for want of memory. */
  get ended(): number {
    const files = ['memory.events', 'memory.oom_control'].map((name) => join(this.#directory, name)).filter((file) => existsSync(file));
    const [, count] = /^oom_kill (\d+)$/m.exec(files.map((file) => readFileSync(file, 'utf8')).join('\n')) ?? [];
    return Number(count ?? 0);
  }

  /** Nobody may be in it any more. */
  remove(): void {
    // What a process leaves behind is the parent's; of version 1 only where that is asked for.
    const force = join(this.#directory, 'memory.force_empty');
    if (existsSync(force)) appendFileSync(force, '0');
    rmdirSync(this.#directory);
  }
}
