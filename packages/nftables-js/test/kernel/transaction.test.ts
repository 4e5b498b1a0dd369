/** Transactions on a live kernel: all or nothing, who is to blame, and what else is going on meanwhile. */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { type Expression, NetlinkError, type Operation, TransactionError } from 'nftables-js';
import { accept, jump, rule } from 'nftables-js/builder';
import { listed, nft, withConnection } from '../nft.ts';

const t = { family: 'inet', table: 't' } as const;
const addTable: Operation = { op: 'add', table: { family: 'inet', name: 't', flags: [] } };

function addChain(name: string): Operation {
  return { op: 'add', chain: { ...t, name } };
}

function append(chain: string, expressions: readonly Expression[], comment?: string): Operation {
  return { op: 'append', rule: { ...t, chain, expressions, ...(comment !== undefined && { comment }) } };
}

function addresses(count: number): { key: Uint8Array }[] {
  return Array.from({ length: count }, (_, at) => ({ key: Uint8Array.of(10, at >> 16, (at >> 8) & 0xff, at & 0xff) }));
}

function failure(act: () => void): TransactionError {
  try {
    act();
  } catch (error) {
    assert.ok(error instanceof TransactionError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: 'the transaction succeeded' });
}

describe('transactions', () => {
  const connection = withConnection();

  it('do everything in order', () => {
    connection().commit([addTable, addChain('a'), addChain('b'), append('a', rule('inet', jump('b'))), append('b', rule('inet', accept))]);
    assert.deepEqual(listed('inet', 't'), ['table inet t {', 'chain a {', 'jump b', '}', 'chain b {', 'accept', '}', '}']);
  });

  it('do nothing where one operation fails, and name the first that did', () => {
    const operations: Operation[] = [
      addTable,
      addChain('a'),
      append('a', rule('inet', jump('missing')), 'why'),
      { op: 'delete', chain: { ...t, name: 'never' } },
    ];
    const error = failure(() => connection().commit(operations));
    assert.equal(error.message, 'appending rule inet t a "why": ENOENT');
    assert.equal(error.code, 'ENOENT');
    assert.equal(error.errno, 2);
    assert.equal(error.index, 2);
    assert.equal(error.operation, operations[2]);
    assert.deepEqual(connection().tables(), []);
  });

  it('name the right one of several messages of one operation', () => {
    connection().commit([addTable, { op: 'add', set: { ...t, name: 's', key: ['ipv4_addr'], flags: [] } }]);
    const elements = addresses(10_000);
    connection().commit([{ op: 'add', elements: { ...t, set: 's', elements: elements.slice(-1) } }]);
    const error = failure(() =>
      connection().commit([addChain('a'), { op: 'create', elements: { ...t, set: 's', elements } }, addChain('b')]),
    );
    assert.equal(error.message, 'creating elements inet t s: EEXIST');
    assert.equal(error.index, 1);
    assert.deepEqual(connection().chains(t), []);
  });

  it('blame no operation for what fails as a whole', () => {
    const base = { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' } as const;
    const operations: Operation[] = [
      addTable,
      { op: 'add', chain: { ...t, name: 'base', base } },
      { op: 'add', set: { ...t, name: '__set0', key: ['ipv4_addr'], flags: ['anonymous', 'constant'] } },
    ];
    const error = failure(() => connection().commit(operations));
    assert.equal(error.message, 'a transaction of 3 operations: EINVAL');
    assert.equal(error.operation, undefined);
    assert.equal(error.index, undefined);
    // A single operation is the whole.
    connection().commit([addTable]);
    const alone = failure(() => connection().commit(operations.slice(2)));
    assert.equal(alone.message, 'adding set inet t __set0: EINVAL');
    assert.equal(alone.index, undefined);
  });

  it('refuse jumps in a circle', () => {
    const base = { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' } as const;
    connection().commit([addTable, { op: 'add', chain: { ...t, name: 'base', base } }, addChain('a')]);
    connection().commit([append('base', rule('inet', jump('a')))]);
    assert.ok(['ELOOP', 'EMLINK'].includes(failure(() => connection().commit([append('a', rule('inet', jump('a')))])).code));
    assert.deepEqual(connection().rules({ ...t, chain: 'a' }), []);
  });

  it('name the first of more failures than the kernel can tell', () => {
    connection().commit([addTable]);
    const deletions = Array.from({ length: 20_000 }, (_, at): Operation => ({ op: 'delete', chain: { ...t, name: `missing-${at}` } }));
    const error = failure(() => connection().commit([addChain('a'), ...deletions]));
    assert.equal(error.message, 'deleting chain inet t missing-0: ENOENT');
    // Nothing of it is left over for the next.
    connection().commit([addChain('a')]);
    assert.equal(connection().chains(t).length, 1);
  });

  it('of no operations do nothing', () => {
    const generation = connection().generation();
    connection().commit([]);
    connection().commit([{ op: 'add', elements: { ...t, set: 'missing', elements: [] } }]);
    assert.equal(connection().generation(), generation);
  });

  it('are refused for another generation than the present', () => {
    connection().commit([addTable]);
    const generation = connection().generation();
    connection().commit([addChain('a')], { generation });
    const error = failure(() => connection().commit([addChain('b'), addChain('c')], { generation }));
    assert.equal(error.code, 'ERESTART');
    assert.equal(error.index, undefined);
    assert.equal(connection().chains(t).length, 1);
  });

  it('tell create from add, and delete from destroy', () => {
    const objects: Readonly<Record<string, Operation>> = {
      table: { op: 'add', table: { family: 'inet', name: 't', flags: [] } },
      chain: { op: 'add', chain: { ...t, name: 'x' } },
      set: { op: 'add', set: { ...t, name: 'x', key: ['ipv4_addr'], flags: [] } },
      elements: { op: 'add', elements: { ...t, set: 'x', elements: [{ key: Uint8Array.of(1, 2, 3, 4) }] } },
      counter: { op: 'add', counter: { ...t, name: 'x', packets: 0n, bytes: 0n } },
    };
    connection().commit(Object.values(objects));
    connection().commit(Object.values(objects));
    for (const [name, operation] of Object.entries(objects)) {
      assert.equal(failure(() => connection().commit([{ ...operation, op: 'create' } as Operation])).code, 'EEXIST', name);
    }
    for (const [name, operation] of Object.entries(objects).toReversed()) {
      connection().commit([{ ...operation, op: 'delete' } as Operation]);
      assert.equal(failure(() => connection().commit([{ ...operation, op: 'delete' } as Operation])).code, 'ENOENT', name);
      connection().commit([{ ...operation, op: 'destroy' } as Operation]);
    }
    assert.deepEqual(connection().tables(), []);
  });

  it('put rules where they are told', () => {
    connection().commit([addTable, addChain('a')]);
    const add = (op: 'append' | 'insert', text: string, position?: bigint): void => {
      const rule = { ...t, chain: 'a', expressions: [{ expr: 'counter', packets: 0n, bytes: 0n }], comment: text } as const;
      connection().commit([position === undefined ? { op, rule } : { op, rule, position }]);
    };
    const comments = (): (string | undefined)[] =>
      connection()
        .rules({ ...t, chain: 'a' })
        .map(({ comment }) => comment);
    const handle = (comment: string): bigint => {
      const found = connection()
        .rules({ ...t, chain: 'a' })
        .find((rule) => rule.comment === comment)?.handle;
      assert.ok(found !== undefined);
      return found;
    };
    add('append', 'b');
    add('append', 'd');
    add('insert', 'a');
    add('append', 'c', handle('b'));
    add('insert', 'a2', handle('b'));
    assert.deepEqual(comments(), ['a', 'a2', 'b', 'c', 'd']);
    connection().commit([
      { op: 'replace', rule: { ...t, chain: 'a', expressions: rule('inet', accept), comment: 'new' }, position: handle('c') },
      { op: 'delete', rule: { ...t, chain: 'a', handle: handle('a2') } },
    ]);
    assert.deepEqual(comments(), ['a', 'b', 'new', 'd']);
    connection().commit([{ op: 'flush', rules: { ...t, chain: 'a' } }]);
    assert.deepEqual(comments(), []);
  });

  it('that no kernel could be told of are refused before', () => {
    const invalid = (operation: Operation, message: RegExp): void => {
      assert.throws(() => connection().commit([addTable, operation]), { name: 'NetlinkError', code: 'ERR_INVALID', message });
    };
    invalid({ op: 'add', chain: { ...t, name: 'a\0b' } }, /^adding chain inet t a\0b: a string with a zero byte: "a\\u0000b"$/);
    invalid(
      { op: 'add', table: { family: 'inet', name: 't', flags: [], comment: 'x'.repeat(129) } },
      /a comment of 129 bytes, at most 128/,
    );
    invalid(
      { op: 'add', set: { ...t, name: 's', key: ['integer'], flags: [] } },
      /^adding set inet t s: key of the type integer, .* say it with keyBytes$/,
    );
    invalid(
      append('a', [{ expr: 'meta', key: 'mark', register: 16 }]),
      /^appending rule inet t a: register 16: they are numbered from 0 to 15$/,
    );
    assert.deepEqual(connection().tables(), []);
  });

  it('go on while the event loop does, in the order of the calls', async () => {
    await connection().commitAsync([addTable, { op: 'add', set: { ...t, name: 's', key: ['ipv4_addr'], flags: [] } }]);
    const elements = addresses(20_000);
    let turns = 0;
    const progress = { over: false };
    const first = connection()
      .commitAsync([{ op: 'add', elements: { ...t, set: 's', elements } }])
      .finally(() => {
        progress.over = true;
      });
    const second = connection().commitAsync([{ op: 'delete', elements: { ...t, set: 's', elements: elements.slice(0, 1) } }]);
    assert.throws(
      () => connection().commit([addChain('a')]),
      (error) => error instanceof NetlinkError && error.code === 'ERR_BUSY',
    );
    while (!progress.over) {
      turns++;
      // Listing does not wait for the commit.
      assert.equal(connection().set({ ...t, name: 's' })?.name, 's');
      await turn();
    }
    await first;
    await second;
    assert.ok(turns > 1, `${turns} turns of the event loop`);
    assert.equal(connection().elements({ ...t, set: 's' }).length, 19_999);
    connection().commit([addChain('a')]);
  });

  it('that failed do not hold up those behind them', async () => {
    await connection().commitAsync([addTable]);
    const failing = connection().commitAsync([{ op: 'delete', chain: { ...t, name: 'missing' } }]);
    const behind = connection().commitAsync([addChain('a')]);
    await assert.rejects(failing, { name: 'TransactionError', message: 'deleting chain inet t missing: ENOENT' });
    await behind;
    assert.equal(connection().chains(t).length, 1);
  });

  it('under way are finished when the connection is closed', async () => {
    connection().commit([addTable]);
    const closing = connection().commitAsync([addChain('a')]);
    connection().close();
    await closing;
    assert.deepEqual(listed('inet', 't'), ['table inet t {', 'chain a {', '}', '}']);
    assert.throws(() => connection().commit([addChain('b')]), { code: 'ERR_CLOSED' });
    assert.throws(() => connection().tables(), { code: 'ERR_CLOSED' });
    await assert.rejects(connection().commitAsync([addChain('b')]), { code: 'ERR_CLOSED' });
    nft('delete table inet t');
  });
});
