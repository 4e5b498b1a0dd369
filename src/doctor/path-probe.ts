/**
 * How large a packet gets to a peer. Without a probe nothing is sent: the kernel is asked what it knows of the way, from its routes and
 * from routers that have said that a packet was too large (RFC 1191, RFC 8201). A probe sends echo requests that may not be fragmented,
 * small ones and ones as large as the backend's packets: where small ones alone are answered, and no router says why, large packets
 * vanish on the way.
 */
import { randomBytes } from 'node:crypto';
import { SluiceError } from '../errors.ts';
import { type Address, familyOf, formatAddress } from '../policy/address.ts';
import {
  AF_INET,
  AF_INET6,
  errnoName,
  int32,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  libc,
  POLLERR,
  POLLIN,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  socketAddress,
} from './libc.ts';

export interface PathProbe {
  /** The largest packet that gets there, as far as the kernel knows, bytes; undefined: it knows no way there. */
  readonly mtu: number | undefined;
  /** What was asked of the peer; undefined: nothing was sent. */
  readonly echo: Echo | undefined;
}

export interface Echo {
  /** Of the large request, with all headers, bytes. */
  readonly size: number;
  readonly smallAnswered: boolean;
  readonly largeAnswered: boolean;
}

/** linux/in.h, linux/in6.h */
const IP_MTU_DISCOVER = 10;
const IP_MTU = 14;
const IPV6_MTU_DISCOVER = 23;
const IPV6_MTU = 24;
/** Packets are not fragmented, and what is known of the way does not keep them from being sent. */
const PMTUDISC_PROBE = 3;
/** RFC 863: nothing is sent there. */
const DISCARD_PORT = 9;

const FAMILIES = {
  4: {
    domain: AF_INET,
    protocol: IPPROTO_ICMP,
    level: IPPROTO_IP,
    discover: IP_MTU_DISCOVER,
    mtu: IP_MTU,
    request: 8,
    reply: 0,
    header: 20,
  },
  6: {
    domain: AF_INET6,
    protocol: IPPROTO_ICMPV6,
    level: IPPROTO_IPV6,
    discover: IPV6_MTU_DISCOVER,
    mtu: IPV6_MTU,
    request: 128,
    reply: 129,
    header: 40,
  },
} as const;

/** What the kernel knows of the way to an address; nothing is sent. Undefined: there is no way. */
export function pathMtu(address: Address): number | undefined {
  const { domain, level, mtu } = FAMILIES[familyOf(address)];
  const c = libc();
  const fd = c.socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    const to = socketAddress(address, DISCARD_PORT);
    if (c.connect(fd, to, to.length) < 0) return undefined;
    const value = new Uint8Array(4);
    if (c.getsockopt(fd, level, mtu, value, int32(4)) < 0) return undefined;
    return new DataView(value.buffer).getInt32(0, true);
  } finally {
    c.close(fd);
  }
}

/** So many are asked at a time: each has a socket. */
const AT_ONCE = 200;
/** A packet may be lost for no reason. */
const ROUNDS = 3;
const ROUND_MS = 700;
const SMALL_BYTES = 64;
const ICMP_HEADER_BYTES = 8;
const TOKEN_BYTES = 8;

/**
 * Sends two echo requests to each address, a small one and one of `size` bytes, and again those that are not answered. This takes up to
 * two seconds for each 200 addresses, in which the thread waits.
 * @returns answers by address; an address that there is no way to is left out
 * @throws SluiceError `PROBE_IMPOSSIBLE` where no such socket can be had
 */
export function probePaths(addresses: readonly Address[], size: number): ReadonlyMap<Address, Echo> {
  const echoes = new Map<Address, Echo>();
  for (let at = 0; at < addresses.length; at += AT_ONCE)
    for (const [address, echo] of probeSome(addresses.slice(at, at + AT_ONCE), size)) echoes.set(address, echo);
  return echoes;
}

interface Probe {
  readonly fd: number;
  readonly isRaw: boolean;
  readonly address: Address;
  readonly token: Uint8Array;
  smallAnswered: boolean;
  largeAnswered: boolean;
}

function* probeSome(addresses: readonly Address[], size: number): Generator<[Address, Echo]> {
  const probes: Probe[] = [];
  try {
    for (const address of addresses) {
      const probe = open(address);
      if (probe !== undefined) probes.push(probe);
    }
    for (let round = 0; round < ROUNDS; round++) {
      const open = probes.filter(({ smallAnswered, largeAnswered }) => !smallAnswered || !largeAnswered);
      if (open.length === 0) break;
      for (const probe of open) {
        if (!probe.smallAnswered) send(probe, SMALL_BYTES);
        if (!probe.largeAnswered) send(probe, size);
      }
      receive(open, performance.now() + ROUND_MS);
    }
    for (const { address, smallAnswered, largeAnswered } of probes) yield [address, { size, smallAnswered, largeAnswered }];
  } finally {
    for (const { fd } of probes) libc().close(fd);
  }
}

/** Undefined: there is no way there. @throws SluiceError */
function open(address: Address): Probe | undefined {
  const { domain, protocol, level, discover } = FAMILIES[familyOf(address)];
  const c = libc();
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  let isRaw = true;
  let fd = c.socket(domain, SOCK_RAW | flags, protocol);
  if (fd < 0) {
    // Echo requests alone, for those whom net.ipv4.ping_group_range lets.
    isRaw = false;
    fd = c.socket(domain, SOCK_DGRAM | flags, protocol);
  }
  if (fd < 0) {
    throw new SluiceError('PROBE_IMPOSSIBLE', `sending echo requests to ${formatAddress(address)}: ${errnoName(c.errno())}`, {
      hint: 'CAP_NET_RAW is needed.',
    });
  }
  const to = socketAddress(address, 0);
  c.setsockopt(fd, level, discover, int32(PMTUDISC_PROBE), 4);
  if (c.connect(fd, to, to.length) < 0) {
    c.close(fd);
    return undefined;
  }
  return { fd, isRaw, address, token: randomBytes(TOKEN_BYTES), smallAnswered: false, largeAnswered: false };
}

/** What the kernel refuses to send, as larger than the interface takes, is not answered either. */
function send({ fd, address, token }: Probe, size: number): void {
  const { request, header } = FAMILIES[familyOf(address)];
  const message = new Uint8Array(size - header);
  message[0] = request;
  message.set(token, ICMP_HEADER_BYTES);
  // Of ICMPv6 the kernel does it (RFC 3542 section 3.1).
  if (typeof address === 'number') new DataView(message.buffer).setUint16(2, internetChecksum(message));
  libc().send(fd, message, message.length, 0);
}

function receive(probes: readonly Probe[], until: number): void {
  const c = libc();
  // struct pollfd { int fd; short events, revents; }
  const polled = new Uint8Array(probes.length * 8);
  const view = new DataView(polled.buffer);
  for (const [index, { fd }] of probes.entries()) {
    view.setInt32(index * 8, fd, true);
    view.setInt16(index * 8 + 4, POLLIN, true);
  }
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const left = Math.ceil(until - performance.now());
    if (left <= 0 || probes.every(({ smallAnswered, largeAnswered }) => smallAnswered && largeAnswered)) return;
    if (c.poll(polled, probes.length, left) <= 0) continue;
    for (const [index, probe] of probes.entries()) {
      if ((view.getInt16(index * 8 + 6, true) & (POLLIN | POLLERR)) === 0) continue;
      // An error that a router has told is taken away by reading it; what it means is in the path's MTU then.
      const length = c.recv(probe.fd, buffer, buffer.length, 0);
      if (length > 0) note(probe, buffer.subarray(0, length));
    }
  }
}

function note(probe: Probe, packet: Uint8Array): void {
  const { reply } = FAMILIES[familyOf(probe.address)];
  // A raw socket of IPv4 has the header too.
  const at = probe.isRaw && typeof probe.address === 'number' ? ((packet[0] ?? 0) & 0xf) * 4 : 0;
  const message = packet.subarray(at);
  const token = message.subarray(ICMP_HEADER_BYTES, ICMP_HEADER_BYTES + TOKEN_BYTES);
  if (message[0] !== reply || !probe.token.every((byte, index) => token[index] === byte)) return;
  if (message.length > SMALL_BYTES) probe.largeAnswered = true;
  else probe.smallAnswered = true;
}

/** RFC 1071. The field itself has to be zero. */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
