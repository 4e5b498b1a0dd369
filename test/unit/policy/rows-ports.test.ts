/** Ports and protocols: rows 12 to 18, and 32 as far as it can be decided without packets. */
import assert from 'node:assert/strict';
import { evaluate } from '../../../src/policy/evaluate.ts';
import type { NamedPort, Pod, Protocol } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { allows, MODEL, only, pod, podsWith, policy } from './model.ts';

const EXTERNAL = '198.51.100.7';

function named(name: string, port: number, protocol: NamedPort['protocol'] = 'TCP'): NamedPort {
  return { name, port, protocol };
}

/** x/a admits everyone on these ports. */
function ingressOn(ports: readonly unknown[], ...changed: readonly Pod[]) {
  return worldOf({ ...MODEL, pods: podsWith(...changed), policies: [policy({ podSelector: {}, ingress: [{ ports }] })] });
}

/** Pods of x may send to anyone on these ports. */
function egressOn(ports: readonly unknown[], ...changed: readonly Pod[]) {
  const spec = { podSelector: {}, policyTypes: ['Egress'], egress: [{ ports }] };
  return worldOf({ ...MODEL, pods: podsWith(...changed), policies: [policy(spec)] });
}

/** What x/a admits from y/a, of these. */
function open(ports: readonly unknown[], ...asked: readonly (readonly [Protocol, number])[]): boolean[] {
  return asked.map(([protocol, port]) => allows(ingressOn(ports), 'y/a', 'x/a', protocol, port));
}

function codes(port: unknown): string[][] {
  return policy({ podSelector: {}, ingress: [{ ports: [port] }] }).problems.map(({ path, code }) => [path, code]);
}

describe('ports', () => {
  it('row 12: a port without a protocol is TCP only', () => {
    assert.deepEqual(open([{ port: 80 }], ['TCP', 80], ['UDP', 80], ['SCTP', 80], ['TCP', 81]), [true, false, false, false]);
    assert.deepEqual(open([{}], ['TCP', 1], ['UDP', 1], ['SCTP', 1]), [true, false, false]);
    assert.deepEqual(open([{ port: 80, protocol: null }], ['TCP', 80], ['UDP', 80]), [true, false]);
  });

  it('row 13: a protocol without a port is every port of it', () => {
    assert.deepEqual(open([{ protocol: 'UDP' }], ['UDP', 0], ['UDP', 1], ['UDP', 65_535], ['TCP', 1]), [true, true, true, false]);
  });

  it('row 14: endPort is inclusive', () => {
    const asked = [79, 80, 81, 82, 83].map((port) => ['TCP', port] as const);
    assert.deepEqual(open([{ port: 80, endPort: 82 }], ...asked), [false, true, true, true, false]);
    assert.deepEqual(open([{ port: 80, endPort: 80 }], ...asked), [false, true, false, false, false]);
    assert.deepEqual(open([{ port: 65_535, endPort: 65_535 }], ['TCP', 65_535], ['TCP', 65_534]), [true, false]);
  });

  it('row 14: endPort needs a numeric port and may not be below it', () => {
    const at = 'spec.ingress[0].ports[0].endPort';
    for (const port of [
      { port: 82, endPort: 80 },
      { port: 'serve-80-tcp', endPort: 90 },
      { endPort: 90 },
      { port: 80, endPort: 65_536 },
      { port: 80, endPort: '90' },
    ]) {
      assert.deepEqual(open([port], ['TCP', 80], ['TCP', 81], ['TCP', 82], ['TCP', 90]), [false, false, false, false]);
      assert.deepEqual(codes(port), [[at, 'END_PORT_INVALID']]);
    }
  });

  it('row 15: a name is each destination pod’s own number, and numbers of different pods are never united', () => {
    const web = [{ port: 'web' }];
    const world = ingressOn(web, pod('x/a', { ports: [named('web', 80)] }), pod('x/b', { ports: [named('web', 81)] }));
    assert.deepEqual(
      [80, 81].map((port) => allows(world, 'y/a', 'x/a', 'TCP', port)),
      [true, false],
    );
    assert.deepEqual(
      [80, 81].map((port) => allows(world, 'y/a', 'x/b', 'TCP', port)),
      [false, true],
    );
  });

  it('row 15: one name with two numbers in one pod is both', () => {
    const world = ingressOn([{ port: 'web' }], pod('x/a', { ports: [named('web', 80), named('web', 8080)] }));
    assert.deepEqual(
      [80, 8080, 81].map((port) => allows(world, 'y/a', 'x/a', 'TCP', port)),
      [true, true, false],
    );
  });

  it('row 16: a name has to match the protocol too', () => {
    const world = ingressOn([{ port: 'dns', protocol: 'UDP' }], pod('x/a', { ports: [named('dns', 53, 'TCP')] }));
    assert.ok(!allows(world, 'y/a', 'x/a', 'UDP', 53));
    assert.ok(!allows(world, 'y/a', 'x/a', 'TCP', 53));
    const both = ingressOn([{ port: 'dns', protocol: 'UDP' }], pod('x/a', { ports: [named('dns', 53, 'TCP'), named('dns', 5353, 'UDP')] }));
    assert.deepEqual(
      [53, 5353].map((port) => allows(both, 'y/a', 'x/a', 'UDP', port)),
      [false, true],
    );
    assert.ok(!allows(both, 'y/a', 'x/a', 'TCP', 53));
  });

  it('row 16: a name that no container declares matches nothing', () => {
    assert.deepEqual(open([{ port: 'web' }], ['TCP', 80], ['TCP', 81]), [false, false]);
    const none = ingressOn([{ port: 'serve-80-tcp' }], pod('x/a', { ports: [] }));
    assert.ok(!allows(none, 'y/a', 'x/a', 'TCP', 80));
  });

  it('row 17: egress by name is each destination pod’s own number, and never an external address', () => {
    const world = egressOn([{ port: 'web' }], pod('y/a', { ports: [named('web', 80)] }), pod('y/b', { ports: [named('web', 81)] }));
    assert.deepEqual(
      [80, 81].map((port) => allows(world, 'x/a', 'y/a', 'TCP', port)),
      [true, false],
    );
    assert.deepEqual(
      [80, 81].map((port) => allows(world, 'x/a', 'y/b', 'TCP', port)),
      [false, true],
    );
    for (const port of [80, 81]) {
      assert.ok(!allows(world, 'x/a', EXTERNAL, 'TCP', port));
      assert.ok(!allows(world, 'x/a', 'z/a', 'TCP', port), 'a pod that does not declare it');
    }
  });

  it('row 17: a name never reaches a hostNetwork pod through an ipBlock', () => {
    const onHost = pod('z/host', { node: 'n3', hostNetwork: true, addresses: MODEL.nodes[2]?.addresses ?? [], ports: [named('web', 80)] });
    const to = [{ ipBlock: { cidr: '192.0.2.0/24' } }];
    const asked = (port: unknown): boolean => {
      const spec = { podSelector: {}, policyTypes: ['Egress'], egress: [{ to, ports: [{ port }] }] };
      return allows(worldOf({ ...MODEL, pods: podsWith(onHost), policies: [policy(spec)] }), 'x/a', '192.0.2.3', 'TCP', 80);
    };
    assert.ok(!asked('web'));
    assert.ok(asked(80));
  });

  it('row 18: an egress port is the pod’s own, not the Service’s, and the name is the destination’s, not the source’s', () => {
    // A Service serves 80 and sends to 8080 of its pods: what arrives after DNAT is asked about.
    const backend = pod('y/a', { ports: [named('http', 8080)] });
    const client = pod('x/a', { ports: [named('http', 80)] });
    assert.ok(allows(egressOn([{ port: 8080 }], backend), 'x/a', 'y/a', 'TCP', 8080));
    assert.ok(!allows(egressOn([{ port: 80 }], backend), 'x/a', 'y/a', 'TCP', 8080));
    assert.ok(allows(egressOn([{ port: 'http' }], backend, client), 'x/a', 'y/a', 'TCP', 8080));
    assert.ok(!allows(egressOn([{ port: 'http' }], backend, client), 'x/a', 'y/a', 'TCP', 80));
  });

  it('row 32: ICMP is allowed where the rule names no ports, and denied where it names any', () => {
    const noPorts = worldOf({ ...MODEL, policies: [policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] })] });
    for (const protocol of ['ICMP', 'other'] as const) {
      assert.ok(allows(noPorts, 'y/a', 'x/a', protocol, undefined));
      assert.ok(!allows(noPorts, EXTERNAL, 'x/a', protocol, undefined));
      for (const port of [{ port: 80 }, { protocol: 'TCP' }, {}, { protocol: 'UDP', port: 'serve-80-udp' }]) {
        assert.ok(!allows(ingressOn([port]), 'y/a', 'x/a', protocol, undefined));
        assert.ok(!allows(ingressOn([port]), 'y/a', 'x/a', protocol, 80));
      }
    }
  });

  it('text is no number: "80" is refused as a name', () => {
    assert.deepEqual(open([{ port: '80' }], ['TCP', 80]), [false]);
    assert.deepEqual(codes({ port: '80' }), [['spec.ingress[0].ports[0].port', 'PORT_NAME_INVALID']]);
    assert.ok(allows(ingressOn([{ port: '80' }, { port: 81 }]), 'y/a', 'x/a', 'TCP', 81));
  });

  it('a question about TCP, UDP or SCTP has a port, and both its ends are of one family', () => {
    const world = worldOf(MODEL);
    const [source, other] = MODEL.pods[0]?.addresses ?? assert.fail();
    const destination = MODEL.pods[1]?.addresses[0];
    assert.ok(source !== undefined && other !== undefined && destination !== undefined);
    for (const port of [undefined, -1, 65_536, 1.5, Number.NaN]) {
      for (const protocol of ['TCP', 'UDP', 'SCTP'] as const) {
        assert.throws(() => evaluate(world, { source, destination, protocol, port }), { code: 'PORT_INVALID' });
      }
    }
    assert.throws(() => evaluate(world, { source: other, destination, protocol: 'ICMP' }), { code: 'MIXED_FAMILIES' });
  });

  it('ports of a subject do not matter where the rule is about egress', () => {
    const world = worldOf({
      ...MODEL,
      policies: [policy({ podSelector: only('a'), policyTypes: ['Egress'], egress: [{ ports: [{ port: 80 }] }] })],
    });
    assert.ok(allows(world, 'x/a', EXTERNAL, 'TCP', 80));
    assert.ok(allows(world, 'x/b', EXTERNAL, 'TCP', 81));
  });
});
