/** Ports as a ruleset wants them: merged by protocol, against a naive model, and admitting what {@link portMatches} admits. */
import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import type { PortMatch } from '../../../src/policy/objects.ts';
import { groupPorts, numericRanges, portMatches } from '../../../src/policy/ports.ts';
import { PROTOCOLS, pod } from './model.ts';

/** Ports at both ends, and some in between: the naive model's universe. */
const ASKED = [...Array.from({ length: 30 }, (_, port) => port), ...Array.from({ length: 30 }, (_, port) => 65_506 + port)];

const protocol = fc.constantFrom(...PROTOCOLS);
const range = fc
  .tuple(fc.constantFrom(...ASKED), fc.constantFrom(...ASKED))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const match: fc.Arbitrary<PortMatch> = fc.oneof(
  fc
    .record({ kind: fc.constant('numbers' as const), index: fc.nat(9), protocol, range })
    .map(({ range, ...rest }) => ({ ...rest, ...range })),
  fc.record({ kind: fc.constant('name' as const), index: fc.nat(9), protocol, name: fc.constantFrom('web', 'dns', 'metrics') }),
);

describe('groupPorts', () => {
  it('keeps "every port" apart from "no port"', () => {
    assert.equal(groupPorts(undefined), undefined);
    assert.deepEqual(groupPorts([]), []);
  });

  it('merges what overlaps or is adjacent, per protocol, and names once each', () => {
    assert.deepEqual(
      groupPorts([
        { kind: 'numbers', index: 0, protocol: 'UDP', first: 53, last: 53 },
        { kind: 'numbers', index: 1, protocol: 'TCP', first: 443, last: 443 },
        { kind: 'numbers', index: 2, protocol: 'TCP', first: 80, last: 90 },
        { kind: 'numbers', index: 3, protocol: 'TCP', first: 91, last: 95 },
        { kind: 'numbers', index: 4, protocol: 'TCP', first: 81, last: 82 },
        { kind: 'name', index: 5, protocol: 'TCP', name: 'web' },
        { kind: 'name', index: 6, protocol: 'TCP', name: 'api' },
        { kind: 'name', index: 7, protocol: 'TCP', name: 'web' },
        { kind: 'name', index: 8, protocol: 'SCTP', name: 'web' },
      ]),
      [
        {
          protocol: 'TCP',
          ranges: [
            { first: 80, last: 95 },
            { first: 443, last: 443 },
          ],
          names: ['api', 'web'],
        },
        { protocol: 'UDP', ranges: [{ first: 53, last: 53 }], names: [] },
        { protocol: 'SCTP', ranges: [], names: ['web'] },
      ],
    );
  });

  it('admits exactly what the entries admit one by one, by ranges that do not touch', () => {
    fc.assert(
      fc.property(fc.array(match, { maxLength: 8 }), (ports) => {
        for (const asked of PROTOCOLS) {
          const ranges = numericRanges(ports, asked);
          for (const port of ASKED) {
            const byEntries = ports.some((entry) => portMatches(entry, asked, port, undefined));
            assert.equal(
              ranges.some(({ first, last }) => first <= port && port <= last),
              byEntries,
            );
          }
          assert.ok(ranges.every(({ first }, index) => index === 0 || first > (ranges[index - 1]?.last ?? 0) + 1));
        }
      }),
    );
  });

  it('groups names with the pods that declare them for the same protocol', () => {
    fc.assert(
      fc.property(fc.array(match, { maxLength: 6 }), fc.constantFrom('web', 'dns'), protocol, protocol, (ports, name, declared, asked) => {
        const destination = pod('x/a', { ports: [{ name, protocol: declared, port: 40_000 }] });
        const byName = ports.filter(({ kind }) => kind === 'name');
        const group = groupPorts(byName)?.find(({ protocol }) => protocol === asked);
        const expected = declared === asked && (group?.names.includes(name) ?? false);
        assert.equal(
          byName.some((entry) => portMatches(entry, asked, 40_000, destination)),
          expected,
        );
      }),
    );
  });
});
