/**
 * Everything that a network daemon leaves on its node and in the node's object, as iproute2, nft and the API server show it, without what
 * differs from one run to the next although it means the same: indices, counters, times, and the order of lists.
 */
import { existsSync, readFileSync } from 'node:fs';
import { inNamespace, run } from '../../../../src/lab/namespaces.ts';

type Fields = Readonly<Record<string, unknown>>;

/** By what it is, such as `routes IPv4`: JSON texts, or lines. */
export type Snapshot = Readonly<Record<string, readonly string[]>>;

export interface SnapshotSource {
  readonly netns: string;
  readonly subnetFile: string;
  /** The node's object. */
  readonly node: Fields;
}

const VOLATILE = new Set(['ifindex', 'link_index']);
const ANNOTATION = 'flannel.alpha.coreos.com/';

export async function takeSnapshot({ netns, subnetFile, node }: SnapshotSource): Promise<Snapshot> {
  const links = ((await json(netns, 'ip', '-d', '-j', 'link')) as Fields[]).filter(isOverlay);
  const addresses = ((await json(netns, 'ip', '-j', 'addr')) as Fields[]).filter(isOverlay);
  const devices = links.map(({ ifname }) => String(ifname));
  const perDevice = async (what: string, ...argv: readonly string[]): Promise<Snapshot> =>
    Object.fromEntries(
      await Promise.all(devices.map(async (device) => [`${what} ${device}`, lines(await json(netns, ...argv, 'dev', device))] as const)),
    );
  return {
    links: lines(links),
    addresses: lines(addresses.map(({ ifname, addr_info }) => ({ ifname, addresses: (addr_info as Fields[]).filter(isNotDrawn) }))),
    ...(await perDevice('neighbours', 'ip', '-j', 'neigh', 'show', 'nud', 'permanent')),
    ...(await perDevice('forwarding', 'bridge', '-j', 'fdb', 'show')),
    'routes IPv4': lines(await json(netns, 'ip', '-j', 'route')),
    'routes IPv6': lines(((await json(netns, 'ip', '-6', '-j', 'route')) as Fields[]).filter(isGiven)),
    accept_ra: devices.map((device) => `${device} ${setting(netns, device)}`),
    ...(await tables(netns)),
    iptables: await iptables(netns),
    annotations: annotations(node),
    condition: condition(node),
    'subnet.env': existsSync(subnetFile) ? readFileSync(subnetFile, 'utf8').split('\n') : [],
  };
}

async function json(netns: string, ...argv: readonly string[]): Promise<unknown> {
  const { stdout } = await run(netns, argv);
  return stdout.trim() === '' ? [] : JSON.parse(stdout);
}

/** Each entry as a text of its own, sorted. */
function lines(entries: unknown): readonly string[] {
  return (entries as readonly unknown[]).map((entry) => JSON.stringify(without(entry))).sort();
}

function without(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(without);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => !VOLATILE.has(key));
  return Object.fromEntries(kept.map(([key, inner]) => [key, without(inner)]));
}

function isOverlay({ ifname }: Fields): boolean {
  return typeof ifname === 'string' && ifname.startsWith('flannel');
}

/** A device without a hardware address, such as a TUN, draws its link-local address. */
function isNotDrawn(address: Fields): boolean {
  return address['stable-privacy'] !== true;
}

/** Routes to link-local addresses come with every device. */
function isGiven({ dst, dev }: Fields): boolean {
  return String(dst) !== 'fe80::/64' || String(dev).startsWith('flannel');
}

function setting(netns: string, device: string): string {
  return inNamespace(netns, () => readFileSync(`/proc/sys/net/ipv6/conf/${device}/accept_ra`, 'utf8').trim());
}

/** As nft writes them, with their comments, and without the counts; in the order of the rules. */
async function tables(netns: string): Promise<Snapshot> {
  const { stdout } = await run(netns, ['nft', '-s', 'list', 'ruleset']);
  const found: Record<string, readonly string[]> = {};
  for (const text of stdout.split(/^(?=table )/m)) {
    const [head = '', ...content] = text.trimEnd().split('\n');
    if (/^table ip6? flannel/.test(head)) found[head.replace(' {', '')] = content;
  }
  return found;
}

/** What is flannel's in the tables of iptables and ip6tables, as iptables-save writes it. */
export async function iptables(netns: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const program of ['iptables-save', 'ip6tables-save']) {
    const { stdout } = await run(netns, [program]);
    found.push(...stdout.split('\n').filter((line) => line.includes('FLANNEL') || line.includes('flannel')));
  }
  return found;
}

function annotations({ metadata }: Fields): readonly string[] {
  const all = (metadata as { annotations?: Readonly<Record<string, string>> }).annotations ?? {};
  return Object.entries(all)
    .filter(([key]) => key.startsWith(ANNOTATION))
    .map(([key, value]) => `${key}=${value}`)
    .sort();
}

function condition({ status }: Fields): readonly string[] {
  const all = (status as { conditions?: readonly Fields[] } | undefined)?.conditions ?? [];
  return all
    .filter(({ type }) => type === 'NetworkUnavailable')
    .map(({ lastHeartbeatTime: _heartbeat, lastTransitionTime: _transition, ...fields }) => JSON.stringify(fields));
}
