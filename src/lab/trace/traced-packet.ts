/**
 * One packet to follow: sent once, from an ordinary socket in the namespace of whoever sends it, so that everything that decides about
 * packets decides about this one. What it carries is what the lab's servers answer (prober/servers.ts).
 */
import { randomInt } from 'node:crypto';
import { type Address, familyOf, formatAddress } from '../../policy/address.ts';
import {
  AF_INET,
  AF_INET6,
  checked,
  EADDRINUSE,
  EINPROGRESS,
  errnoName,
  int32,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IPV6,
  IPPROTO_SCTP,
  IPV6_V6ONLY,
  libc,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_STREAM,
  syscallError,
} from '../libc.ts';
import { inNamespace } from '../namespaces.ts';
import { writeEcho, writeSctp } from '../prober/packets.ts';
import type { ProbeProtocol } from '../prober/protocol.ts';
import { NONCE_LENGTH, PROBE } from '../prober/servers.ts';
import { socketAddress } from '../prober/sockets.ts';
import { echoIdentifier, IPPROTO, type Packet } from './frames.ts';

export interface PacketOrder {
  readonly netns: string;
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: ProbeProtocol;
  /** 0 with ICMP. */
  readonly port: number;
}

/** The prober takes those below: connection tracking has nothing of these. */
const PORTS = [60_000, 65_536] as const;
const TRIES = 100;
/** linux/tcp.h */
const TCP_SYNCNT = 7;

export class TracedPacket {
  readonly order: PacketOrder;
  /** Its source port; with ICMP its identifier. */
  readonly key: number;
  readonly #fd: number;

  private constructor(order: PacketOrder, key: number, fd: number) {
    this.order = order;
    this.key = key;
    this.#fd = fd;
  }

  /** Makes the socket; nothing is sent yet. @throws LabError `LAB_SYSCALL` */
  static open(order: PacketOrder): TracedPacket {
    const { netns, source, protocol } = order;
    const family = familyOf(source) === 4 ? AF_INET : AF_INET6;
    const isRaw = protocol === 'SCTP' || protocol === 'ICMP';
    const type = protocol === 'TCP' ? SOCK_STREAM : protocol === 'UDP' ? SOCK_DGRAM : SOCK_RAW;
    const number = protocol === 'SCTP' ? IPPROTO_SCTP : protocol === 'ICMP' ? (family === AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6) : 0;
    const doing = `making a socket for ${formatAddress(source)} in ${netns}`;
    const fd = inNamespace(netns, () => checked(libc().socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, number), doing));
    if (family === AF_INET6) libc().setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int32(1), 4);
    for (let tries = 1; ; tries++) {
      const key = randomInt(...PORTS);
      const own = socketAddress(source, isRaw ? 0 : key);
      if (libc().bind(fd, own, own.length) === 0) return new TracedPacket(order, key, fd);
      const error = syscallError(doing);
      if (libc().errno() === EADDRINUSE && tries < TRIES) continue;
      libc().close(fd);
      throw error;
    }
  }

  /** Sends it, once. Undefined: it is on its way, else why the kernel did not take it (`ENETUNREACH`). */
  send(): string | undefined {
    const { destination, protocol, port } = this.order;
    const to = socketAddress(destination, port);
    switch (protocol) {
      case 'TCP':
        // A SYN is sent again after a second, once and not five times: that one is another packet.
        libc().setsockopt(this.#fd, IPPROTO.TCP, TCP_SYNCNT, int32(1), 4);
        return failure(libc().connect(this.#fd, to, to.length));
      case 'UDP': {
        const bytes = new Uint8Array(1 + NONCE_LENGTH);
        bytes[0] = PROBE;
        const view = new DataView(bytes.buffer);
        for (let at = 1; at < bytes.length; at += 4) view.setUint32(at, randomInt(2 ** 32));
        // Connected, so that it is told why a packet was refused.
        return failure(libc().connect(this.#fd, to, to.length)) ?? failure(libc().send(this.#fd, bytes, bytes.length, MSG_NOSIGNAL));
      }
      case 'SCTP': {
        const initiateTag = randomInt(1, 2 ** 32);
        const init = writeSctp({ kind: 'INIT', sourcePort: this.key, destinationPort: port, verificationTag: 0, initiateTag, cookie: '' });
        return this.#sendRaw(init);
      }
      case 'ICMP':
        return this.#sendRaw(writeEcho(familyOf(destination), this.key, 1));
    }
  }

  /** A raw socket's address has no port. */
  #sendRaw(bytes: Uint8Array): string | undefined {
    const to = socketAddress(this.order.destination, 0);
    return failure(libc().sendto(this.#fd, bytes, bytes.length, 0, to, to.length));
  }

  /** Whether this is it, as it leaves: only its destination may be another (address translation). */
  isThis(packet: Packet): boolean {
    return packet.source === this.order.source && this.#isOf(packet, packet.header.sourcePort, ECHO_REQUEST);
  }

  /** Whether a packet is the answer to it, as it comes back. */
  isAnswer(packet: Packet): boolean {
    return packet.destination === this.order.source && this.#isOf(packet, packet.header.destinationPort, ECHO_REPLY);
  }

  #isOf(packet: Packet, port: number | undefined, icmpTypes: readonly number[]): boolean {
    const { header } = packet;
    if (this.order.protocol !== 'ICMP') return header.protocol === IPPROTO[this.order.protocol] && port === this.key;
    const isIcmp = header.protocol === IPPROTO.ICMP || header.protocol === IPPROTO.ICMPV6;
    return isIcmp && icmpTypes.includes(header.icmpType ?? -1) && echoIdentifier(packet) === this.key;
  }

  close(): void {
    libc().close(this.#fd);
  }
}

/** RFC 792, RFC 4443. */
const ECHO_REQUEST: readonly number[] = [8, 128];
const ECHO_REPLY: readonly number[] = [0, 129];

function failure(result: number): string | undefined {
  if (result >= 0) return undefined;
  const errno = libc().errno();
  return errno === EINPROGRESS ? undefined : errnoName(errno);
}
