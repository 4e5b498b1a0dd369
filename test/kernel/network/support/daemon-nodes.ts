/** Nodes on one segment, each with a real `sluice network` process that has its lease from a directory, and pods. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, setSysctls, spawnIn } from '../../../../src/lab/namespaces.ts';
import { eventually } from '../../support/eventually.ts';

const PROGRAM = fileURLToPath(new URL('../../../../bin/sluice.js', import.meta.url));
let count = 0;

interface Daemon {
  readonly child: ChildProcess;
  ended: boolean;
}

export class DaemonNodes {
  readonly names: readonly string[];
  readonly state = mkdtempSync(join(tmpdir(), 'sluice-daemons-'));
  readonly leases = join(this.state, 'leases');
  readonly #id = count++;
  readonly #daemons = new Map<string, Daemon>();

  private constructor(names: readonly string[]) {
    this.names = names;
  }

  /** @param conf what is in net-conf.json, but for the networks */
  static async create(names: readonly string[], conf: object): Promise<DaemonNodes> {
    const nodes = new DaemonNodes(names);
    mkdirSync(nodes.leases);
    nodes.configure(conf);
    const segment = nodes.netns('segment');
    await nodes.ip(undefined, [`netns add ${segment}`, ...names.map((name) => `netns add ${nodes.netns(name)}`)]);
    await nodes.ip('segment', ['link add br0 type bridge', 'link set br0 up']);
    for (const [index, name] of names.entries()) {
      setSysctls(nodes.netns(name), {
        'net.ipv4.ip_forward': '1',
        'net.ipv6.conf.all.forwarding': '1',
        'net.ipv6.conf.default.accept_dad': '0',
      });
      await nodes.ip('segment', [
        `link add port${index} type veth peer name eth0 netns ${nodes.netns(name)}`,
        `link set port${index} master br0 up`,
      ]);
      await nodes.ip(name, [
        'link set lo up',
        'link set eth0 up',
        `addr add 172.18.0.${index + 2}/16 dev eth0`,
        `addr add fd00:172:18::${index + 2}/64 dev eth0 nodad`,
        'route add default via 172.18.255.254',
        '-6 route add default via fd00:172:18::ffff',
      ]);
    }
    return nodes;
  }

  configure(conf: object): void {
    const text = JSON.stringify({ Network: '10.244.0.0/16', EnableNFTables: true, ...conf });
    writeFileSync(join(this.state, 'net-conf.json'), text);
  }

  netns(name: string): string {
    return `daemons${this.#id}-${name}`;
  }

  file(node: string, name: string): string {
    return join(this.state, node, name);
  }

  log(node: string): string {
    return existsSync(this.file(node, 'log')) ? readFileSync(this.file(node, 'log'), 'utf8') : '';
  }

  async ip(where: string | undefined, lines: readonly string[]): Promise<void> {
    const netns = where === undefined ? undefined : this.netns(where);
    for (const line of lines) await run(netns, ['ip', ...line.split(' ')]);
  }

  async exec(where: string, ...argv: readonly string[]): Promise<string> {
    return (await run(this.netns(where), argv)).stdout;
  }

  /** Starts the daemon of a node. */
  start(node: string, args: readonly string[] = []): void {
    mkdirSync(join(this.state, node), { recursive: true });
    const fd = openSync(this.file(node, 'log'), 'a');
    const argv = [
      process.execPath,
      PROGRAM,
      'network',
      `--node=${node}`,
      `--lease-dir=${this.leases}`,
      `--net-config-path=${join(this.state, 'net-conf.json')}`,
      `--subnet-file=${this.file(node, 'subnet.env')}`,
      `--cni-conf-file=${this.file(node, '10-flannel.conflist')}`,
      '--ip-masq',
      '--log-level=debug',
      ...args,
    ];
    const child = spawnIn(this.netns(node), argv, { stdio: ['ignore', fd, fd] });
    closeSync(fd);
    const daemon: Daemon = { child, ended: false };
    child.once('exit', () => {
      daemon.ended = true;
    });
    this.#daemons.set(node, daemon);
  }

  running(node: string): boolean {
    return this.#daemons.get(node)?.ended === false;
  }

  async stop(node: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const daemon = this.#daemons.get(node);
    this.#daemons.delete(node);
    if (daemon === undefined || daemon.ended) return;
    daemon.child.kill(signal);
    await eventually(() => daemon.ended, `the daemon of ${node} ending`);
  }

  /** Waits until the daemon has said `times` times in all that it is ready. */
  async ready(node: string, times = 1): Promise<void> {
    const isReady = (): boolean => (this.log(node).match(/"message":"the network is ready"/g) ?? []).length >= times;
    await eventually(
      () => isReady() || !this.running(node),
      () => `node ${node} being ready; its log ends with\n${this.log(node).slice(-2000)}`,
    );
    assert.ok(isReady(), `the daemon of ${node} has ended:\n${this.log(node).slice(-2000)}`);
  }

  /** A pod on the node's bridge, as the CNI plugins make it; its address is the node's subnet's .N. */
  async addPod(node: string, number = 2): Promise<{ readonly name: string; readonly address: string }> {
    const env = new Map(
      readFileSync(this.file(node, 'subnet.env'), 'utf8')
        .split('\n')
        .map((line) => line.split('=') as [string, string]),
    );
    const [gateway = '', length = ''] = (env.get('FLANNEL_SUBNET') ?? '').split('/');
    const [name, mtu] = [`${node}-pod${number}`, env.get('FLANNEL_MTU')];
    const address = gateway.replace(/\.1$/, `.${number}`);
    await this.ip(undefined, [`netns add ${this.netns(name)}`]);
    await this.ip(node, [
      `link add veth${number} mtu ${mtu} type veth peer name eth0 netns ${this.netns(name)} mtu ${mtu}`,
      `link set veth${number} master cni0 up`,
    ]);
    await this.ip(name, [
      'link set lo up',
      'link set eth0 up',
      `addr add ${address}/${length} dev eth0`,
      `route add default via ${gateway}`,
    ]);
    return { name, address };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#daemons.keys()].map((node) => this.stop(node, 'SIGKILL')));
    const { stdout } = await run(undefined, ['ip', 'netns', 'list']);
    for (const line of stdout.split('\n')) {
      const [name = ''] = line.split(' ');
      if (name.startsWith(`daemons${this.#id}-`)) await run(undefined, ['ip', 'netns', 'del', name]);
    }
    rmSync(this.state, { recursive: true });
  }
}
