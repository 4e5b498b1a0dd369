/** Tables with an owner: who may change them, and what becomes of them when the owner goes. */
import assert from 'node:assert/strict';
import { KernelError, NftConnection, type Operation, type Table } from 'nftables-js';
import { nft, withConnection } from '../nft.ts';

const OWNED: Table = { family: 'inet', name: 'ours', flags: ['owner', 'persist'] };
const addOwned: Operation = { op: 'add', table: OWNED };
const addChain: Operation = { op: 'add', chain: { family: 'inet', table: 'ours', name: 'c' } };

describe('tables with an owner', () => {
  const connection = withConnection();
  let other: NftConnection;

  const table = (): Table | undefined => connection().table({ family: 'inet', name: 'ours' });
  const eperm = { code: 'EPERM' };

  beforeEach(function () {
    other = NftConnection.open();
    try {
      other.commit([addOwned, addChain]);
    } catch (error) {
      other.close();
      // owner is of Linux 5.12, persist of 6.9.
      if (error instanceof KernelError && error.code === 'EOPNOTSUPP') this.skip();
      throw error;
    }
  });
  afterEach(() => {
    other.close();
  });

  it('are changed by their owner alone, and read by everyone', () => {
    assert.equal(table()?.owner, other.port);
    assert.deepEqual(table()?.flags, ['owner', 'persist']);
    assert.notEqual(connection().port, other.port);
    assert.throws(() => connection().commit([{ op: 'add', chain: { family: 'inet', table: 'ours', name: 'd' } }]), eperm);
    assert.throws(() => connection().commit([{ op: 'delete', table: OWNED }]), eperm);
    assert.throws(() => connection().commit([addOwned]), { message: 'adding table inet ours: EPERM' });
    assert.throws(() => nft('delete table inet ours'), /Operation not permitted/);
    assert.equal(connection().chains({ family: 'inet', table: 'ours' }).length, 1);
    other.commit([addOwned, { op: 'add', chain: { family: 'inet', table: 'ours', name: 'd' } }]);
    assert.equal(connection().chains({ family: 'inet', table: 'ours' }).length, 2);
  });

  it('are passed by when nft flushes everything', () => {
    nft('add table inet theirs');
    nft('flush ruleset');
    assert.deepEqual(
      connection()
        .tables()
        .map(({ name }) => name),
      ['ours'],
    );
  });

  it('outlive their owner as orphans, and are adopted by being added with the same flags', () => {
    other.close();
    assert.deepEqual(table()?.flags, ['persist']);
    assert.equal(table()?.owner, undefined);
    // Adding is what adopts; creating finds the table there already.
    assert.throws(() => connection().commit([{ op: 'create', table: OWNED }]), { code: 'EEXIST' });
    connection().commit([addOwned]);
    assert.equal(table()?.owner, connection().port);
    assert.equal(connection().chains({ family: 'inet', table: 'ours' }).length, 1);
    const third = NftConnection.open();
    try {
      assert.throws(() => third.commit([{ op: 'delete', table: OWNED }]), eperm);
    } finally {
      third.close();
    }
    connection().commit([{ op: 'delete', table: OWNED }]);
  });

  it('are anyone’s while they are orphans', () => {
    other.close();
    nft('flush ruleset');
    assert.equal(table(), undefined);
  });

  it('are claimed when they are made, not later', () => {
    nft('add table inet plain');
    assert.throws(() => connection().commit([{ op: 'add', table: { family: 'inet', name: 'plain', flags: ['owner'] } }]), {
      code: 'EOPNOTSUPP',
    });
    assert.throws(() => other.commit([{ op: 'add', table: { ...OWNED, flags: [] } }]), { code: 'EOPNOTSUPP' });
  });

  it('go with their owner unless they persist', () => {
    const third = NftConnection.open();
    third.commit([{ op: 'add', table: { family: 'inet', name: 'passing', flags: ['owner'] } }]);
    assert.equal(connection().table({ family: 'inet', name: 'passing' })?.owner, third.port);
    third.close();
    assert.equal(connection().table({ family: 'inet', name: 'passing' }), undefined);
  });
});
