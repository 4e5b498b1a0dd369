/** Label selectors: what is refused and where, and the canonical form, held against the labels it matches. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { EVERYTHING, isLabelKey, isLabelValue, matches, readSelector, type Requirement, selectorOf } from '../../../src/policy/selector.ts';
import { labels } from './model.ts';

function text(value: unknown): string {
  return readSelector(value, 'spec.podSelector').selector?.text ?? assert.fail('the selector cannot be read');
}

/** Path and code of each problem, paths relative to the selector. */
function problems(value: unknown): string[][] {
  const reading = readSelector(value, 'at');
  assert.equal(reading.selector, undefined);
  return (reading.problems ?? []).map(({ path, code }) => [path, code]);
}

describe('readSelector', () => {
  it('reads the empty selector as everything', () => {
    for (const value of [{}, { matchLabels: {} }, { matchExpressions: [] }, { matchLabels: null, matchExpressions: null }]) {
      assert.deepEqual(readSelector(value, 'at').selector, EVERYTHING);
    }
  });

  it('writes what kubectl get -l would take', () => {
    assert.equal(text({ matchLabels: { tier: 'db', app: 'shop' } }), 'app=shop,tier=db');
    assert.equal(text({ matchExpressions: [{ key: 'a', operator: 'In', values: ['z', 'y', 'z'] }] }), 'a in (y,z)');
    assert.equal(text({ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['z', 'y'] }] }), 'a notin (y,z)');
    assert.equal(text({ matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['z'] }] }), 'a!=z');
    assert.equal(text({ matchExpressions: [{ key: 'example.com/a', operator: 'Exists' }] }), 'example.com/a');
    assert.equal(text({ matchExpressions: [{ key: 'a', operator: 'DoesNotExist', values: [] }] }), '!a');
    assert.equal(text({ matchLabels: { k: '' } }), 'k=');
  });

  it('takes no key for special', () => {
    const reading = readSelector({ matchLabels: { constructor: 'a' } }, 'at');
    assert.ok(reading.selector && matches(reading.selector, labels({ constructor: 'a' })) && !matches(reading.selector, labels({})));
  });

  for (const [title, value, expected] of [
    ['what is no object', 'app=shop', [['at', 'SELECTOR_INVALID']]],
    ['nothing', null, [['at', 'SELECTOR_INVALID']]],
    ['a list', [], [['at', 'SELECTOR_INVALID']]],
    ['labels that are no object', { matchLabels: ['a'] }, [['at.matchLabels', 'SELECTOR_INVALID']]],
    ['a field that does not exist', { matchLabel: { app: 'shop' } }, [['at.matchLabel', 'FIELD_UNKNOWN']]],
    ['a label that is a number', { matchLabels: { tier: 1 } }, [['at.matchLabels[tier]', 'LABEL_VALUE_INVALID']]],
    ['a label that is nothing', { matchLabels: { tier: null } }, [['at.matchLabels[tier]', 'LABEL_VALUE_INVALID']]],
    ['a value that no label has', { matchLabels: { tier: 'a b' } }, [['at.matchLabels[tier]', 'LABEL_VALUE_INVALID']]],
    ['a key that no label has', { matchLabels: { 'a b\n': 'c' } }, [['at.matchLabels["a b\\n"]', 'LABEL_KEY_INVALID']]],
    ['expressions that are no list', { matchExpressions: {} }, [['at.matchExpressions', 'SELECTOR_INVALID']]],
    ['an expression that is no object', { matchExpressions: ['a'] }, [['at.matchExpressions[0]', 'SELECTOR_INVALID']]],
    [
      'an unknown operator',
      { matchExpressions: [{ key: 'a', operator: 'in', values: ['b'] }] },
      [['at.matchExpressions[0].operator', 'SELECTOR_OPERATOR_UNKNOWN']],
    ],
    [
      'In without values',
      { matchExpressions: [{ key: 'a', operator: 'In' }] },
      [['at.matchExpressions[0].values', 'SELECTOR_VALUES_MISSING']],
    ],
    [
      'NotIn without values',
      { matchExpressions: [{ key: 'a', operator: 'NotIn', values: [] }] },
      [['at.matchExpressions[0].values', 'SELECTOR_VALUES_MISSING']],
    ],
    [
      'Exists with values',
      { matchExpressions: [{ key: 'a', operator: 'Exists', values: ['b'] }] },
      [['at.matchExpressions[0].values', 'SELECTOR_VALUES_FORBIDDEN']],
    ],
    [
      'DoesNotExist with values',
      { matchExpressions: [{ key: 'a', operator: 'DoesNotExist', values: ['b'] }] },
      [['at.matchExpressions[0].values', 'SELECTOR_VALUES_FORBIDDEN']],
    ],
    [
      'values that are no list',
      { matchExpressions: [{ key: 'a', operator: 'In', values: 'b' }] },
      [['at.matchExpressions[0].values', 'SELECTOR_INVALID']],
    ],
    [
      'a value that is no label’s, among others',
      { matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['b', true] }] },
      [['at.matchExpressions[0].values[1]', 'LABEL_VALUE_INVALID']],
    ],
    [
      'one value that is no label’s, without asking for more',
      { matchExpressions: [{ key: 'a', operator: 'In', values: [true] }] },
      [['at.matchExpressions[0].values[0]', 'LABEL_VALUE_INVALID']],
    ],
    ['a missing key', { matchExpressions: [{ operator: 'Exists' }] }, [['at.matchExpressions[0].key', 'LABEL_KEY_INVALID']]],
    [
      'an expression with a field too many',
      { matchExpressions: [{ key: 'a', operator: 'Exists', value: 'b' }] },
      [['at.matchExpressions[0].value', 'FIELD_UNKNOWN']],
    ],
    [
      'several faults at once, each in its place',
      { matchLabels: { ok: 'v', bad: '-' }, matchExpressions: [{ key: '/', operator: 'Exists' }] },
      [
        ['at.matchLabels[bad]', 'LABEL_VALUE_INVALID'],
        ['at.matchExpressions[0].key', 'LABEL_KEY_INVALID'],
      ],
    ],
  ] as const) {
    it(`refuses ${title}`, () => assert.deepEqual(problems(value), expected));
  }
});

describe('label syntax', () => {
  it('allows what the API allows', () => {
    for (const key of ['a', 'A', '9', 'a.b_c-d', 'x'.repeat(63), 'example.com/a', `${'a'.repeat(253)}/${'b'.repeat(63)}`, 'a/b']) {
      assert.ok(isLabelKey(key), key);
    }
    for (const value of ['', 'a', '1.0', 'A_b-c.d', 'x'.repeat(63)]) assert.ok(isLabelValue(value), value);
  });

  it('refuses what the API refuses', () => {
    for (const key of [
      '',
      '/',
      'a/',
      '/a',
      'a/b/c',
      '-a',
      'a-',
      '.a',
      'a_',
      'Example.com/a',
      'a..b/c',
      '-a.b/c',
      'x'.repeat(64),
      `${'a'.repeat(254)}/b`,
      'é',
      'a\n',
    ]) {
      assert.ok(!isLabelKey(key), key);
    }
    for (const value of ['-', 'a-', '.a', ' ', 'a b', 'a/b', 'x'.repeat(64), 'a\n', '\n'])
      assert.ok(!isLabelValue(value), JSON.stringify(value));
  });
});

describe('the canonical form', () => {
  // All label sets over two keys and four values (one of them in no requirement), each key also absent.
  const VALUES = ['', 'a', 'b', 'other'];
  const KEYS = ['k', 'm'];
  const choices = [undefined, ...VALUES];
  const LABELS = choices.flatMap((k) =>
    choices.map((m) => new Map([...(k === undefined ? [] : [['k', k] as const]), ...(m === undefined ? [] : [['m', m] as const])])),
  );

  const values = fc.uniqueArray(fc.constantFrom('', 'a', 'b'), { minLength: 1 });
  const key = fc.constantFrom(...KEYS);
  const requirement: fc.Arbitrary<Requirement> = fc.oneof(
    fc.record({ key, operator: fc.constantFrom('In' as const, 'NotIn' as const), values }),
    fc.record({ key, operator: fc.constantFrom('Exists' as const, 'DoesNotExist' as const), values: fc.constant([]) }),
  );
  const requirements = fc.array(requirement, { maxLength: 5 });

  /** What the API says of one requirement, in so many words. */
  function holds({ key, operator, values }: Requirement, set: ReadonlyMap<string, string>): boolean {
    const has = set.has(key);
    const among = has && values.includes(set.get(key) ?? assert.fail());
    return { In: among, NotIn: !has || !among, Exists: has, DoesNotExist: !has }[operator];
  }

  function matched(list: readonly Requirement[]): boolean[] {
    return LABELS.map((set) => list.every((requirement) => holds(requirement, set)));
  }

  it('matches what the requirements match, one by one', () => {
    fc.assert(
      fc.property(requirements, (list) => {
        const selector = selectorOf(list);
        assert.deepEqual(
          LABELS.map((set) => matches(selector, set)),
          matched(list),
        );
        assert.deepEqual(matched(selector.requirements), matched(list));
      }),
      { numRuns: 1000 },
    );
  });

  it('is the same text exactly where the same labels match, unless nothing does', () => {
    fc.assert(
      fc.property(requirements, requirements, (one, other) => {
        const isNothing = !matched(one).includes(true);
        const isSame = String(matched(one)) === String(matched(other));
        if (isNothing && isSame) return;
        assert.equal(selectorOf(one).text === selectorOf(other).text, isSame);
      }),
      { numRuns: 3000 },
    );
  });

  it('of a contradiction shows the key that contradicts itself', () => {
    assert.equal(text({ matchLabels: { a: '1', b: '2' }, matchExpressions: [{ key: 'b', operator: 'DoesNotExist' }] }), 'b,!b');
    assert.equal(text({ matchLabels: { a: '1' }, matchExpressions: [{ key: 'a', operator: 'NotIn', values: ['1'] }] }), 'a,!a');
  });
});
