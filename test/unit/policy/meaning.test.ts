/**
 * Reading specs that are not valid: where each fault is reported, what stays in force, and that a fault never admits anybody. A spec
 * that a stored object can hold is untrusted data like any other.
 */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { SpecUnreadableError } from '../../../src/policy/errors.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { Policy, Protocol } from '../../../src/policy/objects.ts';
import { PROBLEMS, problemSeverity } from '../../../src/policy/problems.ts';
import { EVERYTHING } from '../../../src/policy/selector.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { allows, ask, KEYS, MODEL, only, policy } from './model.ts';

function reported(read: Policy): string[] {
  return read.problems.map(({ path, code }) => `${code} ${path}`);
}

function inRule(rule: unknown): Policy {
  return policy({ podSelector: {}, ingress: [rule] });
}

describe('interpretPolicy', () => {
  it('keeps the names, and finds nothing wrong with a valid spec', () => {
    const spec = {
      podSelector: { matchLabels: { app: 'shop' } },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }], ports: [{ protocol: 'TCP', port: 'http' }] }],
      egress: [{ to: [{ namespaceSelector: {}, podSelector: only('b') }], ports: [{ port: 1, endPort: 65_535 }] }, {}],
    };
    const read = interpretPolicy('shop', 'allow', spec);
    assert.deepEqual([read.namespace, read.name, read.problems], ['shop', 'allow', []]);
    assert.equal(read.subject.text, 'app=shop');
    assert.deepEqual(read.ingress, [
      {
        index: 0,
        peers: [
          {
            kind: 'block',
            index: 0,
            family: 4,
            cidr: { address: 0x0a00_0000, length: 8 },
            ranges: [
              { first: 0x0a00_0000, last: 0x0a00_ffff },
              { first: 0x0a02_0000, last: 0x0aff_ffff },
            ],
            text: '10.0.0.0/8 except 10.1.0.0/16',
          },
        ],
        ports: [{ kind: 'name', index: 0, protocol: 'TCP', name: 'http' }],
      },
    ]);
    assert.deepEqual(read.egress, [
      {
        index: 0,
        peers: [
          {
            kind: 'pods',
            index: 0,
            namespaces: EVERYTHING,
            pods: { requirements: [{ key: 'pod', operator: 'In', values: ['b'] }], text: 'pod=b' },
          },
        ],
        ports: [{ kind: 'numbers', index: 0, protocol: 'TCP', first: 1, last: 65_535 }],
      },
      { index: 1, peers: undefined, ports: undefined },
    ]);
  });

  it('takes an absent spec for an empty one, as the API does', () => {
    for (const spec of [undefined, null, {}]) {
      const read = policy(spec);
      assert.deepEqual([read.subject, read.ingress, read.egress, read.problems], [EVERYTHING, [], undefined, []]);
    }
  });

  it('throws SPEC_UNREADABLE for a spec that is no object, so that the last good state stays', () => {
    for (const spec of ['deny', 7, true, [], [{}]]) {
      assert.throws(
        () => policy(spec),
        (error) => error instanceof SpecUnreadableError && error.code === 'SPEC_UNREADABLE' && error.problem.path === 'spec',
      );
    }
  });

  it('isolates every pod of the namespace where its own podSelector cannot be read', () => {
    const read = policy({ podSelector: { matchLabels: { app: 1 } }, policyTypes: ['Egress'] });
    assert.deepEqual(reported(read), ['LABEL_VALUE_INVALID spec.podSelector.matchLabels[app]']);
    const world = worldOf({ ...MODEL, policies: [read] });
    assert.ok(['x/a', 'x/b', 'x/c'].every((key) => !allows(world, key, 'y/a')));
    assert.ok(allows(world, 'y/a', 'x/a'), 'in its directions only');
    assert.ok(allows(world, 'y/a', 'z/a'), 'of its namespace only');
  });

  it('isolates both directions where policyTypes is no list', () => {
    const read = policy({ podSelector: {}, policyTypes: 'Ingress', ingress: [{}], egress: [{}] });
    assert.deepEqual([read.ingress, read.egress], [[], []]);
    assert.deepEqual(reported(read), ['TYPE_INVALID spec.policyTypes']);
  });

  it('tells of more than two policy types, and takes them as they are', () => {
    const read = policy({ podSelector: {}, policyTypes: ['Ingress', 'Ingress', 'Ingress'], ingress: [{}] });
    assert.deepEqual(reported(read), ['POLICY_TYPES_TOO_MANY spec.policyTypes']);
    assert.equal(read.ingress?.length, 1);
    assert.equal(read.egress, undefined);
  });

  it('admits nothing by rules that are no list, and lets them isolate', () => {
    const read = policy({ podSelector: {}, ingress: { from: [] }, egress: 'all' });
    assert.deepEqual([read.ingress, read.egress], [[], []]);
    assert.deepEqual(reported(read), ['TYPE_INVALID spec.ingress', 'TYPE_INVALID spec.egress']);
  });

  it('reports faults in rules of a direction that is not isolated, without isolating it', () => {
    const read = policy({ podSelector: {}, policyTypes: ['Ingress'], egress: [{ to: [{}] }] });
    assert.equal(read.egress, undefined);
    assert.deepEqual(reported(read), ['PEER_EMPTY spec.egress[0].to[0]']);
  });

  it('keeps the places of the rules that it can read', () => {
    const read = policy({ podSelector: {}, ingress: [null, {}, 'x', { ports: [{ port: 80 }] }] });
    assert.deepEqual(
      read.ingress?.map(({ index }) => index),
      [1, 3],
    );
    assert.deepEqual(reported(read), ['TYPE_INVALID spec.ingress[0]', 'TYPE_INVALID spec.ingress[2]']);
  });

  it('admits nothing by a rule with a field that it does not know, rather than everyone', () => {
    for (const field of ['form', 'to', 'port']) {
      const read = inRule({ [field]: [{ podSelector: only('b') }] });
      assert.deepEqual([read.ingress, reported(read)], [[], [`FIELD_UNKNOWN spec.ingress[0].${field}`]]);
    }
  });

  it('reports a field of the spec that it does not know, and goes on', () => {
    const read = policy({ podSelector: {}, ingres: [{}], ingress: [{}] });
    assert.deepEqual(reported(read), ['FIELD_UNKNOWN spec.ingres']);
    assert.equal(read.ingress?.length, 1);
  });

  for (const [title, peer, expected] of [
    ['no object', 'x/b', ['TYPE_INVALID spec.ingress[0].from[0]']],
    ['nothing', null, ['TYPE_INVALID spec.ingress[0].from[0]']],
    ['an ipBlock and a podSelector', { ipBlock: { cidr: '0.0.0.0/0' }, podSelector: {} }, ['PEER_MIXED spec.ingress[0].from[0]']],
    ['an ipBlock and a namespaceSelector', { ipBlock: {}, namespaceSelector: {} }, ['PEER_MIXED spec.ingress[0].from[0]']],
    ['an unknown field', { nodeSelector: {} }, ['FIELD_UNKNOWN spec.ingress[0].from[0].nodeSelector']],
    ['an unknown field beside a selector', { podSelector: {}, podSelectr: {} }, ['FIELD_UNKNOWN spec.ingress[0].from[0].podSelectr']],
    ['an ipBlock that is no object', { ipBlock: '0.0.0.0/0' }, ['TYPE_INVALID spec.ingress[0].from[0].ipBlock']],
    ['an ipBlock without a cidr', { ipBlock: {} }, ['CIDR_INVALID spec.ingress[0].from[0].ipBlock.cidr']],
    ['a cidr that is a number', { ipBlock: { cidr: 10 } }, ['CIDR_INVALID spec.ingress[0].from[0].ipBlock.cidr']],
    [
      'an ipBlock with an unknown field',
      { ipBlock: { cidr: '0.0.0.0/0', excpet: [] } },
      ['FIELD_UNKNOWN spec.ingress[0].from[0].ipBlock.excpet'],
    ],
    [
      'an except that is no list',
      { ipBlock: { cidr: '0.0.0.0/0', except: '10.0.0.0/8' } },
      ['EXCEPT_INVALID spec.ingress[0].from[0].ipBlock.except'],
    ],
    [
      'an except that is no CIDR',
      { ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '11.0.0.0'] } },
      ['EXCEPT_INVALID spec.ingress[0].from[0].ipBlock.except[1]'],
    ],
    ['a podSelector that is no object', { podSelector: 'b' }, ['SELECTOR_INVALID spec.ingress[0].from[0].podSelector']],
    [
      'two selectors at fault',
      { podSelector: [], namespaceSelector: 1 },
      ['SELECTOR_INVALID spec.ingress[0].from[0].podSelector', 'SELECTOR_INVALID spec.ingress[0].from[0].namespaceSelector'],
    ],
  ] as const) {
    it(`a peer matches nothing that is or has ${title}`, () => {
      const read = inRule({ from: [peer] });
      assert.deepEqual(reported(read), expected);
      assert.deepEqual(read.ingress, [{ index: 0, peers: [{ kind: 'nothing', index: 0 }], ports: undefined }]);
    });
  }

  for (const [title, port, expected] of [
    ['no object', 80, 'TYPE_INVALID spec.ingress[0].ports[0]'],
    ['nothing', null, 'TYPE_INVALID spec.ingress[0].ports[0]'],
    ['an unknown field', { prot: 80 }, 'FIELD_UNKNOWN spec.ingress[0].ports[0].prot'],
    ['protocol ""', { protocol: '', port: 80 }, 'PROTOCOL_UNKNOWN spec.ingress[0].ports[0].protocol'],
    ['protocol tcp', { protocol: 'tcp', port: 80 }, 'PROTOCOL_UNKNOWN spec.ingress[0].ports[0].protocol'],
    ['port 0', { port: 0 }, 'PORT_INVALID spec.ingress[0].ports[0].port'],
    ['port 65536', { port: 65_536 }, 'PORT_INVALID spec.ingress[0].ports[0].port'],
    ['half a port', { port: 80.5 }, 'PORT_INVALID spec.ingress[0].ports[0].port'],
    ['a port that is a list', { port: [80] }, 'PORT_INVALID spec.ingress[0].ports[0].port'],
    ['a number in quotes', { port: '80' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
    ['a name in capitals', { port: 'HTTP' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
    ['a name of 16 letters', { port: 'abcdefghijklmnop' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
    ['a name with two dashes together', { port: 'a--b' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
    ['a name that ends in a dash', { port: 'a-' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
    ['an empty name', { port: '' }, 'PORT_NAME_INVALID spec.ingress[0].ports[0].port'],
  ] as const) {
    it(`an entry of ports admits nothing that is or has ${title}`, () => {
      const read = inRule({ ports: [port, { port: 81 }] });
      assert.deepEqual(reported(read), [expected]);
      assert.deepEqual(read.ingress, [
        { index: 0, peers: undefined, ports: [{ kind: 'numbers', index: 1, protocol: 'TCP', first: 81, last: 81 }] },
      ]);
    });
  }

  it('admits nothing where none of the ports, or no peers at all, can be read', () => {
    for (const rule of [{ ports: [80] }, { ports: 80 }, { ports: {} }, { from: {} }, { from: 'all' }]) {
      const read = inRule(rule);
      assert.equal(read.problems.length, 1);
      const world = worldOf({ ...MODEL, policies: [read] });
      assert.ok(!allows(world, 'x/b', 'x/a'));
      assert.ok(!allows(world, '198.51.100.7', 'x/a', 'ICMP', undefined));
    }
  });

  it('accepts the names of ports that the API accepts', () => {
    for (const port of ['a', 'http', 'metrics-2', '8080-tcp', 'abcdefghijklmno', '1a'])
      assert.deepEqual(inRule({ ports: [{ port }] }).problems, [], port);
  });

  it('never puts control characters or endless text into a message', () => {
    const nasty = `\u001b[2J\n${'x'.repeat(10_000)}`;
    const read = policy({
      podSelector: { matchLabels: { [nasty]: nasty } },
      policyTypes: [nasty],
      ingress: [{ from: [{ ipBlock: { cidr: nasty } }, { [nasty]: 1 }], ports: [{ protocol: nasty, port: nasty }] }],
    });
    assert.ok(read.problems.length >= 6);
    for (const { path, message } of read.problems) {
      assert.doesNotMatch(path + message, /\p{Cc}/u);
      assert.ok(path.length + message.length < 600);
    }
  });
});

describe('failing closed', () => {
  const selector = fc.constantFrom({}, only('a'), only('b'), { matchExpressions: [{ key: 'pod', operator: 'NotIn', values: ['a', 'c'] }] });
  const peer = fc.oneof(
    fc.record({ podSelector: selector }),
    fc.record({ namespaceSelector: fc.constantFrom({}, { matchLabels: { ns: 'y' } }) }),
    fc.record({ namespaceSelector: fc.constant({ matchExpressions: [{ key: 'ns', operator: 'Exists' }] }), podSelector: selector }),
    fc.constantFrom(
      { ipBlock: { cidr: '10.244.0.0/16', except: ['10.244.2.0/24', '10.244.1.11/32'] } },
      { ipBlock: { cidr: '0.0.0.0/0' } },
    ),
  );
  const port = fc.constantFrom(
    { port: 80 },
    { protocol: 'TCP', port: 80, endPort: 81 },
    { protocol: 'UDP' },
    { port: 'serve-81-tcp', protocol: 'TCP' },
  );
  const some = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(of, { minLength: 1, maxLength: 3 });
  const rule = (peers: 'from' | 'to') => fc.record({ [peers]: some(peer), ports: some(port) }, { requiredKeys: [] });
  const spec = fc.record(
    {
      podSelector: selector,
      policyTypes: fc.constantFrom(['Ingress'], ['Egress'], ['Ingress', 'Egress']),
      ingress: some(rule('from')),
      egress: some(rule('to')),
    },
    { requiredKeys: ['podSelector'] },
  );
  /** Valid nowhere in a spec. */
  const garbage = fc.constantFrom<unknown>('no such thing!', -1, 80.5, true, { 'no such field': 1 }, [[]]);

  /** Every place within a value, as keys to follow. */
  function places(value: unknown): string[][] {
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value).flatMap(([key, inner]) => [[key], ...places(inner).map((rest) => [key, ...rest])]);
  }

  function replaced(value: unknown, [key, ...rest]: readonly string[], by: unknown): unknown {
    if (key === undefined) return by;
    if (Array.isArray(value)) return value.map((inner: unknown, index) => (String(index) === key ? replaced(inner, rest, by) : inner));
    if (typeof value !== 'object' || value === null) return assert.fail('no such place');
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, name === key ? replaced(inner, rest, by) : inner]));
  }

  type Asked = readonly [from: string, to: string, protocol: Protocol, port: number | undefined];
  const QUESTIONS: readonly Asked[] = [...KEYS, '198.51.100.7', '192.0.2.2'].flatMap((from) =>
    [...KEYS, '198.51.100.7'].flatMap((to): Asked[] => [
      ...[80, 81].map((port): Asked => [from, to, 'TCP', port]),
      [from, to, 'UDP', 80],
      [from, to, 'ICMP', undefined],
    ]),
  );

  it('whatever part of a spec becomes garbage, it is reported, and nothing is allowed that was refused', () => {
    fc.assert(
      fc.property(spec, garbage, fc.nat(), (valid, rubbish, where) => {
        const all = places(valid);
        const broken = policy(replaced(valid, all[where % all.length] ?? [], rubbish));
        assert.deepEqual(policy(valid).problems, []);
        assert.notDeepEqual(broken.problems, []);
        const [before, after] = [policy(valid), broken].map((read) => worldOf({ ...MODEL, policies: [read] }));
        for (const question of QUESTIONS) {
          if (before && after && !ask(before, ...question).allowed) assert.ok(!ask(after, ...question).allowed, question.join(' '));
        }
      }),
      { numRuns: 400 },
    );
  });

  it('no data at all makes it throw anything but SPEC_UNREADABLE', () => {
    const anything = fc.anything({ maxDepth: 4, withNullPrototype: true, withBigInt: true });
    const nearly = fc.record(
      {
        podSelector: anything,
        policyTypes: anything,
        ingress: fc.oneof(anything, fc.array(fc.record({ from: anything, ports: anything }))),
        egress: anything,
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(anything, nearly), (data) => {
        try {
          policy(data);
        } catch (error) {
          assert.ok(error instanceof SpecUnreadableError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the codes of problems', () => {
  it('say how bad it is, and of strangers assume the worst', () => {
    assert.equal(problemSeverity('CIDR_HOST_BITS'), 'warning');
    assert.equal(problemSeverity('CIDR_INVALID'), 'error');
    assert.equal(problemSeverity('toString'), 'error');
    assert.ok(Object.keys(PROBLEMS).every((code) => /^[A-Z0-9_]+$/.test(code)));
  });
});
