import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SluiceError } from '../../../src/errors.ts';
import type { Lease } from '../../../src/network/lease.ts';
import { LeaseDirectory } from '../../../src/network/lease-directory.ts';
import type { Announcement, LeaseSourceListener, OwnLease } from '../../../src/network/lease-source.ts';
import { type NetConf, parseNetConf } from '../../../src/network/net-conf.ts';
import { GRACE_MS } from '../../../src/network/subnet-claims.ts';
import { formatAddress, formatPrefix, parseAddress } from '../../../src/policy/address.ts';
import { eventually } from '../sources/manifests.ts';

const VXLAN = { VNI: 1, VtepMAC: 'aa:bb:cc:dd:ee:ff' };

function conf(text: string): NetConf {
  return parseNetConf(`{${text},"Backend":{"Type":"vxlan"}}`, 'x');
}

const V4 = conf('"Network":"10.244.0.0/16"');
const SMALL = conf('"Network":"10.244.0.0/22"');
const DUAL = conf('"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48"');

/** What a listener has been told. */
class Recorder implements LeaseSourceListener {
  readonly events: string[] = [];
  readonly leases = new Map<string, Lease>();
  readonly faults = new Map<string, readonly string[]>();
  readonly everFaulty: string[] = [];
  readonly failures: string[] = [];
  readonly repairs: string[] = [];
  lease: OwnLease | undefined;
  waiting: string | undefined;

  upsert(lease: Lease): void {
    assert.ok(this.events.length === 0 || !this.events.includes('stopped'));
    this.events.push(`upsert ${lease.node}`);
    this.leases.set(lease.node, lease);
  }

  remove(node: string): void {
    assert.ok(this.leases.delete(node), `${node} was told of before`);
    this.events.push(`remove ${node}`);
  }

  synced(): void {
    this.events.push('synced');
  }

  problems(node: string, problems: readonly string[]): void {
    if (problems.length === 0) this.faults.delete(node);
    else this.faults.set(node, problems);
    if (problems.length > 0) this.everFaulty.push(node);
  }

  own(lease: OwnLease | { readonly waiting: string }): void {
    if ('waiting' in lease) this.waiting = lease.waiting;
    else [this.lease, this.waiting] = [lease, undefined];
  }

  failed(_doing: string, error: unknown): void {
    this.failures.push(error instanceof SluiceError ? error.code : String(error));
  }

  get subnets(): (string | undefined)[] {
    return [this.lease?.v4, this.lease?.v6].map((subnet) => subnet && formatPrefix(subnet));
  }
}

describe('a directory of leases', () => {
  let directory: string;
  let sources: LeaseDirectory[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-leases-'));
    sources = [];
  });

  afterEach(async () => {
    for (const source of sources) await source.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const path = (node: string) => join(directory, `${node}.json`);
  const write = (node: string, value: unknown) => writeFileSync(path(node), typeof value === 'string' ? value : JSON.stringify(value));
  const read = (node: string) => JSON.parse(readFileSync(path(node), 'utf8')) as unknown;
  const peer = (node: string, more: object = {}) => {
    const third = node.charCodeAt(0) - 'a'.charCodeAt(0) + 1;
    return { subnet: `10.244.${third}.0/24`, publicIP: `192.0.2.${third}`, backendType: 'vxlan', backendData: VXLAN, ...more };
  };

  function start(
    node: string,
    netConf = V4,
    subnetFile?: string,
    more: { readonly claimEveryMs?: number; readonly quietMs?: number } = {},
  ): { readonly recorder: Recorder; readonly source: LeaseDirectory } {
    const recorder = new Recorder();
    const onRepair = (what: string) => recorder.repairs.push(what);
    const source = new LeaseDirectory({ directory, node, conf: netConf, subnetFile, onRepair, ...more });
    sources.push(source);
    source.start(recorder);
    return { recorder, source };
  }

  async function startAndSync(...of: Parameters<typeof start>) {
    const started = start(...of);
    await eventually(() => assert.ok(started.recorder.events.includes('synced')));
    return started;
  }

  const announcement = (recorder: Recorder, address = '192.0.2.1'): Announcement => ({
    backend: 'vxlan',
    v4: recorder.lease?.v4 && {
      subnet: recorder.lease.v4,
      publicAddress: parseAddress(address) ?? assert.fail(),
      data: JSON.stringify(VXLAN),
    },
    v6: recorder.lease?.v6 && {
      subnet: recorder.lease.v6,
      publicAddress: parseAddress('2001:db8::1') ?? assert.fail(),
      data: JSON.stringify(VXLAN),
    },
  });

  describe('gives a node', () => {
    it('the lowest subnet that is free', async () => {
      write('b', peer('a'));
      write('c', { subnet: '10.244.3.0/24' });
      const { recorder } = await startAndSync('x');
      assert.deepEqual(recorder.subnets, ['10.244.2.0/24', undefined]);
    });

    it('one of each family', async () => {
      const { recorder } = await startAndSync('x', DUAL);
      assert.deepEqual(recorder.subnets, ['10.244.1.0/24', 'fd00:10:244:1::/64']);
    });

    it('the one that its file names, its length included', async () => {
      write('x', { subnet: '10.244.64.0/20', ipv6Subnet: 'fd00:10:244:77::/64' });
      const { recorder } = await startAndSync('x', DUAL);
      assert.deepEqual(recorder.subnets, ['10.244.64.0/20', 'fd00:10:244:77::/64']);
    });

    it('the one that it had before, if it is free', async () => {
      const subnetFile = join(directory, 'subnet.env');
      writeFileSync(subnetFile, 'FLANNEL_SUBNET=10.244.7.1/24\n');
      const first = await startAndSync('x', V4, subnetFile);
      assert.deepEqual(first.recorder.subnets, ['10.244.7.0/24', undefined]);
      const other = await startAndSync('y', V4, subnetFile);
      assert.deepEqual(other.recorder.subnets, ['10.244.1.0/24', undefined]);
      // Of another network, or of another length: that was another configuration.
      for (const text of ['FLANNEL_SUBNET=10.9.7.1/24', 'FLANNEL_SUBNET=10.244.8.1/25', 'FLANNEL_SUBNET=x']) {
        writeFileSync(subnetFile, text);
        const { recorder } = await startAndSync(`z${text.length}${text.at(-1)}`, V4, subnetFile);
        assert.match(recorder.subnets[0] ?? '', /^10\.244\.[234]\.0\/24$/);
      }
    });

    it('the same again after a restart, with the address of its device', async () => {
      const { recorder, source } = await startAndSync('x');
      await source.announce(announcement(recorder));
      await source.stop();
      const again = await startAndSync('x');
      assert.deepEqual(again.recorder.subnets, recorder.subnets);
      assert.deepEqual(again.recorder.lease?.vtep, { 4: 'aa:bb:cc:dd:ee:ff', 6: undefined });
    });

    it('the same again where it ended before it had told anybody', async () => {
      const first = await startAndSync('x');
      await first.source.stop();
      assert.ok(!existsSync(path('x')));
      assert.deepEqual((await startAndSync('y')).recorder.subnets, ['10.244.2.0/24', undefined]);
      assert.deepEqual((await startAndSync('x')).recorder.subnets, ['10.244.1.0/24', undefined]);
    });

    it('another one where the configuration has changed since it told of it', async () => {
      write('x', peer('a', { subnet: '10.99.1.0/24' }));
      const { recorder } = await startAndSync('x');
      assert.deepEqual(recorder.subnets, ['10.244.1.0/24', undefined]);
    });

    it('nothing, and says so, where all are taken, until one is free', async () => {
      for (const node of ['a', 'b', 'c']) write(node, peer(node));
      const { recorder } = await startAndSync('x', SMALL);
      assert.equal(recorder.lease, undefined);
      assert.match(
        recorder.waiting ?? '',
        /^taking an IPv4 subnet of 10\.244\.0\.0\/22: all of 24 bits are taken in .* Remove the files of nodes/,
      );
      rmSync(path('b'));
      await eventually(() => assert.deepEqual(recorder.subnets, ['10.244.2.0/24', undefined]));
      assert.equal(recorder.waiting, undefined);
    });

    it('nothing but what a person has named for it', async () => {
      write('x', { subnet: '10.245.1.0/24' });
      const { recorder } = await startAndSync('x');
      assert.match(recorder.waiting ?? '', /the subnet 10\.245\.1\.0\/24 of .*x\.json: it lies outside Network 10\.244\.0\.0\/16/);
      await startAndSync('y');
      write('x', { subnet: '10.244.1.0/24' });
      await eventually(() => assert.match(recorder.waiting ?? '', /10\.244\.1\.0\/24 of .*x\.json: y has it, or a part of it/));
      write('x', '{ "subnet": ');
      await eventually(() => assert.match(recorder.waiting ?? '', /x\.json: it is no JSON/));
      write('x', { subnet: '10.244.9.0/24' });
      await eventually(() => assert.deepEqual(recorder.subnets, ['10.244.9.0/24', undefined]));
    });

    it('different ones, however many start at the same time', async () => {
      const all = Array.from({ length: 12 }, (_, index) => start(`n${index}`));
      await eventually(() => assert.ok(all.every(({ recorder }) => recorder.lease !== undefined)));
      const given = all.map(({ recorder }) => recorder.subnets[0]);
      assert.equal(new Set(given).size, 12);
    });
  });

  describe('tells of the other nodes', () => {
    it('those that are there, before it is in step', async () => {
      write('a', peer('a'));
      write('b', peer('b', { node: 'b' }));
      const { recorder } = await startAndSync('x');
      assert.deepEqual(recorder.events.toSorted(), ['synced', 'upsert a', 'upsert b']);
      assert.equal(recorder.events.at(-1), 'synced');
      const lease = recorder.leases.get('b');
      assert.equal(formatAddress(lease?.v4?.publicAddress ?? assert.fail()), '192.0.2.2');
      assert.deepEqual(lease?.v4?.data, VXLAN);
    });

    it('that come, change and go', async () => {
      const { recorder } = await startAndSync('x');
      write('a', peer('a'));
      await eventually(() => assert.deepEqual(recorder.events, ['synced', 'upsert a']));
      write('a', peer('a', { publicIP: '192.0.2.77' }));
      await eventually(() => assert.equal(recorder.events.length, 3));
      assert.equal(formatAddress(recorder.leases.get('a')?.v4?.publicAddress ?? assert.fail()), '192.0.2.77');
      rmSync(path('a'));
      await eventually(() => assert.deepEqual(recorder.events.slice(2), ['upsert a', 'remove a']));
    });

    it('and not twice of the same', async () => {
      write('a', peer('a'));
      const { recorder } = await startAndSync('x');
      write('a', `  ${JSON.stringify(peer('a'))}\n`);
      write('b', peer('b'));
      await eventually(() => assert.deepEqual(recorder.events, ['upsert a', 'synced', 'upsert b']));
    });

    it('and not of a file that is replaced by way of another name', async () => {
      write('a', peer('a'));
      const { recorder } = await startAndSync('x');
      for (let round = 0; round < 5; round++) {
        renameSync(path('a'), join(directory, 'away'));
        writeFileSync(join(directory, 'fresh'), JSON.stringify(peer('a')));
        renameSync(join(directory, 'fresh'), path('a'));
      }
      write('b', peer('b'));
      await eventually(() => assert.ok(recorder.events.includes('upsert b')));
      assert.ok(!recorder.events.includes('remove a'));
    });

    it('and not of what is only half done', async () => {
      write('a', peer('a'));
      // The times between are far from it on both sides.
      const { recorder } = await startAndSync('x', V4, undefined, { quietMs: 500 });
      const text = JSON.stringify(peer('b'));
      for (let round = 0; round < 2; round++) {
        write('b', text.slice(0, 20));
        rmSync(path('a'));
        await sleep(200);
        write('b', text);
        write('a', peer('a'));
        await sleep(200);
      }
      await eventually(() => assert.deepEqual(recorder.events, ['upsert a', 'synced', 'upsert b']));
      assert.deepEqual(recorder.everFaulty, []);
    });

    it('and not of what is prepared, hidden or no file', async () => {
      write('a', { subnet: '10.244.1.0/24' });
      write('.b', peer('b'));
      writeFileSync(join(directory, 'c.txt'), JSON.stringify(peer('c')));
      mkdirSync(path('d'));
      const { recorder } = await startAndSync('x');
      assert.deepEqual([recorder.events, recorder.faults.size], [['synced'], 0]);
    });

    it('what is wrong with their files, and keeps what was known', async () => {
      write('a', peer('a'));
      write('b', '{');
      const { recorder } = await startAndSync('x');
      assert.match(recorder.faults.get('b')?.join() ?? '', /b\.json: it is no JSON/);
      write('a', peer('a', { publicIP: 'nowhere' }));
      await eventually(() => assert.match(recorder.faults.get('a')?.join() ?? '', /a\.json: publicIP: expected .*, not "nowhere"/));
      assert.equal(formatAddress(recorder.leases.get('a')?.v4?.publicAddress ?? assert.fail()), '192.0.2.1');
      write('a', peer('a'));
      write('b', peer('b'));
      await eventually(() => assert.equal(recorder.faults.size, 0));
      assert.deepEqual(recorder.events, ['upsert a', 'synced', 'upsert b']);
    });

    it('that one is gone whose file could not be read', async () => {
      write('a', peer('a'));
      const { recorder } = await startAndSync('x');
      write('a', '{');
      await eventually(() => assert.equal(recorder.faults.size, 1));
      rmSync(path('a'));
      await eventually(() => assert.deepEqual(recorder.events, ['upsert a', 'synced', 'remove a']));
      assert.equal(recorder.faults.size, 0);
    });
  });

  describe('has this node’s file', () => {
    it('as it is announced, for others to read', async () => {
      const { recorder: others } = await startAndSync('y', DUAL);
      const { recorder, source } = await startAndSync('x', DUAL);
      await source.announce(announcement(recorder));
      assert.deepEqual(read('x'), {
        node: 'x',
        subnet: '10.244.2.0/24',
        ipv6Subnet: 'fd00:10:244:2::/64',
        publicIP: '192.0.2.1',
        publicIPv6: '2001:db8::1',
        backendType: 'vxlan',
        backendData: VXLAN,
        backendV6Data: VXLAN,
      });
      await eventually(() => assert.deepEqual(others.events, ['synced', 'upsert x']));
      // Of itself it is told nothing.
      assert.deepEqual(recorder.events, ['synced']);
    });

    it('again after it was removed or changed', async () => {
      const { recorder, source } = await startAndSync('x');
      await source.announce(announcement(recorder));
      const wanted = readFileSync(path('x'), 'utf8');
      rmSync(path('x'));
      await eventually(() => assert.equal(readFileSync(path('x'), 'utf8'), wanted));
      assert.match(recorder.repairs.join(), /x\.json was missing; it is written again$/);
      write('x', { ...peer('a'), publicIP: '203.0.113.9' });
      await eventually(() => assert.equal(readFileSync(path('x'), 'utf8'), wanted));
      assert.match(recorder.repairs.join(), /x\.json had been changed; it is written again$/);
      await source.announce(announcement(recorder, '192.0.2.99'));
      assert.match(readFileSync(path('x'), 'utf8'), /192\.0\.2\.99/);
    });

    it('but not against a person who names another subnet: that is said', async () => {
      // Long enough for it to be seen before it counts.
      const { recorder, source } = await startAndSync('x', V4, undefined, { quietMs: 300 });
      await source.announce(announcement(recorder));
      await sleep(200);
      write('x', { subnet: '10.244.9.0/24' });
      await eventually(() => {
        assert.match(recorder.faults.get('x')?.join() ?? '', /x\.json names 10\.244\.9\.0\/24, and 10\.244\.1\.0\/24 is in use: a restart/);
      });
      assert.deepEqual(read('x'), { subnet: '10.244.9.0/24' });
      assert.deepEqual(recorder.repairs, []);
    });

    it('later, where it cannot be written now', async () => {
      const { recorder, source } = await startAndSync('x');
      mkdirSync(join(path('x'), 'in-the-way'), { recursive: true });
      const announced = source.announce(announcement(recorder));
      await eventually(() => assert.ok(recorder.failures.length > 0));
      rmSync(path('x'), { recursive: true });
      await announced;
      assert.ok(statSync(path('x')).isFile());
    });
  });

  describe('has this node’s claim of its subnet', () => {
    const old = () => new Date(Date.now() - GRACE_MS - 60_000);
    const claim = () => join(directory, '.subnets', '10.244.1.0-24');

    it('in force for as long as it runs, even without its file', async () => {
      await startAndSync('x', V4, undefined, { claimEveryMs: 0 });
      utimesSync(claim(), old(), old());
      write('a', peer('a', { subnet: '10.244.200.0/24' }));
      await eventually(() => assert.ok(Date.now() - statSync(claim()).mtimeMs < GRACE_MS));
      assert.deepEqual((await startAndSync('y')).recorder.subnets, ['10.244.2.0/24', undefined]);
    });

    it('lost to another one if it was stopped for long, and says so', async () => {
      const { recorder } = await startAndSync('x', V4, undefined, { claimEveryMs: 0 });
      rmSync(claim());
      writeFileSync(claim(), 'y');
      write('a', peer('a', { subnet: '10.244.200.0/24' }));
      await eventually(() => {
        assert.equal(recorder.faults.get('x')?.join(), 'y has taken this node’s subnet, 10.244.1.0/24, which is in use here');
      });
      rmSync(claim());
      write('b', peer('b', { subnet: '10.244.201.0/24' }));
      await eventually(() => assert.equal(recorder.faults.size, 0));
      assert.equal(readFileSync(claim(), 'utf8'), 'x');
    });
  });

  describe('that is not there', () => {
    it('is waited for, and is not made', async () => {
      rmSync(directory, { recursive: true });
      const { recorder } = start('x');
      await eventually(() =>
        assert.match(recorder.waiting ?? '', /^the directory of leases .* cannot be used: ENOENT\. It has to be there/),
      );
      assert.ok(!existsSync(directory));
      mkdirSync(directory);
      await eventually(() => assert.deepEqual(recorder.subnets, ['10.244.1.0/24', undefined]));
    });

    it('any more takes nobody away', async () => {
      write('a', peer('a'));
      const { recorder } = await startAndSync('x');
      renameSync(directory, `${directory}.away`);
      try {
        await eventually(() => assert.ok(recorder.failures.includes('LEASE_DIRECTORY_UNREADABLE')));
        // As a mount point looks when nothing is mounted.
        mkdirSync(directory);
        await eventually(() => assert.ok(recorder.failures.includes('LEASE_DIRECTORY_REPLACED')));
        assert.deepEqual([...recorder.leases.keys()], ['a']);
        rmSync(directory, { recursive: true });
      } finally {
        renameSync(`${directory}.away`, directory);
      }
      write('b', peer('b'));
      await eventually(() => assert.ok(recorder.leases.has('b')));
      assert.ok(!recorder.events.includes('remove a'));
    });
  });

  it('tells nothing once it has stopped', async () => {
    const { recorder, source } = await startAndSync('x');
    const other = await startAndSync('y');
    await source.stop();
    recorder.events.push('stopped');
    write('a', peer('a'));
    await eventually(() => assert.ok(other.recorder.leases.has('a')));
    assert.equal(recorder.events.at(-1), 'stopped');
    await assert.rejects(source.announce(announcement(recorder)), { name: 'AbortError' });
  });

  it('is refused for a node whose name is no file’s, or a network that cannot be cut', () => {
    const refused = (node: string, netConf: NetConf) => {
      try {
        return new LeaseDirectory({ directory, node, conf: netConf, subnetFile: undefined, onRepair: () => undefined });
      } catch (error) {
        return error instanceof SluiceError ? error.code : error;
      }
    };
    for (const node of ['', '.', '..', 'a/b', '.a', 'a\n', 'a'.repeat(250)]) assert.equal(refused(node, V4), 'NODE_NAME_INVALID', node);
    assert.equal(refused('a', conf('"Network":"10.244.0.0/29"')), 'NET_CONF_INVALID');
  });
});
