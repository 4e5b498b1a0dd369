/**
 * Which node has which subnet, where nodes share a directory and any number of them look for one at the same time. A claim is a file
 * `10.244.1.0-24` that holds the node's name; that a file is made where there is none is the one step that the file system makes for
 * one of them alone.
 *
 * A claim is in force while the node's own file names the subnet, or for {@link GRACE_MS} after the claim was last written: from the claim
 * to the node's file takes a moment, and a running node writes its claim again and again, so that neither it nor one that is just
 * starting loses its subnet because its file is gone. What is not in force is never removed first and claimed then, for between the two
 * steps another may have claimed it: it is claimed under the next number (`10.244.1.0-24.1`), which again only one can make. Whoever
 * has made a claim looks again, and takes it back where another one in force overlaps with it: two may then both go on to the next
 * subnet, but never both keep one.
 *
 * Times are compared with that of a file just written there: it is the clock of the file system that counts, not that of each node.
 */
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { systemErrorCode } from '../errors.ts';
import { formatAddress, parsePrefix, type Prefix, prefixRange } from '../policy/address.ts';
import { intersects } from '../policy/ranges.ts';

/** How long a claim stays in force that is not written again. */
export const GRACE_MS = 600_000;

export interface Claim {
  readonly node: string;
  readonly subnet: Prefix;
}

interface StoredClaim extends Claim {
  readonly file: string;
  /** 0 is that of a subnet that nobody had before. */
  readonly number: number;
  /** By the file system's clock, ms since the epoch. */
  readonly writtenAt: number;
}

/** Whether the file of a node names a subnet. */
export type Holds = (node: string, subnet: Prefix) => boolean;

export class SubnetClaims {
  readonly #directory: string;
  readonly #node: string;

  /** @param directory is made; the one above it has to be there */
  constructor(directory: string, node: string) {
    this.#directory = directory;
    this.#node = node;
  }

  /** The subnets that this node has claimed, whether in force or not. */
  own(): Prefix[] {
    return this.#list()
      .filter(({ node }) => node === this.#node)
      .map(({ subnet }) => subnet);
  }

  /** The claims of other nodes that are in force. */
  others(holds: Holds): Claim[] {
    const now = this.#now();
    return this.#list().filter((claim) => claim.node !== this.#node && isInForce(claim, now, holds));
  }

  /** Claims a subnet, or claims it again. Who has it, where that is another node; undefined: this one has it now. */
  take(subnet: Prefix, holds: Holds): string | undefined {
    const now = this.#now();
    const before = this.#list();
    const holder = this.#holder(subnet, before, now, holds);
    if (holder !== undefined) return holder;
    const same = before.filter((claim) => isSame(claim.subnet, subnet));
    const own = same.find(({ node }) => node === this.#node);
    const number = own?.number ?? 1 + same.reduce((largest, claim) => Math.max(largest, claim.number), -1);
    const file = claimFile(subnet, number);
    if (!this.#write(file, own !== undefined)) return 'another node';

    const after = this.#list();
    const rival = this.#holder(subnet, after, now, holds);
    if (rival !== undefined) {
      rmSync(join(this.#directory, file), { force: true });
      return rival;
    }
    // None of them is in force.
    for (const claim of after) {
      if (isSame(claim.subnet, subnet) && claim.file !== file) rmSync(join(this.#directory, claim.file), { force: true });
    }
    return undefined;
  }

  #holder(subnet: Prefix, claims: readonly StoredClaim[], now: number, holds: Holds): string | undefined {
    const range = prefixRange(subnet);
    const holder = claims.find((claim) => {
      return claim.node !== this.#node && intersects([prefixRange(claim.subnet)], range) && isInForce(claim, now, holds);
    });
    return holder === undefined ? undefined : holder.node || 'another node';
  }

  /** Whether it could: false where another has made the file. */
  #write(file: string, isThere: boolean): boolean {
    const path = join(this.#directory, file);
    try {
      if (!isThere) {
        writeFileSync(path, this.#node, { flag: 'wx' });
        return true;
      }
      // The time is all that changes: there is no moment without the name. (utimes would set this node's time.)
      const descriptor = openSync(path, 'r+');
      try {
        writeSync(descriptor, this.#node, 0);
      } finally {
        closeSync(descriptor);
      }
      return true;
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === (isThere ? 'ENOENT' : 'EEXIST')) return false;
      throw error;
    }
  }

  #list(): StoredClaim[] {
    this.#make();
    const claims: StoredClaim[] = [];
    for (const file of readdirSync(this.#directory)) {
      const [, address = '', length = '', number = '0'] = /^([\da-f.:]+)-(\d+)(?:\.(\d+))?$/.exec(file) ?? [];
      const subnet = parsePrefix(`${address}/${length}`);
      if (subnet === undefined) continue;
      const path = join(this.#directory, file);
      try {
        // Empty for a moment after it was made, and for good where that node ended there.
        const node = readFileSync(path, 'utf8').trim();
        claims.push({ file, node, subnet, number: Number(number), writtenAt: statSync(path).mtimeMs });
      } catch (error) {
        if (systemErrorCode(error) !== 'ENOENT') throw error;
      }
    }
    return claims;
  }

  /** Not the one above it: a directory that is not mounted is not to be replaced by an empty one. */
  #make(): void {
    try {
      mkdirSync(this.#directory);
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
  }

  /** What time it is for the file system. */
  #now(): number {
    this.#make();
    const path = join(this.#directory, `.now-${this.#node}`);
    writeFileSync(path, '');
    return statSync(path).mtimeMs;
  }
}

function isInForce({ node, subnet, writtenAt }: StoredClaim, now: number, holds: Holds): boolean {
  return now - writtenAt < GRACE_MS || holds(node, subnet);
}

function isSame(a: Prefix, b: Prefix): boolean {
  return a.address === b.address && a.length === b.length;
}

function claimFile({ address, length }: Prefix, number: number): string {
  return `${formatAddress(address)}-${length}${number === 0 ? '' : `.${number}`}`;
}
