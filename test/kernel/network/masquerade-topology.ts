/**
 * A node with a pod, a pod of another node behind it, and a host outside of the cluster, for tests of masquerading:
 *
 *     pod 10.244.1.2 ── node 192.0.2.1 ── outside 192.0.2.2
 *                            198.51.100.1 ── remote 198.51.100.2, on it pod 10.244.2.2
 *
 * and the same in IPv6. The node has one more address, 203.0.113.1, that packets of its own can come from.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { checked, IPPROTO_IPV6, int32, libc, SOCK_DGRAM } from '../../../src/lab/libc.ts';
import { inNamespace, setSysctls, spawnIn } from '../../../src/lab/namespaces.ts';
import { Namespaces, readSocketAddress, receiveFrom, socketAddress } from '../../../src/lab/prober/sockets.ts';
import type { MasqueradeFamily, Spawn } from '../../../src/network/masquerade/masquerade.ts';
import {
  type Address,
  type Family,
  formatAddress,
  ipv4,
  ipv6,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../../../src/policy/address.ts';

export type Place = 'node' | 'pod' | 'outside' | 'remote' | 'elsewhere';

/** `elsewhere` has no links: there other programs write what is to be compared. */
const PLACES: readonly Place[] = ['node', 'pod', 'outside', 'remote', 'elsewhere'];

export function netns(place: Place): string {
  return `masq-${place}`;
}

export function prefix(text: string): Prefix {
  const prefix = parsePrefix(text);
  assert.ok(prefix, text);
  return prefix;
}

function address(text: string): Address {
  const address = parseAddress(text);
  assert.ok(address !== undefined, text);
  return address;
}

export const FAMILIES: readonly Family[] = [4, 6];

export const CLUSTER: Readonly<Record<Family, MasqueradeFamily>> = {
  4: { family: 4, network: prefix('10.244.0.0/16'), subnet: prefix('10.244.1.0/24') },
  6: { family: 6, network: prefix('fd00:10:244::/48'), subnet: prefix('fd00:10:244:1::/64') },
};

interface Addresses {
  readonly pod: Address;
  readonly remotePod: Address;
  /** The other node. */
  readonly remote: Address;
  readonly outside: Address;
  /** Of the node: towards its pods, towards outside, towards the other node, and the one that it has besides. */
  readonly gateway: Address;
  readonly node: Address;
  readonly nodeToRemote: Address;
  readonly nodeOther: Address;
  /** All hosts of a link (RFC 1112, RFC 4291). */
  readonly multicast: Address;
  readonly any: Address;
}

export const ADDRESSES: Readonly<Record<Family, Addresses>> = {
  4: {
    pod: address('10.244.1.2'),
    remotePod: address('10.244.2.2'),
    remote: address('198.51.100.2'),
    outside: address('192.0.2.2'),
    gateway: address('10.244.1.1'),
    node: address('192.0.2.1'),
    nodeToRemote: address('198.51.100.1'),
    nodeOther: address('203.0.113.1'),
    multicast: address('224.0.0.1'),
    any: ipv4(0),
  },
  6: {
    pod: address('fd00:10:244:1::2'),
    remotePod: address('fd00:10:244:2::2'),
    remote: address('2001:db8:1::2'),
    outside: address('2001:db8::2'),
    gateway: address('fd00:10:244:1::1'),
    node: address('2001:db8::1'),
    nodeToRemote: address('2001:db8:1::1'),
    nodeOther: address('2001:db8:2::1'),
    multicast: address('ff02::1'),
    any: ipv6(0n),
  },
};

/** Runs a program at a place to its end; what it printed. */
export function runAt(place: Place, program: string, ...args: readonly string[]): string {
  return inNamespace(netns(place), () => execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** The same with something to read. */
export function feedAt(place: Place, input: string, program: string, ...args: readonly string[]): string {
  return inNamespace(netns(place), () => execFileSync(program, args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] }));
}

/** Starts programs on the node. */
export const spawnOnNode: Spawn = (argv, options) => spawnIn(netns('node'), argv, options);

/** To be called once, before the tests of a file. */
export function makeTopology(): void {
  const links = (['pod', 'outside', 'remote'] as const).map(
    (place) => `link add ${place} netns ${netns('node')} type veth peer name eth0 netns ${netns(place)}`,
  );
  execFileSync('ip', ['-batch', '-'], { input: [...PLACES.map((place) => `netns add ${netns(place)}`), ...links].join('\n') });
  for (const place of PLACES) ipAt(place, ['link set lo up']);
  setSysctls(netns('node'), { 'net.ipv4.ip_forward': '1', 'net.ipv6.conf.all.forwarding': '1' });
  ipAt('node', [
    'addr add 10.244.1.1/24 dev pod',
    'addr add fd00:10:244:1::1/64 dev pod nodad',
    'addr add 192.0.2.1/24 dev outside',
    'addr add 2001:db8::1/64 dev outside nodad',
    'addr add 198.51.100.1/24 dev remote',
    'addr add 2001:db8:1::1/64 dev remote nodad',
    'addr add 203.0.113.1/32 dev lo',
    'addr add 2001:db8:2::1/128 dev lo nodad',
    'link set pod up',
    'link set outside up',
    'link set remote up',
    'route add 10.244.2.0/24 via 198.51.100.2',
    'route add fd00:10:244:2::/64 via 2001:db8:1::2',
    'route add 224.0.0.0/4 dev outside',
  ]);
  ipAt('pod', [
    'addr add 10.244.1.2/24 dev eth0',
    'addr add fd00:10:244:1::2/64 dev eth0 nodad',
    'link set eth0 up',
    ...via('10.244.1.1', 'fd00:10:244:1::1'),
  ]);
  ipAt('outside', [
    'addr add 192.0.2.2/24 dev eth0',
    'addr add 2001:db8::2/64 dev eth0 nodad',
    'link set eth0 up',
    ...via('192.0.2.1', '2001:db8::1'),
  ]);
  ipAt('remote', [
    'addr add 198.51.100.2/24 dev eth0',
    'addr add 2001:db8:1::2/64 dev eth0 nodad',
    'addr add 10.244.2.2/32 dev lo',
    'addr add fd00:10:244:2::2/128 dev lo nodad',
    'link set eth0 up',
    ...via('198.51.100.1', '2001:db8:1::1'),
  ]);
}

function via(v4: string, v6: string): string[] {
  return [`route add default via ${v4}`, `route add default via ${v6}`];
}

function ipAt(place: Place, lines: readonly string[]): void {
  execFileSync('ip', ['-n', netns(place), '-batch', '-'], { input: lines.join('\n') });
}

export function removeTopology(): void {
  for (const place of PLACES) execFileSync('ip', ['netns', 'delete', netns(place)]);
}

const IPPROTO_IP = 0;
const IP_MULTICAST_IF = 32;
const IPV6_MULTICAST_IF = 17;

/** A UDP socket at a place. */
export class Socket {
  readonly #fd: number;

  constructor(place: Place, own: Address, port = 0) {
    const namespaces = new Namespaces();
    try {
      this.#fd = namespaces.socket(netns(place), own, SOCK_DGRAM, 0);
      namespaces.bind(this.#fd, own, port, netns(place));
    } finally {
      namespaces.close();
    }
  }

  /** What it sends to a multicast address goes out of this interface. */
  multicastFrom(own: Address, interfaceIndex: number): this {
    const [level, option, value] =
      typeof own === 'number'
        ? [IPPROTO_IP, IP_MULTICAST_IF, new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, ...int32(interfaceIndex)])]
        : [IPPROTO_IPV6, IPV6_MULTICAST_IF, int32(interfaceIndex)];
    checked(libc().setsockopt(this.#fd, level, option, value, value.length), 'choosing the interface of multicast');
    return this;
  }

  send(to: Address, port: number, text: string): void {
    const bytes = socketAddress(to, port);
    const data = Buffer.from(text);
    libc().sendto(this.#fd, data, data.length, 0, bytes, bytes.length);
  }

  /** Who sent this, once it has arrived. */
  senderOf(text: string): string | undefined {
    for (;;) {
      const datagram = receiveFrom(this.#fd);
      if (datagram === undefined) return undefined;
      if (Buffer.from(datagram.data).toString() === text) return formatAddress(readSocketAddress(datagram.sender).address);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}

export interface Sending {
  readonly from: readonly [place: Place, address: Address];
  readonly to: readonly [place: Place, address: Address];
  readonly port?: number;
}

/**
 * The address under which a datagram of a new flow arrives. It is sent again and again: the first ones may be lost while a link
 * comes up.
 */
export async function seenAs({ from: [fromPlace, source], to: [toPlace, destination], port = 9000 }: Sending): Promise<string> {
  const isMulticast = destination === ADDRESSES[4].multicast || destination === ADDRESSES[6].multicast;
  const receiver = new Socket(
    toPlace,
    isMulticast ? (typeof destination === 'number' ? ADDRESSES[4].any : ADDRESSES[6].any) : destination,
    port,
  );
  const sender = new Socket(fromPlace, source);
  try {
    if (isMulticast) sender.multicastFrom(source, interfaceIndex(fromPlace, toPlace));
    const text = `${Math.random()}`;
    for (const end = performance.now() + 15_000; performance.now() < end; ) {
      sender.send(destination, port, text);
      for (let tries = 0; tries < 20; tries++) {
        const seen = receiver.senderOf(text);
        if (seen !== undefined) return seen;
        await sleep(5);
      }
    }
    return assert.fail(`nothing arrived from ${fromPlace} at ${toPlace}`);
  } finally {
    sender.close();
    receiver.close();
  }
}

/** Of the node's interface towards a place. */
function interfaceIndex(place: Place, towards: Place): number {
  const [link] = JSON.parse(execFileSync('ip', ['-n', netns(place), '-j', 'link', 'show', 'dev', towards], { encoding: 'utf8' })) as {
    ifindex: number;
  }[];
  assert.ok(link);
  return link.ifindex;
}
