/** The packet filters of this network namespace: nf_tables, and the kernel's older one where it has tables. Nothing is changed. */
import { readFileSync } from 'node:fs';
import { KernelError, NftConnection, type SetDefinition } from 'nftables-js';
import { TABLE } from '../enforcement/nftables/frame.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { Iptables, spawnHere } from '../network/masquerade/iptables-programs.ts';
import type { Family } from '../policy/address.ts';
import type { LegacyRules, Reading, Rules } from './evidence.ts';

/** All tables but that of policies, which refuses on purpose and says so elsewhere. */
export function readRules(): Reading<Rules> {
  let connection: NftConnection | undefined;
  try {
    const open = NftConnection.open();
    connection = open;
    const tables = open.tables().filter(({ name }) => name !== TABLE);
    const of = <T>(list: (reference: { family: (typeof tables)[number]['family']; table: string }) => readonly T[]): T[] =>
      tables.flatMap(({ family, name }) => list({ family, table: name }));
    return {
      seen: {
        tables,
        chains: of((table) => open.chains(table)),
        rules: of((table) => open.rules(table)),
        sets: of((table) =>
          open.sets(table).map((set: SetDefinition) => ({ ...set, elements: open.elements({ ...table, set: set.name }) })),
        ),
      },
    };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return {
      blind:
        error.code === 'EPERM'
          ? 'reading the rules of nftables is not permitted: CAP_NET_ADMIN is needed, in the network namespace of the node'
          : `the rules of nftables cannot be read: ${error.message}`,
    };
  } finally {
    connection?.close();
  }
}

const NAMES = { 4: 'ip_tables_names', 6: 'ip6_tables_names' } as const;
/** Debian keeps the programs where an ordinary user's PATH does not look. */
const ENVIRONMENT = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
const PROGRAM_MS = 10_000;

/** The tables that there are; no module is loaded, and no table made, by asking. */
export async function readLegacy(family: Family): Promise<Reading<LegacyRules>> {
  const path = `/proc/net/${NAMES[family]}`;
  let tables: string[];
  try {
    tables = readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    const code = systemErrorCode(error);
    // The kernel has no such thing, or has not loaded it.
    if (code === 'ENOENT') return { seen: { tables: [], saved: { seen: '' } } };
    return { blind: `${path} cannot be read: ${code ?? String(error)}` };
  }
  return { seen: { tables, saved: tables.length === 0 ? { seen: '' } : await save(family, `${path} has ${tables.join(', ')}`) } };
}

/** @param why as in `/proc/net/ip_tables_names has filter` */
async function save(family: Family, why: string): Promise<Reading<string>> {
  try {
    const legacy = await Iptables.findLegacy(family, spawnHere);
    if (legacy === undefined) {
      const program = family === 4 ? 'iptables-legacy-save' : 'ip6tables-legacy-save';
      return { blind: `${why}, and there is no ${program} to read that with` };
    }
    return await run(`${legacy.program}-save`);
  } catch (error) {
    if (error instanceof SluiceError) return { blind: error.message };
    throw error;
  }
}

async function run(program: string): Promise<Reading<string>> {
  return await new Promise((resolve) => {
    const child = spawnHere([program], { stdio: ['ignore', 'pipe', 'pipe'], env: ENVIRONMENT, timeout: PROGRAM_MS });
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream]?.setEncoding('utf8').on('data', (text: string) => {
        output[stream] += text;
      });
    }
    child.on('error', (error) => resolve({ blind: `${program} cannot be run: ${systemErrorCode(error) ?? error.message}` }));
    child.on('close', (code) => {
      resolve(code === 0 ? { seen: output.stdout } : { blind: `${program} ended with status ${code ?? 'none'}: ${output.stderr.trim()}` });
    });
  });
}
