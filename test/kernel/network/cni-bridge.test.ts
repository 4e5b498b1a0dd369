/** The pods' bridge on a live kernel, with `ip` and `bridge` as the second opinion and as those who change it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NETLINK_ROUTE, NetlinkSocket, Poller } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { BridgeFilter } from '../../../src/enforcement/bridge-filter.ts';
import { inNamespace, run } from '../../../src/lab/namespaces.ts';
import { PodBridge, type PodBridgeOptions } from '../../../src/network/cni/bridge.ts';
import { parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import { type Link, watchLinks } from '../../../src/rtnetlink/links.ts';
import { eventually } from '../support/eventually.ts';

/** Meant: a second; a busy machine is given more. */
const HEALED_WITHIN_MS = 3_000;
const NODE = 'cni-node';
const POD = 'cni-pod';
const V4 = prefix('10.244.1.0/24');
const V6 = prefix('fd00:10:244:1::/64');

function prefix(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(text);
}

interface IpLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address: string;
  readonly master?: string;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: { readonly nf_call_iptables?: number; readonly nf_call_ip6tables?: number };
    readonly info_slave_data?: { readonly hairpin?: boolean };
  };
  readonly addr_info: readonly { readonly family: string; readonly local: string; readonly prefixlen: number; readonly scope: string }[];
}

describe('the pods’ bridge', () => {
  let poller: Poller;
  let repairs: string[];
  let problems: string[];
  const open: { close(): void }[] = [];

  before(function () {
    onlyInSandbox(this);
  });
  beforeEach(async () => {
    poller = new Poller();
    repairs = [];
    problems = [];
    for (const name of [NODE, POD]) await run(undefined, ['ip', 'netns', 'add', name]);
  });
  afterEach(async () => {
    for (const each of open.splice(0)) each.close();
    poller.close();
    for (const name of [NODE, POD]) await run(undefined, ['ip', 'netns', 'del', name], { check: false });
  });

  function start(options: Partial<PodBridgeOptions> = {}): PodBridge {
    const bridge = inNamespace(NODE, () =>
      PodBridge.start({
        poller,
        name: 'cni0',
        subnets: [V4, V6],
        mtu: 1430,
        onRepair: (what) => repairs.push(what),
        onProblem: (text) => problems.push(text),
        ...options,
      }),
    );
    open.push(bridge);
    return bridge;
  }

  async function ip(...parts: string[]): Promise<void> {
    await run(NODE, ['ip', ...parts]);
  }

  async function links(): Promise<readonly IpLink[]> {
    const { stdout } = await run(NODE, ['ip', '-d', '-j', 'address']);
    // Without what runs by itself.
    return JSON.parse(stdout, (key, value: unknown) => (key.endsWith('_timer') ? undefined : value)) as IpLink[];
  }

  async function find(name: string): Promise<IpLink | undefined> {
    return (await links()).find(({ ifname }) => ifname === name);
  }

  async function there(name: string): Promise<IpLink> {
    return (await find(name)) ?? assert.fail(`no link ${name}`);
  }

  /** All of the bridge that is watched over, in words. */
  function describeLink({ flags, mtu, linkinfo, addr_info: addresses }: IpLink): readonly string[] {
    const { nf_call_iptables: iptables, nf_call_ip6tables: ip6tables } = linkinfo?.info_data ?? {};
    return [
      flags.includes('UP') ? 'up' : 'down',
      `mtu ${mtu}`,
      `filtering ${iptables} ${ip6tables}`,
      ...addresses.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    ];
  }

  const RIGHT = ['up', 'mtu 1430', 'filtering 1 1', '10.244.1.1/24', 'fd00:10:244:1::1/64'];

  async function right(): Promise<IpLink> {
    let link: IpLink | undefined;
    await eventually(
      async () => {
        link = await find('cni0');
        return link !== undefined && describeLink(link).toSorted().join() === RIGHT.toSorted().join();
      },
      () => `the bridge is ${link === undefined ? 'missing' : describeLink(link).join(', ')}`,
    );
    return link ?? assert.fail();
  }

  /** That a bridge without ports carries nothing the kernel finds out a little later. */
  async function quiet(): Promise<void> {
    await eventually(async () => (await there('cni0')).flags.includes('NO-CARRIER'), 'it is without a carrier');
  }

  /** A veth with one end on the bridge and the other, with addresses, in the pod. */
  async function attach(name: string, { address = '10.244.1.5/24', mtu = 1430, mac = '02:00:00:00:00:05' } = {}): Promise<IpLink> {
    await ip('link', 'add', name, 'mtu', `${mtu}`, 'type', 'veth', 'peer', 'name', 'eth0', 'mtu', `${mtu}`, 'netns', POD);
    await ip('link', 'set', name, 'address', mac, 'master', 'cni0', 'up');
    await run(POD, ['ip', 'address', 'add', address, 'dev', 'eth0']);
    await run(POD, ['ip', 'link', 'set', 'eth0', 'up']);
    return await there(name);
  }

  async function reaches(address: string): Promise<boolean> {
    const { status } = await run(POD, ['ping', '-c', '1', '-W', '1', address], { check: false });
    return status === 0;
  }

  it('is there before the first pod, as the plugin would leave it', async () => {
    const bridge = start();
    const link = await there('cni0');
    assert.deepEqual(describeLink(link).toSorted(), RIGHT.toSorted());
    assert.equal(link.linkinfo?.info_kind, 'bridge');
    // 10.244.1.1
    assert.equal(link.address, '0a:58:0a:f4:01:01');
    assert.deepEqual([bridge.problems, problems, repairs], [[], [], []]);
    const tentative = (await run(NODE, ['ip', '-6', 'address', 'show', 'dev', 'cni0', 'tentative', 'scope', 'global'])).stdout;
    assert.equal(tentative, '');
  });

  it('filters from its first moment on', async () => {
    const seen: Link[] = [];
    inNamespace(NODE, () => {
      const socket = NetlinkSocket.open(NETLINK_ROUTE);
      open.push(socket);
      const stop = watchLinks(poller, socket, (event) => {
        if (event.event === 'link' && event.link.name === 'cni0') seen.push(event.link);
      });
      open.unshift({ close: stop });
    });
    start();
    await eventually(() => seen.some(({ up }) => up), 'the bridge is up');
    for (const { bridge } of seen) assert.deepEqual(bridge, { iptables: true, ip6tables: true });
    assert.equal(seen[0]?.up, false);
  });

  it('of IPv6 alone has an address and a hardware address of its own, always the same', async () => {
    start({ subnets: [V6] });
    const { address } = await there('cni0');
    // sha256 of the 16 bytes of fd00:10:244:1::1
    assert.equal(address, '0a:58:24:a1:6c:01');
    await ip('link', 'del', 'cni0');
    await eventually(async () => (await find('cni0'))?.address === address, 'it is there again');
  });

  it('keeps its hardware address and its MTU whatever ports come and go', async () => {
    start();
    const { address } = await there('cni0');
    // The lowest there is: a bridge that nobody has given an address takes it, and the least MTU of its ports.
    await attach('veth-a', { mac: '02:00:00:00:00:00', mtu: 1400 });
    assert.deepEqual([(await there('cni0')).address, (await there('cni0')).mtu], [address, 1430]);
    await ip('link', 'del', 'veth-a');
    assert.deepEqual([(await there('cni0')).address, (await there('cni0')).mtu], [address, 1430]);
    assert.deepEqual(repairs, []);
  });

  describe('that is there already', () => {
    it('is adopted: index, hardware address, other addresses and ports stay, and what is wrong is put right', async () => {
      await ip('link', 'add', 'cni0', 'address', '02:11:22:33:44:55', 'type', 'bridge');
      await ip('address', 'add', '10.244.1.1/24', 'dev', 'cni0');
      await ip('address', 'add', '10.244.1.77/24', 'dev', 'cni0');
      await attach('veth-a');
      const before = await there('cni0');
      const bridge = start();
      const after = await there('cni0');
      assert.deepEqual([after.ifindex, after.address], [before.ifindex, '02:11:22:33:44:55']);
      assert.deepEqual(describeLink(after).toSorted(), [...RIGHT, '10.244.1.77/24'].toSorted());
      assert.equal((await there('veth-a')).master, 'cni0');
      // Nobody has changed what nobody had looked at.
      assert.deepEqual([bridge.problems, repairs], [[], []]);
      assert.ok(await reaches('10.244.1.1'));
    });

    it('keeps a hardware address that nobody had set, but its ports', async () => {
      await ip('link', 'add', 'cni0', 'type', 'bridge');
      await attach('veth-a', { mac: '02:00:00:00:00:09' });
      assert.equal((await there('cni0')).address, '02:00:00:00:00:09');
      start();
      await ip('link', 'add', 'veth-b', 'address', '02:00:00:00:00:01', 'type', 'veth', 'peer', 'name', 'veth-c');
      await ip('link', 'set', 'veth-b', 'master', 'cni0', 'up');
      await ip('link', 'del', 'veth-a');
      assert.equal((await there('cni0')).address, '02:00:00:00:00:09');
    });

    it('is left alone where it is right', async () => {
      start().close();
      open.splice(0);
      await quiet();
      const before = await links();
      start();
      assert.deepEqual(await links(), before);
      assert.deepEqual([problems, repairs], [[], []]);
    });

    it('and has an address that the plugin refuses to add another to is a problem, with what to do', async () => {
      await ip('link', 'add', 'cni0', 'type', 'bridge');
      await ip('address', 'add', '10.244.9.1/24', 'dev', 'cni0');
      await ip('address', 'add', 'fd00:10:244:9::1/64', 'dev', 'cni0', 'nodad');
      const bridge = start();
      assert.deepEqual(problems, [
        'bridge cni0: it has the address 10.244.9.1/24 before 10.244.1.1/24, and the plugin bridge refuses new pods because of it; ' +
          'where no pod has it as gateway any more: ip address del 10.244.9.1/24 dev cni0',
      ]);
      await ip('address', 'del', '10.244.9.1/24', 'dev', 'cni0');
      await eventually(() => bridge.problems.length === 0, 'no problem');
      assert.equal(problems.length, 1);
    });

    it('but is no bridge is a problem, and is waited for to go', async () => {
      await ip('link', 'add', 'cni0', 'type', 'veth', 'peer', 'name', 'cni1');
      const bridge = start();
      assert.deepEqual(problems, ['cni0 is there and is no bridge, but of kind veth: pods cannot be attached to it']);
      await ip('link', 'del', 'cni0');
      await right();
      await eventually(() => bridge.problems.length === 0, 'no problem');
    });
  });

  describe('is healed within a second', () => {
    for (const [what, command, repair] of [
      ['is deleted', 'link del cni0', 'it was missing, and is there again'],
      ['is set down', 'link set cni0 down', 'it was down, and is up again'],
      ['has another name', 'link set cni0 name cni7', 'it was missing, and is there again'],
      ['has another MTU', 'link set cni0 mtu 1500', 'its MTU was 1500, and is 1430 again'],
      ['loses its IPv4 address', 'address del 10.244.1.1/24 dev cni0', 'its address 10.244.1.1/24 was missing, and is there again'],
      [
        'loses its IPv6 address',
        'address del fd00:10:244:1::1/64 dev cni0',
        'its address fd00:10:244:1::1/64 was missing, and is there again',
      ],
      [
        'is not filtered any more for IPv4',
        'link set cni0 type bridge nf_call_iptables 0',
        'filtering had been switched off, and is on again',
      ],
      [
        'is not filtered any more for IPv6',
        'link set cni0 type bridge nf_call_ip6tables 0',
        'filtering had been switched off, and is on again',
      ],
    ] as const) {
      it(`when it ${what}`, async () => {
        start();
        const { address } = await right();
        await ip(...command.split(' '));
        const changedAt = performance.now();
        const healed = await right();
        assert.ok(performance.now() - changedAt < HEALED_WITHIN_MS, `${performance.now() - changedAt} ms`);
        assert.equal(healed.address, address);
        assert.ok(repairs.includes(`bridge cni0: ${repair}`), repairs.join('\n'));
        assert.deepEqual(problems, []);
      });
    }

    it('as often as it is needed', async () => {
      start();
      for (let turn = 0; turn < 3; turn++) {
        await ip('link', 'del', 'cni0');
        await right();
      }
      assert.equal(repairs.length, 3);
    });

    it('with its ports, in hairpin mode, and what is behind them is reached again', async () => {
      start();
      await right();
      await attach('veth-a');
      await ip('link', 'set', 'veth-a', 'type', 'bridge_slave', 'hairpin', 'on');
      assert.ok(await reaches('10.244.1.1'));
      const before = await there('veth-a');
      await ip('link', 'del', 'cni0');
      await right();
      await eventually(async () => (await there('veth-a')).master === 'cni0', 'attached again');
      await eventually(async () => (await there('veth-a')).linkinfo?.info_slave_data?.hairpin === true, 'in hairpin mode again');
      assert.equal((await there('veth-a')).ifindex, before.ifindex);
      await eventually(() => reaches('10.244.1.1'), 'the pod reaches the node');
      await eventually(
        () => repairs.includes('bridge cni0: veth-a is attached to it again'),
        () => repairs.join('\n'),
      );
    });

    it('with ports that were there before it was adopted, and without hairpin mode where that is said', async () => {
      await ip('link', 'add', 'cni0', 'address', '02:11:22:33:44:55', 'type', 'bridge');
      await attach('veth-a');
      start({ hairpin: false });
      await ip('link', 'del', 'cni0');
      assert.equal((await right()).address, '02:11:22:33:44:55');
      await eventually(async () => (await there('veth-a')).master === 'cni0', 'attached again');
      assert.equal((await there('veth-a')).linkinfo?.info_slave_data?.hairpin, false);
      await eventually(() => reaches('10.244.1.1'), 'the pod reaches the node');
    });

    it('when somebody was quicker to make another one: it has the hardware address that pods know', async () => {
      const bridge = start();
      const { address } = await right();
      await attach('veth-a');
      await eventually(() => reaches('10.244.1.1'), 'the pod reaches the node');
      // While this runs, nothing else in this process does.
      inNamespace(NODE, () => execFileSync('sh', ['-c', 'ip link del cni0 && ip link add cni0 address 02:99:99:99:99:99 type bridge']));
      const healed = await right();
      assert.equal(healed.address, address);
      await eventually(async () => (await there('veth-a')).master === 'cni0', 'attached again');
      await eventually(() => reaches('10.244.1.1'), 'the pod reaches the node');
      assert.deepEqual(bridge.problems, []);
    });

    it('but not with ports that are on purpose somewhere else, or nowhere', async () => {
      start();
      await right();
      await attach('veth-a');
      for (const name of ['veth-b', 'veth-d']) {
        await ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-peer`);
        await ip('link', 'set', name, 'master', 'cni0', 'up');
      }
      await ip('link', 'add', 'other', 'type', 'bridge');
      await ip('link', 'set', 'veth-d', 'nomaster');
      const takenOutAt = performance.now();
      // So long a port that leaves may still be one of a bridge that is being deleted.
      await eventually(() => performance.now() - takenOutAt > 2_500, 'time has passed');
      await ip('link', 'set', 'veth-b', 'master', 'other');
      await ip('link', 'del', 'cni0');
      await eventually(async () => (await there('veth-a')).master === 'cni0', 'attached again');
      assert.equal((await there('veth-b')).master, 'other');
      assert.equal((await there('veth-d')).master, undefined);
    });
  });

  it('is fought over by nobody: policy’s agent and another daemon want the same', async () => {
    start();
    const filterRepairs: string[] = [];
    const filter = inNamespace(NODE, () =>
      BridgeFilter.start({ poller, bridges: ['cni0'], onProblems: () => {}, onRepair: (name) => filterRepairs.push(name) }),
    );
    open.push(filter);
    start();
    const seen: unknown[] = [];
    inNamespace(NODE, () => {
      const socket = NetlinkSocket.open(NETLINK_ROUTE);
      open.push(socket);
      open.unshift({ close: watchLinks(poller, socket, (event) => seen.push(event)) });
    });
    await ip('link', 'set', 'cni0', 'type', 'bridge', 'nf_call_iptables', '0');
    await right();
    await ip('link', 'set', 'cni0', 'down');
    await right();
    // What comes after this, comes after all that they do to each other.
    await eventually(async () => {
      const before = seen.length;
      await ip('link', 'add', 'mark', 'type', 'bridge');
      await ip('link', 'del', 'mark');
      await eventually(() => seen.length >= before + 2, 'the mark is seen');
      return seen.length === before + 2;
    }, 'quiet');
    assert.ok(seen.length < 40, `${seen.length} events`);
    assert.deepEqual(problems, []);
  });

  it('is made without br_netfilter too, and that is said until it is loaded', async () => {
    const sysctlDirectory = mkdtempSync(join(tmpdir(), 'sluice-sysctl-'));
    try {
      const bridge = start({ sysctlDirectory });
      assert.deepEqual(describeLink(await there('cni0')).toSorted(), RIGHT.toSorted());
      assert.deepEqual(problems, [
        'bridge cni0: packets between pods of this node bypass services and policy: br_netfilter is not loaded (modprobe br_netfilter)',
      ]);
      assert.deepEqual(bridge.problems, problems);
      mkdirSync(join(sysctlDirectory, 'net/bridge'), { recursive: true });
      await eventually(() => bridge.problems.length === 0, 'no problem');
      assert.equal(problems.length, 1);
    } finally {
      rmSync(sysctlDirectory, { recursive: true });
    }
  });

  it('has what can be done of it where something cannot, which is said', async () => {
    await run(NODE, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6']);
    const bridge = start();
    assert.deepEqual(describeLink(await there('cni0')), ['up', 'mtu 1430', 'filtering 1 1', '10.244.1.1/24']);
    assert.equal(problems.length, 1);
    assert.match(problems[0] ?? '', /^bridge cni0: adding address fd00:10:244:1::1\/64 of link \d+: .*EACCES/);
    await run(NODE, ['sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/cni0/disable_ipv6']);
    await right();
    await eventually(() => bridge.problems.length === 0, 'no problem');
  });

  it('stays as it is when it is not watched over any more', async () => {
    const bridge = start();
    open.splice(0);
    await quiet();
    const before = await there('cni0');
    bridge.close();
    assert.deepEqual(await there('cni0'), before);
    await ip('link', 'set', 'cni0', 'down');
    const other = start({ name: 'cni1' });
    await eventually(async () => (await find('cni1')) !== undefined, 'another one');
    assert.ok(!(await there('cni0')).flags.includes('UP'));
    assert.deepEqual(other.problems, []);
  });
});
