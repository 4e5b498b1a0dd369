import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readClusterLeases, readDirectoryLeases } from '../../../src/doctor/collect-leases.ts';
import type { LeaseRecords, Reading } from '../../../src/doctor/evidence.ts';
import { ApiError } from '../../../src/kubernetes/api/errors.ts';
import { formatPrefix } from '../../../src/policy/address.ts';
import { conf } from './healthy-node.ts';

const PREFIX = 'flannel.alpha.coreos.com';
const CONF = conf({ EnableIPv6: false });

function nodeObject(name: string, podCIDR: string, annotations: Readonly<Record<string, string>> = {}): object {
  return {
    metadata: { name, annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`${PREFIX}/${key}`, value])) },
    spec: { podCIDR, podCIDRs: podCIDR === '' ? [] : [podCIDR] },
  };
}

function lease(number: number): Readonly<Record<string, string>> {
  return {
    'kube-subnet-manager': 'true',
    'backend-type': 'vxlan',
    'backend-data': `{"VNI":1,"VtepMAC":"0e:04:00:00:00:0${number}"}`,
    'public-ip': `172.18.0.10${number}`,
  };
}

/** An API server that gives these pages. */
async function read(...pages: readonly (readonly object[])[]): Promise<{ reading: Reading<LeaseRecords>; asked: (string | undefined)[] }> {
  const asked: (string | undefined)[] = [];
  const client = {
    call: async ({ query }: { readonly query?: Readonly<Record<string, string>> }) => {
      asked.push(query?.['continue']);
      const page = asked.length - 1;
      const metadata = page + 1 < pages.length ? { continue: `page-${page + 1}` } : {};
      return { status: 200, object: { metadata, items: pages[page] } };
    },
  };
  const reading = await readClusterLeases({ client, origin: 'the API server', node: 'self', conf: CONF, prefix: PREFIX });
  return { reading, asked };
}

function records(reading: Reading<LeaseRecords>): LeaseRecords {
  assert.ok('seen' in reading, 'blind' in reading ? reading.blind : '');
  return reading.seen;
}

describe('reading the leases of a cluster', () => {
  it('reads all pages, and tells this node from its peers', async () => {
    const { reading, asked } = await read(
      [nodeObject('self', '10.244.0.0/24', lease(0)), nodeObject('peer-1', '10.244.1.0/24', lease(1))],
      [nodeObject('windows', '10.244.7.0/24'), nodeObject('peer-2', '10.244.2.0/24', { ...lease(2), 'public-ip': 'x' })],
    );
    const { own, peers, taken, unreadable } = records(reading);
    assert.deepEqual(asked, [undefined, 'page-1']);
    assert.deepEqual(
      peers.map(({ node }) => node),
      ['peer-1'],
    );
    // Also of nodes where nobody runs flannel: their subnets are not free.
    assert.deepEqual(taken.map(formatPrefix), ['10.244.1.0/24', '10.244.7.0/24', '10.244.2.0/24']);
    assert.match(unreadable.get('peer-2') ?? '', /annotation flannel\.alpha\.coreos\.com\/public-ip: "x" is no IPv4 address/);
    assert.ok(own.exists && own.isPublished);
    assert.equal(own.subnets.v4 === undefined ? '' : formatPrefix(own.subnets.v4), '10.244.0.0/24');
    assert.deepEqual(own.data[4], {
      where: 'annotation flannel.alpha.coreos.com/backend-data of node self',
      text: '{"VNI":1,"VtepMAC":"0e:04:00:00:00:00"}',
    });
  });

  it('keeps what is told of this node as it stands, also where it is wrong', async () => {
    const { reading } = await read([nodeObject('self', '', { ...lease(0), 'public-ip-overwrite': 'nonsense' })]);
    const { own } = records(reading);
    assert.deepEqual([own.subnets, own.overwrite[4].text], [{}, 'nonsense']);
    assert.match(own.problems.join(), /public-ip-overwrite: "nonsense"/);
  });

  it('says that there is no such node, and why a server gives nothing', async () => {
    assert.equal(records((await read([])).reading).own.exists, false);
    const client = {
      call: async () => {
        throw new ApiError('API_UNREACHABLE', '/api/v1/nodes: connect ECONNREFUSED');
      },
    };
    const reading = await readClusterLeases({ client, origin: 'https://x:6443', node: 'self', conf: CONF, prefix: PREFIX });
    assert.deepEqual(reading, { blind: 'the nodes cannot be read from https://x:6443: /api/v1/nodes: connect ECONNREFUSED' });
  });
});

describe('reading the leases of a directory', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'doctor-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const write = (node: string, fields: object | string): void =>
    writeFileSync(join(directory, `${node}.json`), typeof fields === 'string' ? fields : JSON.stringify(fields));

  it('reads each file, and changes nothing', () => {
    write('self', {
      subnet: '10.244.0.0/24',
      publicIP: '172.18.0.1',
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: '0e:04:00:00:00:00' },
    });
    write('peer-1', {
      subnet: '10.244.1.0/24',
      publicIP: '172.18.0.101',
      backendType: 'vxlan',
      backendData: { VNI: 1, VtepMAC: '0e:04:00:00:00:01' },
    });
    write('prepared', { subnet: '10.244.9.0/24' });
    write('broken', '{');
    writeFileSync(join(directory, '.peer-3.json'), '{');
    const { own, peers, taken, unreadable } = records(readDirectoryLeases(directory, 'self', CONF));
    assert.ok(own.exists && own.isPublished);
    assert.equal(own.data[4].text, '{"VNI":1,"VtepMAC":"0e:04:00:00:00:00"}');
    assert.equal(own.publicAddress[4].where, `publicIP of ${directory}/self.json`);
    assert.deepEqual(
      peers.map(({ node }) => node),
      ['peer-1'],
    );
    assert.deepEqual(taken.map(formatPrefix), ['10.244.1.0/24', '10.244.9.0/24']);
    assert.deepEqual([...unreadable.keys()], ['broken']);
  });

  it('tells a file that is missing from one that cannot be read', () => {
    assert.equal(records(readDirectoryLeases(directory, 'self', CONF)).own.exists, false);
    write('self', '{ "subnet": 7 }');
    const { own } = records(readDirectoryLeases(directory, 'self', CONF));
    assert.ok(own.exists);
    assert.match(own.problems.join(), /subnet: expected a block/);
    assert.match(('blind' in readDirectoryLeases(join(directory, 'none'), 'self', CONF) && 'blind') || '', /blind/);
  });
});
