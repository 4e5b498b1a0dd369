/** Our CNI configuration with the real plugins bridge, host-local and portmap, and pods on the bridge that we have made. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Poller } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { inNamespace, run, spawnIn } from '../../../src/lab/namespaces.ts';
import { PodBridge } from '../../../src/network/cni/bridge.ts';
import { type Conflist, conflist, conflistBridge } from '../../../src/network/cni/conflist.ts';
import { parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';
import { CniRuntime } from './cni-runtime.ts';

const NODE = 'cni-node';
const [A, B] = ['cni-a', 'cni-b'];
const SUBNETS = ['10.244.1.0/24', 'fd00:10:244:1::/64'].map(prefix);
const NETWORKS = ['10.244.0.0/16', 'fd00:10:244::/48'].map(prefix);
/** What fits into vxlan over IPv6 on Ethernet. */
const MTU = 1430;
/** Goes on when a client that has its answer resets the connection. */
const SERVER =
  "require('node:net').createServer((socket) => socket.on('error', () => {}).end(socket.remoteAddress)).listen(80, '::', () => console.log('up'))";
const CLIENT =
  "const s = require('node:net').connect(Number(process.argv[2]), process.argv[1]); s.setTimeout(1000, () => process.exit(1));" +
  "s.on('error', () => process.exit(1)).on('end', () => process.exit(0)).resume()";

function prefix(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(text);
}

describe('pods attached by the CNI plugins', function () {
  this.timeout(60_000);
  const list = conflist({ mtu: MTU, subnets: SUBNETS, networks: NETWORKS, ipMasq: true, bridge: 'cni0' });
  let poller: Poller;
  let state: string;
  let runtime: CniRuntime;
  let repairs: string[];
  const open: { close(): void }[] = [];

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    poller = new Poller();
    repairs = [];
    state = mkdtempSync('/run/cni-');
    runtime = new CniRuntime(NODE, state);
    for (const name of [NODE, A, B]) {
      await run(undefined, ['ip', 'netns', 'add', name]);
      await run(name, ['ip', 'link', 'set', 'lo', 'up']);
    }
  });
  afterEach(async () => {
    for (const each of open.splice(0)) each.close();
    poller.close();
    for (const name of [A, B, NODE]) await run(undefined, ['ip', 'netns', 'del', name], { check: false });
    rmSync(state, { recursive: true, force: true });
  });

  function start(of: Conflist = list): PodBridge {
    const { gateway, ...conf } = conflistBridge(of) ?? assert.fail('no bridge');
    const bridge = inNamespace(NODE, () =>
      PodBridge.start({
        ...conf,
        poller,
        subnets: gateway ? SUBNETS : [],
        onRepair: (what) => repairs.push(what),
        onProblem: () => {},
      }),
    );
    open.push(bridge);
    return bridge;
  }

  async function json<T>(name: string, ...parts: string[]): Promise<T> {
    return JSON.parse((await run(name, ['ip', '-d', '-j', ...parts])).stdout) as T;
  }

  interface IpLink {
    readonly ifindex: number;
    readonly ifname: string;
    readonly address: string;
    readonly mtu: number;
    readonly master?: string;
    readonly linkinfo: {
      readonly info_data?: { readonly nf_call_iptables: number; readonly nf_call_ip6tables: number };
      readonly info_slave_data?: { readonly hairpin: boolean };
    };
    readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[];
  }

  async function link(name: string, device: string): Promise<IpLink> {
    const [found] = await json<IpLink[]>(name, 'address', 'show', 'dev', device);
    return found ?? assert.fail(`no ${device}`);
  }

  function globalAddresses({ addr_info: addresses }: IpLink): string[] {
    return addresses.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  }

  async function ports(): Promise<readonly IpLink[]> {
    return (await json<IpLink[]>(NODE, 'address')).filter(({ master }) => master === 'cni0');
  }

  /** From a pod or the node to an address. */
  async function pings(from: string, address: string): Promise<boolean> {
    return (await run(from, ['ping', '-c', '1', '-W', '1', address], { check: false })).status === 0;
  }

  async function connects(from: string, address: string, port: number): Promise<boolean> {
    return (await run(from, [process.execPath, '-e', CLIENT, address, `${port}`], { check: false })).status === 0;
  }

  /** A server on port 80 of the pod. */
  async function serve(pod: string): Promise<void> {
    const server = spawnIn(pod, [process.execPath, '-e', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
    open.push({ close: () => server.kill('SIGKILL') });
    let said = '';
    server.stdout?.on('data', (text: Buffer) => (said += text.toString()));
    await eventually(() => said.includes('up'), 'the server listens');
  }

  async function flags(): Promise<readonly [number | undefined, number | undefined]> {
    const { info_data: data } = (await link(NODE, 'cni0')).linkinfo;
    return [data?.nf_call_iptables, data?.nf_call_ip6tables];
  }

  it('have addresses of the subnets, the MTU of the overlay, and routes through the bridge, which is left as it was', async () => {
    start();
    const bridge = await link(NODE, 'cni0');
    const result = await runtime.add(list, A);
    assert.deepEqual(
      result.ips.map(({ address, gateway }) => `${address} by ${gateway}`),
      ['10.244.1.2/24 by 10.244.1.1', 'fd00:10:244:1::2/64 by fd00:10:244:1::1'],
    );
    const pod = await link(A, 'eth0');
    assert.deepEqual(globalAddresses(pod), ['10.244.1.2/24', 'fd00:10:244:1::2/64']);
    assert.equal(pod.mtu, MTU);
    interface Route {
      readonly dst: string;
      readonly gateway?: string;
    }
    const routes = [...(await json<Route[]>(A, 'route')), ...(await json<Route[]>(A, '-6', 'route'))];
    assert.deepEqual(routes.flatMap(({ dst, gateway }) => (gateway === undefined ? [] : [`${dst} by ${gateway}`])).toSorted(), [
      '10.244.0.0/16 by 10.244.1.1',
      'default by 10.244.1.1',
      'default by fd00:10:244:1::1',
      'fd00:10:244::/48 by fd00:10:244:1::1',
    ]);

    const after = await link(NODE, 'cni0');
    assert.deepEqual([after.ifindex, after.address, after.mtu], [bridge.ifindex, bridge.address, MTU]);
    assert.deepEqual(globalAddresses(after), ['10.244.1.1/24', 'fd00:10:244:1::1/64']);
    assert.deepEqual(await flags(), [1, 1]);
    assert.deepEqual(
      (await ports()).map(({ mtu, linkinfo }) => [mtu, linkinfo.info_slave_data?.hairpin]),
      [[MTU, true]],
    );
    assert.deepEqual(repairs, []);
  });

  it('reach each other and their node over both families, past the hooks of netfilter', async () => {
    start();
    await runtime.add(list, A);
    const { ips } = await runtime.add(list, B);
    assert.deepEqual(
      ips.map(({ address }) => address),
      ['10.244.1.3/24', 'fd00:10:244:1::3/64'],
    );
    await run(NODE, ['nft', '-f', '-'], {
      input: [
        'add table inet seen',
        'add chain inet seen forward { type filter hook forward priority 0; }',
        'add rule inet seen forward ip saddr 10.244.1.2 ip daddr 10.244.1.3 counter',
        'add rule inet seen forward ip6 saddr fd00:10:244:1::2 ip6 daddr fd00:10:244:1::3 counter',
      ].join('\n'),
    });
    for (const [from, to] of [
      [A, '10.244.1.3'],
      [A, 'fd00:10:244:1::3'],
      [A, '10.244.1.1'],
      [A, 'fd00:10:244:1::1'],
      [NODE, '10.244.1.2'],
      [NODE, 'fd00:10:244:1::2'],
    ] as const) {
      await eventually(() => pings(from, to), `${from} reaches ${to}`);
    }
    const { stdout } = await run(NODE, ['nft', 'list', 'table', 'inet', 'seen']);
    const counts = [...stdout.matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets));
    assert.equal(counts.length, 2, stdout);
    for (const packets of counts) assert.ok(packets > 0, stdout);
  });

  for (const [family, gateway] of [
    ['IPv4', '10.244.1.1'],
    ['IPv6', 'fd00:10:244:1::1'],
  ] as const) {
    it(`reach themselves by a port of their node over ${family}: the ports of the bridge are in hairpin mode`, async () => {
      start();
      await runtime.add(list, A, { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] });
      await runtime.add(list, B);
      await serve(A);
      await eventually(() => connects(B, gateway, 8080), 'another pod reaches the port');
      await eventually(() => connects(A, gateway, 8080), 'the pod reaches itself');
      const [port] = await ports();
      await run(NODE, ['ip', 'link', 'set', port?.ifname ?? '', 'type', 'bridge_slave', 'hairpin', 'off']);
      assert.equal(await connects(A, gateway, 8080), false);
    });
  }

  it('reach each other and themselves again when the bridge was deleted', async () => {
    start();
    const { address } = await link(NODE, 'cni0');
    await runtime.add(list, A, { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] });
    await runtime.add(list, B);
    await serve(A);
    await eventually(() => connects(A, '10.244.1.1', 8080), 'the pod reaches itself');
    const before = (await ports()).map(({ ifname }) => ifname);
    assert.equal(before.length, 2);
    await run(NODE, ['ip', 'link', 'del', 'cni0']);
    await eventually(async () => (await ports()).length === 2, 'both are attached again');
    await eventually(async () => (await ports()).every(({ linkinfo }) => linkinfo.info_slave_data?.hairpin === true), 'in hairpin mode');
    assert.deepEqual(
      (await ports()).map(({ ifname }) => ifname),
      before,
    );
    assert.equal((await link(NODE, 'cni0')).address, address);
    assert.deepEqual(await flags(), [1, 1]);
    await eventually(() => pings(B, '10.244.1.2'), 'pods reach each other over IPv4');
    await eventually(() => pings(B, 'fd00:10:244:1::2'), 'pods reach each other over IPv6');
    await eventually(() => pings(B, '10.244.1.1'), 'a pod reaches the node');
    await eventually(() => connects(A, '10.244.1.1', 8080), 'a pod reaches itself');
    // And new ones come beside them.
    await runtime.del(list, B);
    await runtime.add(list, B);
    await eventually(() => pings(B, '10.244.1.2'), 'a new pod reaches an old one');
  });

  it('leave nothing behind', async () => {
    start();
    const records = join(state, 'cni/networks/cbr0');
    await runtime.add(list, A, { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] });
    // Where flannel’s plugin has them too, by the name of the network.
    for (const file of ['10.244.1.2', 'fd00:10:244:1::2']) assert.ok(existsSync(join(records, file)), file);
    assert.match((await run(NODE, ['iptables-save', '-t', 'nat'])).stdout, /--to-destination 10\.244\.1\.2:80/);
    await runtime.del(list, A);
    for (const file of ['10.244.1.2', 'fd00:10:244:1::2']) assert.ok(!existsSync(join(records, file)), file);
    assert.deepEqual(await ports(), []);
    assert.doesNotMatch((await run(NODE, ['iptables-save', '-t', 'nat'])).stdout, /10\.244\.1\.2/);
    const { address, mtu } = await link(NODE, 'cni0');
    assert.deepEqual([address, mtu], ['0a:58:0a:f4:01:01', MTU]);
    assert.deepEqual(repairs, []);
  });

  it('that are there before us stay attached, and their bridge what it is', async () => {
    await runtime.add(list, A);
    const before = await link(NODE, 'cni0');
    assert.deepEqual(await flags(), [0, 0]);
    const bridge = start();
    const after = await link(NODE, 'cni0');
    assert.deepEqual([after.ifindex, after.address, globalAddresses(after)], [before.ifindex, before.address, globalAddresses(before)]);
    assert.deepEqual(await flags(), [1, 1]);
    await runtime.add(list, B);
    assert.equal((await link(NODE, 'cni0')).address, before.address);
    await eventually(() => pings(B, '10.244.1.2'), 'pods reach each other');
    assert.deepEqual([bridge.problems, repairs], [[], []]);
  });

  it('are refused by the plugin where the bridge has an address of an earlier subnet first, which is what we say', async () => {
    await run(NODE, ['ip', 'link', 'add', 'cni0', 'type', 'bridge']);
    await run(NODE, ['ip', 'address', 'add', '10.244.9.1/24', 'dev', 'cni0']);
    const bridge = start();
    await assert.rejects(runtime.add(list, A), /already has an IP address different from 10\.244\.1\.1\/24/);
    await runtime.del(list, A);
    const [problem = ''] = bridge.problems;
    const command = /: (ip address del .*)$/.exec(problem)?.[1] ?? assert.fail(problem);
    inNamespace(NODE, () => execFileSync('sh', ['-c', command]));
    await runtime.add(list, A);
    await eventually(() => bridge.problems.length === 0, 'no problem');
  });

  it('are masqueraded by the bridge where the network daemon does not', async () => {
    const own = conflist({ mtu: MTU, subnets: SUBNETS, networks: NETWORKS, ipMasq: false, bridge: 'cni0' });
    start(own);
    await runtime.add(own, A);
    assert.match((await run(NODE, ['iptables-save', '-t', 'nat'])).stdout, /MASQUERADE/);
    await runtime.del(own, A);
    await runtime.add(list, A);
    assert.doesNotMatch((await run(NODE, ['iptables-save', '-t', 'nat'])).stdout, /-j MASQUERADE/);
  });

  it('are on the bridge that the template names', async () => {
    const template = {
      name: 'pods',
      cniVersion: '0.4.0',
      plugins: [{ type: 'flannel', delegate: { bridge: 'mynet0', mtu: 1400, isDefaultGateway: true } }],
    };
    const own = conflist({ mtu: MTU, subnets: SUBNETS, networks: NETWORKS, ipMasq: true, bridge: 'cni0', template });
    start(own);
    const before = await link(NODE, 'mynet0');
    await runtime.add(own, A);
    assert.equal((await link(NODE, 'mynet0')).ifindex, before.ifindex);
    assert.equal((await link(A, 'eth0')).mtu, 1400);
    assert.ok(existsSync(join(state, 'cni/networks/pods/10.244.1.2')));
  });
});
