/**
 * Leases without a cluster: a directory that all nodes share (a mount, or one that something else copies), with a file for each node,
 * `NODE.json` (lease-file.ts). A node takes the subnet that its file names, else the one it had before, else the lowest that is free
 * (subnet-claims.ts); a file that is removed is a node that has left.
 *
 * Any notice of the watch leads to a new listing, and only files whose stat differs are read again; one that is just being written, or
 * has just vanished, is given {@link QUIET_MS} to be whole again. What cannot be read is said, and the last that was known is kept; a
 * directory that cannot be listed, or is suddenly another one, removes nobody.
 */
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { Backoff } from '../kubernetes/api/backoff.ts';
import { type Family, formatPrefix, type Prefix, prefixRange } from '../policy/address.ts';
import { quote } from '../policy/problems.ts';
import { intersects, union } from '../policy/ranges.ts';
import { DirectoryWatch } from '../sources/directory-watch.ts';
import { type Lease, liesWithin, publishedType, sameLease, vxlanData } from './lease.ts';
import { formatLeaseFile, type LeaseFile, readLeaseFile, type Subnets } from './lease-file.ts';
import type { Announcement, FamilyAnnouncement, LeaseSource, LeaseSourceListener, OwnLease } from './lease-source.ts';
import { type ConfFamily, familiesOf, type NetConf } from './net-conf.ts';
import { freeSubnets, isPlanned, subnetPlan } from './subnet-choice.ts';
import { type Holds, SubnetClaims } from './subnet-claims.ts';
import { parseSubnetEnv } from './subnet-env.ts';

/** How long a file has to be left alone before it is read, and to be missing before its node counts as gone. */
const QUIET_MS = 20;
/** A file that is never left alone is read all the same after this many looks. */
const UNSETTLED_LOOKS_MAX = 10;
/** For file systems that give no notice of what other machines do. */
const LOOK_EVERY_MS = 5_000;
/** Much less than a claim stays in force. */
const CLAIM_EVERY_MS = 60_000;
/** Made at the start: a directory without it is not the one that this began with. */
const CLAIMS = '.subnets';
/** What the name of a Kubernetes node may be, and of a file. */
const NODE_NAME = /^[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,240}[A-Za-z0-9])?$/;

export interface LeaseDirectoryOptions {
  readonly directory: string;
  readonly node: string;
  readonly conf: NetConf;
  /** This node's subnet.env, which says what it had before; undefined: nothing does. */
  readonly subnetFile: string | undefined;
  /** Somebody had changed what this node tells; it is told again. */
  readonly onRepair: (what: string) => void;
  /** How often the claim of the subnet is written again: {@link CLAIM_EVERY_MS} unless given. */
  readonly claimEveryMs?: number;
  /** For whatever writes files more slowly than {@link QUIET_MS} allows for. */
  readonly quietMs?: number;
}

/** A node's file, as it was last read. */
interface Entry {
  /** Of the text that was last looked at: differs where the file may have been written. */
  signature: string;
  /** The last that could be read. */
  file: LeaseFile | undefined;
  text: string;
  /** Why the text cannot be read; undefined: it can. */
  problem: string | undefined;
  /** When it was first missed (performance.now). */
  missedAt: number | undefined;
}

export class LeaseDirectory implements LeaseSource {
  readonly #options: LeaseDirectoryOptions;
  readonly #families: readonly ConfFamily[];
  readonly #quietMs: number;
  readonly #claims: SubnetClaims;
  readonly #watch: DirectoryWatch;
  readonly #stopping = new AbortController();
  readonly #entries = new Map<string, Entry>();
  /** What the listener has been told. */
  readonly #leases = new Map<string, Lease>();
  readonly #problems = new Map<string, string>();
  #listener: LeaseSourceListener | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #unsettledLooks = 0;
  #synced = false;
  /** Undefined: this node has no subnets yet. */
  #own: Subnets | undefined;
  #waiting: string | undefined;
  #claimedAt = 0;
  #rival: string | undefined;
  /** At the last look. */
  #isOwnFileThere = false;
  /** The text of this node's file, once it has been written. */
  #announced: string | undefined;

  /** @throws SluiceError `NODE_NAME_INVALID`; `NET_CONF_INVALID`, as {@link subnetPlan} */
  constructor(options: LeaseDirectoryOptions) {
    const { directory, node, conf } = options;
    if (!NODE_NAME.test(node)) {
      throw new SluiceError('NODE_NAME_INVALID', `keeping the lease of node ${quote(node)} as a file: it cannot be the name of one`, {
        hint: 'Give the node another name with --node.',
        exitStatus: 2,
      });
    }
    this.#options = options;
    this.#quietMs = options.quietMs ?? QUIET_MS;
    this.#families = familiesOf(conf);
    for (const { family } of this.#families) subnetPlan(conf, family);
    this.#claims = new SubnetClaims(join(directory, CLAIMS), node);
    this.#watch = new DirectoryWatch(directory, () => this.#lookIn(this.#quietMs));
  }

  start(listener: LeaseSourceListener): void {
    if (this.#listener !== undefined) throw new Error('a LeaseDirectory is started once');
    this.#listener = listener;
    this.#lookIn(0);
  }

  /** Writes this node's file; again whenever it vanishes or somebody else writes something else into it. */
  async announce({ backend, v4, v6 }: Announcement): Promise<void> {
    const of = (family: FamilyAnnouncement | undefined) => family && { ...family, data: JSON.parse(family.data) as unknown };
    const text = formatLeaseFile({ node: this.#options.node, backendType: publishedType(backend), v4: of(v4), v6: of(v6) });
    const backoff = new Backoff();
    const { signal } = this.#stopping;
    this.#announced = undefined;
    for (;;) {
      try {
        signal.throwIfAborted();
        this.#write(text);
        this.#announced = text;
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        const wait = backoff.failed();
        this.#listener?.failed('telling the peers of this node', error, wait);
        await sleep(wait, undefined, { signal });
      }
    }
  }

  /** There is nobody to tell. */
  async available(): Promise<void> {}

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    this.#watch.close();
  }

  // --- looking

  /** Unless it looks sooner anyway. */
  #lookIn(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#stopping.signal.aborted || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => this.#look(), delayMs);
  }

  #look(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    try {
      const isSettled = this.#read();
      this.#takeSubnets();
      this.#tell();
      this.#keepOwnFile();
      this.#lookIn(isSettled ? LOOK_EVERY_MS : this.#quietMs);
    } catch (error) {
      this.#listener?.failed(`reading the leases in ${this.#options.directory}`, readable(error, this.#options.directory), LOOK_EVERY_MS);
      if (this.#own === undefined) this.#wait(error);
      this.#lookIn(LOOK_EVERY_MS);
    }
  }

  /** Reads the files that have changed. False: some are just being written, and have to be looked at again. */
  #read(): boolean {
    const { directory } = this.#options;
    this.#watch.beginListing();
    this.#watch.visit(directory);
    const names = readdirSync(directory);
    this.#watch.endListing();
    if (this.#own !== undefined && !names.includes(CLAIMS)) {
      throw new SluiceError('LEASE_DIRECTORY_REPLACED', `${directory} is not the directory that it was: ${CLAIMS} is gone`, {
        hint: `Mount it again; if it is meant to be empty, make the directory ${CLAIMS} in it.`,
      });
    }
    const seen = new Set<string>();
    let unsettled = 0;
    for (const name of names) {
      const node = name.endsWith('.json') ? name.slice(0, -'.json'.length) : '';
      // Hidden ones are being written.
      if (!NODE_NAME.test(node)) continue;
      const stat = statSync(join(directory, name), { bigint: true, throwIfNoEntry: false });
      if (stat === undefined || !stat.isFile()) continue;
      seen.add(node);
      const entry = this.#entries.get(node);
      const signature = `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
      if (entry !== undefined) entry.missedAt = undefined;
      if (entry?.signature === signature) continue;
      const age = Date.now() - Number(stat.ctimeNs / 1_000_000n);
      // At the start everything is read; ages below zero are of another machine's clock.
      if (this.#synced && age >= 0 && age < this.#quietMs && this.#unsettledLooks < UNSETTLED_LOOKS_MAX) unsettled++;
      else this.#readFile(node, signature);
    }
    const now = performance.now();
    for (const [node, entry] of this.#entries) {
      if (seen.has(node)) continue;
      entry.missedAt ??= now;
      if (now - entry.missedAt >= this.#quietMs) this.#entries.delete(node);
      else unsettled++;
    }
    this.#isOwnFileThere = seen.has(this.#options.node);
    this.#unsettledLooks = unsettled === 0 ? 0 : this.#unsettledLooks + 1;
    return unsettled === 0;
  }

  #readFile(node: string, signature: string): void {
    const path = this.#path(node);
    const before = this.#entries.get(node);
    const entry: Entry = { signature, file: before?.file, text: '', problem: undefined, missedAt: undefined };
    this.#entries.set(node, entry);
    try {
      entry.text = readFileSync(path, 'utf8');
      const families = this.#families.map(({ family }) => family);
      entry.file = readLeaseFile(entry.text, path, node, families);
    } catch (error) {
      // Gone since it was listed: the next look finds it missing.
      if (systemErrorCode(error) === 'ENOENT') entry.signature = '';
      else
        entry.problem = error instanceof SluiceError ? error.message : `${path} cannot be read: ${systemErrorCode(error) ?? String(error)}`;
    }
  }

  // --- telling

  #tell(): void {
    const { node: own } = this.#options;
    const isTold = this.#synced;
    for (const [node, { file }] of this.#entries) {
      const lease = file?.lease;
      if (node === own || lease === undefined || sameLease(this.#leases.get(node), lease)) continue;
      this.#leases.set(node, lease);
      this.#listener?.upsert(lease);
    }
    for (const node of this.#leases.keys()) {
      if (this.#entries.get(node)?.file?.lease === undefined && this.#leases.delete(node)) this.#listener?.remove(node);
    }
    for (const node of new Set([...this.#entries.keys(), ...this.#problems.keys(), own])) {
      const problems = this.#problemsOf(node);
      const text = problems.join('\n');
      if (text === (this.#problems.get(node) ?? '')) continue;
      if (text === '') this.#problems.delete(node);
      else this.#problems.set(node, text);
      this.#listener?.problems(node, problems);
    }
    this.#synced = true;
    if (!isTold) this.#listener?.synced();
  }

  #problemsOf(node: string): string[] {
    const problems: string[] = [];
    const entry = this.#entries.get(node);
    if (entry?.problem !== undefined) problems.push(entry.problem);
    if (node !== this.#options.node || this.#own === undefined) return problems;
    if (this.#rival !== undefined)
      problems.push(`${this.#rival} has taken this node’s subnet, ${describe(this.#own)}, which is in use here`);
    if (entry?.problem === undefined && entry?.file !== undefined && !this.#isOwn(entry.file.subnets)) {
      const named = describe(entry.file.subnets);
      problems.push(`${this.#path(node)} names ${named}, and ${describe(this.#own)} is in use: a restart takes up what the file says`);
    }
    return problems;
  }

  /** Writes it again where it is gone, or where somebody has changed something other than the subnet. */
  #keepOwnFile(): void {
    const { node, onRepair } = this.#options;
    const entry = this.#entries.get(node);
    // One that is there and has not been read is just being written.
    if (this.#announced === undefined || entry?.text === this.#announced || (entry === undefined && this.#isOwnFileThere)) return;
    if (entry !== undefined && (entry.problem !== undefined || entry.file === undefined || !this.#isOwn(entry.file.subnets))) return;
    this.#write(this.#announced);
    onRepair(`${this.#path(node)} ${entry === undefined ? 'was missing' : 'had been changed'}; it is written again`);
  }

  /** Whether a file names the subnets in use, or leaves them out. */
  #isOwn(subnets: Subnets): boolean {
    return this.#families.every(({ key }) => {
      const [named, used] = [subnets[key], this.#own?.[key]];
      return named === undefined || used === undefined || formatPrefix(named) === formatPrefix(used);
    });
  }

  /** Nobody ever reads half of it. */
  #write(text: string): void {
    const path = this.#path(this.#options.node);
    const fresh = join(this.#options.directory, `.${this.#options.node}.json.new`);
    try {
      writeFileSync(fresh, text, { flush: true });
      renameSync(fresh, path);
    } catch (error) {
      rmSync(fresh, { force: true });
      throw error;
    }
  }

  #path(node: string): string {
    return join(this.#options.directory, `${node}.json`);
  }

  // --- this node's subnets

  #takeSubnets(): void {
    const now = performance.now();
    const holds: Holds = (node, subnet) => {
      const file = this.#entries.get(node)?.file;
      return Object.values(file?.subnets ?? {}).some((each: Prefix) => formatPrefix(each) === formatPrefix(subnet));
    };
    if (this.#own !== undefined) {
      if (now - this.#claimedAt < (this.#options.claimEveryMs ?? CLAIM_EVERY_MS)) return;
      this.#claimedAt = now;
      const rivals = Object.values(this.#own).map((subnet: Prefix) => this.#claims.take(subnet, holds));
      this.#rival = rivals.find((rival) => rival !== undefined);
      return;
    }
    try {
      const own: { v4?: Prefix; v6?: Prefix } = {};
      for (const family of this.#families) own[family.key] = this.#takeSubnet(family, holds);
      this.#own = own;
      this.#claimedAt = now;
      this.#listener?.own(this.#ownLease(own));
    } catch (error) {
      this.#wait(error);
    }
  }

  #takeSubnet({ family, key, network }: ConfFamily, holds: Holds): Prefix {
    const { node, directory, conf, subnetFile } = this.#options;
    const own = this.#entries.get(node);
    if (own?.problem !== undefined) throw new SluiceError('LEASE_FILE_INVALID', own.problem);
    const named = own?.file?.subnets[key];
    if (named !== undefined && own?.file?.lease === undefined) return this.#takeNamed(named, family, network, holds);

    const plan = subnetPlan(conf, family);
    const previous = subnetFile === undefined ? undefined : previousSubnet(subnetFile, key);
    const known = [...this.#claims.own(), ...(previous === undefined ? [] : [previous])].filter((subnet) => isPlanned(subnet, plan));
    const occupied = union([
      ...this.#claims.others(holds).map(({ subnet }) => prefixRange(subnet)),
      ...[...this.#entries].flatMap(([other, { file }]) => (other === node ? [] : Object.values(file?.subnets ?? {}).map(prefixRange))),
    ]);
    const isFree = (subnet: Prefix): boolean => !intersects(occupied, prefixRange(subnet));
    const candidates = function* (): Generator<Prefix> {
      // Who has told its subnet before has it, whatever another file says: that there is no claim against it is enough.
      if (named !== undefined && isPlanned(named, plan)) yield named;
      yield* known.filter(isFree);
      yield* freeSubnets(plan, occupied);
    };
    for (const subnet of candidates()) if (this.#claims.take(subnet, holds) === undefined) return subnet;
    throw new SluiceError(
      'SUBNET_EXHAUSTED',
      `taking an IPv${family} subnet of ${formatPrefix(network)}: all of ${plan.length} bits are taken in ${directory}`,
      { hint: 'Remove the files of nodes that are gone; their subnets are free ten minutes later. Or choose a larger network.' },
    );
  }

  /** What a person has decided is not replaced by anything else. */
  #takeNamed(named: Prefix, family: Family, network: Prefix, holds: Holds): Prefix {
    const doing = `taking the subnet ${formatPrefix(named)} of ${this.#path(this.#options.node)}`;
    if (!liesWithin(named, network)) {
      const field = family === 4 ? 'Network' : 'IPv6Network';
      throw new SluiceError('LEASE_OUTSIDE_NETWORK', `${doing}: it lies outside ${field} ${formatPrefix(network)} of net-conf.json`, {
        hint: 'Correct the one or the other.',
      });
    }
    const holder = this.#claims.take(named, holds);
    if (holder === undefined) return named;
    throw new SluiceError('SUBNET_TAKEN', `${doing}: ${holder} has it, or a part of it`, {
      hint: 'Name another one, or remove the file of that node; the subnet is free ten minutes after it has ended.',
    });
  }

  #wait(error: unknown): void {
    const failed = readable(error, this.#options.directory);
    const waiting = failed.hint === undefined ? failed.message : `${failed.message}. ${failed.hint}`;
    if (waiting === this.#waiting) return;
    this.#waiting = waiting;
    this.#listener?.own({ waiting });
  }

  #ownLease(own: Subnets): OwnLease {
    const lease = this.#entries.get(this.#options.node)?.file?.lease;
    return {
      v4: own.v4,
      v6: own.v6,
      vtep: { 4: vxlanData(lease?.v4?.data)?.mac, 6: vxlanData(lease?.v6?.data)?.mac },
      // What the file says is what this node has told itself.
      publicAddress: { 4: undefined, 6: undefined },
    };
  }
}

/** A file that cannot be read says nothing. */
function previousSubnet(subnetFile: string, key: 'v4' | 'v6'): Prefix | undefined {
  try {
    return parseSubnetEnv(readFileSync(subnetFile, 'utf8'))[key].subnet;
  } catch {
    return undefined;
  }
}

function describe(subnets: Subnets): string {
  return Object.values(subnets).map(formatPrefix).join(' and ');
}

/** A system error as one that people can read. */
function readable(error: unknown, directory: string): SluiceError {
  if (error instanceof SluiceError) return error;
  const fault = systemErrorCode(error) ?? (error instanceof Error ? error.message : String(error));
  const hint = fault === 'ENOENT' ? 'It has to be there, and to be the same for all nodes.' : undefined;
  return new SluiceError('LEASE_DIRECTORY_UNREADABLE', `the directory of leases ${directory} cannot be used: ${fault}`, {
    hint,
    cause: error,
  });
}
