import assert from 'node:assert/strict';
import { logPrefix, readLogPrefix } from '../../../src/enforcement/nftables/render.ts';
import { podChainName } from '../../../src/ruleset/names.ts';

describe('the prefix of a logged packet', () => {
  it('says which chain refused it, or would have', () => {
    const name = podChainName('ingress', 'dev', 'web');
    assert.equal(logPrefix({ name, audited: false }), 'ingress/dev/web');
    assert.equal(logPrefix({ name, audited: true }), 'audit ingress/dev/web');
    for (const audited of [false, true]) assert.deepEqual(readLogPrefix(logPrefix({ name, audited })), { chain: name, audited });
  });

  it('cannot be mistaken, whatever a pod is called', () => {
    for (const [namespace, pod] of [
      ['audit', 'web'],
      ['audit ingress', 'web'],
      ['dev', 'audit '],
    ] as const) {
      const name = podChainName('egress', namespace, pod);
      assert.deepEqual(readLogPrefix(logPrefix({ name, audited: false })), { chain: name, audited: false });
      assert.deepEqual(readLogPrefix(logPrefix({ name, audited: true })), { chain: name, audited: true });
    }
  });

  it('is as long as the kernel takes, 127 bytes, and then has the beginning of the name', () => {
    const name = podChainName('ingress', 'n'.repeat(63), 'p'.repeat(120));
    for (const audited of [false, true]) {
      const prefix = logPrefix({ name, audited });
      assert.equal(Buffer.byteLength(prefix), 127);
      const read = readLogPrefix(prefix);
      assert.equal(read.audited, audited);
      assert.ok(name.startsWith(read.chain) && read.chain.length === (audited ? 121 : 127));
    }
  });
});
