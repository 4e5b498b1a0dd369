import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Lab } from '../../src/lab/lab.ts';
import { networkView } from '../../src/lab/network-view.ts';
import { type Frame, innermost } from '../../src/lab/trace/frames.ts';
import { traceReport } from '../../src/lab/trace/report.ts';
import { parseTraceWish, resolveTrace } from '../../src/lab/trace/request.ts';
import { type Trace, tracePacket } from '../../src/lab/trace/trace.ts';
import type { VerdictRecord } from '../../src/lab/verdicts.ts';
import { plain } from '../../src/output/colour.ts';
import { formatAddress } from '../../src/policy/address.ts';
import { AgentLab } from './support/agent-lab.ts';
import { eventually } from './support/eventually.ts';
import { policyObject } from './support/objects.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** In the middle of a busy test run a packet may take its time. */
const PATIENT = { quietMs: 2000 };

function trace(lab: Lab, text: string, options: { readonly quietMs?: number } = PATIENT): Promise<Trace> {
  return tracePacket(lab, resolveTrace(lab, parseTraceWish(text)), options);
}

/** `node n1 eth0 out`, for each hop. */
function way({ hops }: Trace): string[] {
  return hops.map((hop) => `${hop.place} ${hop.interface} ${hop.direction}`);
}

/** `SOURCE > DESTINATION A > B ttl 63`, and for VXLAN that of what is inside behind it. */
function headers({ source, destination, packet }: Frame): string {
  const ip = packet ?? assert.fail('no IP');
  const own = `${source} > ${destination} ${formatAddress(ip.source)} > ${formatAddress(ip.destination)} ttl ${ip.header.hopLimit}`;
  return ip.vxlan === undefined ? own : `${own} port ${ip.header.destinationPort} vni ${ip.vxlan.vni} [${headers(ip.vxlan.frame)}]`;
}

/** What iproute2 says of a link's hardware address. */
async function macOf(lab: Lab, where: string, link: string): Promise<string> {
  const { stdout } = await lab.exec(where, ['ip', '-j', 'link', 'show', 'dev', link]);
  const [shown] = JSON.parse(stdout) as { readonly address: string }[];
  return shown?.address ?? assert.fail(stdout);
}

/** Packet sockets of a namespace: the lines below the heading. */
async function packetSockets(lab: Lab, where: string): Promise<string[]> {
  const { stdout } = await lab.exec(where, ['cat', '/proc/net/packet']);
  return stdout.trimEnd().split('\n').slice(1);
}

describe('a packet followed through the lab', function () {
  this.timeout(60_000);
  let lab: Lab;
  let descriptors: number;

  before(async () => {
    lab = await Lab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'a', node: 'n1' },
        { namespace: 'dev', name: 'b', node: 'n1' },
        { namespace: 'dev', name: 'c', node: 'n2' },
      ],
    });
    // Pods whose neighbours and conntrack entries are there already, and libraries that are loaded.
    await trace(lab, 'dev/a,dev/c');
  });
  after(() => lab.close());

  beforeEach(() => {
    descriptors = readdirSync('/proc/self/fd').length;
  });
  afterEach(async () => {
    assert.equal(readdirSync('/proc/self/fd').length, descriptors, 'descriptors are left');
    for (const where of ['dev/a', 'node/n1', 'node/n2', 'outside']) assert.deepEqual(await packetSockets(lab, where), [], where);
  });

  for (const [family, text, overlay, from, to, nodes] of [
    [4, 'dev/a,dev/c,80/TCP', 'flannel.1', '10.244.0.2', '10.244.1.2', ['172.18.0.2', '172.18.0.3']],
    [6, 'dev/a,fd00:10:244:1::2,80/UDP', 'flannel-v6.1', 'fd00:10:244::2', 'fd00:10:244:1::2', ['fd00:172:18::2', 'fd00:172:18::3']],
  ] as const) {
    it(`goes over IPv${family} through cni0, the overlay and the underlay to another node, as each device sends it on`, async () => {
      const { hops, arrived, answer, dropped, ...found } = await trace(lab, text);
      const [vethA, vethC] = [lab.pod('dev/a').interface, lab.pod('dev/c').interface];
      const [pod, gateway, vtep1, vtep2, eth1, eth2, bridge2, peer] = await Promise.all([
        macOf(lab, 'dev/a', 'eth0'),
        macOf(lab, 'node/n1', 'cni0'),
        macOf(lab, 'node/n1', overlay),
        macOf(lab, 'node/n2', overlay),
        macOf(lab, 'node/n1', 'eth0'),
        macOf(lab, 'node/n2', 'eth0'),
        macOf(lab, 'node/n2', 'cni0'),
        macOf(lab, 'dev/c', 'eth0'),
      ]);
      // Each node routes it once, before it sends it on: 64, 63, 62. The outer packet is a new one.
      const sent = `${pod} > ${gateway} ${from} > ${to} ttl 64`;
      const inTunnel = `${vtep1} > ${vtep2} ${from} > ${to} ttl 63`;
      const outer = `${eth1} > ${eth2} ${nodes[0]} > ${nodes[1]} ttl 64 port 8472 vni 1 [${inTunnel}]`;
      const delivered = `${bridge2} > ${peer} ${from} > ${to} ttl 62`;
      assert.deepEqual(
        hops.map((hop) => `${hop.place} ${hop.interface} ${hop.direction} ${headers(hop.frame)}`),
        [
          `pod dev/a eth0 out ${sent}`,
          `node n1 ${vethA} in ${sent}`,
          `node n1 cni0 in ${sent}`,
          `node n1 ${overlay} out ${inTunnel}`,
          `node n1 eth0 out ${outer}`,
          `node n2 eth0 in ${outer}`,
          `node n2 ${overlay} in ${inTunnel}`,
          `node n2 cni0 out ${delivered}`,
          `node n2 ${vethC} out ${delivered}`,
          `pod dev/c eth0 in ${delivered}`,
        ],
      );
      for (const [index, { afterUs }] of hops.entries()) assert.ok(afterUs >= (hops[index - 1]?.afterUs ?? 0), 'in the order of time');
      assert.equal(arrived, true);
      assert.ok(answer !== undefined && answer.afterUs > (hops.at(-1)?.afterUs ?? 0));
      assert.deepEqual(dropped, []);
      assert.deepEqual([found.refused, found.obstacle], [undefined, undefined]);
    });
  }

  it('has beside each interface the entries of the kernel that led there', async () => {
    const { hops } = await trace(lab, 'dev/a,dev/c');
    const [vtep2, eth2, peer] = await Promise.all([
      macOf(lab, 'node/n2', 'flannel.1'),
      macOf(lab, 'node/n2', 'eth0'),
      macOf(lab, 'dev/c', 'eth0'),
    ]);
    const gateway = await macOf(lab, 'node/n1', 'cni0');
    // An address that answered a while ago is STALE or asked again, and used meanwhile.
    const settled = hops.map(({ decisions }) => decisions.map((text) => text.replace(/ (?:REACHABLE|STALE|DELAY|PROBE)$/u, '')));
    assert.deepEqual(settled, [
      ['route default via 10.244.0.1 dev eth0', `neigh 10.244.0.1 dev eth0 lladdr ${gateway}`],
      [],
      [`fdb   ${gateway} dev cni0 master cni0 permanent`],
      ['route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink', `neigh 10.244.1.0 dev flannel.1 lladdr ${vtep2} PERMANENT`],
      [
        `fdb   ${vtep2} dev flannel.1 dst 172.18.0.3 self permanent`,
        'route 172.18.0.3 dev eth0 scope link src 172.18.0.2',
        `neigh 172.18.0.3 dev eth0 lladdr ${eth2}`,
      ],
      [],
      ['link  flannel.1 vxlan id 1 local 172.18.0.3 dstport 8472'],
      ['route 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1', `neigh 10.244.1.2 dev cni0 lladdr ${peer}`],
      [`fdb   ${peer} dev ${lab.pod('dev/c').interface} master cni0`],
      [],
    ]);
  });

  it('goes from pod to pod on a node by the bridge alone, and keeps its TTL', async () => {
    const found = await trace(lab, 'dev/a,dev/b,ICMP');
    const [vethA, vethB] = [lab.pod('dev/a').interface, lab.pod('dev/b').interface];
    assert.deepEqual(way(found), ['pod dev/a eth0 out', `node n1 ${vethA} in`, `node n1 ${vethB} out`, 'pod dev/b eth0 in']);
    const [a, b] = await Promise.all([macOf(lab, 'dev/a', 'eth0'), macOf(lab, 'dev/b', 'eth0')]);
    assert.deepEqual(new Set(found.hops.map((hop) => headers(hop.frame))), new Set([`${a} > ${b} 10.244.0.2 > 10.244.0.3 ttl 64`]));
    assert.deepEqual(found.hops[2]?.decisions, [`fdb   ${b} dev ${vethB} master cni0`]);
    assert.equal(found.answer?.packet.header.icmpType, 0);
  });

  it('goes between pods, nodes and the host outside, whatever the protocol', async () => {
    const [vethA, vethC] = [lab.pod('dev/a').interface, lab.pod('dev/c').interface];
    const fromA = ['pod dev/a eth0 out', `node n1 ${vethA} in`, 'node n1 cni0 in'];
    for (const [text, expected] of [
      ['dev/a,outside,81/SCTP', [...fromA, 'node n1 eth0 out', 'outside eth0 in']],
      ['outside,dev/c,ICMP', ['outside eth0 out', 'node n2 eth0 in', 'node n2 cni0 out', `node n2 ${vethC} out`, 'pod dev/c eth0 in']],
      ['dev/a,node/n1,80/UDP', fromA],
      ['dev/a,node/n2', [...fromA, 'node n1 eth0 out', 'node n2 eth0 in']],
      ['node/n2,dev/c,80/SCTP', ['node n2 cni0 out', `node n2 ${vethC} out`, 'pod dev/c eth0 in']],
      [
        'fd00:172:18::2,dev/c',
        [
          'node n1 flannel-v6.1 out',
          'node n1 eth0 out',
          'node n2 eth0 in',
          'node n2 flannel-v6.1 in',
          'node n2 cni0 out',
          `node n2 ${vethC} out`,
          'pod dev/c eth0 in',
        ],
      ],
      // The bridge of the other node, which is nobody by name.
      ['dev/a,10.244.1.1,ICMP', [...fromA, 'node n1 flannel.1 out', 'node n1 eth0 out', 'node n2 eth0 in', 'node n2 flannel.1 in']],
    ] as const) {
      const found = await trace(lab, text);
      assert.deepEqual(way(found), expected, text);
      assert.equal(found.arrived, true, text);
      assert.notEqual(found.answer, undefined, text);
    }
  });

  it('is told from everything else that goes the same way at the same time', async () => {
    const streams = await Promise.all(
      (['TCP', 'UDP', 'ICMP'] as const).map((protocol) =>
        lab.startStream({ from: 'dev/a', to: 'dev/c', port: protocol === 'ICMP' ? 0 : 80, protocol }, { perSecond: 200 }),
      ),
    );
    try {
      for (const service of ['80/TCP', '80/UDP', 'ICMP'])
        assert.equal((await trace(lab, `dev/a,dev/c,${service}`)).hops.length, 10, service);
    } finally {
      await Promise.all(streams.map((stream) => stream.stop()));
    }
  });

  it('keeps its identity when a Service address is translated', async () => {
    await lab.addService('10.96.0.10', 8080, [{ pod: 'dev/c', port: 81 }]);
    try {
      const { hops, arrived } = await trace(lab, 'dev/a,10.96.0.10,8080/TCP');
      assert.equal(arrived, true);
      const destinations = hops
        .map(({ frame }) => innermost(frame) ?? assert.fail('no IP'))
        .map(({ destination, header }) => `${formatAddress(destination)} ${header.destinationPort}`);
      assert.deepEqual([destinations[0], destinations[3], destinations.at(-1)], ['10.96.0.10 8080', '10.244.1.2 81', '10.244.1.2 81']);
    } finally {
      await lab.addService('10.96.0.10', 8080, []);
    }
  });

  it('ends at a node that lacks a neighbour or a forwarding entry, and it is said which', async () => {
    const vtep2 = await macOf(lab, 'node/n2', 'flannel.1');
    const last = (found: Trace): string | undefined => way(found).at(-1);
    const neighbour = ['10.244.1.0', 'lladdr', vtep2, 'dev', 'flannel.1', 'nud', 'permanent'];
    await lab.exec('node/n1', ['ip', 'neigh', 'del', '10.244.1.0', 'dev', 'flannel.1']);
    try {
      const found = await trace(lab, 'dev/a,dev/c', { quietMs: 100 });
      assert.equal(last(found), 'node n1 cni0 in');
      assert.match(found.obstacle ?? '', /^nobody answers for 10\.244\.1\.0 \(neigh 10\.244\.1\.0 dev flannel\.1 (?:INCOMPLETE|FAILED)\)$/);
      assert.equal(found.arrived, false);
    } finally {
      await lab.exec('node/n1', ['ip', 'neigh', 'replace', ...neighbour]);
    }
    const entry = [vtep2, 'dev', 'flannel.1', 'dst', '172.18.0.3', 'self', 'permanent'];
    await lab.exec('node/n1', ['bridge', 'fdb', 'del', ...entry]);
    try {
      const found = await trace(lab, 'dev/a,dev/c', { quietMs: 300 });
      assert.equal(last(found), 'node n1 flannel.1 out');
      assert.equal(found.obstacle, `flannel.1 has no forwarding entry (fdb) for ${vtep2}`);
    } finally {
      await lab.exec('node/n1', ['bridge', 'fdb', 'add', ...entry]);
    }
    assert.equal((await trace(lab, 'dev/a,dev/c')).arrived, true);
  });

  it('is waited for while the kernel asks for a neighbour', async () => {
    const bridged = async (link: string): Promise<boolean> =>
      (await lab.exec('node/n2', ['bridge', 'link', 'show', 'dev', link])).stdout.includes('state forwarding');
    // Another port that is up. A bridge whose last port goes loses its carrier; when the kernel comes to that, perhaps seconds later on a busy
    // machine, it forgets the neighbours behind the bridge, and throws away what it holds for them.
    await lab.exec('node/n2', ['ip', 'link', 'add', 'other', 'up', 'master', 'cni0', 'type', 'veth', 'peer', 'name', 'other-end']);
    await lab.exec('node/n2', ['ip', 'link', 'set', 'other-end', 'up']);
    try {
      await eventually(() => bridged('other'), 'the other port is up');
      // The pod is off its bridge while it is asked for the first time.
      await lab.exec('node/n2', ['ip', 'link', 'set', lab.pod('dev/c').interface, 'nomaster']);
      // The kernel gives up after three seconds otherwise, and the packet with it.
      await lab.exec('node/n2', ['sysctl', '-qw', 'net.ipv4.neigh.cni0.mcast_solicit=30']);
      await lab.exec('node/n2', ['ip', 'neigh', 'flush', 'dev', 'cni0']);
      const following = trace(lab, 'dev/a,dev/c', { quietMs: 50 });
      await eventually(async () => {
        const { stdout } = await lab.exec('node/n2', ['ip', 'neigh', 'show', '10.244.1.2', 'dev', 'cni0']);
        return stdout.includes('INCOMPLETE');
      }, 'the node asks for the pod');
      await lab.exec('node/n2', ['ip', 'link', 'set', lab.pod('dev/c').interface, 'master', 'cni0']);
      const found = await following;
      assert.equal(found.arrived, true, found.obstacle ?? 'no obstacle');
      assert.ok((found.hops.at(-1)?.afterUs ?? 0) > 100_000, 'it was held');
    } finally {
      await lab.exec('node/n2', ['ip', 'link', 'del', 'other']);
    }
  });

  it('does not leave where the kernel has no route for it', async () => {
    await lab.exec('dev/b', ['ip', 'route', 'del', 'default']);
    try {
      for (const service of ['80/TCP', '80/UDP', 'ICMP']) {
        const found = await trace(lab, `dev/b,dev/c,${service}`);
        assert.deepEqual([found.hops, found.arrived, found.refused], [[], false, 'ENETUNREACH'], service);
        assert.equal(found.obstacle, 'there is no route to 10.244.1.2');
      }
    } finally {
      await lab.exec('dev/b', ['ip', 'route', 'add', 'default', 'via', '10.244.0.1']);
    }
  });

  it('ends where somebody else’s rules drop it, and nobody is blamed', async () => {
    for (const [text, node, hook, match, last] of [
      ['dev/a,dev/c', 'n2', 'inet forward', 'ip daddr 10.244.1.2', 'node n2 flannel.1 in'],
      // Both for an address of the node that has seen them: neither has been taken out of what it came in.
      ['dev/a,10.244.1.1', 'n2', 'inet input', 'udp dport 8472', 'node n2 eth0 in'],
      ['dev/a,node/n1', 'n1', 'bridge input', 'ip daddr 172.18.0.2', `node n1 ${lab.pod('dev/a').interface} in`],
    ] as const) {
      const [family = '', chain = ''] = hook.split(' ');
      const rules = `table ${family} test {\n chain c {\n  type filter hook ${chain} priority 0\n  ${match} drop\n }\n}\n`;
      await lab.exec(`node/${node}`, ['nft', '-f', '-'], { input: rules });
      try {
        const found = await trace(lab, text, { quietMs: 300 });
        assert.equal(way(found).at(-1), last, text);
        assert.deepEqual([found.arrived, found.dropped, found.obstacle, found.answer], [false, 'noTable', undefined, undefined], text);
      } finally {
        await lab.exec(`node/${node}`, ['nft', 'delete', 'table', family, 'test']);
      }
    }
  });

  it('is not sent from an address that its sender does not have, and no socket is left', async () => {
    const request = resolveTrace(lab, parseTraceWish('dev/a,dev/c'));
    const stolen = { ...request, source: lab.addresses('dev/b')[0] ?? assert.fail('no address') };
    await assert.rejects(tracePacket(lab, stolen), { code: 'LAB_SYSCALL', message: /10\.244\.0\.3 in dev\.a: EADDRNOTAVAIL/ });
  });
});

describe('a packet followed past the agents', function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'a', node: 'n1' },
        { namespace: 'dev', name: 'b', node: 'n1' },
        { namespace: 'dev', name: 'c', node: 'n2' },
      ],
      podLabels: { 'dev/a': { app: 'a' }, 'dev/b': { app: 'b' }, 'dev/c': { app: 'c' } },
    });
  });
  after(() => cluster.close());

  const selecting = (app: string, rules: object) => policyObject('dev', 'p', { podSelector: { matchLabels: { app } }, ...rules });
  const chains = ({ dropped }: Trace): readonly string[] | string => (dropped === 'noTable' ? dropped : dropped.map(({ chain }) => chain));

  it('arrives, and shows the rule that let it through, on the node that decided', async () => {
    const policy = selecting('c', { ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }] }] });
    await cluster.apply(policy);
    const { hops, arrived, dropped } = await trace(cluster.lab, 'dev/a,dev/c,80/TCP');
    assert.deepEqual([arrived, dropped], [true, []]);
    const judged = hops.flatMap(({ place, interface: name, decisions }) =>
      decisions.filter((text) => text.startsWith('rule')).map((text) => `${place} ${name}: ${text}`),
    );
    assert.deepEqual(judged, ['node n2 cni0: rule  policy/dev/p/ingress accept ingress[0].from[0]']);
    // The route was found before the hook, the neighbour is asked for after it.
    assert.deepEqual(
      hops.find((hop) => hop.place === 'node n2' && hop.interface === 'cni0')?.decisions.map((text) => text.slice(0, 5)),
      ['route', 'rule ', 'neigh'],
    );
    await cluster.remove(policy);
  });

  it('ends at the other node where its ingress policy drops it', async () => {
    const policy = selecting('c', { ingress: [{ ports: [{ port: 80 }] }] });
    await cluster.apply(policy);
    for (const text of ['dev/a,dev/c,81/TCP', 'dev/a,fd00:10:244:1::2,81/UDP']) {
      const found = await trace(cluster.lab, text, { quietMs: 300 });
      const overlay = text.includes(':') ? 'flannel-v6.1' : 'flannel.1';
      assert.equal(way(found).at(-1), `node n2 ${overlay} in`);
      assert.deepEqual([found.arrived, found.answer, chains(found)], [false, undefined, ['ingress/dev/c']]);
      assert.equal(
        [...traceReport(found, plain, 200)].at(-1),
        `It was last seen on node n2, ${overlay} in; there the table inet sluice dropped it, in the chain ingress/dev/c.`,
      );
    }
    await cluster.remove(policy);
  });

  it('ends at its own node where an egress policy drops it, to another node and on the bridge', async () => {
    const policy = selecting('a', { policyTypes: ['Egress'] });
    await cluster.apply(policy);
    for (const [text, last] of [
      ['dev/a,dev/c', 'node n1 cni0 in'],
      ['dev/a,dev/b', `node n1 ${cluster.lab.pod('dev/a').interface} in`],
      ['dev/a,outside,ICMP', 'node n1 cni0 in'],
    ] as const) {
      const found = await trace(cluster.lab, text, { quietMs: 300 });
      assert.equal(way(found).at(-1), last, text);
      assert.deepEqual([found.arrived, chains(found)], [false, ['egress/dev/a']], text);
    }
    await cluster.remove(policy);
    assert.equal((await trace(cluster.lab, 'dev/a,dev/b')).arrived, true);
  });
});

describe('the network of a lab, shown', function () {
  this.timeout(60_000);

  it('has what ip and bridge say, in their words', async () => {
    const lab = await Lab.create({ nodes: [{ name: 'n1' }, { name: 'n2' }, { name: 'n3' }] });
    try {
      const lines = [...networkView(lab, plain)];
      for (const line of lines) assert.ok(line.length <= 80, line);
      const blocks = new Map<string, string[]>();
      let node = '';
      for (const line of lines.slice(1)) {
        if (!line.startsWith(' ')) node = line;
        else blocks.set(node, [...(blocks.get(node) ?? []), line]);
      }
      assert.deepEqual([...blocks.keys()], ['n1', 'n2', 'n3']);
      for (const [name, block] of blocks) {
        const words = async (...argv: readonly string[]): Promise<string[]> => {
          const { stdout } = await lab.exec(`node/${name}`, argv);
          return stdout.split('\n').map((line) => line.replace(' pref medium', '').trim());
        };
        const said = new Set<string>();
        for (const device of ['flannel.1', 'flannel-v6.1']) {
          for (const line of [
            ...(await words('ip', 'route', 'show', 'dev', device)),
            ...(await words('ip', '-6', 'route', 'show', 'dev', device)),
            ...(await words('ip', 'neigh', 'show', 'dev', device)),
            ...(await words('bridge', 'fdb', 'show', 'dev', device)),
          ])
            said.add(line);
        }
        // Two peers, two families; a route, a neighbour and a forwarding entry each.
        const ways = block.filter((line) => line.startsWith('    ')).map((line) => line.replace(/^ {4}n\d /u, '').trim());
        assert.equal(ways.length, 12, block.join('\n'));
        for (const line of ways) assert.ok(said.has(line), `${line}\nis not in\n${[...said].join('\n')}`);
        const links = JSON.parse((await words('ip', '-j', 'link')).join('')) as { readonly ifname: string; readonly mtu: number }[];
        const devices = block.filter((line) => /^ {2}\S/u.test(line)).map((line) => line.trim().split(/\s+/u).slice(0, 3).join(' '));
        assert.deepEqual(
          devices,
          ['eth0', 'cni0', 'flannel.1', 'flannel-v6.1'].map(
            (device) => `${device} mtu ${links.find(({ ifname }) => ifname === device)?.mtu}`,
          ),
        );
      }
    } finally {
      await lab.close();
    }
  });

  it('shows the first few of many nodes, and counts the rest', async () => {
    const lab = await Lab.create({ nodes: Array.from({ length: 6 }, (_, index) => ({ name: `n${index + 1}` })) });
    try {
      const lines = [...networkView(lab, plain)];
      assert.deepEqual(
        lines.slice(1).filter((line) => !line.startsWith(' ')),
        ['n1', 'n2', 'n3', 'and 3 more nodes'],
      );
      assert.ok(lines.includes('    and 4 more nodes: 4 routes, 4 neighbours, 4 forwarding entries'));
    } finally {
      await lab.close();
    }
  });
});

describe('sluice lab run --trace', function () {
  this.timeout(60_000);
  const pod = (name: string, node: string): string =>
    `apiVersion: v1\nkind: Pod\nmetadata: { namespace: dev, name: ${name} }\nspec: { nodeName: ${node} }\n`;
  const FILES = {
    'scenario.yaml': 'title: Two pods\nprobe: { protocols: [TCP], ports: [80], families: [IPv4] }\n',
    'cluster/pods.yaml': `${pod('a', 'n1')}---\n${pod('b', 'n2')}`,
    '1-a-pod-goes/delete.yaml': '- Pod dev/b\n',
  };
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    for (const [path, text] of Object.entries(FILES)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** Outside of this test's sandbox in the program's eyes: it makes one of its own. */
  const start = (...args: readonly string[]): ChildProcess => {
    const { SLUICE_SANDBOX: _, ...env } = process.env;
    return spawn(process.execPath, [join(ROOT, 'bin/sluice.js'), 'lab', 'run', directory, '--no-agents', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  };
  const run = async (...args: readonly string[]) => {
    const child = start(...args);
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const)
      child[stream]?.setEncoding('utf8').on('data', (text: string) => {
        output[stream] += text;
      });
    const status = await new Promise<number | null>((done) => {
      child.once('close', done);
    });
    return { status, ...output };
  };

  it('shows the network before the first step, and the packet after the last one, before the count', async () => {
    rmSync(join(directory, '1-a-pod-goes'), { recursive: true });
    const { status, stdout, stderr } = await run('--trace');
    assert.equal(status, 0, stderr);
    const places = [
      'Two pods\n',
      '\nNetwork, as ',
      '\nn1\n',
      '\nRow reaches',
      '\ncluster\n',
      '\nOne packet from dev/a to dev/b: TCP',
      '\nIt arrived after',
      '\n6 probes, 6 as expected\n',
    ];
    const found = places.map((text) => stdout.indexOf(text));
    assert.ok(
      found.every((at, index) => at >= 0 && at > (found[index - 1] ?? -1)),
      `${found.join(' ')}\n${stdout}`,
    );
    for (const line of stdout
      .trimEnd()
      .split('\n')
      .filter((each) => !each.startsWith('Row')))
      assert.ok(line.length <= 80, line);
  });

  it('says that a pod is gone by then, and the status is that of the probes', async () => {
    const { status, stdout } = await run('--trace', 'dev/a,dev/b');
    assert.equal(status, 0);
    assert.match(stdout, /\n--trace: there is no pod dev\/b\n/);
  });

  it('leaves standard output to the records with -o json', async () => {
    const { status, stdout, stderr } = await run('-o', 'json', '--trace', 'dev/a,outside');
    assert.equal(status, 0);
    assert.ok((JSON.parse(stdout) as VerdictRecord[]).length > 0);
    assert.match(stderr, /One packet from dev\/a to outside/);
    assert.doesNotMatch(stderr, /Network, as/);
  });

  it('refuses what names nobody before the first step, with status 2', async () => {
    const unknown = await run('--trace', 'dev/a,dev/x');
    assert.equal(unknown.status, 2);
    assert.match(unknown.stderr, /--trace: there is no dev\/x in the lab\nThere are: dev\/a, dev\/b, node\/n1, node\/n2, outside\./);
    assert.doesNotMatch(unknown.stdout, /cluster/);
    const malformed = await run('--trace', 'dev/a');
    assert.equal(malformed.status, 2);
    assert.match(malformed.stderr, /names no packet to follow\nWrite FROM,TO/);
    assert.equal(malformed.stdout, '');
  });

  it('ends at once when it is interrupted while it follows a packet', async () => {
    rmSync(join(directory, '1-a-pod-goes'), { recursive: true });
    // Nobody has it: the node asks for it for three seconds, and the trace waits.
    const child = start('--trace', 'dev/a,10.244.1.99');
    let printed = '';
    await new Promise<void>((done) => {
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
        if (printed.includes('6 probes')) done();
      });
    });
    const ended = new Promise((done) => {
      child.once('exit', done);
    });
    child.kill('SIGTERM');
    await ended;
    assert.doesNotMatch(printed, /One packet/);
  });
});
