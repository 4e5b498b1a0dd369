/** What is wrong with an object costs a bounded amount, however much it is; and a fault of one object stays with it. */
import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import { problem, Problems } from '../../../src/policy/problems.ts';

const TOLD = 20;

function policyWith(spec: unknown): unknown {
  return { metadata: { namespace: 'tenant', name: 'loud' }, spec };
}

describe('the problems of an object', () => {
  it('are all told where they are few', () => {
    const problems = new Problems();
    const found = Array.from({ length: TOLD }, (_, index) => problem(`a[${index}]`, 'CIDR_INVALID', 'no'));
    problems.pushAll(found);
    assert.deepEqual(problems.told(), found);
  });

  it('are the first of each severity, and a count, where they are many', () => {
    const problems = new Problems();
    for (let index = 0; index < 1000; index++) {
      problems.push(problem(`warning[${index}]`, 'CIDR_HOST_BITS', 'so-so'));
      problems.push(problem(`error[${index}]`, 'CIDR_INVALID', 'no'));
    }
    const told = problems.told();
    assert.equal(told.length, 2 * TOLD + 1);
    assert.deepEqual(told.at(-1), {
      path: '',
      code: 'PROBLEMS_MORE',
      message: 'there are 1960 more problems with it; of each severity the first 20 are told',
    });
    assert.ok(told.some(({ path }) => path === 'error[19]') && !told.some(({ path }) => path === 'error[20]'));
  });

  // Each of these lists may be as long as an object that the API accepts.
  const LONG = 130_000;
  const long = <T>(item: T): T[] => Array.from({ length: LONG }, () => item);
  for (const [what, spec] of [
    ['except entries', { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '0.0.0.0/0', except: long('9.9.9/8') } }] }] }],
    ['peers', { podSelector: {}, ingress: [{ from: long({}) }] }],
    ['ports', { podSelector: {}, ingress: [{ ports: long({ port: 0 }) }] }],
    ['rules', { podSelector: {}, ingress: long(1) }],
    ['policy types', { podSelector: {}, policyTypes: long('x') }],
    ['values of a selector', { podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: long('!') }] } }],
    ['expressions of a selector', { podSelector: { matchExpressions: long({ key: '!', operator: 'In', values: ['a'] }) } }],
    ['expressions of a peer', { podSelector: {}, egress: [{ to: [{ podSelector: { matchExpressions: long({}) } }] }] }],
    ['labels', { podSelector: { matchLabels: Object.fromEntries(long('!').map((text, index) => [`${text}${index}`, 'x'])) } }],
    ['unknown fields', Object.fromEntries(long('x').map((text, index) => [`${text}${index}`, 1]))],
    ['unknown fields of a rule', { ingress: [Object.fromEntries(long('x').map((text, index) => [`${text}${index}`, 1]))] }],
  ] as const) {
    it(`of ${LONG} unreadable ${what} are few, and the policy isolates`, () => {
      const { object, problems } = project('NetworkPolicy', policyWith(spec), new Sharing());
      assert.ok(problems.length > 0 && problems.length <= 2 * TOLD + 1, `${problems.length}`);
      assert.equal(object?.problems.length, problems.length);
      assert.notEqual(object.ingress ?? object.egress, undefined);
    });
  }

  it('of a pod with as many unreadable ports are few, too', () => {
    const { problems } = project(
      'Pod',
      {
        metadata: { namespace: 'tenant', name: 'p', labels: Object.fromEntries(long(1).map((value, index) => [`l${index}`, value])) },
        spec: { containers: [{ ports: long({ name: 1, containerPort: -1 }) }] },
        status: { podIPs: long({ ip: 'x' }) },
      },
      new Sharing(),
    );
    assert.ok(problems.length > 0 && problems.length <= 2 * TOLD + 1, `${problems.length}`);
  });
});

describe('an exception while an object is read', () => {
  /** What no JSON has, in place of a fault that is not known yet. */
  const thrower = {
    get podSelector(): never {
      throw new RangeError('Maximum call stack size exceeded');
    },
  };

  it('makes its policy isolate every pod of its namespace and admit nothing, and is told', () => {
    const { object, problems } = project('NetworkPolicy', policyWith(thrower), new Sharing());
    assert.deepEqual(
      [object?.ingress, object?.egress, object?.subject],
      [[], [], interpretPolicy('tenant', 'x', { podSelector: {} }).subject],
    );
    assert.deepEqual(
      problems.map(({ path, code }) => [path, code]),
      [['spec', 'OBJECT_FAULT']],
    );
  });

  for (const [kind, key] of [
    ['Pod', 'default/x'],
    ['Node', 'x'],
  ] as const) {
    it(`refuses its ${kind}, which is known by its name all the same`, () => {
      const value = {
        metadata: { name: 'x' },
        get status(): never {
          throw new RangeError('no');
        },
      };
      const found = project(kind, value, new Sharing());
      assert.deepEqual([found.object, found.key, found.problems.map(({ code }) => code)], [undefined, key, ['OBJECT_FAULT']]);
    });
  }
});
