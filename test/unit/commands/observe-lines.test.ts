import assert from 'node:assert/strict';
import { droppedLine, flowLines, type LineOptions } from '../../../src/commands/observe-lines.ts';
import { plain } from '../../../src/output/colour.ts';
import { allowed, denied, dropped } from './observed-records.ts';

const NOW = Date.parse('2020-01-02T12:03:06Z');
const endless: LineOptions = { paint: plain, width: undefined, now: NOW };

describe('lines of observed connections', () => {
  let zone: string | undefined;

  before(() => {
    zone = process.env['TZ'];
    process.env['TZ'] = 'UTC';
  });
  after(() => {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  });

  it('say when, which side, who, to whom, on which port, and who refuses', () => {
    assert.deepEqual(flowLines(denied(), 1, endless), [
      '12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/db-only-from-api, shop/default-deny',
    ]);
    assert.deepEqual(flowLines(denied(), 1_200, endless), [
      '12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/db-only-from-api, shop/default-deny  x 1,200',
    ]);
  });

  it('fit the terminal: addresses of pods go first, then the reason has lines of its own', () => {
    const lines = (width: number): string[] => flowLines(denied(), 3, { ...endless, width });
    assert.deepEqual(lines(126), [
      '12:03:04.123  ingress  shop/web-1 -> shop/db-0 TCP 5432  refused by shop/db-only-from-api, shop/default-deny  x 3',
    ]);
    assert.deepEqual(lines(100), [
      '12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  x 3',
      '                       refused by shop/db-only-from-api, shop/default-deny',
    ]);
    assert.deepEqual(lines(62), [
      '12:03:04.123  ingress  shop/web-1 -> shop/db-0 TCP 5432  x 3',
      '                       refused by shop/db-only-from-api,',
      '                       shop/default-deny',
    ]);
    for (let width = 62; width < 160; width++) for (const line of lines(width)) assert.ok(line.length <= width, `${width}: ${line}`);
  });

  it('name nodes, addresses, ICMP and other protocols', () => {
    const { source, destination } = denied();
    const portless = { ...destination, port: undefined } as unknown as typeof destination;
    assert.deepEqual(
      [
        ...flowLines(denied({ source: { address: '192.0.2.1', node: 'n2' }, policies: ['shop/a'] }), 1, endless),
        ...flowLines(
          denied({
            source: { address: '2001:db8::1' },
            destination: portless,
            protocol: 'ICMP',
            protocolNumber: 58,
            icmp: { type: 128, code: 0 },
            policies: ['shop/a'],
          }),
          1,
          endless,
        ),
        ...flowLines(
          denied({ source, destination: portless, protocol: 'other', protocolNumber: 47, direction: 'egress', policies: ['shop/a'] }),
          1,
          endless,
        ),
      ],
      [
        '12:03:04.123  ingress  node n2 (192.0.2.1) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/a',
        '12:03:04.123  ingress  2001:db8::1 -> shop/db-0 (10.244.2.7) ICMP type 128  refused by shop/a',
        '12:03:04.123  egress   shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) protocol 47  refused by shop/a',
      ],
    );
  });

  it('tell what was audited, what is allowed by now, and what was allowed', () => {
    const reason = (text: string): string => `12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  ${text}`;
    assert.deepEqual(
      [
        ...flowLines(denied({ audited: true, policies: ['shop/a'] }), 1, endless),
        ...flowLines(denied({ reason: 'changed' }), 1, endless),
        ...flowLines(denied({ reason: 'changed', audited: true }), 1, endless),
        ...flowLines(denied({ reason: 'unknown', policies: [] }), 1, endless),
        ...flowLines(denied({ reason: 'unknown', policies: [], audited: true }), 1, endless),
      ],
      [
        reason('audited: would be refused by shop/a'),
        reason('refused, and allowed by now'),
        reason('audited: would be refused, and is allowed by now'),
        reason('refused, by whom is not known'),
        reason('audited: would be refused, by whom is not known'),
      ],
    );
    const open = { allowed: true, reason: 'not-isolated', policies: [] } as const;
    const refused = { allowed: false, reason: 'refused', policies: ['shop/a'] } as {
      allowed: boolean;
      reason: 'refused';
      policies: string[];
    };
    const admission = (text: string): string =>
      `12:03:04.123  allowed  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  ${text}`;
    assert.deepEqual(
      [
        ...flowLines(allowed(), 1, endless),
        ...flowLines(allowed({ ingress: { ...open, policies: [] } }), 1, endless),
        ...flowLines(allowed({ ingress: refused }), 1, endless),
        ...flowLines(allowed({ ingress: { ...refused, node: 'n2' } }), 1, endless),
        ...flowLines(allowed({ egress: { ...refused, node: 'n2' } }), 1, endless),
        ...flowLines(
          allowed({ egress: { ...open, policies: [], reason: 'node' }, ingress: { ...open, policies: [], reason: 'own-node' } }),
          1,
          endless,
        ),
        ...flowLines(
          allowed({ egress: { ...open, policies: [], reason: 'same-pod' }, ingress: { ...open, policies: [], reason: 'same-pod' } }),
          1,
          endless,
        ),
      ],
      [
        admission('admitted by shop/db-only-from-api ingress[0].from[0]'),
        admission('no policy isolates'),
        admission('audited, or changed since: refused by shop/a'),
        admission('as far as here; refused on n2 by shop/a'),
        // It has come from there.
        admission('audited, or changed since: refused by shop/a'),
        admission('a pod and its own node'),
        admission('a pod and itself'),
      ],
    );
  });

  it('have the day where it is not today', () => {
    const [line = ''] = flowLines(denied(), 1, { ...endless, now: Date.parse('2020-01-03T00:00:01Z') });
    assert.match(line, /^2020-01-02 12:03:04\.123 {2}ingress/);
  });

  it('say how much is not shown, and why', () => {
    assert.deepEqual(
      [
        dropped(),
        dropped({ count: 1 }),
        dropped({ of: 'Allowed', reason: 'overrun', count: undefined }),
        dropped({ of: 'Allowed', reason: 'sampling' }),
        dropped({ reason: 'reader' }),
      ].map((record) => droppedLine(record, endless)),
      [
        '12:03:05.000  11,832 more refused packets are not shown: more than are logged and described in a second',
        '12:03:05.000  1 more refused packet is not shown: more than are logged and described in a second',
        '12:03:05.000  some new connections are not shown: they came faster than they could be read',
        '12:03:05.000  11,832 more new connections are not shown: more than are described in a second',
        '12:03:05.000  11,832 more refused packets are not shown: this reader is slow',
      ],
    );
  });

  it('say how many policies are not named', () => {
    assert.deepEqual(flowLines(denied({ policies: ['shop/a', 'shop/b'], morePolicies: 4_980 }), 1, endless), [
      '12:03:04.123  ingress  shop/web-1 (10.244.1.5) -> shop/db-0 (10.244.2.7) TCP 5432  refused by shop/a, shop/b and 4,980 more',
    ]);
  });
});
