/** Elements on a live kernel: ranges, timeouts, and very many of them. */
import assert from 'node:assert/strict';
import { type Element, type Operation, rangeElements } from 'nftables-js';
import { listed, nft, withConnection } from '../nft.ts';

const t = { family: 'inet', table: 't' } as const;
const addTable: Operation = { op: 'add', table: { family: 'inet', name: 't', flags: [] } };

function address(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

describe('elements', () => {
  const connection = withConnection();

  const addSet = (flags: ('interval' | 'timeout')[], elements: Iterable<Element>): void =>
    connection().commit([
      addTable,
      { op: 'add', set: { ...t, name: 's', key: ['ipv4_addr'], flags } },
      { op: 'add', elements: { ...t, set: 's', elements } },
    ]);
  const list = (): string =>
    listed('inet', 't')
      .join(' ')
      .replace(/^.*elements = /, '')
      .replace(/ \} \}$/, '');

  const RANGES: readonly (readonly [listed: string, ...ranges: (readonly [first: string, last: string])[]])[] = [
    ['{ 10.0.0.0/8 }', ['10.0.0.0', '10.255.255.255']],
    ['{ 0.0.0.0/0 }', ['0.0.0.0', '255.255.255.255']],
    ['{ 0.0.0.0 }', ['0.0.0.0', '0.0.0.0']],
    ['{ 0.0.0.0-0.0.0.5, 255.255.255.255 }', ['0.0.0.0', '0.0.0.5'], ['255.255.255.255', '255.255.255.255']],
    ['{ 10.0.0.0/24, 10.0.1.0/24 }', ['10.0.0.0', '10.0.0.255'], ['10.0.1.0', '10.0.1.255']],
    ['{ 1.2.3.4-1.2.4.255, 250.0.0.0-255.255.255.255 }', ['250.0.0.0', '255.255.255.255'], ['1.2.3.4', '1.2.4.255']],
  ];
  for (const [text, ...ranges] of RANGES) {
    it(`of ranges: ${text}`, () => {
      const elements = ranges.flatMap(([first, last]) => rangeElements(address(first), address(last)));
      addSet(['interval'], elements);
      assert.equal(list(), text);
      // What nft makes of its own text is the same, but for an end before the first range, which nft itself does not need.
      nft('add set inet t theirs { type ipv4_addr; flags interval; }', `add element inet t theirs ${text}`);
      const hex = (set: string): string[] =>
        connection()
          .elements({ ...t, set })
          .map(({ key, intervalEnd }) => `${Buffer.from(key).toString('hex')}${intervalEnd === true ? ' end' : ''}`)
          .filter((element) => element !== '00000000 end')
          .toSorted();
      assert.deepEqual(hex('s'), hex('theirs'));
      connection().commit([{ op: 'delete', elements: { ...t, set: 's', elements } }]);
      assert.deepEqual(connection().elements({ ...t, set: 's' }), []);
    });
  }

  it('of ranges that are none are refused', () => {
    assert.throws(() => rangeElements(address('10.0.0.2'), address('10.0.0.1')), {
      code: 'ERR_INVALID',
      message: 'a range from 0a000002 to 0a000001',
    });
    assert.throws(() => rangeElements(address('10.0.0.2'), Uint8Array.of(1)), { code: 'ERR_INVALID' });
  });

  it('with timeouts tell what is left', () => {
    addSet(['timeout'], [{ key: address('10.0.0.1'), timeoutMs: 3_600_000n }, { key: address('10.0.0.2') }]);
    const [first, second] = connection()
      .elements({ ...t, set: 's' })
      .toSorted((a, b) => Buffer.compare(a.key, b.key));
    assert.equal(first?.timeoutMs, 3_600_000n);
    assert.ok(first.expirationMs !== undefined && first.expirationMs > 3_500_000n && first.expirationMs <= 3_600_000n);
    assert.equal(second?.timeoutMs, undefined);
  });

  it('that overlap are refused as a whole', () => {
    addSet(['interval'], rangeElements(address('10.0.0.0'), address('10.0.0.255')));
    assert.throws(
      () =>
        connection().commit([
          { op: 'add', elements: { ...t, set: 's', elements: rangeElements(address('10.0.0.5'), address('10.0.1.5')) } },
        ]),
      { code: 'EEXIST', message: /^adding elements inet t s: EEXIST/ },
    );
    assert.equal(list(), '{ 10.0.0.0/24 }');
  });

  it('are flushed', () => {
    addSet([], [{ key: address('10.0.0.1') }, { key: address('10.0.0.2') }]);
    connection().commit([{ op: 'flush', elements: { ...t, set: 's' } }]);
    assert.deepEqual(connection().elements({ ...t, set: 's' }), []);
  });

  it('one hundred thousand are written and read', async () => {
    const count = 100_000;
    const key = new Uint8Array(4);
    const view = new DataView(key.buffer);
    function* all(): Generator<Element> {
      for (let at = 0; at < count; at++) {
        view.setUint32(0, 0x0a000000 + at);
        yield { key };
      }
    }
    connection().commit([addTable, { op: 'add', set: { ...t, name: 's', key: ['ipv4_addr'], flags: [] } }]);
    await connection().commitAsync([{ op: 'add', elements: { ...t, set: 's', elements: all() } }]);

    // At once, while the kernel still makes the set's hash table larger. Not with deepEqual: its report of so many differences
    // would take minutes and gigabytes.
    const keys = connection().elementKeys({ ...t, set: 's' }, 4);
    assert.equal(keys.length, count * 4);
    const keyView = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    const missing = new Set(Array.from({ length: count }, (_, at) => 0x0a000000 + at));
    for (let at = 0; at < keys.length; at += 4) missing.delete(keyView.getUint32(at));
    assert.equal(missing.size, 0);

    let elements = 0;
    const found = new Set<number>();
    for (const { key } of connection().eachElement({ ...t, set: 's' })) {
      elements++;
      found.add(Buffer.from(key).readUInt32BE());
    }
    assert.equal(elements, count);
    assert.equal(found.size, count);
    for (const wrong of [2, 16]) {
      assert.throws(() => connection().elementKeys({ ...t, set: 's' }, wrong), {
        code: 'ERR_MALFORMED',
        message: `a key of 4 bytes in a set with keys of ${wrong}`,
      });
    }
  });
});
