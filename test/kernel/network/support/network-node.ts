/** One node in a network namespace of its own, with leases from the test: what its NodeNetwork does is seen by `ip` and `bridge`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { Poller } from 'nftables-js';
import { inNamespace } from '../../../../src/lab/namespaces.ts';
import type { Lease } from '../../../../src/network/lease.ts';
import type { Announcement, LeaseSource, LeaseSourceListener, OwnLease } from '../../../../src/network/lease-source.ts';
import { parseNetConf } from '../../../../src/network/net-conf.ts';
import { type NetworkObject, NodeNetwork, type NodeNetworkOptions } from '../../../../src/network/node-network.ts';
import { type Address, parseAddress, parsePrefix, type Prefix } from '../../../../src/policy/address.ts';
import { eventually } from '../../support/eventually.ts';

export function address(text: string): Address {
  const parsed = parseAddress(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

/** Leases as a test has them. */
export class ScriptedLeases implements LeaseSource {
  listener: LeaseSourceListener | undefined;
  readonly announced: Announcement[] = [];
  readonly initial: Lease[];
  own: OwnLease | { readonly waiting: string };

  constructor(own: OwnLease | { readonly waiting: string }, initial: readonly Lease[] = []) {
    this.own = own;
    this.initial = [...initial];
  }

  start(listener: LeaseSourceListener): void {
    this.listener = listener;
    listener.own(this.own);
    for (const lease of this.initial) listener.upsert(lease);
    listener.synced();
  }

  async announce(announcement: Announcement): Promise<void> {
    this.announced.push(announcement);
  }

  async available(): Promise<void> {}
  async stop(): Promise<void> {}
}

export const OWN: OwnLease = {
  v4: prefix('10.244.0.0/24'),
  v6: prefix('fd00:10:244::/64'),
  vtep: { 4: '0e:04:00:00:00:00', 6: '0e:06:00:00:00:00' },
  publicAddress: { 4: undefined, 6: undefined },
};

/** A vxlan peer: 10.244.N.0/24 at 172.18.0.(100+N), the same for IPv6. */
export function peer(number: number, { mac = `0e:04:00:00:00:${hex(number)}`, at = `172.18.0.${100 + number}` } = {}): Lease {
  return {
    node: `peer-${number}`,
    backendType: 'vxlan',
    v4: { subnet: prefix(`10.244.${number}.0/24`), publicAddress: address(at), data: { VNI: 1, VtepMAC: mac } },
    v6: {
      subnet: prefix(`fd00:10:244:${number.toString(16)}::/64`),
      publicAddress: address(`fd00:172:18::${hex(100 + number)}`),
      data: { VNI: 1, VtepMAC: `0e:06:00:00:00:${hex(number)}` },
    },
  };
}

const hex = (number: number): string => number.toString(16).padStart(2, '0');

let count = 0;

export interface Change {
  /** performance.now() */
  readonly at: number;
  readonly object: NetworkObject;
  readonly what: string;
  readonly cause: string;
}

export class NetworkNode {
  readonly netns: string;
  readonly changes: Change[] = [];
  readonly failures: string[] = [];
  readonly problems = new Map<string, readonly string[]>();
  waiting: string | undefined;
  readonly #poller = new Poller();
  network: NodeNetwork | undefined;

  /** A namespace with eth0 (172.18.0.1/24, fd00:172:18::1/64) and default routes by 172.18.0.254 and fd00:172:18::fe. */
  constructor() {
    this.netns = `network${count++}`;
    execFileSync('ip', ['netns', 'add', this.netns]);
    this.ip('link', 'set', 'lo', 'up');
    this.ip('link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'segment');
    this.ip('link', 'set', 'segment', 'up');
    this.ip('addr', 'add', '172.18.0.1/24', 'dev', 'eth0');
    this.ip('addr', 'add', 'fd00:172:18::1/64', 'dev', 'eth0', 'nodad');
    this.ip('link', 'set', 'eth0', 'up');
    this.ip('route', 'add', 'default', 'via', '172.18.0.254');
    this.ip('-6', 'route', 'add', 'default', 'via', 'fd00:172:18::fe');
  }

  start(leases: LeaseSource, conf: object = {}, options: Partial<NodeNetworkOptions> = {}): NodeNetwork {
    const text = JSON.stringify({
      Network: '10.244.0.0/16',
      EnableIPv6: true,
      IPv6Network: 'fd00:10:244::/48',
      EnableNFTables: true,
      Backend: { Type: 'vxlan' },
      ...conf,
    });
    this.network = NodeNetwork.start({
      node: 'self',
      conf: parseNetConf(text, 'net-conf.json'),
      leases,
      interfaces: {
        iface: ['eth0'],
        ifaceRegex: [],
        ifaceCanReach: undefined,
        publicIP: undefined,
        publicIPv6: undefined,
        ipv4: true,
        ipv6: true,
      },
      poller: this.#poller,
      observer: {
        changed: (object, what, cause) => void this.changes.push({ object, what, cause, at: performance.now() }),
        failed: (doing, error) => void this.failures.push(`${doing}: ${error instanceof Error ? error.message : String(error)}`),
        peerProblems: (node, problems) => void this.problems.set(node, problems),
        compared: () => undefined,
        ready: () => undefined,
        waiting: (why) => {
          this.waiting = why;
        },
      },
      subnetFile: undefined,
      masquerade: false,
      rules: undefined,
      blackholeRoute: false,
      bridge: undefined,
      cni: undefined,
      inNode: (action) => inNamespace(this.netns, action),
      ...options,
    });
    return this.network;
  }

  async stop(): Promise<void> {
    await this.network?.stop();
    this.network = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    this.#poller.close();
    execFileSync('ip', ['netns', 'del', this.netns]);
  }

  ip(...args: string[]): string {
    return execFileSync('ip', ['-n', this.netns, ...args], { encoding: 'utf8' });
  }

  bridge(...args: string[]): string {
    return execFileSync('bridge', ['-n', this.netns, ...args], { encoding: 'utf8' });
  }

  json<T>(...args: string[]): T[] {
    return JSON.parse(this.ip('-d', '-j', ...args) || '[]') as T[];
  }

  /** Permanent neighbours of a device, `address mac`. */
  neighbours(device: string): string[] {
    const of = (family: string): { dst: string; lladdr?: string; state: string[] }[] =>
      JSON.parse(this.ip('-j', family, 'neigh', 'show', 'dev', device, 'nud', 'permanent') || '[]') as never;
    return [...of('-4'), ...of('-6')].map(({ dst, lladdr }) => `${dst} ${lladdr}`).sort();
  }

  /** `mac destination`. */
  forwarding(device: string): string[] {
    const entries = JSON.parse(this.bridge('-j', 'fdb', 'show', 'dev', device) || '[]') as { mac: string; dst?: string; state?: string }[];
    return entries.map(({ mac, dst, state }) => `${mac} ${dst} ${state}`).sort();
  }

  /** Routes into the cluster's networks, as `ip route` prints them. */
  routes(): string[] {
    const lines = [this.ip('-4', 'route'), this.ip('-6', 'route')].join('\n').split('\n');
    return lines
      .map((line) => line.trim().replaceAll(/ +/g, ' '))
      .filter((line) => /^(blackhole )?(10\.244\.|fd00:10:244)/.test(line))
      .sort();
  }

  /** What is there, in one text. */
  state(): string {
    const lines = [...this.routes()];
    for (const device of ['flannel.1', 'flannel-v6.1']) {
      if (!this.has(device)) continue;
      lines.push(...this.neighbours(device).map((line) => `${device} neigh ${line}`));
      lines.push(...this.forwarding(device).map((line) => `${device} fdb ${line}`));
    }
    return lines.join('\n');
  }

  has(device: string): boolean {
    return this.json<{ ifname: string }>('link').some(({ ifname }) => ifname === device);
  }

  repairs(): Change[] {
    return this.changes.filter(({ cause }) => cause === 'repair');
  }

  /** Waits until the kernel holds the same as `before`. @returns how long it took from now to the last change, ms */
  async healed(before: string): Promise<number> {
    const startedAt = performance.now();
    await eventually(
      () => this.state() === before,
      () => `healing; wanted:\n${before}\nthere is:\n${this.state()}`,
      // Looking is what takes long: each look starts ten programs.
      { everyMs: 50 },
    );
    return (this.changes.at(-1)?.at ?? startedAt) - startedAt;
  }
}
