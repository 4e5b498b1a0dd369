/**
 * Nodes on an underlay with a network daemon and one pod each, and a real API server that the daemons read and write:
 *
 *     const network = await InteropNetwork.create({ api, layout: 'one segment', netConf, nodes: ['a', 'b', 'c'] });
 *     await network.run({ a: 'flanneld', b: 'sluice', c: 'sluice' });   // what does not run yet is started, and all have settled
 *     await network.expectConnected();
 *     const before = await network.snapshot('b');
 *
 * The pod of a node is wired from its subnet.env when that is there for the first time, as the CNI plugins flannel and bridge would do it.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import type { ApiServer } from '../../../../src/lab/api/api-server.ts';
import { inNamespace, run, setSysctls } from '../../../../src/lab/namespaces.ts';
import { parseAddress } from '../../../../src/policy/address.ts';
import { eventually } from '../../../kernel/support/eventually.ts';
import { transfer } from './bulk.ts';
import { DAEMON_KINDS, Daemon, type DaemonKind } from './daemons.ts';
import { differences } from './differences.ts';
import { type Echo, echo, EchoStream, HEADERS } from './echoes.ts';
import { iptables, type Snapshot, takeSnapshot } from './snapshot.ts';
import {
  CABLE_SYSCTLS,
  cables,
  CLUSTER_V4,
  CLUSTER_V6,
  type Layout,
  NODE_SYSCTLS,
  nodeCommands,
  type NetworkNode,
  networkNode,
  OUTSIDE_V4,
  OUTSIDE_V6,
  POD_SYSCTLS,
  ROUTER,
  routerCommands,
  teardown,
} from './underlay.ts';

/** What is in net-conf.json. */
export interface NetConf {
  readonly Network?: string;
  readonly IPv6Network?: string;
  readonly EnableIPv4?: boolean;
  readonly EnableIPv6?: boolean;
  readonly EnableNFTables?: boolean;
  readonly Backend: { readonly Type: string; readonly [option: string]: unknown };
}

export interface InteropNetworkSpec {
  readonly api: ApiServer;
  readonly layout?: Layout;
  readonly netConf: NetConf;
  /** The third is behind the router where there are two segments. */
  readonly nodes: readonly string[];
  readonly carries: Carries;
}

/** The largest packet that the backend brings to another node, by the family of the packet; one that it routes directly may be larger. */
export type Carries = Readonly<Partial<Record<4 | 6, number>>>;

/** With nftables and IPv4 alone, unless said otherwise. */
export function netConf(
  backend: NetConf['Backend'],
  { families = [4], nftables = true }: { readonly families?: readonly (4 | 6)[]; readonly nftables?: boolean } = {},
): NetConf {
  return {
    ...(families.includes(4) ? { Network: CLUSTER_V4 } : { EnableIPv4: false }),
    ...(families.includes(6) ? { EnableIPv6: true, IPv6Network: CLUSTER_V6 } : {}),
    ...(nftables ? { EnableNFTables: true } : {}),
    Backend: backend,
  };
}

const NODES = '/api/v1/nodes';
const UNDERLAY_MTU = 1500;
/** Seconds that an echo is waited for, where one should come and where none should. */
const PATIENCE_S = 2;
const IMPATIENCE_S = 0.2;

export class InteropNetwork {
  readonly nodes: readonly NetworkNode[];
  readonly netConf: NetConf;
  readonly families: readonly (4 | 6)[];
  readonly #api: ApiServer;
  readonly #state: string;
  readonly #daemons = new Map<string, Daemon>();
  /** Nodes that have an object. */
  readonly #registered = new Set<string>();
  /** Nodes that have a pod, and its MTU. */
  readonly #wired = new Map<string, number>();
  readonly #carries: Carries;
  /** Written once: daemons read it at any time. */
  readonly #kubeconfig: string;
  #starts = 0;

  private constructor({ api, layout = 'one segment', netConf, nodes, carries }: InteropNetworkSpec) {
    this.#api = api;
    this.#carries = carries;
    this.#kubeconfig = api.kubeconfig('admin');
    this.netConf = netConf;
    this.families = [...(netConf.EnableIPv4 === false ? [] : [4 as const]), ...(netConf.EnableIPv6 === true ? [6 as const] : [])];
    this.nodes = nodes.map((name, index) => networkNode(name, index, layout));
    this.#state = mkdtempSync(join(tmpdir(), 'sluice-interop-'));
  }

  static async create(spec: InteropNetworkSpec): Promise<InteropNetwork> {
    const network = new InteropNetwork(spec);
    try {
      await network.#build();
      return network;
    } catch (error) {
      await network.close();
      throw error;
    }
  }

  async #build(): Promise<void> {
    writeFileSync(this.#netConfFile, JSON.stringify(this.netConf));
    await ip(undefined, cables(this.nodes));
    for (const netns of [ROUTER, ...this.nodes.map((node) => node.netns)]) setSysctls(netns, NODE_SYSCTLS);
    for (const { netns, podNetns } of this.nodes) {
      setSysctls(netns, CABLE_SYSCTLS);
      setSysctls(podNetns, POD_SYSCTLS);
    }
    await Promise.all([ip(ROUTER, routerCommands(this.nodes)), ...this.nodes.map((node) => ip(node.netns, nodeCommands(node)))]);
    for (const { name } of this.nodes) mkdirSync(join(this.#state, name));
  }

  get #netConfFile(): string {
    return join(this.#state, 'net-conf.json');
  }

  node(name: string): NetworkNode {
    return this.nodes.find((node) => node.name === name) ?? assert.fail(`there is no node ${name}`);
  }

  #subnetFile(name: string): string {
    return join(this.#state, name, 'subnet.env');
  }

  // --- nodes' objects

  /** Makes the objects of nodes that have none. */
  async register(...names: readonly string[]): Promise<void> {
    await Promise.all(names.filter((name) => !this.#registered.has(name)).map((name) => this.#register(name)));
  }

  async #register(name: string): Promise<void> {
    this.#registered.add(name);
    const { podCIDR, podCIDRv6 } = this.node(name);
    const podCIDRs = this.families.map((family) => (family === 4 ? podCIDR : podCIDRv6));
    // flanneld needs one annotation to be there; in a real cluster the kubelet has written some.
    const metadata = { name, annotations: { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true' } };
    const body = { apiVersion: 'v1', kind: 'Node', metadata, spec: { podCIDR: podCIDRs[0], podCIDRs } };
    await this.#api.admin.call({ method: 'POST', path: NODES, body });
  }

  async object(name: string): Promise<Readonly<Record<string, unknown>>> {
    const { object } = await this.#api.admin.call({ method: 'GET', path: `${NODES}/${name}` });
    return object as Readonly<Record<string, unknown>>;
  }

  async annotate(name: string, annotations: Readonly<Record<string, string>>): Promise<void> {
    const body = { metadata: { annotations } };
    await this.#api.admin.call({ method: 'PATCH', path: `${NODES}/${name}`, contentType: 'application/merge-patch+json', body });
  }

  /** The node has left the cluster; its daemon still runs. */
  async deleteObject(name: string): Promise<void> {
    this.#registered.delete(name);
    await this.#api.admin.call({ method: 'DELETE', path: `${NODES}/${name}` });
  }

  // --- daemons

  /** The one of a node that was started last, and was not stopped. */
  daemon(name: string): Daemon {
    return this.#daemons.get(name) ?? assert.fail(`node ${name} has no daemon`);
  }

  /** Brings it about that exactly these run, each on its node, and waits until they are ready and know of each other. */
  async run(kinds: Readonly<Record<string, DaemonKind>>): Promise<void> {
    const names = Object.keys(kinds);
    await Promise.all([...this.#daemons].filter(([name, { kind }]) => kinds[name] !== kind).map(([name]) => this.stop(name)));
    await this.register(...names);
    await Promise.all(
      DAEMON_KINDS.map((kind) =>
        this.start(
          kind,
          names.filter((name) => kinds[name] === kind && this.#daemons.get(name)?.running !== true),
        ),
      ),
    );
    await this.settled();
  }

  /** Starts daemons on nodes where none runs, and waits until they are ready; the nodes' pods are wired then. */
  async start(kind: DaemonKind, names: readonly string[]): Promise<void> {
    await Promise.all(
      names.map(async (name) => {
        const daemon = new Daemon(kind, {
          node: name,
          netns: this.node(name).netns,
          kubeconfig: this.#kubeconfig,
          netConf: this.#netConfFile,
          subnetFile: this.#subnetFile(name),
          state: join(this.#state, name),
          name: `${kind}-${++this.#starts}`,
        });
        this.#daemons.set(name, daemon);
        await daemon.ready();
        await this.#wire(name);
      }),
    );
  }

  /** Ends a node's daemon, and leaves what it has made. */
  async stop(name: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#daemons.get(name)?.end(signal);
    this.#daemons.delete(name);
  }

  /** Waits until every node has a way to every other, by its own tables, and its rules. */
  async settled(): Promise<void> {
    await Promise.all(this.#pairs().flatMap(([from, to]) => this.families.map((family) => this.#knows(from, to, family))));
    if (this.netConf.EnableNFTables !== true) await Promise.all(this.#running().map((node) => this.#hasIptables(node)));
  }

  /** flanneld writes these while it goes on with other things. */
  async #hasIptables({ name, netns }: NetworkNode): Promise<void> {
    await eventually(
      async () => (await iptables(netns)).filter((rule) => rule.includes('-j FLANNEL-')).length === 2 * this.families.length,
      () => `node ${name} has its iptables rules\n${this.tails()}`,
      { everyMs: 50 },
    );
  }

  async #knows(from: NetworkNode, to: NetworkNode, family: 4 | 6): Promise<void> {
    const inTheDaemon = this.netConf.Backend.Type === 'udp';
    await eventually(
      async () =>
        inTheDaemon
          ? (await echo(from.podNetns, podAddress(to, family), 84, IMPATIENCE_S)) === 'answered'
          : (await routesOf(from.netns, family)).includes(subnetOf(to, family)),
      () => `node ${from.name} has a way to the pods of ${to.name}, IPv${family}\n${this.tails()}`,
      { everyMs: 20 },
    );
  }

  /** The last lines of all logs. */
  tails(): string {
    return [...this.#daemons.values()].map((daemon) => daemon.tail()).join('\n');
  }

  // --- what a daemon leaves

  async snapshot(name: string): Promise<Snapshot> {
    return await takeSnapshot({ netns: this.node(name).netns, subnetFile: this.#subnetFile(name), node: await this.object(name) });
  }

  /** Waits until a snapshot of a node is as expected, and says what is not. @param read what of it is compared */
  async looks(name: string, expected: Snapshot, read: (snapshot: Snapshot) => Snapshot = (snapshot) => snapshot): Promise<void> {
    let found: readonly string[] = [];
    await eventually(
      async () => {
        found = differences(expected, read(await this.snapshot(name)));
        return found.length === 0;
      },
      () => `node ${name} looks under ${this.daemon(name).kind} as expected:\n${found.join('\n')}\n${this.tails()}`,
      { withinMs: 5_000, everyMs: 50 },
    );
  }

  /** What the subnet file says, by the names without `FLANNEL_`. */
  #subnetEnv(name: string): Readonly<Record<string, string | undefined>> {
    const lines = readFileSync(this.#subnetFile(name), 'utf8').matchAll(/^FLANNEL_(\w+)=(.*)$/gm);
    return Object.fromEntries([...lines].map(([, key, value]) => [key, value]));
  }

  /** Takes away what a daemon has left, as when the machine was started anew; the pod stays. Annotations stay as well. */
  async wipe(name: string): Promise<void> {
    const { netns } = this.node(name);
    const { stdout } = await run(netns, ['ip', '-j', 'link']);
    const links = (JSON.parse(stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
    await ip(
      netns,
      links.filter((link) => link.startsWith('flannel')).map((link) => `link del ${link}`),
    );
    for (const [family, cluster] of [
      ['-4', CLUSTER_V4],
      ['-6', CLUSTER_V6],
    ] as const) {
      await run(netns, ['ip', family, 'route', 'flush', 'root', cluster, 'dev', 'eth0'], { check: false });
    }
    await run(netns, ['nft', 'flush', 'ruleset']);
    rmSync(this.#subnetFile(name), { force: true });
  }

  // --- pods

  /** What the CNI plugins flannel and bridge would do at the first ADD on the node. */
  async #wire(name: string): Promise<void> {
    if (this.#wired.has(name)) return;
    const { netns, podNetns, pod4, pod6 } = this.node(name);
    const env = this.#subnetEnv(name);
    const mtu = Number(env['MTU']);
    this.#wired.set(name, mtu);
    const gateways = [env['SUBNET'], env['IPV6_SUBNET']].filter((each) => each !== undefined);
    const present = inNamespace(netns, () => existsSync('/proc/sys/net/ipv4/conf/cni0'));
    await ip(netns, [
      ...(present ? [] : [`link add cni0 mtu ${mtu} type bridge`, 'link set cni0 up']),
      ...gateways.map((gateway) => `addr replace ${gateway} dev cni0${gateway.includes(':') ? ' nodad' : ''}`),
      `link add veth0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${podNetns}`,
      'link set veth0 master cni0 up',
    ]);
    await ip(podNetns, [
      'link set lo up',
      'link set eth0 up',
      ...(env['SUBNET'] === undefined ? [] : [`addr add ${pod4}/24 dev eth0`]),
      ...(env['IPV6_SUBNET'] === undefined ? [] : [`addr add ${pod6}/64 dev eth0 nodad`]),
      ...gateways.map((gateway) => `route add default via ${gateway.slice(0, gateway.indexOf('/'))} dev eth0`),
    ]);
  }

  /** Nodes that have a daemon. */
  #running(): readonly NetworkNode[] {
    return this.nodes.filter(({ name }) => this.#daemons.has(name));
  }

  /** Ordered pairs of these. */
  #pairs(): readonly (readonly [NetworkNode, NetworkNode])[] {
    const running = this.#running();
    return running.flatMap((from) => running.filter((to) => to !== from).map((to) => [from, to] as const));
  }

  /** What the pod was given, or the bridge where a daemon has changed that since. */
  async #podMtu({ name, netns }: NetworkNode): Promise<number> {
    const { stdout } = await run(netns, ['ip', '-j', 'link', 'show', 'dev', 'cni0']);
    const [bridge] = JSON.parse(stdout) as { mtu: number }[];
    return Math.min(this.#wired.get(name) ?? 0, bridge?.mtu ?? 0);
  }

  #carriesBetween(from: NetworkNode, to: NetworkNode, family: 4 | 6): number {
    const direct = this.netConf.Backend['DirectRouting'] === true && from.segment === to.segment;
    return direct ? UNDERLAY_MTU : (this.#carries[family] ?? 0);
  }

  /**
   * Sends between every two pods, from every node to every other's pod, and from every pod to the host outside: small packets, the largest
   * that the pods and the backend allow, one byte more, and a few megabytes over TCP. Nothing may be fragmented on the way.
   */
  async expectConnected(): Promise<void> {
    const fragments = this.#fragments();
    const mtus = new Map(await Promise.all(this.#running().map(async (node) => [node.name, await this.#podMtu(node)] as const)));
    const wrong: string[] = [];
    const expect = async (expected: Echo, from: string, to: string, bytes: number): Promise<void> => {
      const result = await echo(from, to, bytes, expected === 'answered' ? PATIENCE_S : IMPATIENCE_S);
      if (result !== expected) wrong.push(`${from} to ${to}, ${bytes} bytes: expected ${expected}, was ${result}`);
    };
    const echoes = this.families.flatMap((family) => {
      const small = HEADERS[family] + 56;
      return [
        ...this.#pairs().flatMap(([from, to]) => {
          const address = podAddress(to, family);
          const largest = Math.min(...[from, to].map((node) => mtus.get(node.name) ?? 0), this.#carriesBetween(from, to, family));
          return [
            expect('answered', from.podNetns, address, small),
            expect('answered', from.podNetns, address, largest),
            expect('too big', from.podNetns, address, largest + 1),
            expect('answered', from.netns, address, small),
          ];
        }),
        ...this.#running().map(({ podNetns }) => expect('answered', podNetns, outsideAddress(family), small)),
      ];
    });
    await Promise.all(echoes);
    assert.deepEqual(wrong, [], this.tails());
    for (const family of this.families) {
      await Promise.all(
        this.#pairs().map(([from, to]) =>
          transfer(from.podNetns, to.podNetns, parseAddress(podAddress(to, family)) ?? assert.fail('no address')),
        ),
      );
    }
    assert.deepEqual(this.#fragments(), fragments, 'fragments were made on the way');
  }

  /** How many fragments each node and the router have made. */
  #fragments(): readonly string[] {
    const namespaces = [ROUTER, ...this.nodes.map(({ netns }) => netns)];
    return namespaces.map((netns) =>
      inNamespace(netns, () => {
        const [names = '', values = ''] = readFileSync('/proc/thread-self/net/snmp', 'utf8')
          .split('\n')
          .filter((line) => line.startsWith('Ip:'));
        const v4 = values.split(' ')[names.split(' ').indexOf('FragCreates')];
        const v6 = /^Ip6FragCreates\s+(\d+)/m.exec(readFileSync('/proc/thread-self/net/snmp6', 'utf8'))?.[1];
        return `${netns}: IPv4 ${v4}, IPv6 ${v6}`;
      }),
    );
  }

  /** A stream of echoes between the pods of two nodes. */
  echoes(from: string, to: string, family: 4 | 6): EchoStream {
    return new EchoStream(this.node(from).podNetns, podAddress(this.node(to), family));
  }

  /** Small echoes between the pod of a node and all others, or one other, both ways. */
  async expectEchoes(name: string, other?: string): Promise<void> {
    const has = (pair: readonly NetworkNode[], wanted: string): boolean => pair.some((node) => node.name === wanted);
    const pairs = this.#pairs().filter((pair) => has(pair, name) && (other === undefined || has(pair, other)));
    for (const family of this.families) {
      const results = await Promise.all(pairs.map(([from, to]) => echo(from.podNetns, podAddress(to, family), 84, PATIENCE_S)));
      assert.deepEqual(new Set(results), new Set(['answered']), this.tails());
    }
  }

  /** Name, index and MAC address of each overlay device: the same ones as long as it has not been made anew. */
  async overlayDevices(name: string): Promise<readonly string[]> {
    const { stdout } = await run(this.node(name).netns, ['ip', '-j', 'link']);
    const links = JSON.parse(stdout) as { ifname: string; ifindex: number; address?: string }[];
    return links.filter(({ ifname }) => ifname.startsWith('flannel')).map((link) => `${link.ifname} ${link.ifindex} ${link.address}`);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#daemons.keys()].map((name) => this.stop(name, 'SIGKILL')));
    for (const name of this.#registered) await this.#api.admin.call({ method: 'DELETE', path: `${NODES}/${name}` });
    // A namespace ends some time after it was deleted; its cables must not be there when the next network is made.
    await run(undefined, ['ip', '-force', '-batch', '-'], { input: teardown(this.nodes).join('\n'), check: false });
    rmSync(this.#state, { recursive: true, force: true });
  }
}

function podAddress({ pod4, pod6 }: NetworkNode, family: 4 | 6): string {
  return family === 4 ? pod4 : pod6;
}

function outsideAddress(family: 4 | 6): string {
  return family === 4 ? OUTSIDE_V4 : OUTSIDE_V6;
}

function subnetOf({ podCIDR, podCIDRv6 }: NetworkNode, family: 4 | 6): string {
  return family === 4 ? podCIDR : podCIDRv6;
}

async function routesOf(netns: string, family: 4 | 6): Promise<readonly string[]> {
  const { stdout } = await run(netns, ['ip', `-${family}`, '-j', 'route']);
  return (JSON.parse(stdout || '[]') as { dst: string }[]).map(({ dst }) => dst);
}

/** Runs lines as `ip -batch` in a namespace. */
async function ip(netns: string | undefined, lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run(netns, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
