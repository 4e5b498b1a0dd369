/** Rows 32 and 46 on packets: which ICMP passes, and what counts as related to a flow. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Address, type Family, familyOf, formatAddress } from '../../../src/policy/address.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject, tcp } from '../support/objects.ts';
import { icmpMessage, TestSocket } from '../support/raw-packets.ts';

const FAMILIES = [4, 6] as const;
const ICMP = { protocols: ['ICMP'] } as const;
const app = (name: string): { readonly podSelector: unknown } => ({ podSelector: { matchLabels: { app: name } } });

describe('ICMP', function () {
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
      // dev/a may speak to everyone and be spoken to by nobody; dev/c the other way round.
      objects: [
        policyObject('dev', 'a', { ...app('a'), policyTypes: ['Ingress'] }),
        policyObject('dev', 'c', { ...app('c'), policyTypes: ['Ingress', 'Egress'], ingress: [{}] }),
      ],
    });
  });

  after(() => cluster.close());

  function address(name: string, family: Family): Address {
    return cluster.lab.addresses(name).find((each) => familyOf(each) === family) ?? assert.fail();
  }

  it('row 32: echo requests are allowed where a rule names no ports, and denied where it names any', async () => {
    await cluster.expectAll([
      ['allowed', { from: 'dev/a', to: 'dev/c', ...ICMP }],
      ['denied', { from: 'dev/c', to: 'dev/a', ...ICMP }],
      ['denied', { from: 'dev/b', to: 'dev/a', ...ICMP }],
    ]);
    await cluster.apply(policyObject('dev', 'b', { ...app('b'), ingress: [{ from: [app('a')] }, { ports: tcp(80) }] }));
    await cluster.expectAll([
      ['allowed', { from: 'dev/a', to: 'dev/b', ...ICMP }],
      ['denied', { from: 'dev/c', to: 'dev/b', ...ICMP }],
      ['denied', { from: 'outside', to: 'dev/b', ...ICMP }],
      ['allowed', { from: 'outside', to: 'dev/b', protocols: ['TCP'] }],
    ]);
    await cluster.remove(policyObject('dev', 'b', {}));
  });

  it('row 32: an ICMP error of an allowed flow passes, though its sender may not send and its receiver may not be spoken to', async () => {
    const probes = FAMILIES.map(
      (family) => ({ from: 'dev/a', to: 'dev/c', port: 9999, protocol: 'UDP', family, expected: 'allowed' }) as const,
    );
    const results = await cluster.lab.probe(probes, { deadlineMs: 3000 });
    assert.deepEqual(
      results.map(({ detail }) => detail),
      ['ECONNREFUSED', 'ECONNREFUSED'],
      'port unreachable',
    );
  });

  it('row 32: a router may say that a packet is too big', async () => {
    for (const family of FAMILIES) {
      const to = address('dev/c', family);
      const host = `${formatAddress(to)}/${family === 4 ? 32 : 128}`;
      await cluster.lab.exec('node/n2', ['ip', 'route', 'add', host, 'dev', 'cni0', 'mtu', '1300']);
      const socket = TestSocket.udp(cluster.lab.netns('dev/a'), address('dev/a', family), 4000);
      await eventually(
        async () => {
          // The path's MTU is what the pod's own kernel then refuses it for.
          try {
            socket.send(new Uint8Array(1380), to, 80);
          } catch {
            // EMSGSIZE, once it knows.
          }
          return (await cluster.lab.exec('dev/a', ['ip', 'route', 'get', formatAddress(to)])).stdout.includes('mtu 1300');
        },
        `the error arrives, IPv${family}`,
        { everyMs: 50 },
      );
      socket.close();
      await cluster.lab.exec('node/n2', ['ip', 'route', 'del', host, 'dev', 'cni0']);
    }
  });

  it('row 32: IPv6 neighbour discovery works for pods that are isolated both ways, from empty caches', async () => {
    const isolated = policyObject('dev', 'isolated', { policyTypes: ['Ingress', 'Egress'] });
    const exception = policyObject('dev', 'exception', { ...app('b'), ingress: [{ from: [app('a')], ports: tcp(80) }] });
    const speaks = policyObject('dev', 'speaks', { ...app('a'), policyTypes: ['Egress'], egress: [{ to: [app('b')], ports: tcp(80) }] });
    await cluster.apply(isolated, exception, speaks);
    const flush = async (): Promise<void> => {
      await Promise.all([
        ...['dev/a', 'dev/b', 'dev/c'].map((pod) => cluster.lab.exec(pod, ['ip', '-6', 'neigh', 'flush', 'dev', 'eth0'])),
        ...['n1', 'n2'].map((node) => cluster.lab.exec(node, ['ip', '-6', 'neigh', 'flush', 'dev', 'cni0'])),
      ]);
    };
    await flush();
    await cluster.expect('allowed', { from: 'dev/a', to: 'dev/b', protocols: ['TCP'], families: [6] });
    await flush();
    await cluster.expect('denied', { from: 'dev/b', to: 'dev/a', protocols: ['TCP', 'UDP', 'ICMP'], families: [6] });
    const { stdout } = await cluster.lab.exec('dev/b', ['ip', '-6', 'neigh', 'show', 'to', formatAddress(address('dev/a', 6))]);
    assert.match(stdout, /lladdr/, 'the neighbour is known although nothing may be sent to it');
    await flush();
    await cluster.expect('allowed', { from: 'node/n1', to: 'dev/a', families: [6] });
    await cluster.remove(isolated, exception, speaks);
  });

  it('row 46: a redirect is not related to the flow that it quotes, as an error is', async () => {
    await cluster.lab.exec('dev/a', ['nft', '-f', '-'], {
      input: `table inet seen {
  counter errors { }
  counter redirects { }
  chain input { type filter hook input priority 0; policy accept;
    icmp type destination-unreachable counter name errors
    icmp type redirect counter name redirects
    icmpv6 type destination-unreachable counter name errors
    icmpv6 type nd-redirect counter name redirects
  }
}
`,
    });
    const seen = async (name: string): Promise<number> => {
      const { stdout } = await cluster.lab.exec('dev/a', ['nft', 'list', 'counter', 'inet', 'seen', name]);
      return Number(/packets (\d+)/.exec(stdout)?.[1]);
    };
    const ends = FAMILIES.map((family) => {
      const [a, b, c] = [address('dev/a', family), address('dev/b', family), address('dev/c', family)];
      const client = TestSocket.udp(cluster.lab.netns('dev/a'), a, 4100);
      // Nobody listens there, and one datagram makes the entry.
      client.send(new Uint8Array(8), c, 9998);
      const flow = { source: a, sourcePort: 4100, destination: c, destinationPort: 9998 };
      const sender = TestSocket.icmp(cluster.lab.netns('dev/b'), family);
      const redirect = (): void => sender.send(icmpMessage({ redirectTo: b }, flow), a);
      const error = (): void => sender.send(icmpMessage('unreachable', flow), a);
      return { client, sender, redirect, error };
    });
    await eventually(async () => (await seen('errors')) === 2, "the errors of dev/c's kernel arrive");
    const dropped = await cluster.dropped('ingress', 'dev/a');
    for (const { redirect, error } of ends) {
      redirect();
      error();
    }
    await eventually(async () => (await seen('errors')) === 4, 'the errors arrive');
    assert.equal(await seen('redirects'), 0);
    assert.equal(await cluster.dropped('ingress', 'dev/a'), dropped + 2);
    // Policy it was that stopped them.
    await cluster.remove(policyObject('dev', 'a', {}));
    for (const { redirect } of ends) redirect();
    await eventually(async () => (await seen('redirects')) === 2, 'redirects arrive at a pod that is not isolated');
    await cluster.apply(policyObject('dev', 'a', { ...app('a'), policyTypes: ['Ingress'] }));
    for (const { client, sender } of ends) for (const socket of [client, sender]) socket.close();
  });

  it('row 46: what a connection helper expects is not related either', async function () {
    const { status } = await cluster.lab.exec('node/n1', ['nft', '-f', '-'], {
      check: false,
      input: `table inet helped {
  ct helper tftp { type "tftp" protocol udp; }
  counter related { }
  chain prerouting { type filter hook prerouting priority -150; policy accept;
    udp dport 69 ct helper set "tftp"
    meta l4proto udp ct state related counter name related
  }
}
`,
    });
    // A kernel without the helper has nothing to expect.
    if (status !== 0) return this.skip();
    await cluster.remove(policyObject('dev', 'c', {}));
    // RFC 1350: a read request; the data come from another port of the server.
    const request = Buffer.from('\0\u0001file\0octet\0');
    const exchange = async (family: Family, port: number): Promise<boolean> => {
      const [a, c] = [address('dev/a', family), address('dev/c', family)];
      const client = TestSocket.udp(cluster.lab.netns('dev/a'), a, port);
      const server = TestSocket.udp(cluster.lab.netns('dev/c'), c, 69);
      const data = TestSocket.udp(cluster.lab.netns('dev/c'), c, 5000);
      client.send(request, c, 69);
      await eventually(() => server.received(), 'the request arrives');
      data.send(request, a, port);
      await sleep(200);
      const arrived = client.received();
      for (const socket of [client, server, data]) socket.close();
      return arrived;
    };
    assert.deepEqual(await Promise.all([exchange(4, 4200), exchange(6, 4200)]), [false, false]);
    assert.match((await cluster.lab.exec('node/n1', ['nft', 'list', 'counter', 'inet', 'helped', 'related'])).stdout, /packets 2 /);
    await cluster.remove(policyObject('dev', 'a', {}));
    assert.deepEqual(await Promise.all([exchange(4, 4201), exchange(6, 4201)]), [true, true], 'policy it was that stopped them');
  });
});
