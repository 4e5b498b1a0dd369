/** Peers by address: rows 19 to 22 and 36. */
import assert from 'node:assert/strict';
import { formatAddress } from '../../../src/policy/address.ts';
import { evaluate } from '../../../src/policy/evaluate.ts';
import { worldOf } from '../../../src/policy/world.ts';
import { address, allows, ip, KEYS, MODEL, only, policy } from './model.ts';

interface Block {
  readonly cidr: unknown;
  readonly except?: unknown;
}

function fromBlocks(...blocks: readonly Block[]): object {
  return { podSelector: only('a'), ingress: [{ from: blocks.map((ipBlock) => ({ ipBlock })) }] };
}

/** Whether x/a admits these addresses from these blocks. */
function admits(blocks: readonly Block[], ...sources: readonly string[]): boolean[] {
  const world = worldOf({ ...MODEL, policies: [policy(fromBlocks(...blocks))] });
  return sources.map((source) => allows(world, source, 'x/a'));
}

/** The ranges that remain of the only block. */
function ranges(block: Block): string[] {
  const peer = policy(fromBlocks(block)).ingress?.[0]?.peers?.[0];
  assert.ok(peer?.kind === 'block', `the peer is ${peer?.kind}`);
  return peer.ranges.map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`);
}

function codes(block: Block): string[][] {
  return policy(fromBlocks(block)).problems.map(({ path, code }) => [path.replace('spec.ingress[0].from[0].ipBlock', ''), code]);
}

describe('ipBlocks', () => {
  it('row 19: except belongs to its own peer; another peer may still allow the address', () => {
    const wide = { cidr: '198.51.0.0/16', except: ['198.51.100.0/24'] };
    assert.deepEqual(admits([wide], '198.51.99.255', '198.51.100.0', '198.51.100.255', '198.51.101.0'), [true, false, false, true]);
    assert.deepEqual(admits([wide, { cidr: '198.51.100.7/32' }], '198.51.100.7', '198.51.100.8'), [true, false]);
    assert.deepEqual(admits([{ cidr: '198.51.100.7/32' }, wide], '198.51.100.7', '198.51.100.8'), [true, false]);
  });

  it('row 19: another rule and another policy may still allow the address', () => {
    const rule = { from: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['198.51.100.0/24'] } }] };
    const open = { from: [{ ipBlock: { cidr: '198.51.100.0/24' } }], ports: [{ port: 80 }] };
    const oneOfTwo = policy({ podSelector: {}, ingress: [rule, open] });
    const two = [policy({ podSelector: {}, ingress: [rule] }, 'a'), policy({ podSelector: {}, ingress: [open] }, 'b')];
    for (const policies of [[oneOfTwo], two, two.toReversed()]) {
      const world = worldOf({ ...MODEL, policies });
      assert.ok(allows(world, '198.51.100.7', 'x/a', 'TCP', 80));
      assert.ok(!allows(world, '198.51.100.7', 'x/a', 'TCP', 81));
    }
  });

  it('row 20: host bits are masked, and reported', () => {
    assert.deepEqual(ranges({ cidr: '10.0.0.5/24' }), ['10.0.0.0-10.0.0.255']);
    assert.deepEqual(codes({ cidr: '10.0.0.5/24' }), [['.cidr', 'CIDR_HOST_BITS']]);
    assert.deepEqual(ranges({ cidr: '10.0.0.0/8', except: ['10.1.2.3/16'] }), ['10.0.0.0-10.0.255.255', '10.2.0.0-10.255.255.255']);
    assert.deepEqual(codes({ cidr: '10.0.0.0/8', except: ['10.1.2.3/16'] }), [['.except[0]', 'CIDR_HOST_BITS']]);
  });

  it('row 20: an except that covers its whole block leaves nothing', () => {
    for (const except of [['10.0.0.0/8'], ['0.0.0.0/0'], ['10.128.0.0/9', '10.0.0.0/9']]) {
      assert.deepEqual(ranges({ cidr: '10.0.0.0/8', except }), []);
      assert.deepEqual(admits([{ cidr: '10.0.0.0/8', except }], '10.0.0.1', '10.255.255.255', '11.0.0.0'), [false, false, false]);
    }
    assert.deepEqual(codes({ cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] }), [['.except[0]', 'EXCEPT_COVERS_BLOCK']]);
  });

  it('row 20: leading zeros are decimal, as Kubernetes reads them, and reported', () => {
    assert.deepEqual(ranges({ cidr: '010.0.0.0/8' }), ['10.0.0.0-10.255.255.255']);
    assert.deepEqual(codes({ cidr: '010.0.0.0/8' }), [['.cidr', 'CIDR_LEADING_ZEROS']]);
    assert.deepEqual(codes({ cidr: '10.0.0.0/8', except: ['010.1.0.0/16'] }), [['.except[0]', 'CIDR_LEADING_ZEROS']]);
  });

  it('row 20: an IPv4-mapped IPv6 block matches nothing, and is reported', () => {
    assert.deepEqual(codes({ cidr: '::ffff:198.51.100.0/120' }), [['.cidr', 'CIDR_IPV4_MAPPED']]);
    assert.deepEqual(admits([{ cidr: '::ffff:198.51.100.0/120' }], '198.51.100.7', '::ffff:198.51.100.7'), [false, false]);
    // As an except it may have been meant to keep somebody out.
    assert.deepEqual(admits([{ cidr: '0.0.0.0/0', except: ['::ffff:10.0.0.0/104'] }], '198.51.100.7'), [false]);
  });

  it('the ends of a family belong to its blocks', () => {
    assert.deepEqual(ranges({ cidr: '0.0.0.0/0' }), ['0.0.0.0-255.255.255.255']);
    assert.deepEqual(ranges({ cidr: '0.0.0.0/0', except: ['0.0.0.0/32', '255.255.255.255/32'] }), ['0.0.0.1-255.255.255.254']);
    assert.deepEqual(ranges({ cidr: '::/0', except: ['::/1'] }), ['8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff']);
    assert.deepEqual(admits([{ cidr: '0.0.0.0/0' }], '255.255.255.255', '0.0.0.0'), [true, true]);
  });

  it('overlapping excepts are taken out once', () => {
    const except = ['10.0.2.0/24', '10.0.0.0/23', '10.0.1.0/24', '10.0.0.0/24'];
    assert.deepEqual(ranges({ cidr: '10.0.0.0/22', except }), ['10.0.3.0-10.0.3.255']);
  });

  it('an except outside of its block takes nothing out, and is reported', () => {
    for (const outside of ['11.0.0.0/8', 'fd00::/8']) {
      assert.deepEqual(ranges({ cidr: '10.0.0.0/8', except: [outside] }), ['10.0.0.0-10.255.255.255']);
      assert.deepEqual(codes({ cidr: '10.0.0.0/8', except: [outside] }), [['.except[0]', 'EXCEPT_OUTSIDE_BLOCK']]);
    }
  });

  it('row 21: a block matches pod addresses as well, of any namespace', () => {
    const world = worldOf({ ...MODEL, policies: [policy(fromBlocks({ cidr: '10.244.2.0/24' }))] });
    assert.deepEqual(
      KEYS.filter((key) => key !== 'x/a' && allows(world, key, 'x/a')),
      ['y/a', 'y/b', 'y/c'],
    );
  });

  it('row 22: a block is compared with the address after DNAT, so a Service range opens no pod', () => {
    const egress = policy({ podSelector: {}, policyTypes: ['Egress'], egress: [{ to: [{ ipBlock: { cidr: '10.96.0.0/12' } }] }] });
    const world = worldOf({ ...MODEL, policies: [egress] });
    assert.ok(!allows(world, 'x/a', 'y/a'));
    assert.ok(allows(world, 'x/a', '10.96.0.10'));
  });

  it('row 36: a v4 block never opens v6, nor the other way round', () => {
    const asked = (cidr: string): boolean[] => admits([{ cidr }], '198.51.100.7', '2001:db8:ff::7');
    assert.deepEqual(asked('0.0.0.0/0'), [true, false]);
    assert.deepEqual(asked('::/0'), [false, true]);
    // 0.0.0.1 and ::1 have the same number.
    assert.deepEqual(admits([{ cidr: '0.0.0.0/8' }], '0.0.0.1', '::1'), [true, false]);
    assert.deepEqual(admits([{ cidr: '::/96' }], '0.0.0.1', '::1'), [false, true]);
  });

  it('row 36: every address of a pod is subject and peer', () => {
    const spec = { podSelector: only('a'), ingress: [{ from: [{ podSelector: only('b') }] }] };
    const world = worldOf({ ...MODEL, policies: [policy(spec)] });
    for (const family of [4, 6] as const) {
      const asked = (from: string): boolean =>
        evaluate(world, { source: address(ip(from, family)), destination: address(ip('x/a', family)), protocol: 'TCP', port: 80 }).allowed;
      assert.deepEqual([asked('x/b'), asked('x/c')], [true, false], `IPv${family}`);
    }
  });
});
