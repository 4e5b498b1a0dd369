import assert from 'node:assert/strict';
import { Backoff } from '../../../../src/kubernetes/api/backoff.ts';
import { readRetryAfter } from '../../../../src/kubernetes/api/errors.ts';

describe('waiting for the API server', () => {
  function outage(random: number, seconds: number): { readonly tries: number; readonly last: number } {
    let now = 1_000;
    const backoff = new Backoff(
      () => now,
      () => random,
    );
    let [tries, last] = [0, 0];
    while (now < 1_000 + seconds * 1000) {
      last = backoff.failed();
      now += last;
      tries++;
    }
    return { tries, last };
  }

  it('is a fortieth of the time that it has been away, so that nothing is late by a second after half a minute', () => {
    for (const random of [0, 0.5, 0.999]) {
      assert.ok(outage(random, 30).last < 1_000);
      assert.ok(outage(random, 30).last >= 50);
    }
  });

  it('is half a minute at most, and does not come often where it is long', () => {
    assert.ok(outage(0, 86_400).last <= 30_000);
    assert.ok(outage(0, 3_600).tries < 500, String(outage(0, 3_600).tries));
  });

  it('differs from agent to agent, by up to half', () => {
    assert.ok(outage(0, 600).last > 1.5 * outage(0.999, 600).last);
  });

  it('begins anew after something has worked', () => {
    let now = 0;
    const backoff = new Backoff(
      () => now,
      () => 0,
    );
    backoff.failed();
    now = 600_000;
    assert.ok(backoff.failed() > 10_000);
    backoff.succeeded();
    assert.equal(backoff.failed(), 100);
  });

  it('is never shorter than the server asks for', () => {
    const backoff = new Backoff();
    for (let time = 0; time < 20; time++) assert.ok(backoff.failed(3_000) >= 3_000);
  });

  it('takes Retry-After in seconds and as a date, and nothing else', () => {
    assert.equal(readRetryAfter('7'), 7_000);
    assert.equal(readRetryAfter('Sat, 21 Nov 2026 12:00:10 GMT', Date.parse('2026-11-21T12:00:00Z')), 10_000);
    assert.equal(readRetryAfter('Sat, 21 Nov 2026 12:00:00 GMT', Date.parse('2026-11-21T12:00:10Z')), 0);
    assert.equal(readRetryAfter('soon'), undefined);
    assert.equal(readRetryAfter(undefined), undefined);
  });
});
