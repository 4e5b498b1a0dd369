import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GRACE_MS, type Holds, SubnetClaims } from '../../../src/network/subnet-claims.ts';
import { formatPrefix, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import type { Order } from './claim-subnets.ts';

function prefix(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(text);
}

const NOBODY: Holds = () => false;

describe('claims of subnets', () => {
  let root: string;
  let directory: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'sluice-claims-'));
    directory = join(root, '.subnets');
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const take = (node: string, subnet: string, holds = NOBODY) => new SubnetClaims(directory, node).take(prefix(subnet), holds);
  const files = () => readdirSync(directory).filter((name) => !name.startsWith('.'));
  const age = (file: string, ms: number) => {
    const then = (Date.now() - ms) / 1000;
    utimesSync(join(directory, file), then, then);
  };

  it('are files named for the subnet that hold the node’s name', () => {
    assert.equal(take('a', '10.244.1.0/24'), undefined);
    assert.equal(take('a', 'fd00:10:244:1::/64'), undefined);
    assert.deepEqual(files().toSorted(), ['10.244.1.0-24', 'fd00:10:244:1::-64']);
    assert.equal(readFileSync(join(directory, '10.244.1.0-24'), 'utf8'), 'a');
  });

  it('are one node’s, which may claim again', () => {
    assert.equal(take('a', '10.244.1.0/24'), undefined);
    assert.equal(take('b', '10.244.1.0/24'), 'a');
    assert.equal(take('a', '10.244.1.0/24'), undefined);
    assert.equal(take('b', '10.244.2.0/24'), undefined);
    assert.deepEqual(new SubnetClaims(directory, 'b').own().map(formatPrefix), ['10.244.2.0/24']);
    assert.deepEqual(
      new SubnetClaims(directory, 'b').others(NOBODY).map(({ node, subnet }) => [node, formatPrefix(subnet)]),
      [['a', '10.244.1.0/24']],
    );
  });

  it('are of every address of the subnet', () => {
    assert.equal(take('a', '10.244.2.0/23'), undefined);
    assert.equal(take('b', '10.244.3.0/24'), 'a');
    assert.equal(take('b', '10.244.0.0/22'), 'a');
    assert.equal(take('b', '10.244.4.0/23'), undefined);
    assert.deepEqual(files().toSorted(), ['10.244.2.0-23', '10.244.4.0-23']);
  });

  it('end a while after they were last written, unless the node’s file names the subnet', () => {
    take('a', '10.244.1.0/24');
    age('10.244.1.0-24', GRACE_MS - 60_000);
    assert.equal(take('b', '10.244.1.0/24'), 'a');
    age('10.244.1.0-24', GRACE_MS + 60_000);
    assert.equal(
      take('b', '10.244.1.0/24', (node, subnet) => node === 'a' && formatPrefix(subnet) === '10.244.1.0/24'),
      'a',
    );
    assert.equal(take('b', '10.244.1.0/24'), undefined);
    // Under the next number; the one before is cleared away.
    assert.deepEqual(files(), ['10.244.1.0-24.1']);
    assert.equal(take('a', '10.244.1.0/24'), 'b');
    age('10.244.1.0-24.1', GRACE_MS + 60_000);
    assert.equal(take('c', '10.244.1.0/24'), undefined);
    assert.deepEqual(files(), ['10.244.1.0-24.2']);
  });

  it('are written again by who claims again, with the name there all the time', () => {
    take('a', '10.244.1.0/24');
    age('10.244.1.0-24', GRACE_MS + 60_000);
    const inode = statSync(join(directory, '10.244.1.0-24')).ino;
    assert.equal(take('a', '10.244.1.0/24'), undefined);
    assert.equal(statSync(join(directory, '10.244.1.0-24')).ino, inode);
    assert.equal(take('b', '10.244.1.0/24'), 'a');
  });

  it('count while nobody’s name is in them yet', () => {
    mkdirSync(directory);
    writeFileSync(join(directory, '10.244.1.0-24'), '');
    assert.equal(take('a', '10.244.1.0/24'), 'another node');
    age('10.244.1.0-24', GRACE_MS + 60_000);
    assert.equal(take('a', '10.244.1.0/24'), undefined);
  });

  it('are not what other files say', () => {
    mkdirSync(directory);
    for (const name of ['README', '10.244.1.0-33', '10.244.1.5-24', 'x-24', '10.244.1.0-24.x']) writeFileSync(join(directory, name), 'a');
    assert.equal(take('b', '10.244.1.0/24'), undefined);
  });

  it('are not made where the directory is not there', () => {
    rmSync(root, { recursive: true });
    assert.throws(() => take('a', '10.244.1.0/24'), { code: 'ENOENT' });
    assert.ok(!existsSync(root));
  });

  it('are never two nodes’, however many claim at the same time', async () => {
    const nodes = ['a', 'b', 'c', 'd'];
    const fresh = Array.from({ length: 40 }, (_, index) => `10.244.${index}.0/24`);
    const stale = Array.from({ length: 40 }, (_, index) => `10.245.${index}.0/24`);
    mkdirSync(directory);
    for (const subnet of stale) {
      const file = subnet.replace('/', '-');
      writeFileSync(join(directory, file), 'gone');
      age(file, GRACE_MS + 60_000);
    }
    const children = nodes.map(() => fork(join(import.meta.dirname, 'claim-subnets.ts'), { execArgv: [] }));
    try {
      await Promise.all(children.map((child) => once(child, 'message')));
      const answers = children.map((child, index) => order(child, [directory, nodes[index] ?? '', [...fresh, ...stale]]));
      const got = await Promise.all(answers);
      const taken = got.flat();
      assert.equal(new Set(taken).size, taken.length, `${taken.length} claims of ${new Set(taken).size} subnets`);
      // Nobody else could have it now; and what two of them gave back is free.
      for (const subnet of [...fresh, ...stale]) {
        const holder = nodes.find((_, index) => got[index]?.includes(subnet));
        assert.equal(take('e', subnet), holder, subnet);
      }
    } finally {
      for (const child of children) child.kill();
    }
  });
});

async function order(child: ChildProcess, text: Order): Promise<readonly string[]> {
  const answer = once(child, 'message');
  child.send(text);
  const [got] = (await answer) as [readonly string[]];
  return got;
}
