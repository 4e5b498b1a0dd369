/** Sockets of a test in the namespaces of a lab, and ICMP messages that no honest kernel would send. */
import { type Address, addressBytes, type Family, familyOf } from '../../../src/policy/address.ts';
import {
  AF_INET,
  AF_INET6,
  checked,
  int32,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IPV6,
  libc,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
} from '../../../src/lab/libc.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { internetChecksum } from '../../../src/lab/prober/packets.ts';
import { receiveFrom, socketAddress } from '../../../src/lab/prober/sockets.ts';

const IPPROTO_IP = 0;
const IP_TTL = 2;
const IPV6_UNICAST_HOPS = 16;
const UDP = 17;

/** A socket that stays in the namespace it was made in. */
export class TestSocket {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  static udp(netns: string, address: Address, port: number): TestSocket {
    const fd = open(netns, familyOf(address), SOCK_DGRAM, 0);
    const own = socketAddress(address, port);
    checked(libc().bind(fd, own, own.length), `binding to port ${port} in ${netns}`);
    return new TestSocket(fd);
  }

  /** For ICMP or ICMPv6; what is sent has a hop limit of 255, as a redirect must. */
  static icmp(netns: string, family: Family): TestSocket {
    const fd = open(netns, family, SOCK_RAW, family === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    const [level, option] = family === 4 ? [IPPROTO_IP, IP_TTL] : [IPPROTO_IPV6, IPV6_UNICAST_HOPS];
    checked(libc().setsockopt(fd, level, option, int32(255), 4), `setting the hop limit in ${netns}`);
    return new TestSocket(fd);
  }

  send(bytes: Uint8Array, to: Address, port = 0): void {
    const address = socketAddress(to, port);
    checked(libc().sendto(this.#fd, bytes, bytes.length, 0, address, address.length), 'sending');
  }

  /** Whether something has arrived since the last call. */
  received(): boolean {
    return this.receive() !== undefined;
  }

  /** What has arrived, one message a call; undefined: nothing more. Valid until the next call. */
  receive(): Uint8Array | undefined {
    return receiveFrom(this.#fd)?.data;
  }

  close(): void {
    libc().close(this.#fd);
  }
}

function open(netns: string, family: Family, type: number, protocol: number): number {
  const make = (): number => libc().socket(family === 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK, protocol);
  return checked(inNamespace(netns, make), `making a socket in ${netns}`);
}

/** One direction of a UDP flow. */
export interface UdpTuple {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/** `unreachable`: a port is. `redirect`: use another gateway, whose address is given. Both quote a packet of the flow. */
export function icmpMessage(kind: 'unreachable' | { readonly redirectTo: Address }, flow: UdpTuple): Uint8Array {
  const family = familyOf(flow.source);
  const gateway = kind === 'unreachable' ? undefined : addressBytes(kind.redirectTo);
  const quoted = quotedPacket(flow);
  if (family === 4) {
    // RFC 792: type, code, checksum; then the gateway, or nothing.
    const bytes = new Uint8Array([...(gateway === undefined ? [3, 3] : [5, 1]), 0, 0, ...(gateway ?? [0, 0, 0, 0]), ...quoted]);
    new DataView(bytes.buffer).setUint16(2, internetChecksum(bytes));
    return bytes;
  }
  // RFC 4443; the kernel computes the checksum.
  if (gateway === undefined) return new Uint8Array([1, 4, 0, 0, 0, 0, 0, 0, ...quoted]);
  // RFC 4861, 4.5: target, destination, and the option "redirected header", whose length counts eight bytes.
  const option = [4, 1 + Math.ceil(quoted.length / 8), 0, 0, 0, 0, 0, 0, ...quoted];
  return new Uint8Array([137, 0, 0, 0, 0, 0, 0, 0, ...gateway, ...addressBytes(flow.destination), ...option]);
}

/** The header of a packet without payload, as an error quotes it. */
function quotedPacket({ source, sourcePort, destination, destinationPort }: UdpTuple): Uint8Array {
  const udp = new Uint8Array(8);
  const view = new DataView(udp.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint16(4, udp.length);
  const addresses = [...addressBytes(source), ...addressBytes(destination)];
  if (familyOf(source) === 6) return new Uint8Array([0x60, 0, 0, 0, 0, udp.length, UDP, 64, ...addresses, ...udp]);
  const header = new Uint8Array([0x45, 0, 0, 20 + udp.length, 0, 0, 0, 0, 64, UDP, 0, 0, ...addresses]);
  new DataView(header.buffer).setUint16(10, internetChecksum(header));
  return new Uint8Array([...header, ...udp]);
}
