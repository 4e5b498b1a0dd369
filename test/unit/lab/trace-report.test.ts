import assert from 'node:assert/strict';
import { readFrame } from '../../../src/lab/trace/frames.ts';
import { traceReport } from '../../../src/lab/trace/report.ts';
import type { Hop, Trace } from '../../../src/lab/trace/trace.ts';
import { plain } from '../../../src/output/colour.ts';
import { ipv4 } from '../../../src/policy/address.ts';

/** An Ethernet frame from :01 to :02 with 10.0.0.1:60001 to 10.0.0.2:80, UDP. */
const frame = (ttl: number) =>
  readFrame(
    Buffer.from(
      `02000000000202000000000108004500001d00000000${ttl.toString(16).padStart(2, '0')}1100000a0000010a000002ea6100500009000050`,
      'hex',
    ),
    new Set(),
  ) ?? assert.fail('no frame');

const hop = (place: string, name: string, direction: 'in' | 'out', afterUs: number, ttl: number, ...decisions: string[]): Hop => ({
  place,
  netns: place,
  interface: name,
  direction,
  afterUs,
  frame: frame(ttl),
  decisions,
});

const ARRIVED: Trace = {
  request: { from: 'x/a', to: 'x/b', source: ipv4(0x0a000001), destination: ipv4(0x0a000002), protocol: 'UDP', port: 80 },
  hops: [
    hop('pod x/a', 'eth0', 'out', 0, 64, 'route default via 10.0.0.254 dev eth0'),
    hop('node n', 'cni0', 'in', 3.4, 64),
    hop('node n', 'cni0', 'out', 12_345.6, 63),
  ],
  arrived: true,
  answer: undefined,
  dropped: 'noTable',
  refused: undefined,
  obstacle: undefined,
};

const lines = (more: Partial<Trace> = {}, width = 80): string[] => [...traceReport({ ...ARRIVED, ...more }, plain, width)];
const last = (more: Partial<Trace>): string | undefined => lines({ arrived: false, ...more }, 200).at(-1);

describe('the report of a trace', () => {
  it('shows places, what led to each interface, and a frame once for as long as it stays the same', () => {
    assert.deepEqual(lines(), [
      'One packet from x/a to x/b: UDP to 10.0.0.2 port 80',
      'pod x/a',
      '  route default via 10.0.0.254 dev eth0',
      '     0 µs   eth0 out',
      '              ether 02:00:00:00:00:01 > 02:00:00:00:00:02',
      '              IP 10.0.0.1 > 10.0.0.2 ttl 64, UDP 60001 > 80',
      'node n',
      '     3 µs   cni0 in  the same',
      '    12 ms   cni0 out',
      '              ether 02:00:00:00:00:01 > 02:00:00:00:00:02',
      '              IP 10.0.0.1 > 10.0.0.2 ttl 63, UDP 60001 > 80',
      'It arrived after 12 ms; no answer came back.',
    ]);
  });

  it('keeps within the width, but for single words', () => {
    for (const line of lines({}, 40)) assert.ok(line.length <= 40 || /^\s*\S*\s?\S+$/u.test(line), line);
    assert.ok(lines({}, 40).length > lines().length);
  });

  it('says what came back, and when', () => {
    const answer = { packet: frame(64).packet ?? assert.fail('no packet'), afterUs: 20.2 };
    assert.equal(lines({ answer }, 200).at(-1), 'It arrived after 12 ms; the answer, UDP 60001 > 80, after 20 µs.');
  });

  it('says where it was seen last, and which chain dropped it there', () => {
    const drop = { chain: 'ingress/x/b', place: undefined, verdict: 'drop' } as const;
    assert.equal(
      last({ dropped: [drop] }),
      'It was last seen on node n, cni0 out; there the table inet sluice dropped it, in the chain ingress/x/b.',
    );
  });

  it('says what the kernel lacked, where no rule dropped it', () => {
    const obstacle = 'nobody answers for 10.0.0.2 (neigh 10.0.0.2 dev cni0 FAILED)';
    assert.equal(last({ dropped: [], obstacle }), `It was last seen on node n, cni0 out; ${obstacle}.`);
  });

  it('says that it does not know, where nothing tells', () => {
    assert.equal(last({}), 'It was last seen on node n, cni0 out; what became of it there is not known.');
    assert.equal(
      last({ dropped: [] }),
      'It was last seen on node n, cni0 out; no rule of the table inet sluice dropped it, and what became of it there is not known.',
    );
  });

  it('says that it did not leave, and why', () => {
    assert.equal(last({ hops: [], refused: 'ENETUNREACH' }), 'It did not leave x/a: the kernel did not take it (ENETUNREACH).');
    assert.equal(last({ hops: [] }), 'It did not leave x/a: no interface saw it.');
    assert.equal(last({ hops: [], obstacle: 'there is no route' }), 'It did not leave x/a: no interface saw it; there is no route.');
  });
});
