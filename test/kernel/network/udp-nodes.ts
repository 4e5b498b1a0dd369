/**
 * Nodes of a udp network for tests: two namespaces with a tunnel between them, and sockets in them that see whole IP packets.
 *
 * The devices have addresses 10.99.1.0 (a) and 10.99.2.0 (b), and all of 10.99.0.0/16 is routed to them.
 */
import assert from 'node:assert/strict';
import {
  configureDevice,
  makeUnderlay,
  MTU,
  PORT,
  removeUnderlay,
  type TunnelEnd,
  type TunnelEnds,
  tunnelEnds,
} from '../../../bench/udp-proxy/tunnel.ts';
import {
  AF_INET,
  checked,
  int32,
  IPPROTO_ICMP,
  libc,
  SO_RCVBUF,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_SOCKET,
} from '../../../src/lab/libc.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { internetChecksum } from '../../../src/lab/prober/packets.ts';
import { receiveFrom, socketAddress } from '../../../src/lab/prober/sockets.ts';
import { UdpProxy } from '../../../src/network/udp/proxy.ts';
import { openTun } from '../../../src/network/udp/tun.ts';
import { addressBytes, type IPv4, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';

export { MTU, PORT };

export function v4(text: string): IPv4 {
  const address = parseAddress(text);
  return typeof address === 'number' ? address : assert.fail(`${text} is no IPv4 address`);
}

export function subnet(text: string): Prefix {
  return parsePrefix(text) ?? assert.fail(`${text} is no prefix`);
}

/** A proxy in the namespace of an end, without routes. */
export class Node {
  readonly end: TunnelEnd;
  readonly proxy: UdpProxy;
  /** What the proxy has told. */
  readonly errors: unknown[] = [];

  private constructor(end: TunnelEnd) {
    this.end = end;
    this.proxy = inNamespace(end.netns, () =>
      UdpProxy.start({
        tunFd: openTun('flannel0').fd,
        address: v4(end.underlay),
        port: PORT,
        tunAddress: v4(end.address),
        mtu: MTU,
        onError: (error) => this.errors.push(error),
      }),
    );
  }

  static async start(end: TunnelEnd): Promise<Node> {
    const node = new Node(end);
    await configureDevice(end);
    return node;
  }

  routeTo(peer: TunnelEnd): void {
    this.proxy.setRoute(subnet(peer.subnet), { address: v4(peer.underlay), port: PORT });
  }

  /** Waits until the proxy has taken what it was told: packets that were there before are counted. */
  async counted(name: keyof ReturnType<UdpProxy['counters']>, atLeast: number): Promise<void> {
    await eventually(
      () => Number(this.proxy.counters()[name]) >= atLeast,
      () => `${name} ${atLeast}: ${JSON.stringify(this.proxy.counters())}`,
    );
  }
}

export interface Nodes {
  readonly ends: TunnelEnds;
  readonly a: Node;
  readonly b: Node;
  close(): Promise<void>;
}

/** Two nodes that have routes to each other. */
export async function makeNodes(name: string): Promise<Nodes> {
  const ends = tunnelEnds(name);
  await makeUnderlay(ends);
  const [a, b] = [await Node.start(ends.a), await Node.start(ends.b)];
  a.routeTo(ends.b);
  b.routeTo(ends.a);
  return {
    ends,
    a,
    b,
    close: async () => {
      await Promise.all([a.proxy.close(), b.proxy.close()]);
      await removeUnderlay(ends);
    },
  };
}

// --- sockets

const IPPROTO_RAW = 255;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IP_MTU_DISCOVER = 10;
const UDP = 17;

export interface Received {
  readonly data: Uint8Array;
  readonly from: string;
  readonly port: number;
}

/** A socket that stays in the namespace it was made in. */
export class Socket {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @param address `0.0.0.0` for any */
  static udp(netns: string, address: string, port: number): Socket {
    const fd = open(netns, SOCK_DGRAM, 0);
    const own = socketAddress(v4(address), port);
    checked(libc().bind(fd, own, own.length), `binding to port ${port} in ${netns}`);
    // IP_PMTUDISC_DONT: long ones are fragmented.
    checked(libc().setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, int32(0), 4), 'allowing fragments');
    return new Socket(fd);
  }

  /** Receives all ICMP of the namespace with its IP header; sends ICMP without. */
  static icmp(netns: string): Socket {
    return new Socket(open(netns, SOCK_RAW, IPPROTO_ICMP));
  }

  /** Sends whole packets. The kernel fills in the header checksum and the total length. */
  static raw(netns: string): Socket {
    return new Socket(open(netns, SOCK_RAW, IPPROTO_RAW));
  }

  set ttl(value: number) {
    checked(libc().setsockopt(this.#fd, IPPROTO_IP, IP_TTL, int32(value), 4), 'setting the time to live');
  }

  send(data: Uint8Array, to: string, port = 0): void {
    const address = socketAddress(v4(to), port);
    checked(libc().sendto(this.#fd, data, data.length, 0, address, address.length), `sending to ${to}`);
  }

  receive(): Received | undefined {
    const datagram = receiveFrom(this.#fd);
    if (datagram === undefined) return undefined;
    const view = new DataView(datagram.sender.buffer);
    return { data: datagram.data.slice(), from: datagram.sender.subarray(4, 8).join('.'), port: view.getUint16(2) };
  }

  /** Waits for the next one that is as wanted, and throws away those before it. */
  async next(what: string, wanted: (received: Received) => boolean = () => true): Promise<Received> {
    let found: Received | undefined;
    await eventually(() => {
      for (let received = this.receive(); received !== undefined && found === undefined; received = found ?? this.receive()) {
        if (wanted(received)) found = received;
      }
      return found !== undefined;
    }, what);
    return found ?? assert.fail();
  }

  close(): void {
    libc().close(this.#fd);
  }
}

function open(netns: string, type: number, protocol: number): number {
  const fd = checked(
    inNamespace(netns, () => libc().socket(AF_INET, type | SOCK_NONBLOCK, protocol)),
    `making a socket in ${netns}`,
  );
  checked(libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUF, int32(1 << 20), 4), 'setting a receive buffer');
  return fd;
}

// --- packets

export interface PacketFields {
  readonly source: string;
  readonly destination: string;
  readonly payload?: Uint8Array;
  readonly protocol?: number;
  readonly ttl?: number;
  /** Flags and offset. */
  readonly fragment?: number;
}

/** A whole IPv4 packet, with a right checksum; by default an UDP datagram of no content. */
export function packet({ source, destination, payload = udp(1, 2), protocol = UDP, ttl = 64, fragment = 0 }: PacketFields): Uint8Array {
  const length = 20 + payload.length;
  const header = new Uint8Array([0x45, 0, length >> 8, length & 0xff, 0, 1, fragment >> 8, fragment & 0xff, ttl, protocol, 0, 0]);
  const bytes = new Uint8Array([...header, ...addressBytes(v4(source)), ...addressBytes(v4(destination)), ...payload]);
  new DataView(bytes.buffer).setUint16(10, internetChecksum(bytes.subarray(0, 20)));
  return bytes;
}

/** Without a checksum, which is allowed. */
export function udp(sourcePort: number, destinationPort: number, content: Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(8 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint16(4, bytes.length);
  bytes.set(content, 8);
  return bytes;
}

/** Bytes that tell any of them from its neighbours. */
export function pattern(length: number, seed = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8) * 13 + seed) & 0xff);
}
