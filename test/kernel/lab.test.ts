import assert from 'node:assert/strict';
import { Lab, type LabProbe } from '../../src/lab/lab.ts';
import type { ProbeResult } from '../../src/lab/prober/protocol.ts';

const FAMILIES = [4, 6] as const;
const PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ICMP'] as const;

/** Every endpoint to every other, each protocol, both families. */
function allPairs(names: readonly string[], ports: readonly number[] = [80]): LabProbe[] {
  return names.flatMap((from) =>
    names
      .filter((to) => to !== from)
      .flatMap((to) =>
        PROTOCOLS.flatMap((protocol) =>
          FAMILIES.flatMap((family) => ports.map((port) => ({ from, to, port: protocol === 'ICMP' ? 0 : port, protocol, family }))),
        ),
      ),
  );
}

function describeProbe(probe: LabProbe | undefined): string {
  return `${probe?.from} -> ${probe?.to} ${probe?.protocol}/${probe?.port} IPv${probe?.family}`;
}

function differing(probes: readonly LabProbe[], results: readonly ProbeResult[], measured: ProbeResult['measured']): string[] {
  return results.flatMap((result, index) =>
    result.measured === measured
      ? []
      : [`${describeProbe(probes[index])}: ${result.measured} (${result.detail ?? result.answeredBy ?? ''})`],
  );
}

/** Drops by address on the forward hook of a node, bridged packets included. */
function forwardRules(rules: readonly string[]): string {
  return `table inet test {
  chain forward { type filter hook forward priority 0; policy accept;
    ${rules.join('\n    ')}
  }
}
`;
}

/** Counts packets that a rule on a hook matches. */
function counterRules(hook: string, match: string): string {
  return `table inet seen {
  counter matched { }
  chain ${hook} { type filter hook ${hook} priority 0; policy accept;
    ${match} counter name matched
  }
}
`;
}

describe('Lab', function () {
  this.timeout(60_000);
  let lab: Lab;
  const everyone = ['dev/a', 'dev/b', 'prod/c', 'prod/host', 'node/n1', 'node/n2', 'outside'];

  beforeEach(async () => {
    lab = await Lab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'a', node: 'n1' },
        { namespace: 'dev', name: 'b', node: 'n1' },
        { namespace: 'prod', name: 'c', node: 'n2' },
        { namespace: 'prod', name: 'host', node: 'n2', hostNetwork: true, ports: [8080] },
      ],
    });
  });

  afterEach(() => lab.close());

  it('lets everyone reach everyone where no rule forbids it: pods, nodes and the host outside, TCP, UDP, SCTP and ICMP, both families', async () => {
    const probes = allPairs(everyone).map((probe) => (probe.to === 'prod/host' && probe.port === 80 ? { ...probe, port: 8080 } : probe));
    const results = await lab.probe(probes);
    assert.deepEqual(differing(probes, results, 'allowed'), []);
    for (const [index, probe] of probes.entries()) {
      if (probe.protocol !== 'ICMP') assert.equal(results[index]?.answeredBy, probe.to, describeProbe(probe));
    }
  });

  it('shows a pod under its own address everywhere, the host outside included', async () => {
    const { stdout } = await lab.exec('outside', ['ip', 'route', 'get', '10.244.1.2']);
    assert.match(stdout, /via 172\.18\.0\.3 dev eth0/);
    await lab.exec('outside', ['nft', '-f', '-'], {
      input: counterRules('input', 'ip saddr 10.244.1.2 udp dport 80'),
    });
    const [result] = await lab.probe([{ from: 'prod/c', to: 'outside', port: 80, protocol: 'UDP' }]);
    assert.equal(result?.measured, 'allowed');
    assert.match((await lab.exec('outside', ['nft', 'list', 'counter', 'inet', 'seen', 'matched'])).stdout, /packets 1 /);
  });

  it("sends pods' packets between nodes through the overlay, and pods of a node over its bridge", async () => {
    await lab.exec('node/n1', ['nft', '-f', '-'], {
      input: counterRules('output', 'ip daddr 172.18.0.3 udp dport 8472'),
    });
    await lab.probe([{ from: 'dev/a', to: 'dev/b', port: 80, protocol: 'TCP' }]);
    assert.match((await lab.exec('node/n1', ['nft', 'list', 'counters'])).stdout, /packets 0 /);
    await lab.probe([{ from: 'dev/a', to: 'prod/c', port: 80, protocol: 'TCP' }]);
    assert.doesNotMatch((await lab.exec('node/n1', ['nft', 'list', 'counters'])).stdout, /packets 0 /);
  });

  it("has overlay devices, neighbours, forwarding entries and routes in flannel's form", async () => {
    const link = await lab.exec('node/n1', ['ip', '-d', 'link', 'show', 'flannel.1']);
    assert.match(link.stdout, /mtu 1450 .*vxlan id 1 local 172\.18\.0\.2 dev eth0 srcport 0 0 dstport 8472 nolearning/s);
    assert.match((await lab.exec('node/n1', ['ip', 'address', 'show', 'dev', 'flannel.1'])).stdout, /inet 10\.244\.0\.0\/32/);
    assert.match(
      (await lab.exec('node/n1', ['ip', 'route', 'show'])).stdout,
      /^10\.244\.1\.0\/24 via 10\.244\.1\.0 dev flannel\.1 onlink/m,
    );
    const [, mac] = /link\/ether (\S+)/.exec((await lab.exec('node/n2', ['ip', 'link', 'show', 'flannel.1'])).stdout) ?? [];
    assert.ok(
      (await lab.exec('node/n1', ['ip', 'neigh', 'show', 'dev', 'flannel.1'])).stdout.includes(`10.244.1.0 lladdr ${mac} PERMANENT`),
    );
    assert.ok(
      (await lab.exec('node/n1', ['bridge', 'fdb', 'show', 'dev', 'flannel.1'])).stdout.includes(`${mac} dst 172.18.0.3 self permanent`),
    );
    assert.match(
      (await lab.exec('node/n1', ['ip', '-6', 'route', 'show'])).stdout,
      /^fd00:10:244:1::\/64 via fd00:10:244:1:: dev flannel-v6\.1 /m,
    );
    assert.match((await lab.exec('dev/a', ['ip', 'link', 'show', 'eth0'])).stdout, /mtu 1430/);
  });

  it('measures as denied exactly what a rule on the node drops, and says so soon', async () => {
    await lab.exec('node/n1', ['nft', '-f', '-'], {
      input: forwardRules([
        'ip daddr 10.244.0.3 tcp dport 80 drop',
        'ip6 daddr fd00:10:244::3 udp dport 81 drop',
        'ip daddr 10.244.0.3 sctp dport { 80, 81 } drop',
      ]),
    });
    const probes = allPairs(['dev/a', 'dev/b', 'prod/c', 'outside'], [80, 81]).map((probe): LabProbe => {
      const { to, protocol, port, family } = probe;
      const dropped =
        to === 'dev/b' &&
        ((family === 4 && protocol === 'TCP' && port === 80) ||
          (family === 6 && protocol === 'UDP' && port === 81) ||
          (family === 4 && protocol === 'SCTP'));
      return { ...probe, expected: dropped ? 'denied' : 'allowed' };
    });
    const results = await lab.probe(probes);
    for (const measured of ['allowed', 'denied'] as const) {
      const expected = probes.filter((probe) => probe.expected === measured);
      assert.notEqual(expected.length, 0);
      assert.deepEqual(
        differing(
          expected,
          results.filter((_, index) => probes[index]?.expected === measured),
          measured,
        ),
        [],
      );
    }
  });

  it('sees what is allowed although it is expected to be denied, and denied although expected allowed', async () => {
    await lab.exec('node/n1', ['nft', '-f', '-'], { input: forwardRules(['ip daddr 10.244.0.3 drop']) });
    const results = await lab.probe(
      PROTOCOLS.flatMap((protocol) => [
        { from: 'dev/b', to: 'dev/a', port: 80, protocol, expected: 'denied' } as const,
        { from: 'dev/a', to: 'dev/b', port: 80, protocol, expected: 'allowed' } as const,
      ]),
      { deadlineMs: 500 },
    );
    assert.deepEqual(
      results.map((result) => result.measured),
      PROTOCOLS.flatMap(() => ['denied', 'denied']),
      'what dev/a answers to dev/b is dropped too, without connection tracking',
    );
    await lab.exec('node/n1', ['nft', 'delete', 'table', 'inet', 'test']);
    const open = await lab.probe(PROTOCOLS.map((protocol) => ({ from: 'dev/b', to: 'dev/a', port: 80, protocol, expected: 'denied' })));
    assert.deepEqual(
      open.map((result) => result.measured),
      PROTOCOLS.map(() => 'allowed'),
    );
  });

  it('makes SCTP packets that connection tracking takes for valid', async () => {
    await lab.exec('node/n2', ['nft', '-f', '-'], {
      input: forwardRules([
        'meta l4proto sctp ct state invalid drop',
        'meta l4proto sctp ct state established accept',
        'meta l4proto sctp ct state new accept',
        'meta l4proto sctp drop',
      ]),
    });
    const results = await lab.probe(FAMILIES.map((family) => ({ from: 'dev/a', to: 'prod/c', port: 80, protocol: 'SCTP', family })));
    assert.deepEqual(
      results.map((result) => result.answeredBy),
      ['prod/c', 'prod/c'],
    );
    const { stdout } = await lab.exec('node/n2', ['conntrack', '-L', '-p', 'sctp']);
    assert.match(stdout, /src=10\.244\.0\.2 dst=10\.244\.1\.2/);
  });

  it('waits for answers that are slow, and for no longer than it must', async () => {
    // Every packet to dev/b is dropped until the rule goes, half a second later.
    await lab.exec('node/n1', ['nft', '-f', '-'], { input: forwardRules(['ip daddr 10.244.0.3 drop']) });
    const probing = lab.probe(PROTOCOLS.map((protocol) => ({ from: 'dev/a', to: 'dev/b', port: 80, protocol, expected: 'allowed' })));
    await new Promise((resolve) => {
      setTimeout(resolve, 500);
    });
    await lab.exec('node/n1', ['nft', 'delete', 'table', 'inet', 'test']);
    assert.deepEqual(
      (await probing).map((result) => result.measured),
      PROTOCOLS.map(() => 'allowed'),
    );
  });

  it('adds and removes pods while it runs, and gives an address to another pod', async () => {
    const { addresses } = lab.pod('dev/b');
    await lab.removePod('dev/b');
    assert.throws(() => lab.pod('dev/b'), /there is no pod dev\/b/);
    const added = await lab.addPod({ namespace: 'dev', name: 'd', node: 'n1' });
    assert.deepEqual(added.addresses, addresses);
    const probes = allPairs(['dev/a', 'dev/d', 'prod/c', 'outside']);
    const results = await lab.probe(probes);
    assert.deepEqual(differing(probes, results, 'allowed'), []);
    assert.equal(results[probes.findIndex((probe) => probe.to === 'dev/d' && probe.protocol === 'TCP')]?.answeredBy, 'dev/d');
  });

  it('leads a Service address to its backends, from pods, from nodes, and from a backend to itself', async () => {
    for (const [vip, family] of [
      ['10.96.0.10', 4],
      ['fd00:10:96::10', 6],
    ] as const) {
      for (const protocol of ['TCP', 'UDP', 'SCTP'] as const) await lab.addService(vip, 8080, [{ pod: 'dev/b', port: 81 }], protocol);
      const probes = ['dev/a', 'dev/b', 'prod/c', 'node/n2'].flatMap((from) =>
        (['TCP', 'UDP', 'SCTP'] as const).map((protocol) => ({ from, to: vip, port: 8080, protocol, family })),
      );
      const results = await lab.probe(probes);
      assert.deepEqual(
        results.map((result, index) => `${describeProbe(probes[index])} ${result.answeredBy ?? result.detail}`),
        probes.map((probe) => `${describeProbe(probe)} dev/b`),
      );
    }
    await lab.addService('10.96.0.10', 8080, [
      { pod: 'dev/b', port: 80 },
      { pod: 'prod/c', port: 80 },
    ]);
    const results = await lab.probe(
      // One in eight million times they all go to one of the two.
      Array.from({ length: 24 }, () => ({ from: 'dev/a', to: '10.96.0.10', port: 8080, protocol: 'TCP' }) as const),
    );
    assert.deepEqual(new Set(results.map((result) => result.answeredBy)), new Set(['dev/b', 'prod/c']));
  });

  it('says which program failed, where, and what it printed', async () => {
    await assert.rejects(
      lab.exec('node/n1', ['nft', 'list', 'table', 'inet', 'none']),
      /nft list table inet none in n1 ended with status 1: .*No such file/s,
    );
    await assert.rejects(lab.exec('dev/a', ['no-such-program']), /cannot run no-such-program in dev\.a: ENOENT/);
  });

  it('names what contradicts itself in a specification', async () => {
    await assert.rejects(lab.addPod({ namespace: 'dev', name: 'x', node: 'n3' }), /there is no node n3; nodes are n1, n2/);
    await assert.rejects(
      lab.addPod({ namespace: 'dev', name: 'x', node: 'n1', addresses: ['10.244.1.9'] }),
      /10\.244\.1\.9 is in no podCIDR of node n1/,
    );
    await assert.rejects(
      lab.addPod({ namespace: 'dev', name: 'x', node: 'n1', addresses: ['10.244.0.3'] }),
      /10\.244\.0\.3 belongs to another pod/,
    );
  });

  it('can have a second lab beside it, with the same names', async () => {
    const second = await Lab.create({ nodes: [{ name: 'n1' }], pods: [{ namespace: 'dev', name: 'a', node: 'n1', ports: [90] }] });
    try {
      const [result] = await second.probe([{ from: 'node/n1', to: 'dev/a', port: 90, protocol: 'TCP' }]);
      assert.equal(result?.answeredBy, 'dev/a');
    } finally {
      await second.close();
    }
    const [still] = await lab.probe([{ from: 'dev/b', to: 'dev/a', port: 80, protocol: 'TCP' }]);
    assert.equal(still?.answeredBy, 'dev/a');
  });
});
