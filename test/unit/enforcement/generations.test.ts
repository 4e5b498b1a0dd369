/** A monitor that ran over in one's own large commit is no change by somebody else; whatever else it may have missed is. */
import assert from 'node:assert/strict';
import { Generations } from '../../../src/enforcement/nftables/generations.ts';

/** A kernel whose generation anybody makes another. */
function kernel(first = 7) {
  const state = { generation: first, drifts: 0 };
  const generations = new Generations({ generation: () => state.generation }, () => state.drifts++);
  return { state, generations };
}

describe('generations of the ruleset', () => {
  it('tell a large commit of one’s own, heard of or not', async () => {
    const { state, generations } = kernel();
    await generations.during(async () => {
      state.generation++;
      generations.lost();
    });
    assert.equal(state.drifts, 0);
    generations.lost();
    assert.equal(state.drifts, 0, 'told a little later');
  });

  it('tell a change by somebody else before, during or after it', async () => {
    for (const at of ['before', 'during', 'after'] as const) {
      const { state, generations } = kernel();
      if (at === 'before') state.generation++;
      await generations.during(async () => {
        state.generation++;
        if (at === 'during') state.generation++;
        generations.lost();
      });
      if (at === 'after') {
        state.generation++;
        generations.lost();
      }
      assert.equal(state.drifts, 1, at);
    }
  });

  it('count what was heard of before', async () => {
    const { state, generations } = kernel();
    state.generation = 12;
    generations.heard(12);
    await generations.during(async () => {
      state.generation++;
      generations.lost();
    });
    assert.equal(state.drifts, 0);
  });

  it('hold where the number begins anew', async () => {
    const { state, generations } = kernel(0xffff_ffff);
    await generations.during(async () => {
      state.generation = 1;
      generations.lost();
    });
    assert.equal(state.drifts, 0);
  });

  it('of a commit that fails are the same', async () => {
    const { state, generations } = kernel();
    await assert.rejects(
      generations.during(async () => {
        generations.lost();
        throw new Error('refused');
      }),
    );
    assert.equal(state.drifts, 0);
  });
});
