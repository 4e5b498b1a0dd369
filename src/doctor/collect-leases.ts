/**
 * The leases as they stand, read once and without a claim to any: the API server's Nodes, or the files of a directory. What is told of
 * this node is kept as it was written, for findings show it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, systemErrorCode } from '../errors.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { ApiError } from '../kubernetes/api/errors.ts';
import type { Lease } from '../network/lease.ts';
import { readLeaseFile, type Subnets } from '../network/lease-file.ts';
import { familiesOf, type NetConf } from '../network/net-conf.ts';
import { type AnnotationName, annotationNames, NO_NODE, readNodeLease } from '../network/node-lease.ts';
import { familyOf, type Prefix } from '../policy/address.ts';
import { type Fields, isFields } from '../policy/problems.ts';
import type { LeaseRecords, OwnRecord, Reading, Told } from './evidence.ts';

const PAGE = 500;
const NODES = '/api/v1/nodes';

export interface ClusterLeaseOptions {
  readonly client: Pick<ApiClient, 'call'>;
  /** The server, for messages. */
  readonly origin: string;
  readonly node: string;
  readonly conf: NetConf;
  /** Of annotations. */
  readonly prefix: string;
}

/** All nodes of a cluster. @throws SluiceError `ANNOTATION_PREFIX_INVALID` */
export async function readClusterLeases(options: ClusterLeaseOptions): Promise<Reading<LeaseRecords>> {
  const { client, origin, node, conf, prefix } = options;
  const names = annotationNames(prefix);
  const peers: Lease[] = [];
  const taken: Prefix[] = [];
  const unreadable = new Map<string, string>();
  let own = ownOfNode(undefined, node, conf, names, prefix);
  try {
    let next = '';
    do {
      const query = { limit: String(PAGE), ...(next === '' ? {} : { continue: next }) };
      const { object } = await client.call({ method: 'GET', path: NODES, query });
      const list: Fields = isFields(object) ? object : {};
      const { items } = list;
      if (!Array.isArray(items)) return { blind: `${origin} gave no list of nodes` };
      for (const item of items as readonly unknown[]) {
        const reading = readNodeLease(item, { prefix, ipv4: conf.enableIPv4, ipv6: conf.enableIPv6 });
        if (reading.name === undefined) continue;
        if (reading.name === node) own = ownOfNode(item, node, conf, names, prefix);
        else {
          for (const each of reading.own.podCIDRs) taken.push(each);
          if (reading.lease !== undefined) peers.push(reading.lease);
          if (reading.reason !== undefined && (reading.unreadable || reading.lease !== undefined))
            unreadable.set(reading.name, reading.reason);
        }
      }
      const metadata = list['metadata'];
      const token = isFields(metadata) ? metadata['continue'] : undefined;
      next = typeof token === 'string' ? token : '';
    } while (next !== '');
  } catch (error) {
    if (error instanceof ApiError) return { blind: `the nodes cannot be read from ${origin}: ${error.message}` };
    throw error;
  }
  return { seen: { kind: 'kubernetes', origin, own, peers, taken, unreadable } };
}

/** @param object undefined: there is no such node */
function ownOfNode(
  object: unknown,
  node: string,
  conf: NetConf,
  names: Readonly<Record<AnnotationName, string>>,
  prefix: string,
): OwnRecord {
  const own = object === undefined ? NO_NODE : readNodeLease(object, { prefix, ipv4: conf.enableIPv4, ipv6: conf.enableIPv6 }).own;
  // As they stand there: what cannot be read is left out of what the daemon goes by.
  const metadata = isFields(object) ? object['metadata'] : undefined;
  const annotations = isFields(metadata) && isFields(metadata['annotations']) ? metadata['annotations'] : {};
  const told = (name: AnnotationName): Told => {
    const text = annotations[names[name]];
    return { where: `annotation ${names[name]} of node ${node}`, text: typeof text === 'string' && text !== '' ? text : undefined };
  };
  return {
    exists: own.exists,
    subnets: subnetsOf(own.podCIDRs, conf),
    problems: own.problems,
    isPublished: own.annotations.get('kube-subnet-manager') === 'true',
    backendType: { ...told('backend-type'), text: own.annotations.get('backend-type') },
    publicAddress: { 4: told('public-ip'), 6: told('public-ipv6') },
    data: { 4: told('backend-data'), 6: told('backend-v6-data') },
    overwrite: { 4: told('public-ip-overwrite'), 6: told('public-ipv6-overwrite') },
    given: { 4: told('node-public-ip'), 6: told('node-public-ipv6') },
  };
}

function subnetsOf(podCIDRs: readonly Prefix[], conf: NetConf): Subnets {
  const subnets: { v4?: Prefix; v6?: Prefix } = {};
  for (const { family, key } of familiesOf(conf)) {
    const subnet = podCIDRs.find(({ address }) => familyOf(address) === family);
    if (subnet !== undefined) subnets[key] = subnet;
  }
  return subnets;
}

/** All files of a directory of leases, as it is at this moment. */
export function readDirectoryLeases(directory: string, node: string, conf: NetConf): Reading<LeaseRecords> {
  const families = familiesOf(conf).map(({ family }) => family);
  const peers: Lease[] = [];
  const taken: Prefix[] = [];
  const unreadable = new Map<string, string>();
  let own = ownOfFile(join(directory, `${node}.json`), undefined, {}, []);
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    return { blind: `the directory of leases ${directory} cannot be read: ${systemErrorCode(error) ?? String(error)}` };
  }
  for (const name of names.toSorted()) {
    // Hidden ones are being written.
    if (!name.endsWith('.json') || name.startsWith('.')) continue;
    const of = name.slice(0, -'.json'.length);
    const path = join(directory, name);
    let text = '';
    try {
      text = readFileSync(path, 'utf8');
      const { lease, subnets } = readLeaseFile(text, path, of, families);
      if (of === node) own = ownOfFile(path, text, subnets, []);
      else {
        for (const each of Object.values(subnets)) taken.push(each);
        if (lease !== undefined) peers.push(lease);
      }
    } catch (error) {
      // Gone since it was listed.
      if (systemErrorCode(error) === 'ENOENT') continue;
      const fault = error instanceof SluiceError ? error.message : `${path} cannot be read: ${systemErrorCode(error) ?? String(error)}`;
      if (of === node) own = ownOfFile(path, text, {}, [fault]);
      else unreadable.set(of, fault);
    }
  }
  return { seen: { kind: 'directory', origin: directory, own, peers, taken, unreadable } };
}

function ownOfFile(path: string, text: string | undefined, subnets: Subnets, problems: readonly string[]): OwnRecord {
  let fields: Fields = {};
  try {
    const value: unknown = text === undefined ? {} : JSON.parse(text);
    fields = isFields(value) ? value : {};
  } catch {
    // Said by `problems`.
  }
  const told = (field: string): Told => {
    const value = fields[field];
    return {
      where: `${field} of ${path}`,
      text: value === undefined ? undefined : typeof value === 'string' ? value : JSON.stringify(value),
    };
  };
  const nothing: Told = { where: path, text: undefined };
  return {
    exists: text !== undefined,
    subnets,
    problems,
    isPublished: fields['backendType'] !== undefined,
    backendType: told('backendType'),
    publicAddress: { 4: told('publicIP'), 6: told('publicIPv6') },
    data: { 4: told('backendData'), 6: told('backendV6Data') },
    overwrite: { 4: nothing, 6: nothing },
    given: { 4: nothing, 6: nothing },
  };
}
