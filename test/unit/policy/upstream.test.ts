/**
 * The upstream end-to-end cases against the evaluator: every step asks all 9 x 9 pairs on ports 80 and 81 of TCP, UDP and SCTP,
 * over IPv4 and over IPv6.
 */
import assert from 'node:assert/strict';
import type { Family } from '../../../src/policy/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { address, ip, KEYS, MODEL, NAMESPACES, PROTOCOLS, policy } from './model.ts';
import { CASES, type Probe, type Step } from './upstream-cases.ts';

const PROBES: readonly Probe[] = KEYS.flatMap((from) =>
  KEYS.flatMap((to) =>
    PROTOCOLS.flatMap((protocol) =>
      [80, 81].map((port) => ({ from, fromNs: namespaceOf(from), to, toNs: namespaceOf(to), port, protocol })),
    ),
  ),
);

function namespaceOf(key: string): string {
  return NAMESPACES.find((namespace) => key.startsWith(`${namespace}/`)) ?? assert.fail(key);
}

/** Every probe on which the evaluator and the hand-written expectation differ. */
function differences(step: Step, family: Family): string[] {
  const policies = Object.entries(step.policies).map(([key, spec]) => {
    const [name = '', namespace = 'x'] = key.split('/').toReversed();
    return policy(spec, name, namespace);
  });
  assert.deepEqual(
    policies.flatMap(({ problems }) => problems.filter(({ code }) => code !== 'CIDR_HOST_BITS')),
    [],
  );
  const world = worldOf({ ...MODEL, ...step, policies });
  return PROBES.flatMap((probe) => {
    const { from, to, protocol, port } = probe;
    // A pod always reaches itself (row 30).
    const expected = from === to || step.expect(probe);
    const verdict = evaluate(world, { source: address(ip(from, family)), destination: address(ip(to, family)), protocol, port });
    return verdict.allowed === expected ? [] : [`${from} -> ${to} ${protocol}/${port} should be ${expected ? 'allowed' : 'refused'}`];
  });
}

describe('upstream end-to-end cases', () => {
  it('there are 48 of them, and each step asks 486 questions', () => {
    assert.equal(CASES.length, 48);
    assert.equal(PROBES.length, 486);
  });

  for (const [index, { title, steps }] of CASES.entries()) {
    for (const family of [4, 6] as const) {
      it(`case ${index + 1}, IPv${family}: ${title}`, () => {
        for (const [number, step] of steps((key) => ip(key, family), family === 4 ? 32 : 128).entries()) {
          assert.deepEqual(differences(step, family), [], `step ${number + 1}`);
        }
      });
    }
  }
});
