import assert from 'node:assert/strict';
import { differences } from '../../../src/lab/keep.ts';
import type { Measured, ProbeProtocol } from '../../../src/lab/prober/protocol.ts';
import { verdictTable } from '../../../src/lab/verdict-table.ts';
import { type VerdictRecord, isAsExpected } from '../../../src/lab/verdicts.ts';
import { plain } from '../../../src/output/colour.ts';

const record = (
  source: string,
  destination: string,
  what: string,
  expected: Measured,
  measured: Measured = expected,
  predicted: Measured = expected,
): VerdictRecord => {
  const [port, protocol, family] = what.split('/');
  return {
    step: '01-x',
    source,
    destination,
    port: Number(port),
    protocol: protocol as ProbeProtocol,
    family: family === '6' ? 6 : 4,
    expected,
    predicted,
    measured,
  };
};

const table = (records: readonly VerdictRecord[], names: readonly string[], width = 80): string =>
  [...verdictTable(records, names, plain, width)].join('\n');

describe('verdict table', () => {
  it('shows who reaches whom in one sign where everything is as expected, and explains what is only partly so', () => {
    const records = [
      record('dev/a', 'dev/b', '80/TCP/4', 'allowed'),
      record('dev/a', 'dev/b', '80/TCP/6', 'allowed'),
      record('dev/b', 'dev/a', '80/TCP/4', 'denied'),
      record('dev/a', 'out', '80/TCP/4', 'allowed'),
      record('dev/a', 'out', '80/TCP/6', 'denied'),
      record('dev/a', 'out', '81/UDP/4', 'allowed'),
      record('dev/a', 'out', '81/UDP/6', 'allowed'),
      record('dev/b', 'out', '80/TCP/4', 'allowed'),
      record('dev/b', 'out', '80/TCP/6', 'denied'),
      record('dev/b', 'out', '81/UDP/4', 'allowed'),
      record('dev/b', 'out', '81/UDP/6', 'allowed'),
    ];
    assert.equal(
      table(records, ['dev/a', 'dev/b', 'out']),
      [
        '          1   2   3', //
        '1 dev/a       +   ~',
        '2 dev/b   -       ~',
        '3 out',
        '~ 1 2 -> 3: only 80/TCP (IPv4), 81/UDP',
      ].join('\n'),
    );
  });

  it('shows expected and seen where they differ, and lists what differs', () => {
    const records = [
      record('dev/a', 'dev/b', '80/TCP/4', 'allowed', 'denied'),
      record('dev/a', 'dev/b', '80/TCP/6', 'allowed', 'denied'),
      record('dev/b', 'dev/a', '80/TCP/4', 'denied', 'allowed', 'allowed'),
      record('dev/b', 'dev/a', '81/TCP/4', 'denied'),
    ];
    assert.equal(
      table(records, ['dev/a', 'dev/b']),
      [
        '          1   2', //
        '1 dev/a     +/-',
        '2 dev/b -/~',
        '! dev/a -> dev/b: expected allowed, seen denied: 80/TCP',
        '! dev/b -> dev/a: expected denied, seen allowed, and the evaluator says allowed: 80/TCP (IPv4)',
      ].join('\n'),
    );
  });

  it('fits into 80 columns: many columns are shown in blocks', () => {
    const names = Array.from({ length: 25 }, (_, index) => `a-namespace-with-a-long-name/a-pod-with-a-long-name-${index}`);
    const records = names.flatMap((source) =>
      names.filter((name) => name !== source).map((destination) => record(source, destination, '80/TCP/4', 'allowed')),
    );
    const lines = table(records, names).split('\n');
    assert.ok(Math.max(...lines.map((line) => line.length)) <= 80);
    assert.equal(lines.join('').split('+').length - 1, 25 * 24, 'every pair is there once');
    assert.equal(lines.filter((line) => line.startsWith(' 1 ')).length, 3);
  });

  it('counts as wrong whatever the packets, the scenario and the evaluator do not agree upon, and answers of others', () => {
    assert.equal(isAsExpected(record('a', 'b', '80/TCP/4', 'allowed')), true);
    assert.equal(isAsExpected(record('a', 'b', '80/TCP/4', 'allowed', 'denied')), false);
    assert.equal(isAsExpected(record('a', 'b', '80/TCP/4', 'denied', 'denied', 'allowed')), false);
    assert.equal(isAsExpected({ ...record('a', 'b', '80/TCP/4', 'allowed'), answeredBy: 'c' }), false);
  });
});

describe('what an edit changed', () => {
  it('is told pair by pair, with who came and who went', () => {
    const before = [
      record('a/a', 'a/b', '80/TCP/4', 'allowed'),
      record('a/a', 'a/b', '81/TCP/4', 'allowed'),
      record('a/a', 'old/x', '80/TCP/4', 'allowed'),
    ];
    const after = [
      record('a/a', 'a/b', '80/TCP/4', 'denied'),
      record('a/a', 'a/b', '81/TCP/4', 'allowed', 'denied'),
      record('a/a', 'new/x', '80/TCP/4', 'allowed'),
    ];
    assert.deepEqual(
      [...differences(before, after, plain, 80)],
      [
        'old/x is gone',
        'a/a -> a/b was allowed, now denied: 80/TCP (IPv4)',
        'a/a -> a/b is denied, but the policies say allowed: 81/TCP (IPv4)',
        'a/a -> new/x is new, allowed: 80/TCP (IPv4)',
        '3 probes, 3 changed, 2 as the policies say',
      ],
    );
  });
});
