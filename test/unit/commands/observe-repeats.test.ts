import assert from 'node:assert/strict';
import { Repeats } from '../../../src/commands/observe-repeats.ts';
import { allowed, DB, denied, WEB } from './observed-records.ts';

describe('repeats of a connection', () => {
  let printed: string[];
  let repeats: Repeats;
  const at = (ms: number, port = 5432, sourcePort = 40_000) =>
    denied({ time: new Date(ms).toISOString(), source: { ...WEB, port: sourcePort }, destination: { ...DB, port } });

  beforeEach(() => {
    printed = [];
    repeats = new Repeats({
      print: (record, count) => printed.push(`${Date.parse(record.time)} ${record.kind} ${record.destination.port} x ${count}`),
    });
  });

  it('of what is remembered are one line for those of a second, in the order of the first', () => {
    repeats.push(at(100), 0);
    repeats.push(at(200, 80), 0);
    repeats.push(at(1_000, 5432, 40_001), 0);
    repeats.push(at(1_099), 0);
    repeats.push(at(1_100), 0);
    assert.deepEqual(printed, []);
    repeats.live();
    assert.deepEqual(printed, ['100 Denied 5432 x 3', '200 Denied 80 x 1', '1100 Denied 5432 x 1']);
  });

  it('of what happens are shown at once the first time, and then together once a second', () => {
    repeats.live();
    repeats.push(at(100), 100);
    assert.deepEqual(printed, ['100 Denied 5432 x 1']);
    for (const ms of [200, 300, 900]) repeats.push(at(ms), ms);
    repeats.tick(1_099);
    assert.equal(printed.length, 1);
    repeats.tick(1_100);
    assert.deepEqual(printed.slice(1), ['900 Denied 5432 x 3']);
    repeats.push(at(1_200), 1_200);
    repeats.tick(2_100);
    assert.deepEqual(printed.slice(2), ['1200 Denied 5432 x 1']);
    repeats.tick(3_200);
    repeats.push(at(3_300), 3_300);
    assert.deepEqual(printed.slice(3), ['3300 Denied 5432 x 1'], 'after a pause at once again');
  });

  it('are only what differs in nothing but time and source port', () => {
    repeats.live();
    repeats.push(at(1), 1);
    repeats.push(at(2, 80), 2);
    repeats.push(denied({ direction: 'egress' }), 3);
    repeats.push(denied({ policies: [] }), 3);
    repeats.push(denied({ protocol: 'UDP', protocolNumber: 17 }), 3);
    repeats.push(allowed(), 4);
    assert.equal(printed.length, 6);
  });

  it('that are held back are printed at the end', () => {
    repeats.push(at(100), 0);
    repeats.end();
    assert.deepEqual(printed, ['100 Denied 5432 x 1']);
    repeats.push(at(200), 200);
    repeats.push(at(300), 300);
    repeats.end();
    assert.deepEqual(printed.slice(1), ['200 Denied 5432 x 1', '300 Denied 5432 x 1']);
  });
});
