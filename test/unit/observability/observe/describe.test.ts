import assert from 'node:assert/strict';
import { worldOf } from '../../../../src/policy/world.ts';
import { bytesOf, describeAllowed, describeDenied, namespaceOfPrefix } from '../../../../src/observability/observe/describe.ts';
import { ALLOWED, DENIED } from '../../../../src/observability/observed-flow.ts';
import { ip, MODEL, pod, podsWith, policy } from '../../policy/model.ts';
import { loggedPacket, packetBytes, tuple, worldFor } from './flows.ts';

const AT = Date.UTC(2026, 10, 21, 12, 3, 4, 123);
const view = { world: worldFor(), node: 'n1', isSynced: true };

describe('describing what was refused', () => {
  it('names pods and policies, time and ports', () => {
    const flow = describeDenied(view, loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 40_000, 5432), AT), 0);
    assert.deepEqual(flow?.record, {
      kind: 'Denied',
      apiVersion: 'sluice.dev/v1',
      time: '2026-11-21T12:03:04.123Z',
      node: 'n1',
      direction: 'ingress',
      source: { address: '10.244.2.11', namespace: 'y', pod: 'b', port: 40_000 },
      destination: { address: '10.244.1.10', namespace: 'x', pod: 'a', port: 5432 },
      protocol: 'TCP',
      protocolNumber: 6,
      audited: false,
      policies: ['x/also-closed', 'x/closed'],
      reason: 'refused',
    });
    assert.deepEqual(DENIED.parse(flow.record), flow.record);
    assert.deepEqual(flow.refusedBy, { direction: 'ingress', pod: 'x/a' });
  });

  it('says what was audited, and what policy allows by now', () => {
    const audited = describeDenied(view, loggedPacket('audit ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 17, 40_000, 53), AT), 0);
    assert.deepEqual([audited?.record.audited, audited?.record.protocol], [true, 'UDP']);
    const changed = describeDenied(
      { world: worldOf({ ...MODEL, policies: [policy({ podSelector: {}, ingress: [{}] })] }), node: 'n1', isSynced: true },
      loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 40_000, 80), AT),
      0,
    );
    assert.deepEqual([changed?.record.reason, changed?.record.policies], ['changed', ['x/policy']]);
  });

  it('names nodes, ICMP and other protocols, and leaves out what is not known', () => {
    const icmp = describeDenied(view, loggedPacket('ingress/x/a', packetBytes('192.0.2.2', ip('x/a'), 1, 0x0800, 0), AT), 0)?.record;
    assert.deepEqual(
      [icmp?.protocol, icmp?.icmp, icmp?.source, icmp?.destination.port],
      ['ICMP', { type: 8, code: 0 }, { address: '192.0.2.2', node: 'n2' }, undefined],
    );
    const gre = describeDenied(view, loggedPacket('ingress/x/a', packetBytes('198.51.100.7', ip('x/a'), 47, 0, 0), AT), 0)?.record;
    assert.deepEqual([gre?.protocol, gre?.protocolNumber, gre?.source], ['other', 47, { address: '198.51.100.7' }]);
  });

  it('takes the name from the chain where the pod has gone meanwhile', () => {
    const world = worldOf({ ...MODEL, pods: podsWith(pod('x/a', { terminal: true })) });
    const flow = describeDenied(
      { world, node: 'n1', isSynced: true },
      loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT),
      0,
    );
    assert.deepEqual(
      [flow?.refusedBy?.pod, flow?.record.destination, flow?.record.reason, flow?.record.policies],
      ['x/a', { address: '10.244.1.10', namespace: 'x', pod: 'a', port: 80 }, 'unknown', []],
    );
  });

  it('never takes the pod that has the address by now for the one that refused', () => {
    const taken = pod('x/new', { addresses: pod('x/a').addresses, createdAt: 1 });
    const world = worldOf({ ...MODEL, pods: podsWith(taken), policies: [policy({ podSelector: {} }, 'of-the-new')] });
    const described = (prefix: string) =>
      describeDenied({ ...view, world }, loggedPacket(prefix, packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT), 0);
    const old = described('ingress/x/a');
    assert.deepEqual(
      [old?.refusedBy?.pod, old?.record.destination.pod, old?.record.reason, old?.record.policies],
      ['x/a', 'a', 'unknown', []],
    );
    const now = described('audit ingress/x/new');
    assert.deepEqual(
      [now?.refusedBy?.pod, now?.record.destination.pod, now?.record.reason, now?.record.policies],
      ['x/new', 'new', 'refused', ['x/of-the-new']],
    );
  });

  it('knows a pod by the part of a long name that a prefix holds, and takes a part for no name', () => {
    const name = 'a'.repeat(140);
    const long = pod(`x/${name}`, { addresses: pod('x/a').addresses, createdAt: 1 });
    for (const prefix of [`ingress/x/${name}`, `audit ingress/x/${name}`].map((text) => text.slice(0, 127))) {
      const packet = loggedPacket(prefix, packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT);
      const there = describeDenied(
        { ...view, world: worldOf({ ...MODEL, pods: [long], policies: [policy({ podSelector: {} })] }) },
        packet,
        0,
      );
      assert.deepEqual([there?.record.destination.pod, there?.record.reason], [name, 'refused']);
      const gone = describeDenied({ ...view, world: worldOf({ ...MODEL, pods: [] }) }, packet, 0);
      assert.deepEqual(gone?.record.destination, { address: '10.244.1.10', port: 80 });
    }
  });

  it('does not say who refuses, or that it is allowed, before everything is known', () => {
    const world = worldOf(MODEL);
    const packet = loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT);
    const record = describeDenied({ world, node: 'n1', isSynced: false }, packet, 0)?.record;
    assert.deepEqual([record?.destination.pod, record?.reason, record?.policies], ['a', 'unknown', []]);
    const flow = { original: tuple(ip('y/b'), ip('x/a'), 6, 40_000, 80), reply: tuple(ip('x/a'), ip('y/b'), 6, 80, 40_000) };
    assert.equal(describeAllowed({ world, node: 'n1', isSynced: false }, flow, AT), undefined);
  });

  it('passes by what is not an agent’s, or no packet', () => {
    for (const packet of [
      loggedPacket('somebody else', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT),
      loggedPacket('', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT),
      loggedPacket('ingress/x/a', new Uint8Array(0), AT),
      loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80).subarray(0, 12), AT),
    ])
      assert.equal(describeDenied(view, packet, 0), undefined);
  });

  it('judges a packet without its ports as what has none', () => {
    const cut = describeDenied(view, loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80).subarray(0, 20), AT), 0);
    assert.deepEqual([cut?.record.protocol, cut?.record.protocolNumber, cut?.record.destination.port], ['other', 6, undefined]);
  });
});

describe('describing what was allowed', () => {
  it('names who really answers, and the rule that admits it', () => {
    const world = worldOf({
      ...MODEL,
      policies: [policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }], ports: [{ port: 80 }] }] })],
    });
    // To a Service's address; the pod's port is another.
    const original = tuple(ip('y/b'), '10.96.0.1', 6, 40_000, 8080);
    const flow = describeAllowed(
      { world, node: 'n1', isSynced: true },
      { original, reply: tuple(ip('x/a'), ip('y/b'), 6, 80, 40_000) },
      AT,
    );
    assert.deepEqual(flow?.record, {
      kind: 'Allowed',
      apiVersion: 'sluice.dev/v1',
      time: '2026-11-21T12:03:04.123Z',
      node: 'n1',
      source: { address: '10.244.2.11', namespace: 'y', pod: 'b', port: 40_000 },
      destination: { address: '10.244.1.10', namespace: 'x', pod: 'a', port: 80 },
      protocol: 'TCP',
      protocolNumber: 6,
      // y/b is of n2, whose agent judges it.
      egress: { allowed: true, reason: 'not-isolated', policies: [], node: 'n2' },
      ingress: { allowed: true, reason: 'admitted', policies: ['x/policy'], place: 'ingress[0].from[0]' },
    });
    assert.deepEqual(ALLOWED.parse(flow.record), flow.record);
    assert.deepEqual(flow.local, { source: false, destination: true });
  });

  it('passes by flows that no pod of this node is an end of', () => {
    const flow = { original: tuple(ip('y/b'), ip('z/a'), 6, 40_000, 80), reply: tuple(ip('z/a'), ip('y/b'), 6, 80, 40_000) };
    assert.equal(describeAllowed({ world: worldOf(MODEL), node: 'n1', isSynced: true }, flow, AT), undefined);
    assert.ok(describeAllowed({ world: worldOf(MODEL), node: 'n2', isSynced: true }, flow, AT));
  });

  it('names the first policies of many, and counts the others', () => {
    const policies = Array.from({ length: 1_000 }, (_, index) => policy({ podSelector: {} }, `p${String(index).padStart(4, '0')}`));
    const world = worldOf({ ...MODEL, policies });
    const packet = loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT);
    const flow = describeDenied({ world, node: 'n1', isSynced: true }, packet, 0);
    assert.ok(flow);
    assert.deepEqual([flow.record.reason, flow.record.policies.length, flow.record.morePolicies], ['refused', 20, 980]);
    assert.deepEqual([flow.record.policies[0], flow.record.policies[19]], ['x/p0000', 'x/p0019']);
    assert.deepEqual(DENIED.parse(flow.record), flow.record);
    assert.ok(JSON.stringify(flow.record).length < 1_000, JSON.stringify(flow.record));
    const reply = tuple(ip('x/a'), ip('y/b'), 6, 80, 40_000);
    const allowed = describeAllowed(
      { world, node: 'n1', isSynced: true },
      { original: tuple(ip('y/b'), ip('x/a'), 6, 40_000, 80), reply },
      AT,
    );
    assert.deepEqual([allowed?.record.ingress.policies.length, allowed?.record.ingress.morePolicies], [20, 980]);
    assert.deepEqual(ALLOWED.parse(allowed?.record), allowed?.record);
  });

  it('names all of twenty, and counts none beyond', () => {
    const policies = Array.from({ length: 20 }, (_, index) => policy({ podSelector: {} }, `p${index}`));
    const packet = loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT);
    const record = describeDenied({ world: worldOf({ ...MODEL, policies }), node: 'n1', isSynced: true }, packet, 0)?.record;
    assert.deepEqual([record?.policies.length, record?.morePolicies, 'morePolicies' in (record ?? {})], [20, undefined, false]);
  });

  it('asks nothing of the policies of the other direction', () => {
    const asked: string[] = [];
    const world = worldFor();
    const watching = {
      ...world,
      isolating: (...[of, direction]: Parameters<typeof world.isolating>) => {
        asked.push(direction);
        return world.isolating(of, direction);
      },
    };
    const packet = loggedPacket('ingress/x/a', packetBytes(ip('x/b'), ip('x/a'), 6, 1, 80), AT);
    assert.equal(describeDenied({ world: watching, node: 'n1', isSynced: true }, packet, 0)?.record.reason, 'refused');
    assert.deepEqual([...new Set(asked)], ['ingress']);
  });

  it('knows on whose account a packet is described', () => {
    assert.deepEqual(['ingress/x/a', 'audit egress/shop.eu/web-1', 'somebody else', ''].map(namespaceOfPrefix), ['x', 'shop.eu', '', '']);
  });

  it('holds a bounded number of bytes, however long names are and however many policies', () => {
    const long = pod('x/a', { name: 'n'.repeat(253), labels: new Map() });
    const policies = Array.from({ length: 1_000 }, (_, index) => policy({ podSelector: {} }, `${index}`.padStart(253, 'p')));
    const world = worldOf({ ...MODEL, pods: [long], policies });
    const packet = loggedPacket(`ingress/x/${long.name}`.slice(0, 127), packetBytes(ip('y/b'), ip('x/a'), 6, 1, 80), AT);
    const flow = describeDenied({ world, node: 'n1', isSynced: true }, packet, 0);
    assert.ok(flow);
    assert.equal(flow.record.reason, 'refused');
    assert.ok(bytesOf(flow) > JSON.stringify(flow.record).length, 'what it is measured by is no less than what it is');
    assert.ok(bytesOf(flow) < 16 * 1024, `${bytesOf(flow)}`);
  });
});
