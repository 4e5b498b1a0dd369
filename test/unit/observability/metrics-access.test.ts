/** Who shows made-up tokens neither makes the agent forget a good one, nor has it ask the API server without end. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import type { ApiCall } from '../../../src/kubernetes/api/client.ts';
import { MetricsAccess } from '../../../src/observability/metrics-access.ts';

function withToken(token: string): IncomingMessage {
  return { headers: { authorization: `Bearer ${token}` } } as IncomingMessage; // nothing else of it is read
}

/** An API server that knows one token. */
function server() {
  const state = { asked: 0, atOnce: 0, most: 0, good: 'good' };
  const call = async ({ path, body }: ApiCall) => {
    state.asked++;
    state.atOnce++;
    state.most = Math.max(state.most, state.atOnce);
    await new Promise(setImmediate);
    state.atOnce--;
    const isGood = path.includes('subjectaccessreviews') || (body as { spec: { token: string } }).spec.token === state.good;
    return { status: 201, object: { status: { authenticated: isGood, allowed: isGood, user: { username: 'prometheus' } } } };
  };
  return { state, client: { call } };
}

describe('access to the metrics', () => {
  it('is remembered of a good token, however many made-up ones are shown', async () => {
    const { state, client } = server();
    const access = new MetricsAccess(client);
    assert.equal(await access.refusal(withToken('good')), undefined);
    for (let index = 0; index < 1_000; index++) assert.equal((await access.refusal(withToken(`bad-${index}`)))?.status, 401);
    const { asked } = state;
    assert.equal(await access.refusal(withToken('good')), undefined);
    assert.equal((await access.refusal(withToken('bad-999')))?.status, 401);
    assert.equal(state.asked, asked);
  });

  it('asks about a token once, and about few at once', async () => {
    const { state, client } = server();
    const access = new MetricsAccess(client);
    const same = await Promise.all(Array.from({ length: 50 }, () => access.refusal(withToken('bad'))));
    assert.ok(same.every((page) => page?.status === 401));
    assert.equal(state.asked, 1);
    const many = await Promise.all(Array.from({ length: 500 }, (_, index) => access.refusal(withToken(`bad-${index}`))));
    assert.ok(state.most <= 8, `${state.most}`);
    assert.deepEqual(new Set(many.map((page) => page?.status)), new Set([401, 503]));
    assert.equal(await access.refusal(withToken('good')), undefined);
  });

  it('keeps a token that could read before waiting for no made-up ones, and for no longer than it may', async () => {
    const { state, client } = server();
    const clock = { ms: 1_000, now: () => clock.ms };
    const access = new MetricsAccess(client, clock);
    assert.equal(await access.refusal(withToken('good')), undefined);
    clock.ms += 60_001;
    const { asked } = state;
    const many = Array.from({ length: 100 }, (_, index) => access.refusal(withToken(`bad-${index}`)));
    assert.equal(await access.refusal(withToken('good')), undefined);
    assert.ok(state.asked > asked, 'it is asked about again after a minute');
    await Promise.all(many);
  });

  it('ends at the next question where the API server does not know the token any more', async () => {
    const { state, client } = server();
    const clock = { ms: 1_000, now: () => clock.ms };
    const access = new MetricsAccess(client, clock);
    assert.equal(await access.refusal(withToken('good')), undefined);
    state.good = 'another';
    clock.ms += 60_001;
    assert.equal((await access.refusal(withToken('good')))?.status, 401);
  });
});
