/** The patches are those that flannel v0.28.4 sends (AcquireLease, CompleteLease against client-go's fake API server), byte for byte. */
import assert from 'node:assert/strict';
import { SluiceError } from '../../../src/errors.ts';
import { type NetConf, parseNetConf } from '../../../src/network/net-conf.ts';
import {
  type AnnotationName,
  annotationNames,
  annotationsPatch,
  DEFAULT_ANNOTATION_PREFIX,
  type FamilyAttributes,
  type LeaseAttributes,
  networkAvailablePatch,
  NO_NODE,
  type NodeReading,
  ownAnnotations,
  ownSubnets,
  readNodeLease,
  storedVtepAddress,
} from '../../../src/network/node-lease.ts';
import { formatAddress, formatPrefix, parseAddress, type Prefix } from '../../../src/policy/address.ts';

const PREFIX = DEFAULT_ANNOTATION_PREFIX;
const VXLAN = '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"}';
const VXLAN6 = '{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:00"}';
const KEY = 'aGVsbG8+d29ybGQvaGVsbG8gd29ybGQgaGVsbG8gd28=';

type Texts = Partial<Record<AnnotationName, unknown>>;

/** As kubectl would show it. */
function node(annotations: Texts, podCIDRs: unknown = ['10.244.1.0/24'], more: object = {}): unknown {
  const own = Object.entries(annotations).map(([name, value]) => [`${PREFIX}/${name}`, value]);
  return { metadata: { name: 'b', annotations: { 'example.org/other': 'x', ...Object.fromEntries(own) } }, spec: { podCIDRs, ...more } };
}

const MANAGED: Texts = { 'kube-subnet-manager': 'true', 'backend-type': 'vxlan', 'backend-data': VXLAN, 'public-ip': '192.0.2.2' };
const MANAGED6: Texts = { ...MANAGED, 'backend-v6-data': VXLAN6, 'public-ipv6': '2001:db8::2' };
const BOTH = ['10.244.1.0/24', 'fd00:10:244:1::/64'];

function read(object: unknown, { ipv4 = true, ipv6 = false } = {}): NodeReading {
  return readNodeLease(object, { prefix: PREFIX, ipv4, ipv6 });
}

const DUAL = { ipv4: true, ipv6: true };
const V6_ONLY = { ipv4: false, ipv6: true };

describe('the names of annotations', () => {
  it('follow from a prefix as in flannel', () => {
    // pkg/subnet/kube/annotations_test.go
    const sound = [
      ['flannel.alpha.coreos.com', 'flannel.alpha.coreos.com/backend-type'],
      ['flannel.alpha.coreos.com/', 'flannel.alpha.coreos.com/backend-type'],
      ['flannel.alpha.coreos.com/prefix', 'flannel.alpha.coreos.com/prefix-backend-type'],
      ['flannel.alpha.coreos.com/prefix-', 'flannel.alpha.coreos.com/prefix-backend-type'],
      ['org.com', 'org.com/backend-type'],
      ['org9.com', 'org9.com/backend-type'],
      ['org.com/9', 'org.com/9-backend-type'],
    ] as const;
    for (const [prefix, expected] of sound) assert.equal(annotationNames(prefix)['backend-type'], expected);
    assert.equal(annotationNames(PREFIX)['public-ipv6-overwrite'], `${PREFIX}/public-ipv6-overwrite`);
  });

  it('are refused for what is no domain', () => {
    for (const prefix of ['org', 'org/', 'org/prefix', 'org.COM', 'org.com/PREFIX', 'a.b/c/d', '', '/x', 'a b.c']) {
      assert.throws(
        () => annotationNames(prefix),
        (error) => error instanceof SluiceError && error.code === 'ANNOTATION_PREFIX_INVALID' && error.exitStatus === 2,
        prefix,
      );
    }
  });
});

describe('the lease of a node', () => {
  it('is its podCIDR with what its flannel says', () => {
    const { name, lease, reason } = read(node(MANAGED));
    assert.equal(name, 'b');
    assert.equal(reason, undefined);
    assert.deepEqual(lease, {
      node: 'b',
      backendType: 'vxlan',
      v4: {
        subnet: { address: 0x0af4_0100, length: 24 },
        publicAddress: parseAddress('192.0.2.2'),
        data: { VNI: 1, VtepMAC: 'aa:bb:cc:dd:ee:ff' },
      },
      v6: undefined,
    });
  });

  it('has both families, in whichever order the podCIDRs come', () => {
    for (const podCIDRs of [BOTH, BOTH.toReversed()]) {
      const { lease } = read(node(MANAGED6, podCIDRs), DUAL);
      const { v4, v6 } = lease ?? {};
      assert.equal(formatPrefix(v4?.subnet ?? assert.fail()), '10.244.1.0/24');
      assert.equal(formatPrefix(v6?.subnet ?? assert.fail()), 'fd00:10:244:1::/64');
      assert.equal(formatAddress(v6?.publicAddress ?? assert.fail()), '2001:db8::2');
    }
  });

  it('has nothing of a family that the network has not', () => {
    assert.equal(read(node(MANAGED6, BOTH)).lease?.v6, undefined);
    assert.equal(read(node(MANAGED6, BOTH), V6_ONLY).lease?.v4, undefined);
  });

  it('is of spec.podCIDR where there is no list', () => {
    for (const list of [null, []]) {
      const { lease } = read(node(MANAGED, list, { podCIDR: '10.244.7.0/24' }));
      assert.equal(formatPrefix(lease?.v4?.subnet ?? assert.fail()), '10.244.7.0/24');
    }
  });

  it('has no data of a backend that says nothing of itself', () => {
    const hostGw = read(node({ ...MANAGED, 'backend-type': 'host-gw', 'backend-data': 'null' })).lease;
    assert.deepEqual([hostGw?.backendType, hostGw?.v4?.data], ['host-gw', null]);
    // What flanneld with udp publishes.
    const udp = read(node({ ...MANAGED, 'backend-type': '', 'backend-data': 'null' })).lease;
    assert.deepEqual([udp?.backendType, udp?.v4?.data], ['', null]);
    // Nobody looks at it.
    assert.ok(read(node({ ...MANAGED, 'backend-type': 'ipip', 'backend-data': '{' })).lease !== undefined);
  });

  it('is there over one family where a node lacks the other', () => {
    for (const [object, missing] of [
      [node(MANAGED6, ['10.244.1.0/24']), /no IPv6 podCIDR/],
      [node(MANAGED, BOTH), /no annotation flannel\.alpha\.coreos\.com\/public-ipv6/],
    ] as const) {
      const { lease, reason, unreadable } = read(object, DUAL);
      assert.ok(lease?.v4 !== undefined && lease.v6 === undefined);
      assert.match(reason ?? '', /^node b: /);
      assert.match(reason ?? '', missing);
      assert.equal(unreadable, false);
    }
    // An IPv6-only host-gw of flannel publishes zeros of IPv4.
    const zeros = read(node({ ...MANAGED6, 'backend-type': 'host-gw', 'public-ip': '0.0.0.0' }, BOTH), DUAL);
    assert.ok(zeros.lease?.v4 === undefined && zeros.lease?.v6 !== undefined);
  });

  describe('is not there', () => {
    const cases: readonly (readonly [name: string, object: unknown, reason: RegExp])[] = [
      [
        'without a flannel',
        node({ ...MANAGED, 'kube-subnet-manager': undefined }),
        /no flannel runs there: .*kube-subnet-manager is not "true"/,
      ],
      ['where it is not managed', node({ ...MANAGED, 'kube-subnet-manager': 'TRUE' }), /no flannel runs there/],
      ['before there is a podCIDR', node(MANAGED, []), /it has no IPv4 podCIDR/],
      ['before flannel has told its address', node({ 'kube-subnet-manager': 'true' }), /it has no annotation .*\/public-ip$/],
    ];
    for (const [name, object, expected] of cases) {
      it(name, () => {
        const { lease, reason, unreadable } = read(object);
        assert.equal(lease, undefined);
        assert.match(reason ?? '', /^node b: /);
        assert.match(reason ?? '', expected);
        assert.equal(unreadable, false);
      });
    }
  });

  describe('cannot be read, and says the annotation or field,', () => {
    const cases: readonly (readonly [name: string, object: unknown, reason: RegExp])[] = [
      ['with an address that is none', node({ ...MANAGED, 'public-ip': '192.0.2' }), /public-ip: "192\.0\.2" is no IPv4 address of a node/],
      // flanneld ends with a panic there.
      ['with an address of the other family', node({ ...MANAGED, 'public-ip': 'fe80::1' }), /public-ip: "fe80::1" is no IPv4 address/],
      ['with a multicast address', node({ ...MANAGED, 'public-ip': '224.0.0.1' }), /public-ip: /],
      ['with an address that is no text', node({ ...MANAGED, 'public-ip': 5 }), /public-ip: 5 is no IPv4 address/],
      ['without data', node({ ...MANAGED, 'backend-data': undefined }), /backend-data: is missing; expected \{"VNI"/],
      ['with null for data', node({ ...MANAGED, 'backend-data': 'null' }), /backend-data: expected \{"VNI".*, not "null"/],
      ['with data that is no JSON', node({ ...MANAGED, 'backend-data': '{' }), /backend-data: expected .*, not "\{"/],
      ['with a MAC address of many', node({ ...MANAGED, 'backend-data': VXLAN.replace('aa:', '01:') }), /backend-data: /],
      ['with a key that is none', node({ ...MANAGED, 'backend-type': 'wireguard' }), /backend-data: expected \{"PublicKey"/],
      ['with a type that is no text', node({ ...MANAGED, 'backend-type': {} }), /backend-type: expected a text, not an object/],
      ['with a podCIDR that is none', node(MANAGED, ['10.244.1.0']), /spec\.podCIDRs\[0\]: "10\.244\.1\.0" is no block/],
      ['with a podCIDR that is no text', node(MANAGED, [7]), /spec\.podCIDRs\[0\]: 7 is no block/],
      ['with podCIDRs that are no list', node(MANAGED, 'x'), /spec\.podCIDRs: expected a list, not a string/],
      ['with three podCIDRs', node(MANAGED, ['10.0.0.0/24', 'fd00::/64', '10.0.1.0/24']), /spec\.podCIDRs: expected one or two.*, not 3/],
    ];
    for (const [name, object, expected] of cases) {
      it(name, () => {
        const { lease, reason, unreadable } = read(object);
        assert.equal(lease, undefined);
        assert.match(reason ?? '', /^node b: /);
        assert.match(reason ?? '', expected);
        assert.equal(unreadable, true);
      });
    }

    it('with a second family that is bad, though the first is sound', () => {
      const { lease, reason, unreadable } = read(node({ ...MANAGED6, 'public-ipv6': 'x' }, BOTH), DUAL);
      assert.deepEqual([lease, unreadable], [undefined, true]);
      assert.match(reason ?? '', /public-ipv6: "x" is no IPv6 address/);
    });

    it('or the name', () => {
      for (const object of [undefined, null, 'x', [], {}, { metadata: 5 }, { metadata: { name: 5 } }, { metadata: { name: '' } }]) {
        const { name, lease, unreadable } = read(object);
        assert.deepEqual([name, lease, unreadable], [undefined, undefined, true]);
      }
    });
  });

  it('does not fall over anything that can stand in its place', () => {
    const junk = [undefined, null, true, 0, '', 'x', [], [null], {}, { a: 1 }];
    for (const value of junk) {
      read({ metadata: { name: 'b', annotations: value }, spec: value });
      read(
        node({ ...MANAGED, 'backend-data': value, 'public-ip': value, 'backend-type': value, 'public-ip-overwrite': value }, value, {
          podCIDR: value,
        }),
      );
    }
  });
});

describe('what a node has of its own', () => {
  it('are its podCIDRs and flannel’s annotations by their short names', () => {
    const { own } = read(node({ ...MANAGED, 'public-ip-overwrite': '203.0.113.9' }, BOTH));
    assert.equal(own.exists, true);
    assert.deepEqual(own.podCIDRs.map(formatPrefix), BOTH);
    assert.equal(own.annotations.get('public-ip-overwrite'), '203.0.113.9');
    assert.equal(own.annotations.get('backend-data'), VXLAN);
    assert.equal(own.annotations.has('example.org/other'), false);
    assert.deepEqual(own.problems, []);
  });

  it('is there before flannel has run', () => {
    const { own } = read(node({}));
    assert.deepEqual(own.podCIDRs.map(formatPrefix), ['10.244.1.0/24']);
    assert.equal(own.annotations.size, 0);
  });

  it('leaves out addresses that would be everybody’s problem', () => {
    const { own } = read(
      node({ 'public-ip-overwrite': 'x', 'public-ipv6-overwrite': '192.0.2.1', 'node-public-ip': '::1', 'node-public-ipv6': '' }),
    );
    assert.deepEqual([...own.annotations], [['node-public-ipv6', '']]);
    assert.equal(own.problems.length, 3);
    assert.match(
      own.problems[0] ?? '',
      /^annotation flannel\.alpha\.coreos\.com\/public-ip-overwrite: "x" is no IPv4 address of a node, and it is ignored$/,
    );
  });

  it('is the address of its vxlan device', () => {
    const { annotations } = read(node(MANAGED6)).own;
    assert.equal(storedVtepAddress(annotations, 4), 'aa:bb:cc:dd:ee:ff');
    assert.equal(storedVtepAddress(annotations, 6), 'aa:bb:cc:dd:ee:00');
    for (const data of ['', 'null', '{', `{"PublicKey":"${KEY}","Port":51820}`, '{"VNI":1,"VtepMAC":"x"}']) {
      assert.equal(storedVtepAddress(new Map([['backend-data', data]]), 4), undefined);
    }
    assert.equal(storedVtepAddress(new Map(), 6), undefined);
  });
});

describe('what a node publishes', () => {
  const v4 = (data: string): FamilyAttributes => ({ publicAddress: parseAddress('192.0.2.1') ?? assert.fail(), data });
  const v6 = (data: string): FamilyAttributes => ({ publicAddress: parseAddress('2001:db8::1') ?? assert.fail(), data });
  const none = { v4: undefined, v6: undefined };
  const wireguard = (port: number): string => JSON.stringify({ PublicKey: KEY, Port: port });

  /** The patch that is sent, or `none`. */
  function patch(attributes: LeaseAttributes, existing: Texts = {}): string {
    const changes = ownAnnotations(attributes, read(node(existing)).own.annotations, annotationNames(PREFIX));
    return changes === undefined ? 'none' : annotationsPatch(changes);
  }

  /** As Go writes it: with the names in order. */
  function expected(annotations: Readonly<Record<string, string>>): string {
    const entries = Object.entries(annotations).map(([name, value]) => `${JSON.stringify(`${PREFIX}/${name}`)}:${JSON.stringify(value)}`);
    return `{"metadata":{"annotations":{${entries.join(',')}}}}`;
  }

  it('is written byte for byte as flanneld does', () => {
    const bytes = String.raw`{"metadata":{"annotations":{"flannel.alpha.coreos.com/backend-data":"{\"VNI\":1,\"VtepMAC\":\"aa:bb:cc:dd:ee:ff\"}","flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/kube-subnet-manager":"true","flannel.alpha.coreos.com/public-ip":"192.0.2.1"}}}`;
    assert.equal(patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }), bytes);
  });

  const cases: readonly (readonly [name: string, attributes: LeaseAttributes, annotations: Record<string, string>])[] = [
    [
      'vxlan of both families',
      { backend: 'vxlan', v4: v4(VXLAN), v6: v6(VXLAN6) },
      {
        'backend-data': VXLAN,
        'backend-type': 'vxlan',
        'backend-v6-data': VXLAN6,
        'kube-subnet-manager': 'true',
        'public-ip': '192.0.2.1',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'vxlan of IPv6 alone',
      { ...none, backend: 'vxlan', v6: v6(VXLAN6) },
      { 'backend-type': 'vxlan', 'backend-v6-data': VXLAN6, 'kube-subnet-manager': 'true', 'public-ipv6': '2001:db8::1' },
    ],
    [
      'host-gw',
      { ...none, backend: 'host-gw', v4: v4('null') },
      { 'backend-data': 'null', 'backend-type': 'host-gw', 'kube-subnet-manager': 'true', 'public-ip': '192.0.2.1' },
    ],
    [
      'host-gw of both families',
      { backend: 'host-gw', v4: v4('null'), v6: v6('null') },
      {
        'backend-data': 'null',
        'backend-type': 'host-gw',
        'backend-v6-data': 'null',
        'kube-subnet-manager': 'true',
        'public-ip': '192.0.2.1',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'host-gw of IPv6 alone, with zeros of IPv4',
      { ...none, backend: 'host-gw', v6: v6('null') },
      {
        'backend-data': 'null',
        'backend-type': 'host-gw',
        'backend-v6-data': 'null',
        'kube-subnet-manager': 'true',
        'public-ip': '0.0.0.0',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'ipip, of IPv4 alone',
      { backend: 'ipip', v4: v4('null'), v6: v6('null') },
      { 'backend-data': 'null', 'backend-type': 'ipip', 'kube-subnet-manager': 'true', 'public-ip': '192.0.2.1' },
    ],
    [
      'udp, with an empty type',
      { ...none, backend: 'udp', v4: v4('null') },
      { 'backend-data': 'null', 'backend-type': '', 'kube-subnet-manager': 'true', 'public-ip': '192.0.2.1' },
    ],
    [
      'alloc, with an empty type',
      { ...none, backend: 'alloc', v4: v4('null') },
      { 'backend-data': 'null', 'backend-type': '', 'kube-subnet-manager': 'true', 'public-ip': '192.0.2.1' },
    ],
    [
      'wireguard of both families',
      { backend: 'wireguard', v4: v4(wireguard(51_820)), v6: v6(wireguard(51_821)) },
      {
        'backend-data': wireguard(51_820),
        'backend-type': 'wireguard',
        'backend-v6-data': wireguard(51_821),
        'kube-subnet-manager': 'true',
        'public-ip': '192.0.2.1',
        'public-ipv6': '2001:db8::1',
      },
    ],
    [
      'wireguard of IPv6 alone, with zeros of IPv4',
      { ...none, backend: 'wireguard', v6: v6(wireguard(51_821)) },
      {
        'backend-data': 'null',
        'backend-type': 'wireguard',
        'backend-v6-data': wireguard(51_821),
        'kube-subnet-manager': 'true',
        'public-ip': '0.0.0.0',
        'public-ipv6': '2001:db8::1',
      },
    ],
  ];
  for (const [name, attributes, annotations] of cases) {
    it(`is of ${name}`, () => assert.equal(patch(attributes), expected(annotations)));
  }

  const same: Texts = { ...MANAGED, 'public-ip': '192.0.2.1' };

  it('is nothing where it is there already', () => {
    assert.equal(patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, same), 'none');
    assert.equal(patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, { ...same, 'backend-v6-data': VXLAN6 }), 'none');
    // flanneld does not tell an annotation that is not there from an empty one.
    const { 'backend-type': _, ...untyped } = { ...same, 'backend-data': 'null' };
    assert.equal(patch({ ...none, backend: 'udp', v4: v4('null') }, untyped), 'none');
  });

  it('is only what has changed', () => {
    assert.equal(
      patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, { ...same, 'backend-data': VXLAN6 }),
      expected({ 'backend-data': VXLAN }),
    );
    assert.equal(
      patch({ ...none, backend: 'host-gw', v4: v4('null') }, same),
      expected({ 'backend-data': 'null', 'backend-type': 'host-gw' }),
    );
  });

  it('has the address that an administrator has written over', () => {
    const over = { 'public-ip-overwrite': '203.0.113.9', 'public-ipv6-overwrite': '2001:db8::9' };
    assert.equal(
      patch({ backend: 'vxlan', v4: v4(VXLAN), v6: v6(VXLAN6) }, over),
      expected({
        'backend-data': VXLAN,
        'backend-type': 'vxlan',
        'backend-v6-data': VXLAN6,
        'kube-subnet-manager': 'true',
        'public-ip': '203.0.113.9',
        'public-ipv6': '2001:db8::9',
      }),
    );
    assert.equal(patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, { ...same, ...over, 'public-ip': '203.0.113.9' }), 'none');
    // Taken away again, it is the own one again; and one that cannot be read never counts.
    assert.equal(
      patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, { ...same, 'public-ip': '203.0.113.9' }),
      expected({ 'public-ip': '192.0.2.1' }),
    );
    assert.equal(patch({ ...none, backend: 'vxlan', v4: v4(VXLAN) }, { ...same, 'public-ip-overwrite': 'x' }), 'none');
  });

  it('is a condition when pods may come', () => {
    assert.equal(
      networkAvailablePatch(new Date('2026-11-21T16:39:09.996Z')),
      '{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","lastHeartbeatTime":"2026-11-21T16:39:09Z","lastTransitionTime":"2026-11-21T16:39:09Z","reason":"FlannelIsUp","message":"Flannel is running on this node"}]}}',
    );
  });
});

describe('a node’s own subnets', () => {
  const conf = (text: string): NetConf => parseNetConf(`{${text},"Backend":{"Type":"vxlan"}}`, 'x');
  const V4 = conf('"Network":"10.244.0.0/16"');
  const DUAL_CONF = conf('"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"');
  const own = (podCIDRs: unknown) => read(node({}, podCIDRs)).own;
  const texts = (subnets: object) => Object.entries(subnets).map(([key, value]) => [key, formatPrefix(value as Prefix)]);

  it('are its podCIDRs of the families that the network has', () => {
    assert.deepEqual(texts(ownSubnets(own(BOTH), V4)), [['v4', '10.244.1.0/24']]);
    assert.deepEqual(texts(ownSubnets(own(BOTH), DUAL_CONF)), [
      ['v4', '10.244.1.0/24'],
      ['v6', 'fd00:10:244:1::/64'],
    ]);
    assert.deepEqual(texts(ownSubnets(own(['10.244.0.0/16']), V4)), [['v4', '10.244.0.0/16']]);
  });

  it('are waited for', () => {
    assert.deepEqual(ownSubnets(NO_NODE, V4), { waiting: 'the node is not there yet' });
    assert.deepEqual(ownSubnets(own([]), V4), { waiting: 'the node has no IPv4 podCIDR yet' });
    assert.deepEqual(ownSubnets(own(['10.244.1.0/24']), DUAL_CONF), { waiting: 'the node has no IPv6 podCIDR yet' });
    const bad = ownSubnets(own(['x']), V4);
    assert.match('waiting' in bad ? bad.waiting : '', /no IPv4 podCIDR yet: spec\.podCIDRs\[0\]: "x" is no block/);
  });

  it('are refused outside of the network, with both blocks', () => {
    for (const podCIDR of ['10.245.1.0/24', '10.244.0.0/15', '0.0.0.0/0']) {
      assert.throws(
        () => ownSubnets(own([podCIDR]), V4),
        (error) =>
          error instanceof SluiceError &&
          error.code === 'LEASE_OUTSIDE_NETWORK' &&
          error.message.includes('10.244.0.0/16') &&
          error.message.includes(podCIDR),
        podCIDR,
      );
    }
    assert.throws(() => ownSubnets(own(['10.244.1.0/24', 'fd01::/64']), DUAL_CONF), /podCIDR fd01::\/64 .* IPv6Network fd00:10:244::\/56/);
  });
});
