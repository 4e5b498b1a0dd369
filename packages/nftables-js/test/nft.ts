/** nft(8) as the independent oracle, and tables that each test begins without. */
import { execFileSync } from 'node:child_process';
import { NftConnection } from 'nftables-js';
import { onlyInSandbox } from './eventually.ts';

/** Runs commands of nft in one go; what it printed. Throws with what it complained of. */
export function nft(...commands: readonly string[]): string {
  return run(commands.join('; '));
}

/** Loads a file. */
export function nftFile(path: string): void {
  run('-f', path);
}

function run(...args: readonly string[]): string {
  return execFileSync('nft', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** What `nft list table` prints, without indentation and line ends, one line a line. */
export function listed(family: string, table: string): string[] {
  return nft(`list table ${family} ${table}`)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

/** In a `describe`: a connection of its own and an empty ruleset for each test. */
export function withConnection(): () => NftConnection {
  let connection: NftConnection | undefined;
  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(() => {
    nft('flush ruleset');
    connection = NftConnection.open();
  });
  afterEach(() => {
    connection?.close();
    connection = undefined;
  });
  return () => {
    if (connection === undefined) throw new Error('no connection outside of a test');
    return connection;
  };
}
