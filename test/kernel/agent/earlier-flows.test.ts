/**
 * Row 27 for flows that began before the agent's first start. Their entries in connection tracking have no room for a label, so they
 * are cut by one bit of their mark, which leaves the other bits to whoever set them.
 */
import assert from 'node:assert/strict';
import { DEFAULT_CUT_MARK } from '../../../src/enforcement/conntrack/flow-sweep.ts';
import type { LabFlow } from '../../../src/lab/flows.ts';
import { AgentLab } from '../support/agent-lab.ts';
import { lastArrivals } from '../support/arrivals.ts';
import { eventually } from '../support/eventually.ts';
import { policyObject, tcpAndUdp } from '../support/objects.ts';

/** What somebody else uses the mark for. */
const FOREIGN_MARK = 0x4055;
const SERVERS = ['shop/near', 'shop/far'] as const;
const SERVICES = ['10.96.0.1', 'fd00:10:96::1'] as const;

describe("flows older than the agent's first start", function () {
  this.timeout(60_000);
  let cluster: AgentLab;

  before(async () => {
    cluster = await AgentLab.create({
      nodes: [{ name: 'n1' }, { name: 'n2' }],
      pods: [
        { namespace: 'dev', name: 'client', node: 'n1' },
        { namespace: 'shop', name: 'near', node: 'n1' },
        { namespace: 'shop', name: 'far', node: 'n2' },
      ],
      objects: [policyObject('shop', 'some', { ingress: [{ ports: tcpAndUdp(81) }] })],
      agents: false,
    });
    for (const address of SERVICES) {
      for (const protocol of ['TCP', 'UDP'] as const) {
        for (const port of [80, 81]) await cluster.lab.addService(address, port + 8000, [{ pod: 'shop/near', port }], protocol);
      }
    }
    for (const { name } of cluster.lab.nodes) {
      await cluster.lab.exec(`node/${name}`, ['nft', '-f', '-'], {
        input: `table inet foreign { chain forward { type filter hook forward priority -300; ct state new ct mark set ${FOREIGN_MARK}\n}\n}\n`,
      });
    }
  });

  after(() => cluster.close());

  async function openAll(port: number): Promise<readonly LabFlow[]> {
    return Promise.all(
      (['TCP', 'UDP'] as const).flatMap((protocol) => [
        ...SERVERS.flatMap((to) =>
          ([4, 6] as const).map((family) => cluster.lab.openFlow({ from: 'dev/client', to, port, protocol, family })),
        ),
        ...SERVICES.map((to) => cluster.lab.openFlow({ from: 'dev/client', to, port: port + 8000, protocol })),
      ]),
    );
  }

  /** Marks of the flows whose server answers from this port, on the node of each server, as conntrack(8) shows them. */
  async function marks(port: number): Promise<readonly string[]> {
    const lists = await Promise.all(
      ['n1', 'n2'].flatMap((node) =>
        ['ipv4', 'ipv6'].map(async (family) => (await cluster.lab.exec(`node/${node}`, ['conntrack', '-L', '-f', family])).stdout),
      ),
    );
    const own = { n1: /src=(?:10\.244\.0\.3|fd00:10:244::3) /, n2: /src=(?:10\.244\.1\.2|fd00:10:244:1::2) / };
    return lists.flatMap((list, index) =>
      list
        .split('\n')
        .filter((line) => {
          const reply = line.split(/(?=src=)/)[2] ?? '';
          return own[index < 2 ? 'n1' : 'n2'].test(reply) && reply.includes(`sport=${port} `);
        })
        .map((line) => `0x${Number(/ mark=(\d+)/.exec(line)?.[1]).toString(16)}`),
    );
  }

  it('row 27: are cut by their mark where policy forbids them, lose nothing where not, and go on when they are allowed again', async () => {
    const [forbidden, allowed] = await Promise.all([openAll(80), openAll(81)]);
    for (const flow of [...forbidden, ...allowed]) await flow.serverSends({ everyMs: 10 });
    const all = (mark: number): string[] => forbidden.map(() => `0x${mark.toString(16)}`);
    assert.deepEqual([await marks(80), await marks(81)], [all(FOREIGN_MARK), all(FOREIGN_MARK)]);

    for (const { name } of cluster.lab.nodes) cluster.start(name);
    await cluster.settled();
    const arrivals = await lastArrivals(forbidden);
    for (const { silent, lastAt } of arrivals) {
      const inForceAt = Math.max(...['n1', 'n2'].map((node) => cluster.agent(node).logged('rules in force')[0]?.at ?? Number.NaN));
      assert.ok(silent && lastAt - inForceAt < 500, `silent: ${silent}, ${lastAt - inForceAt} ms after the rules came into force`);
    }
    assert.deepEqual([await marks(80), await marks(81)], [all(FOREIGN_MARK | DEFAULT_CUT_MARK), all(FOREIGN_MARK)]);
    const delivered = await Promise.all(forbidden.flatMap((flow) => [flow.delivers('client', 200), flow.delivers('server', 200)]));
    assert.deepEqual(delivered.filter(Boolean), []);
    assert.equal(cluster.agent('n1').status?.flowsCut, 8);
    assert.equal(cluster.agent('n2').status?.flowsCut, 4);

    await cluster.apply(policyObject('shop', 'some', { ingress: [{ ports: tcpAndUdp(80, 81) }] }));
    assert.deepEqual([await marks(80), await marks(81)], [all(FOREIGN_MARK), all(FOREIGN_MARK)]);
    assert.deepEqual(
      (await Promise.all(forbidden.map((flow) => flow.delivers('server', 10_000)))).filter(Boolean).length,
      forbidden.length,
    );

    for (const flow of allowed) await flow.stop();
    await eventually(async () => {
      const counts = await Promise.all(allowed.map((flow) => flow.counts()));
      return counts.every(({ client, server }) => client.received === server.sent && server.sent > 20);
    }, 'every message of the flows that stayed allowed arrives');
  });
});
