/** The programs of iptables, of one address family each: finding them, and having them save and restore rules. */
import { type ChildProcess, spawn as spawnProcess, type SpawnOptions } from 'node:child_process';
import { SluiceError, systemErrorCode } from '../../errors.ts';
import type { Family } from '../../policy/address.ts';
import { type IptablesAbilities, readIptablesSave, readIptablesVersion, type SavedTables } from './iptables-text.ts';

/** Starts a program, `argv[0]`, in the network namespace whose rules are meant. */
export type Spawn = (argv: readonly string[], options: SpawnOptions) => ChildProcess;

/** In the network namespace that this thread is in when it is called. */
export const spawnHere: Spawn = ([program = '', ...args], options) => spawnProcess(program, args, options);

/** An ordinary user's PATH does not look where Debian keeps iptables. What the programs complain of is shown, so in one language. */
const ENVIRONMENT = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
/** The lock of the older form of iptables; kube-proxy holds it for seconds on a busy node. */
const LOCK_SECONDS = 10;

export class Iptables {
  readonly abilities: IptablesAbilities;
  /** `iptables`, `ip6tables`, `iptables-legacy`. */
  readonly program: string;
  readonly #spawn: Spawn;

  private constructor(program: string, abilities: IptablesAbilities, spawn: Spawn) {
    this.program = program;
    this.abilities = abilities;
    this.#spawn = spawn;
  }

  /**
   * What `iptables` is on this node.
   * @throws SluiceError `IPTABLES_MISSING`; `IPTABLES_FAILED` where it does not say its version
   */
  static async find(family: Family, spawn: Spawn): Promise<Iptables> {
    const program = family === 4 ? 'iptables' : 'ip6tables';
    const found = await Iptables.#open(program, spawn);
    if (found === undefined) throw missing(program);
    return found;
  }

  /** The older form of iptables, by whichever name it is there; undefined where it is not. */
  static async findLegacy(family: Family, spawn: Spawn): Promise<Iptables | undefined> {
    const program = family === 4 ? 'iptables' : 'ip6tables';
    for (const name of [`${program}-legacy`, program]) {
      const found = await Iptables.#open(name, spawn);
      if (found?.abilities.variant === 'legacy') return found;
    }
    return undefined;
  }

  /** Undefined: it is not installed. */
  static async #open(program: string, spawn: Spawn): Promise<Iptables | undefined> {
    let text: string;
    try {
      text = await run([program, '--version'], spawn);
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'IPTABLES_MISSING') return undefined;
      throw error;
    }
    const abilities = readIptablesVersion(text);
    if (abilities !== undefined) return new Iptables(program, abilities, spawn);
    throw new SluiceError('IPTABLES_FAILED', `${program} --version printed no version: ${JSON.stringify(text.trim())}`, {
      hint: `Look at what ${program} is on this node.`,
    });
  }

  /** What there is in the tables that exist; makes none. @throws SluiceError `IPTABLES_MISSING`, `IPTABLES_FAILED` */
  async save(): Promise<SavedTables> {
    return readIptablesSave(await run([`${this.program}-save`], this.#spawn));
  }

  /** Changes what `input` names and leaves the rest. @throws SluiceError `IPTABLES_MISSING`, `IPTABLES_FAILED` */
  async restore(input: string): Promise<void> {
    const wait = this.abilities.restoreWaits ? [`--wait=${LOCK_SECONDS}`] : [];
    await run([`${this.program}-restore`, '--noflush', ...wait], this.#spawn, input);
  }
}

/** Runs a program to its end. @returns what it printed */
async function run(argv: readonly [string, ...string[]], spawn: Spawn, input = ''): Promise<string> {
  const [program] = argv;
  const output = { stdout: '', stderr: '' };
  const status = await new Promise<number>((resolve, reject) => {
    const child = spawn(argv, { stdio: ['pipe', 'pipe', 'pipe'], env: ENVIRONMENT });
    child.on('error', (cause) => reject(systemErrorCode(cause) === 'ENOENT' ? missing(program, cause) : cause));
    child.on('close', (code) => resolve(code ?? 1));
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream]?.setEncoding('utf8').on('data', (text: string) => {
        output[stream] += text;
      });
    }
    // A program may end without reading what it is given; its status says whether that is an error.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
  if (status === 0) return output.stdout;
  const said = (output.stderr || output.stdout).trim();
  throw new SluiceError('IPTABLES_FAILED', `${argv.join(' ')} ended with status ${status}: ${said}`, {
    hint: /permission denied|must be root|operation not permitted/i.test(said)
      ? 'CAP_NET_ADMIN is needed, in the network namespace of the node; the older form of iptables needs CAP_NET_RAW as well.'
      : undefined,
  });
}

function missing(program: string, cause?: unknown): SluiceError {
  return new SluiceError('IPTABLES_MISSING', `writing the masquerade rules in iptables: there is no program ${program}`, {
    hint: 'Install it with: apt-get install iptables. Or set "EnableNFTables": true in the network configuration: then no program is needed.',
    cause,
  });
}
