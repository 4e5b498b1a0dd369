import assert from 'node:assert/strict';
import { IcmpLimit } from '../../../src/network/udp/icmp-limit.ts';

describe('the limit of ICMP errors', () => {
  it('lets fifty pass at once, and a thousand a second', () => {
    let now = 5;
    const limit = new IcmpLimit(() => now);
    const passing = (tries: number): number => Array.from({ length: tries }, () => limit.take()).filter(Boolean).length;
    assert.equal(passing(1000), 50);
    now += 10;
    assert.equal(passing(1000), 10);
    now += 3_600_000;
    assert.equal(passing(1000), 50);
    let passed = 0;
    for (let ms = 0; ms < 1000; ms++) {
      now++;
      passed += passing(5);
    }
    assert.equal(passed, 1000);
  });
});
