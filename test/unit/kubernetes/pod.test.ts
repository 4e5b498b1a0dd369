import assert from 'node:assert/strict';
import { POD_PORTS } from '../../../src/kubernetes/pod.ts';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { formatAddress } from '../../../src/policy/address.ts';
import type { Pod } from '../../../src/policy/objects.ts';

/** A pod as the API gives it, with some fields replaced. */
function pod({ metadata = {}, spec = {}, status = {} }: Record<string, object> = {}): unknown {
  return {
    metadata: { name: 'web-0', namespace: 'shop', uid: 'u-1', labels: { app: 'web' }, ...metadata },
    spec: { nodeName: 'node-1', containers: [], ...spec },
    status: { phase: 'Running', podIPs: [{ ip: '10.244.1.5' }], ...status },
  };
}

function read(value: unknown): Pod {
  const { object, problems } = project('Pod', value, new Sharing());
  assert.deepEqual(problems, []);
  assert.ok(object);
  return object;
}

function faults(value: unknown): { pod: Pod | undefined; key: string | undefined; faults: string[] } {
  const { object, key, problems } = project('Pod', value, new Sharing());
  return { pod: object, key, faults: problems.map(({ path, code }) => `${path} ${code}`) };
}

function addresses(read: Pod): string[] {
  return read.addresses.map(formatAddress);
}

describe('a Pod of the API', () => {
  it('becomes the fields that policy is made of', () => {
    const value = pod({
      metadata: { creationTimestamp: '1970-01-01T00:00:02Z' },
      spec: { containers: [{ name: 'app', ports: [{ name: 'http', containerPort: 8080, protocol: 'UDP' }] }] },
    });
    const web = read(value);
    assert.deepEqual(
      { ...web, labels: [...web.labels], addresses: addresses(web) },
      {
        namespace: 'shop',
        name: 'web-0',
        uid: 'u-1',
        node: 'node-1',
        labels: [['app', 'web']],
        addresses: ['10.244.1.5'],
        hostNetwork: false,
        terminal: false,
        createdAt: 2000,
        ports: [{ name: 'http', protocol: 'UDP', port: 8080 }],
        declaredPorts: [{ protocol: 'UDP', port: 8080 }],
      },
    );
  });

  it('has defaults for all that may be missing', () => {
    const bare = read({ metadata: { name: 'bare' } });
    assert.deepEqual(
      { ...bare, labels: [...bare.labels] },
      {
        namespace: 'default',
        name: 'bare',
        uid: '',
        node: '',
        labels: [],
        addresses: [],
        hostNetwork: false,
        terminal: false,
        createdAt: 0,
        ports: [],
        declaredPorts: [],
      },
    );
  });

  it('takes null for absent, and a null label for an empty one, as the API decodes them', () => {
    const web = read(pod({ metadata: { namespace: null, labels: { app: null }, uid: null }, status: { podIPs: null, podIP: null } }));
    assert.equal(web.namespace, 'default');
    assert.deepEqual([...web.labels], [['app', '']]);
  });

  it('has all of podIPs, and podIP where it is not among them', () => {
    const both = { podIP: '10.244.1.5', podIPs: [{ ip: '10.244.1.5' }, { ip: 'FD00::05' }] };
    assert.deepEqual(addresses(read(pod({ status: both }))), ['10.244.1.5', 'fd00::5']);
    assert.deepEqual(addresses(read(pod({ status: { podIP: '10.244.1.9', podIPs: [] } }))), ['10.244.1.9']);
  });

  for (const [phase, terminal] of Object.entries({ Pending: false, Running: false, Unknown: false, Succeeded: true, Failed: true })) {
    it(`in phase ${phase} is ${terminal ? '' : 'not '}terminal`, () => {
      assert.equal(read(pod({ status: { phase } })).terminal, terminal);
    });
  }

  it('is not terminal while it terminates (row 34)', () => {
    assert.equal(read(pod({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } })).terminal, false);
  });

  it('declares the ports of containers and of sidecars, and not of ordinary init containers', () => {
    const web = read(
      pod({
        spec: {
          containers: [{ ports: [{ containerPort: 80 }] }, { ports: [{ containerPort: 81, name: 'admin' }] }],
          initContainers: [
            { restartPolicy: 'Always', ports: [{ containerPort: 82, name: 'mesh', protocol: 'SCTP' }] },
            { ports: [{ containerPort: 83, name: 'once' }] },
            { restartPolicy: 'OnFailure', ports: [{ containerPort: 84 }] },
          ],
        },
      }),
    );
    assert.deepEqual(web.declaredPorts, [
      { protocol: 'TCP', port: 80 },
      { protocol: 'TCP', port: 81 },
      { protocol: 'SCTP', port: 82 },
    ]);
    assert.deepEqual(web.ports, [
      { name: 'admin', protocol: 'TCP', port: 81 },
      { name: 'mesh', protocol: 'SCTP', port: 82 },
    ]);
  });

  it('keeps both numbers of one port name, and what is declared twice once', () => {
    const ports = [
      { name: 'http', containerPort: 80 },
      { name: 'http', containerPort: 81 },
      { name: 'http', containerPort: 81 },
    ];
    const web = read(pod({ spec: { containers: [{ ports }] } }));
    assert.deepEqual(
      web.ports.map(({ port }) => port),
      [80, 81],
    );
    assert.deepEqual(
      web.declaredPorts.map(({ port }) => port),
      [80, 81],
    );
  });

  it('may have labels of any name', () => {
    const labels = JSON.parse('{"__proto__": "a", "constructor": "b"}');
    assert.deepEqual(
      [...read(pod({ metadata: { labels } })).labels],
      [
        ['__proto__', 'a'],
        ['constructor', 'b'],
      ],
    );
  });

  // Each of these decides whether the pod is a subject or a peer; a guess could open what is meant to be closed.
  const needed: [string, Record<string, object>][] = [
    ['metadata.labels', { metadata: { labels: ['app'] } }],
    ['metadata.labels[app]', { metadata: { labels: { app: 1, tier: 'front' } } }],
    ['metadata.uid', { metadata: { uid: 7 } }],
    ['spec', { spec: [] }],
    ['spec.nodeName', { spec: { nodeName: 1 } }],
    ['spec.hostNetwork', { spec: { hostNetwork: 'true' } }],
    ['status.phase', { status: { phase: true } }],
  ];
  for (const [path, fields] of needed) {
    it(`is refused, and known by its name, where ${path} cannot be read`, () => {
      const value = path === 'spec' ? { ...(pod() as object), spec: ['x'] } : pod(fields);
      assert.deepEqual(faults(value), { pod: undefined, key: 'shop/web-0', faults: [`${path} TYPE_INVALID`] });
    });
  }

  const nameless: [string, unknown, string][] = [
    ['there is no name', {}, 'metadata.name NAME_MISSING'],
    ['the name is no string', { name: 12 }, 'metadata.name TYPE_INVALID'],
    ['the name holds a slash', { name: 'a/b' }, 'metadata.name NAME_INVALID'],
    ['the name would steer a terminal', { name: 'a\u001b[2J' }, 'metadata.name NAME_INVALID'],
    ['the name would steer a terminal by a single sign', { name: 'a\u009b2J' }, 'metadata.name NAME_INVALID'],
    ['the namespace is no string', { name: 'a', namespace: {} }, 'metadata.namespace TYPE_INVALID'],
    ['the namespace holds a slash', { name: 'a', namespace: 'b/c' }, 'metadata.namespace NAME_INVALID'],
    ['there are no metadata', undefined, 'metadata METADATA_INVALID'],
  ];
  for (const [when, metadata, fault] of nameless) {
    it(`is nobody where ${when}`, () => {
      const { pod, key, faults: found } = faults({ metadata });
      assert.equal(pod, undefined);
      assert.equal(key, undefined);
      assert.equal(found[0], fault);
    });
  }

  const leftOut: [string, Record<string, object>, string, (web: Pod) => void][] = [
    [
      'an address',
      { status: { podIPs: [{ ip: '10.244.1.300' }, { ip: '10.244.1.5' }, 'x', { ip: 4 }] } },
      'status.podIPs[0].ip ADDRESS_INVALID, status.podIPs[2] TYPE_INVALID, status.podIPs[3].ip ADDRESS_INVALID',
      (web) => assert.deepEqual(addresses(web), ['10.244.1.5']),
    ],
    [
      'a port number',
      {
        spec: {
          containers: [{ ports: [{ containerPort: '80' }, { containerPort: 65_536 }, { containerPort: 0 }, {}, { containerPort: 81 }] }],
        },
      },
      [0, 1, 2, 3].map((i) => `spec.containers[0].ports[${i}].containerPort PORT_INVALID`).join(', '),
      (web) => assert.deepEqual(web.declaredPorts, [{ protocol: 'TCP', port: 81 }]),
    ],
    [
      'a protocol',
      {
        spec: {
          containers: [
            {
              ports: [
                { containerPort: 80, protocol: 'tcp' },
                { containerPort: 81, protocol: '' },
              ],
            },
          ],
        },
      },
      'spec.containers[0].ports[0].protocol PROTOCOL_UNKNOWN, spec.containers[0].ports[1].protocol PROTOCOL_UNKNOWN',
      (web) => assert.deepEqual(web.declaredPorts, []),
    ],
    [
      'a port name',
      { spec: { initContainers: [{ restartPolicy: 'Always', ports: [{ containerPort: 80, name: true }] }] } },
      'spec.initContainers[0].ports[0].name TYPE_INVALID',
      (web) => assert.deepEqual([web.declaredPorts.length, web.ports.length], [1, 0]),
    ],
    [
      'the creation time',
      { metadata: { creationTimestamp: 'yesterday' } },
      'metadata.creationTimestamp TIMESTAMP_INVALID',
      (web) => assert.equal(web.createdAt, 0),
    ],
    ['the containers', { spec: { containers: {} } }, 'spec.containers TYPE_INVALID', (web) => assert.deepEqual(web.declaredPorts, [])],
  ];
  for (const [what, fields, expected, check] of leftOut) {
    it(`stands without ${what} that cannot be read`, () => {
      const { pod: web, faults: found } = faults(pod(fields));
      assert.equal(found.join(', '), expected);
      assert.ok(web);
      check(web);
    });
  }

  it('is refused as a whole where it is no object', () => {
    for (const value of [null, undefined, 'pod', 3, ['pod']]) {
      assert.deepEqual(faults(value), { pod: undefined, key: undefined, faults: [' TYPE_INVALID'] });
    }
  });

  it('says of a boolean label how YAML came by it', () => {
    const { problems } = project('Pod', pod({ metadata: { labels: { app: true } } }), new Sharing());
    assert.match(problems[0]?.message ?? '', /unquoted yes, no, on, off, y or n .* quote it/u);
  });

  it('has as many ports as are known of one; those after them lead nowhere, which is said once', () => {
    const ports = Array.from({ length: 60_000 }, (_, i) => ({ name: `p${i}`, containerPort: i + 1 }));
    const { pod: web, faults: said } = faults(pod({ spec: { containers: [{ ports }, { ports }] } }));
    assert.deepEqual(said, [`spec.containers[0].ports[${POD_PORTS}] PORTS_TOO_MANY`]);
    assert.deepEqual(web?.ports.at(-1), { name: `p${POD_PORTS - 1}`, protocol: 'TCP', port: POD_PORTS });
    assert.deepEqual([web?.ports.length, web?.declaredPorts.length], [POD_PORTS, POD_PORTS]);
  });

  it('has no more names of ports than that either, and each port once, however often it is declared', () => {
    const named = Array.from({ length: POD_PORTS + 1 }, (_, i) => ({ ports: [{ name: `p${i}`, containerPort: 80 }] }));
    const { pod: web, faults: said } = faults(pod({ spec: { containers: named } }));
    assert.deepEqual(said, [`spec.containers[${POD_PORTS}].ports[0] PORTS_TOO_MANY`]);
    assert.deepEqual([web?.ports.length, web?.declaredPorts.length], [POD_PORTS, 1]);
    const again = Array.from({ length: 3 * POD_PORTS }, () => ({ ports: [{ name: 'http', containerPort: 80 }] }));
    assert.deepEqual(read(pod({ spec: { containers: again } })).ports, [{ name: 'http', protocol: 'TCP', port: 80 }]);
  });
});
