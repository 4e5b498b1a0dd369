/**
 * Network namespaces: making, entering and naming them. They have names under /run/netns, so that `ip netns` and `nsenter` know
 * them too; /run is the sandbox's own tmpfs, and what is in it ends with the sandbox.
 *
 * A thread is in one network namespace at a time; a socket stays in the one it was made in, a process in the one its parent's
 * thread was in when it forked. So everything here enters, does one synchronous thing, and leaves again.
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { closeSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { LabError } from './errors.ts';
import { CLONE_NEWNET, checked, libc } from './libc.ts';

export const NAMESPACES = '/run/netns';

/** The file that a namespace is known by. */
export function namespacePath(name: string): string {
  return `${NAMESPACES}/${name}`;
}

/** Names of all that `ip netns add` made in this sandbox. */
export function namespaceNames(): readonly string[] {
  try {
    return readdirSync(NAMESPACES);
  } catch {
    return [];
  }
}

/**
 * Calls `action` with this thread in the namespace. It has to be synchronous: what it leaves for later happens outside.
 *
 * @throws LabError `LAB_SYSCALL` where the namespace cannot be entered
 */
export function inNamespace<T>(name: string, action: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const other = openSync(namespacePath(name), 'r');
    try {
      checked(libc().setns(other, CLONE_NEWNET), `entering network namespace ${name}`);
    } finally {
      closeSync(other);
    }
    try {
      return action();
    } finally {
      checked(libc().setns(own, CLONE_NEWNET), 'returning to the own network namespace');
    }
  } finally {
    closeSync(own);
  }
}

/** Sets a value of /proc/sys/net in the namespace; `key` as sysctl(8) writes it, with dots. */
export function setSysctls(name: string, values: Readonly<Record<string, string>>): void {
  inNamespace(name, () => {
    for (const [key, value] of Object.entries(values)) writeFileSync(`/proc/sys/${key.replaceAll('.', '/')}`, value);
  });
}

/** Starts a program in a namespace (`undefined`: in this process's own). It is forked by this thread, and so inherits where that is. */
export function spawnIn(name: string | undefined, argv: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = argv;
  if (program === undefined) throw new LabError('LAB_COMMAND', 'nothing to run: the argument list is empty');
  const start = (): ChildProcess => spawn(program, args, options);
  return name === undefined ? start() : inNamespace(name, start);
}

export interface Output {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Debian keeps ip, nft and conntrack where an ordinary user's PATH does not look. */
const PROGRAMS = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

/**
 * Runs a program in a namespace to its end.
 *
 * @throws LabError `LAB_COMMAND` where it cannot be started, and where its status is not 0 (unless `check` is false)
 */
export async function run(
  name: string | undefined,
  argv: readonly string[],
  options: { readonly input?: string; readonly check?: boolean } = {},
): Promise<Output> {
  const child = spawnIn(name, argv, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, PATH: PROGRAMS } });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream]?.setEncoding('utf8').on('data', (text: string) => {
      output[stream] += text;
    });
  }
  // A program may end without reading what it is given; its status says whether that is an error.
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(options.input ?? '');
  const where = name === undefined ? '' : ` in ${name}`;
  const status = await new Promise<number>((resolve, reject) => {
    child.on('error', (cause: NodeJS.ErrnoException) => {
      reject(
        new LabError('LAB_COMMAND', `cannot run ${argv[0]}${where}: ${cause.code ?? cause.message}`, {
          cause,
          hint: cause.code === 'ENOENT' ? installHint(argv[0] ?? '') : undefined,
        }),
      );
    });
    child.on('close', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
  if (status !== 0 && options.check !== false) {
    const said = (output.stderr || output.stdout).trim();
    throw new LabError('LAB_COMMAND', `${argv.join(' ')}${where} ended with status ${status}: ${said}`);
  }
  return { status, ...output };
}

const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  bridge: 'iproute2',
  nft: 'nftables',
  conntrack: 'conntrack',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  mount: 'mount',
};

/** The command that installs a program on Debian, where it is one that the lab uses. */
export function installHint(program: string): string | undefined {
  const name = PACKAGES[program];
  return name === undefined ? undefined : `Install it with: apt-get install ${name}`;
}
