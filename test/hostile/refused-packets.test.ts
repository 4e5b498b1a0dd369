/** Packets that a tenant has refused without end, by pods that a thousand policies isolate: each is described, and none is kept for good. */
import assert from 'node:assert/strict';
import { policyObject } from '../kernel/support/objects.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { formatAddress } from '../../src/policy/address.ts';
import { HostileLab } from './support/hostile-lab.ts';
import { size } from './support/hostile-size.ts';

const POLICIES = 1_000;
const PACKETS = size(1_000, 15_000);

describe('packets that are refused', function () {
  this.timeout(240_000);
  let lab: HostileLab;

  before(async () => {
    lab = await HostileLab.create({});
  });
  after(() => lab?.close());

  it(`cost nobody anything, ${PACKETS} of them at a pod that ${POLICIES} policies isolate`, async () => {
    lab.write(
      Array.from({ length: POLICIES }, (_, i) =>
        policyObject('tenant', `policy-number-${i}`, { ingress: [{ ports: [{ port: 1_000 + i }] }] }),
      ),
    );
    await lab.quiet();
    await lab.begin();
    const [first] = lab.cluster.lab.pod('tenant/pod').addresses;
    assert.ok(first !== undefined);
    const address = formatAddress(first);
    const program = `const s = require('node:dgram').createSocket('udp4');
      setInterval(() => { for (let i = 0; i < 5; i++) s.send('x', 65000, ${JSON.stringify(address)}); }, 10);`;
    const sender = lab.cluster.lab.spawn('victim/client', [process.execPath, '-e', program], { stdio: 'ignore' });
    const ended = new Promise((resolve) => sender.once('exit', resolve));
    try {
      await eventually(async () => (await lab.cluster.dropped('ingress', 'tenant/pod')) >= PACKETS, 'they have been refused', {
        withinMs: 120_000,
        everyMs: 200,
      });
      await lab.changes(10);
      console.log(`      ${lab.assertUnharmed()}`);
    } finally {
      sender.kill('SIGKILL');
      await ended;
    }
  });
});
