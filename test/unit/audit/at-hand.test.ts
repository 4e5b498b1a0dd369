import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lookAtHand, type Surroundings, tableAtHand } from '../../../src/audit/at-hand.ts';
import { SluiceError } from '../../../src/errors.ts';

const CLUSTER: Surroundings = { origin: 'the directory shop', nodes: [{ name: 'node-a' }], pods: [{ node: 'node-b' }, { node: '' }] };
const NOBODY = { environment: {}, hostname: 'laptop' };

describe('the node at hand', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  function file(content: string): string {
    const path = join(directory, 'status.json');
    writeFileSync(path, content);
    return path;
  }

  const found = (...args: Parameters<typeof lookAtHand>): readonly [string | undefined, string] => {
    const { node, saidBy } = lookAtHand(...args);
    return [node, saidBy];
  };

  it('is what the status file says, before $NODE_NAME, before the host’s name, before --node', () => {
    const statusFile = file('{"node":"node-z","ready":true,"somethingNew":1}');
    const all = { environment: { NODE_NAME: 'node-y' }, hostname: 'node-a' };
    assert.deepEqual(found(CLUSTER, { statusFile, node: 'node-x' }, all), ['node-z', `status file ${statusFile}`]);
    assert.deepEqual(found(CLUSTER, { node: 'node-x' }, all), ['node-y', '$NODE_NAME']);
    assert.deepEqual(found(CLUSTER, { node: 'node-x' }, { ...all, environment: {} }), ['node-a', 'host name']);
    assert.deepEqual(found(CLUSTER, { node: 'node-x' }, { environment: {}, hostname: 'node-b' }), ['node-b', 'host name']);
    assert.deepEqual(found(CLUSTER, { node: 'node-x' }, NOBODY), ['node-x', '--node']);
    assert.deepEqual(found(CLUSTER, {}, NOBODY), [undefined, 'nothing']);
  });

  it('is told with what is wrong where a status file was named that is none', () => {
    const refused = (statusFile: string): string => {
      try {
        lookAtHand(CLUSTER, { statusFile }, NOBODY);
      } catch (error) {
        assert.ok(error instanceof SluiceError && error.code === 'STATUS_FILE_UNREADABLE' && error.exitStatus === 2);
        return error.message;
      }
      return assert.fail('it was read');
    };
    assert.match(refused(join(directory, 'nowhere')), /nowhere cannot be read: ENOENT$/);
    assert.match(refused(file('{"node":')), /holds no JSON$/);
    assert.match(refused(file('{"pid":1}')), /is not what an agent writes: .*node/);
  });

  it('of a bundle is the one that it was made on, as it was then', () => {
    const bridges = [
      { name: 'cni0', filtering: null },
      { name: 'docker0', filtering: null },
    ];
    const held = { node: 'node-q', kernel: { absent: true }, bridges, status: undefined } as const;
    const hand = lookAtHand({ ...CLUSTER, held }, { node: 'node-x' }, { environment: { NODE_NAME: 'node-y' }, hostname: 'node-a' });
    assert.deepEqual(
      [hand.node, hand.readTable(), hand.readBridges(['cni0']), hand.readBypasses()],
      ['node-q', undefined, [bridges[0]], []],
    );
    assert.deepEqual(tableAtHand(hand), { reason: 'this kernel has no table inet sluice' });
    const blind = lookAtHand({ ...CLUSTER, held: { ...held, kernel: { unread: 'not permitted' } } });
    assert.deepEqual(tableAtHand(blind), { reason: 'the directory shop holds no kernel state: not permitted' });
  });
});
