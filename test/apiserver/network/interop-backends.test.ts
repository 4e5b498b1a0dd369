/** `sluice network` and flanneld v0.28.4 in one cluster, and one after the other on the same node, for each backend. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiServer } from '../../../src/lab/api/api-server.ts';
import { eventually } from '../../kernel/support/eventually.ts';
import { BASELINE, DAEMON_KINDS } from './support/daemons.ts';
import { asBySluice } from './support/differences.ts';
import { describeWithFlanneld } from './support/describe-with-flanneld.ts';
import { InteropNetwork, netConf } from './support/interop-network.ts';
import { type BackendCase, interopSuite } from './support/interop-suite.ts';
import { publicAddress, UDP, VXLAN, vxlanIPv6 } from './support/known-differences.ts';

const BACKENDS: readonly BackendCase[] = [
  {
    title: 'vxlan',
    netConf: netConf({ Type: 'vxlan' }),
    carries: { 4: 1450 },
    differences: VXLAN,
  },
  {
    title: 'vxlan, IPv6 only',
    netConf: netConf({ Type: 'vxlan' }, { families: [6] }),
    carries: { 6: 1430 },
    differences: vxlanIPv6(),
  },
  {
    title: 'vxlan with another VNI, port and MTU, dual stack, with iptables',
    netConf: netConf({ Type: 'vxlan', VNI: 7, Port: 4789, MTU: 1400 }, { families: [4, 6], nftables: false }),
    carries: { 4: 1350, 6: 1350 },
    differences: vxlanIPv6({ vni: 7, outer: 1400 }),
  },
  {
    title: 'vxlan with DirectRouting, dual stack, with a node behind a router',
    netConf: netConf({ Type: 'vxlan', DirectRouting: true }, { families: [4, 6] }),
    layout: 'two segments',
    carries: { 4: 1450, 6: 1430 },
    differences: vxlanIPv6(),
  },
  {
    title: 'host-gw, dual stack',
    netConf: netConf({ Type: 'host-gw' }, { families: [4, 6] }),
    carries: { 4: 1500, 6: 1500 },
  },
  {
    title: 'udp',
    netConf: netConf({ Type: 'udp' }),
    carries: { 4: 1472 },
    differences: UDP,
    survivesRestart: false,
  },
];

/** How each says that a peer is on another segment. */
const NO_WAY = {
  flanneld: /Error adding route to .* Dst: 10\.244\.3\.0\/24 .* Gw: 192\.168\.2\.12 .*: network is unreachable/,
  sluice: /10\.244\.3\.0\/24 cannot be reached: its address 192\.168\.2\.12 is behind the router 192\.168\.1\.1/,
} as const;

describeWithFlanneld('sluice network beside flanneld', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
  });

  after(async () => {
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  for (const backend of BACKENDS) interopSuite(backend, () => api);

  describe('host-gw with a node behind a router', () => {
    let network: InteropNetwork;

    before(async () => {
      network = await InteropNetwork.create({
        api,
        layout: 'two segments',
        netConf: netConf({ Type: 'host-gw' }),
        nodes: ['a', 'b', 'c'],
        carries: { 4: 1500 },
      });
    });

    after(() => network?.close());

    for (const kind of DAEMON_KINDS) {
      it(`${kind} says that there is no way to that node, and has one to the others`, async () => {
        await network.register('a', 'b', 'c');
        const other = kind === 'flanneld' ? 'sluice' : 'flanneld';
        await Promise.all([network.start(kind, ['a']), network.start(other, ['b', 'c'])]);
        const said = NO_WAY[BASELINE ? 'flanneld' : kind];
        await eventually(
          () => said.test(network.daemon('a').log()),
          () => `it says so\n${network.tails()}`,
        );
        await network.expectEchoes('a', 'b');
        const { 'routes IPv4': routes = [] } = await network.snapshot('a');
        assert.deepEqual(
          routes.filter((route) => route.includes('10.244.3.0/24')),
          [],
        );
        assert.ok(network.daemon('a').running);
        await Promise.all(['a', 'b', 'c'].map((name) => network.stop(name)));
        await Promise.all(['a', 'b', 'c'].map((name) => network.wipe(name)));
      });
    }
  });

  describe('public addresses that somebody has set at the node', () => {
    const PREFIX = 'flannel.alpha.coreos.com';
    let network: InteropNetwork;

    before(async () => {
      network = await InteropNetwork.create({ api, netConf: netConf({ Type: 'vxlan' }), nodes: ['a', 'b'], carries: { 4: 1450 } });
    });

    after(() => network?.close());

    it('are published as by flanneld', async () => {
      const names = ['a', 'b'];
      await network.register(...names);
      await network.annotate('a', { [`${PREFIX}/public-ip-overwrite`]: '203.0.113.7' });
      await network.annotate('b', { [`${PREFIX}/node-public-ip`]: '203.0.113.9' });
      await network.run({ a: 'flanneld', b: 'flanneld' });
      const [a = {}, b = {}] = await Promise.all(names.map((name) => network.snapshot(name)));
      assert.ok(a['annotations']?.includes(`${PREFIX}/public-ip=203.0.113.7`));
      assert.ok(b['annotations']?.includes(`${PREFIX}/public-ip=203.0.113.9`));
      await Promise.all(names.map((name) => network.stop(name)));
      await Promise.all(names.map((name) => network.wipe(name)));
      await network.run({ a: 'sluice', b: 'sluice' });
      await network.looks('a', asBySluice(a, BASELINE ? [] : VXLAN).expected);
      await network.looks('b', asBySluice(b, BASELINE ? [] : publicAddress('203.0.113.9', network.node('b').v4)).expected);
    });
  });
});
