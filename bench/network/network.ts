/**
 * `sluice network` beside many peers, and flanneld beside the same: from the start of the process until all peers' routes are in the kernel,
 * from a Node's coming to its route, memory, and what doing nothing costs. Leases come from a real API server.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { NETLINK_ROUTE, NetlinkSocket, Poller } from 'nftables-js';
import { ApiServer } from '../../src/lab/api/api-server.ts';
import { formatPrefix } from '../../src/policy/address.ts';
import { listRoutes, watchRoutes } from '../../src/rtnetlink/routes.ts';
import { type Latency, latency } from '../statistics.ts';

export interface NetworkPlan {
  readonly peers: number;
  readonly starts: number;
  /** Nodes that come and go one at a time. */
  readonly joins: number;
  /** How long nothing happens. */
  readonly idleSeconds: number;
}

export const NETWORK_PLAN: NetworkPlan = { peers: 5_000, starts: 5, joins: 100, idleSeconds: 20 };
export const QUICK_NETWORK_PLAN: NetworkPlan = { peers: 50, starts: 1, joins: 3, idleSeconds: 1 };

export interface NetworkDaemonResult {
  readonly daemon: 'sluice' | 'flanneld';
  /** From the start of the process until the last peer's route is there, ms; the first start makes everything, the others find it. */
  readonly startsMs: readonly number[];
  /** From the answer of the API server to the route of the node, ms. */
  readonly join: Latency;
  readonly residentBytes: number;
  /** Of one core, in percent. */
  readonly idlePercent: number;
}

export interface NetworkResult {
  readonly peers: number;
  readonly daemons: readonly NetworkDaemonResult[];
  /** Why flanneld was left out. */
  readonly missing: string | undefined;
}

const PREFIX = 'flannel.alpha.coreos.com/';
const NODE = 'self';
const DEVICE = 'flannel.1';
const TICKS = 100;
const WRITERS = 16;
const START_MS = 300_000;
const ROOT = new URL('../../', import.meta.url);

export async function measureNetwork(plan: NetworkPlan, progress: (text: string) => void): Promise<NetworkResult> {
  const flanneld = findFlanneld();
  const bench = await NetworkBench.create(plan, progress);
  try {
    const daemons: NetworkDaemonResult[] = [];
    for (const [daemon, program] of [
      ['sluice', undefined],
      ['flanneld', flanneld],
    ] as const) {
      if (daemon === 'flanneld' && program === undefined) continue;
      daemons.push(await bench.measure(daemon, program ?? ''));
    }
    return {
      peers: plan.peers,
      daemons,
      missing: flanneld === undefined ? 'flanneld is not built (sh scripts/build-flanneld.sh)' : undefined,
    };
  } finally {
    await bench.close();
  }
}

function findFlanneld(): string | undefined {
  const { stdout, status } = spawnSync('sh', [fileURLToPath(new URL('scripts/build-flanneld.sh', ROOT)), '--find'], { encoding: 'utf8' });
  const found = stdout.trim();
  return status === 0 && found !== '' ? join(found, 'flanneld') : undefined;
}

class NetworkBench {
  readonly #plan: NetworkPlan;
  readonly #progress: (text: string) => void;
  readonly #api: ApiServer;
  readonly #state: string;
  readonly #poller = new Poller();
  readonly #requests = NetlinkSocket.open(NETLINK_ROUTE);
  readonly #events = NetlinkSocket.open(NETLINK_ROUTE, { receiveBytes: 16 << 20 });
  /** When a route was seen for the first time since it was asked for. */
  readonly #awaited = new Map<string, (at: number) => void>();
  #stopWatching: () => void = () => undefined;
  #next: number;

  private constructor(plan: NetworkPlan, progress: (text: string) => void, api: ApiServer, state: string) {
    this.#plan = plan;
    this.#progress = progress;
    this.#api = api;
    this.#state = state;
    this.#next = plan.peers + 1;
  }

  static async create(plan: NetworkPlan, progress: (text: string) => void): Promise<NetworkBench> {
    const state = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    for (const command of [
      'link add eth0 type veth peer name segment',
      'link set segment up',
      'link set eth0 up',
      'addr add 172.18.0.1/15 dev eth0',
      'route add default via 172.19.255.254',
    ])
      execFileSync('ip', command.split(' '));
    writeFileSync(
      join(state, 'net-conf.json'),
      JSON.stringify({ Network: '10.0.0.0/8', EnableNFTables: true, Backend: { Type: 'vxlan' } }),
    );
    const bench = new NetworkBench(plan, progress, await ApiServer.start({ state: join(state, 'api') }), state);
    bench.#stopWatching = watchRoutes(bench.#poller, bench.#events, (event) => {
      if (event.event !== 'route') return;
      const key = formatPrefix(event.route.destination);
      bench.#awaited.get(key)?.(performance.now());
      bench.#awaited.delete(key);
    });
    progress(`${plan.peers} nodes`);
    await bench.#write(Array.from({ length: plan.peers }, (_, index) => peer(index + 1)));
    await bench.#write([
      { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE, annotations: { made: 'here' } }, spec: cidr('10.255.0.0/24') },
    ]);
    return bench;
  }

  async #write(nodes: readonly object[]): Promise<void> {
    const left = [...nodes];
    const writer = async (): Promise<void> => {
      for (let body = left.pop(); body !== undefined; body = left.pop())
        await this.#api.admin.call({ method: 'POST', path: '/api/v1/nodes', body });
    };
    await Promise.all(Array.from({ length: WRITERS }, writer));
  }

  async measure(daemon: 'sluice' | 'flanneld', program: string): Promise<NetworkDaemonResult> {
    const startsMs: number[] = [];
    let child: ChildProcess | undefined;
    for (let start = 0; start < this.#plan.starts; start++) {
      this.#progress(`start ${start + 1} of ${this.#plan.starts} of ${daemon}`);
      await end(child);
      // The first one finds nothing; the others find what is there, and have to find out that it is right.
      if (start === 0) spawnSync('ip', ['link', 'del', DEVICE], { stdio: 'ignore' });
      else for (const route of this.#routes().slice(0, 1)) execFileSync('ip', ['route', 'del', route]);
      const at = performance.now();
      child = this.#spawn(daemon, program);
      await this.#allRoutes(child);
      startsMs.push(performance.now() - at);
    }
    this.#progress(`${this.#plan.joins} nodes come, one at a time`);
    await sleep(2_000);
    const joins: number[] = [];
    for (let join = 0; join < this.#plan.joins; join++) {
      const node = peer(this.#next++);
      const seen = new Promise<number>((resolve) => {
        this.#awaited.set(node.spec.podCIDR, resolve);
      });
      await this.#api.admin.call({ method: 'POST', path: '/api/v1/nodes', body: node });
      const at = performance.now();
      joins.push(Math.max(0, (await seen) - at));
    }
    const pid = child?.pid ?? 0;
    const residentBytes = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
    this.#progress('doing nothing');
    await sleep(2_000);
    const before = cpuTicks(pid);
    await sleep(this.#plan.idleSeconds * 1000);
    const idlePercent = ((cpuTicks(pid) - before) / TICKS / this.#plan.idleSeconds) * 100;
    await end(child);
    return { daemon, startsMs, join: latency(joins), residentBytes, idlePercent };
  }

  #routes(): string[] {
    return listRoutes(this.#requests)
      .filter(({ gateway, destination }) => gateway !== undefined && destination.length === 24)
      .map(({ destination }) => formatPrefix(destination));
  }

  async #allRoutes(child: ChildProcess): Promise<void> {
    const wanted = this.#next - 1;
    const until = performance.now() + START_MS;
    while (this.#routes().length < wanted) {
      if (child.exitCode !== null || performance.now() > until)
        throw new Error(`the daemon has not made all routes; its log ends with\n${readFileSync(this.#log, 'utf8').slice(-2000)}`);
      await sleep(10);
    }
  }

  get #log(): string {
    return join(this.#state, 'daemon.log');
  }

  #spawn(daemon: 'sluice' | 'flanneld', program: string): ChildProcess {
    const file = (name: string): string => join(this.#state, name);
    const common = ['--kubeconfig-file', this.#api.kubeconfig('admin'), '--net-config-path', file('net-conf.json'), '--iface', 'eth0'];
    const argv =
      daemon === 'flanneld'
        ? [program, ...common, '--kube-subnet-mgr', `--subnet-file=${file('subnet.env')}`]
        : [
            process.execPath,
            '--max-semi-space-size=2',
            fileURLToPath(new URL('bin/sluice.js', ROOT)),
            'network',
            ...common,
            `--subnet-file=${file('subnet.env')}`,
            `--cni-conf-file=${file('10-flannel.conflist')}`,
          ];
    const log = openSync(this.#log, 'w');
    const [command = '', ...args] = argv;
    // flanneld never starts where there are more nodes than its queue is deep, 5,000 unless it is told.
    const env = { ...process.env, NODE_NAME: NODE, EVENT_QUEUE_DEPTH: '20000' };
    const child = spawn(command, args, { stdio: ['ignore', log, log], env });
    closeSync(log);
    return child;
  }

  async close(): Promise<void> {
    this.#stopWatching();
    this.#poller.close();
    this.#requests.close();
    this.#events.close();
    await this.#api.close();
    execFileSync('ip', ['link', 'del', 'eth0']);
    rmSync(this.#state, { recursive: true });
  }
}

function cidr(podCIDR: string): { podCIDR: string; podCIDRs: string[] } {
  return { podCIDR, podCIDRs: [podCIDR] };
}

/** Numbers from 1. */
function peer(number: number) {
  const [high, low] = [number >> 8, number & 255];
  const hex = (octet: number): string => octet.toString(16).padStart(2, '0');
  const annotations = {
    [`${PREFIX}kube-subnet-manager`]: 'true',
    [`${PREFIX}backend-type`]: 'vxlan',
    [`${PREFIX}backend-data`]: `{"VNI":1,"VtepMAC":"0e:04:00:00:${hex(high)}:${hex(low)}"}`,
    [`${PREFIX}public-ip`]: `172.19.${high}.${low}`,
  };
  return { apiVersion: 'v1', kind: 'Node', metadata: { name: `peer-${number}`, annotations }, spec: cidr(`10.${high}.${low}.0/24`) };
}

function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => {
    child.once('exit', resolve);
  });
  // flanneld does not end on SIGTERM while it works off its queue.
  child.kill('SIGKILL');
  await ended;
}
