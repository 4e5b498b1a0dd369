/**
 * The listening side: every address of every endpoint has a station, which answers TCP, UDP and SCTP on the endpoint's ports with
 * the endpoint's name, so that whoever asked knows who answered. Sockets are bound to single addresses: what answers is what was
 * asked. Where endpoints share an address (pods with hostNetwork, and their node), they share its sockets.
 *
 * - TCP: the name and a newline as soon as a connection is accepted.
 * - UDP: `P` and a nonce is answered by `P`, the nonce and the name.
 * - SCTP: INIT is answered by INIT-ACK with the name as its cookie.
 * - A TCP or UDP message that begins with `F` belongs to a flow ({@link FlowMessage}).
 */
import { type Address, familyOf, formatAddress } from '../../policy/address.ts';
import {
  EAGAIN,
  EPOLLIN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_REUSEADDR,
  checked,
  int32,
  libc,
} from '../libc.ts';
import type { Loop } from './loop.ts';
import { readEchoReply, readSctp, withoutIPv4Header, writeSctp } from './packets.ts';
import type { Endpoint } from './protocol.ts';
import { type Namespaces, addressLength, receive, receiveFrom } from './sockets.ts';

export const PROBE = 0x50;
const FLOW = 0x46;
export const NONCE_LENGTH = 8;
export const FLOW_MESSAGE_LENGTH = 9;

/** A message of a flow: `F`, the flow's number, a sequence number. */
export interface FlowMessage {
  readonly flow: number;
  readonly sequence: number;
}

export function writeFlowMessage({ flow, sequence }: FlowMessage): Uint8Array {
  const bytes = new Uint8Array(FLOW_MESSAGE_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, FLOW);
  view.setUint32(1, flow);
  view.setUint32(5, sequence);
  return bytes;
}

/** Sends to the client of a flow; false where the kernel did not take it. */
export type SendToClient = (bytes: Uint8Array) => boolean;

/** What servers tell of the flows that end at them. */
export interface FlowListener {
  /** Messages have come from the client; `send` answers it. */
  arrived(flow: number, messages: number, serverName: string, send: SendToClient): void;
  /** The server's end of a TCP connection was closed or reset. */
  broken(flow: number, reason: string): void;
}

interface Port {
  readonly tcp: number;
  readonly udp: number;
  /** Endpoints that listen here; the first one's name is answered. */
  readonly owners: string[];
}

export interface Station {
  readonly netns: string;
  readonly address: Address;
  readonly sctp: number;
  readonly icmp: number;
  /** SCTP probes under way, by their source port. */
  readonly sctpWaiting: Map<number, { readonly tag: number; readonly answered: (name: string) => void }>;
  /** ICMP probes under way, by identifier × 65536 + sequence. */
  readonly echoWaiting: Map<number, () => void>;
  readonly ports: Map<number, Port>;
  /** Endpoints that have this address, listening or not. */
  readonly endpoints: Set<string>;
}

export class Servers {
  readonly #loop: Loop;
  readonly #namespaces: Namespaces;
  readonly #flows: FlowListener;
  readonly #stations = new Map<string, Station>();
  readonly #endpoints = new Map<string, Endpoint>();

  constructor(loop: Loop, namespaces: Namespaces, flows: FlowListener) {
    this.#loop = loop;
    this.#namespaces = namespaces;
    this.#flows = flows;
  }

  station(netns: string, address: Address): Station | undefined {
    return this.#stations.get(`${netns} ${formatAddress(address)}`);
  }

  add(endpoint: Endpoint): void {
    this.remove(endpoint.name);
    this.#endpoints.set(endpoint.name, endpoint);
    for (const address of endpoint.addresses) {
      const station = this.#openStation(endpoint.netns, address);
      station.endpoints.add(endpoint.name);
      for (const number of endpoint.ports) {
        const port = station.ports.get(number) ?? this.#openPort(station, number);
        port.owners.push(endpoint.name);
      }
    }
  }

  remove(name: string): void {
    const endpoint = this.#endpoints.get(name);
    if (endpoint === undefined) return;
    this.#endpoints.delete(name);
    for (const address of endpoint.addresses) {
      const station = this.station(endpoint.netns, address);
      if (station === undefined) continue;
      for (const [number, port] of station.ports) {
        const at = port.owners.indexOf(name);
        if (at >= 0) port.owners.splice(at, 1);
        if (port.owners.length > 0) continue;
        this.#close(port.tcp);
        this.#close(port.udp);
        station.ports.delete(number);
      }
      station.endpoints.delete(name);
      if (station.endpoints.size > 0) continue;
      this.#close(station.sctp);
      this.#close(station.icmp);
      this.#stations.delete(`${endpoint.netns} ${formatAddress(address)}`);
    }
    if (![...this.#endpoints.values()].some((other) => other.netns === endpoint.netns)) this.#namespaces.release(endpoint.netns);
  }

  #close(fd: number): void {
    this.#loop.unwatch(fd);
    libc().close(fd);
  }

  #openStation(netns: string, address: Address): Station {
    const open = this.station(netns, address);
    if (open !== undefined) return open;
    const raw = (protocol: number): number => {
      const fd = this.#namespaces.socket(netns, address, SOCK_RAW, protocol);
      this.#namespaces.bind(fd, address, 0, netns);
      return fd;
    };
    const station: Station = {
      netns,
      address,
      sctp: raw(IPPROTO_SCTP),
      icmp: raw(familyOf(address) === 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6),
      sctpWaiting: new Map(),
      echoWaiting: new Map(),
      ports: new Map(),
      endpoints: new Set(),
    };
    this.#stations.set(`${netns} ${formatAddress(address)}`, station);
    this.#loop.watch(station.sctp, EPOLLIN, () => this.#sctp(station));
    this.#loop.watch(station.icmp, EPOLLIN, () => this.#icmp(station));
    return station;
  }

  #openPort(station: Station, number: number): Port {
    const { netns, address } = station;
    const tcp = this.#namespaces.socket(netns, address, SOCK_STREAM, 0);
    libc().setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, int32(1), 4);
    this.#namespaces.bind(tcp, address, number, netns);
    checked(libc().listen(tcp, 4096), `listening on port ${number} in ${netns}`);
    const udp = this.#namespaces.socket(netns, address, SOCK_DGRAM, 0);
    this.#namespaces.bind(udp, address, number, netns);
    const port: Port = { tcp, udp, owners: [] };
    station.ports.set(number, port);
    this.#loop.watch(tcp, EPOLLIN, () => this.#accept(port));
    this.#loop.watch(udp, EPOLLIN, () => this.#udp(port));
    return port;
  }

  #accept(port: Port): void {
    const name = port.owners[0] ?? '';
    for (;;) {
      const fd = libc().accept4(port.tcp, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const line = Buffer.from(`${name}\n`);
      libc().send(fd, line, line.length, MSG_NOSIGNAL);
      let flow: number | undefined;
      // Of a message that is not whole yet: TCP divides where it likes.
      let partBytes = 0;
      this.#loop.watch(fd, EPOLLIN, () => {
        const data = receive(fd);
        if (data === EAGAIN) return;
        if (typeof data === 'number' || data.length === 0) {
          this.#close(fd);
          if (flow !== undefined) this.#flows.broken(flow, typeof data === 'number' ? 'reset' : 'closed');
          return;
        }
        if (flow === undefined) {
          if (data[0] !== FLOW || data.length < FLOW_MESSAGE_LENGTH) return;
          flow = new DataView(data.buffer, data.byteOffset).getUint32(1);
        }
        const length = partBytes + data.length;
        partBytes = length % FLOW_MESSAGE_LENGTH;
        this.#flows.arrived(
          flow,
          (length - partBytes) / FLOW_MESSAGE_LENGTH,
          name,
          (bytes) => libc().send(fd, bytes, bytes.length, MSG_NOSIGNAL) === bytes.length,
        );
      });
    }
  }

  #udp(port: Port): void {
    const name = port.owners[0] ?? '';
    for (let datagram = receiveFrom(port.udp); datagram !== undefined; datagram = receiveFrom(port.udp)) {
      const { data, sender } = datagram;
      const send: SendToClient = (bytes) => libc().sendto(port.udp, bytes, bytes.length, 0, sender, addressLength(sender)) === bytes.length;
      if (data[0] === PROBE && data.length === 1 + NONCE_LENGTH) {
        send(Buffer.concat([data, Buffer.from(name)]));
      } else if (data[0] === FLOW && data.length === FLOW_MESSAGE_LENGTH) {
        this.#flows.arrived(new DataView(data.buffer, data.byteOffset).getUint32(1), 1, name, send);
      }
    }
  }

  #sctp(station: Station): void {
    for (let datagram = receiveFrom(station.sctp); datagram !== undefined; datagram = receiveFrom(station.sctp)) {
      const { sender } = datagram;
      const packet = readSctp(familyOf(station.address) === 4 ? withoutIPv4Header(datagram.data) : datagram.data);
      if (packet === undefined) continue;
      if (packet.kind === 'INIT-ACK') {
        const waiting = station.sctpWaiting.get(packet.destinationPort);
        if (waiting?.tag === packet.verificationTag) waiting.answered(packet.cookie);
        continue;
      }
      const name = station.ports.get(packet.destinationPort)?.owners[0];
      if (name === undefined) continue;
      const answer = writeSctp({
        kind: 'INIT-ACK',
        sourcePort: packet.destinationPort,
        destinationPort: packet.sourcePort,
        verificationTag: packet.initiateTag,
        initiateTag: (packet.initiateTag ^ 0x5a5a_5a5a) >>> 0 || 1,
        cookie: name,
      });
      // A raw socket's address has no port.
      const to = sender.slice(0, addressLength(sender));
      new DataView(to.buffer).setUint16(2, 0);
      libc().sendto(station.sctp, answer, answer.length, 0, to, to.length);
    }
  }

  #icmp(station: Station): void {
    const family = familyOf(station.address);
    for (let datagram = receiveFrom(station.icmp); datagram !== undefined; datagram = receiveFrom(station.icmp)) {
      const reply = readEchoReply(family, family === 4 ? withoutIPv4Header(datagram.data) : datagram.data);
      if (reply !== undefined) station.echoWaiting.get(reply.identifier * 65536 + reply.sequence)?.();
    }
  }

  close(): void {
    for (const name of this.#endpoints.keys()) this.remove(name);
  }
}
