/**
 * Entries of connection tracking in any number, made through ctnetlink: what so many connections would leave, without their packets. The package
 * for netlink has no such function, because nobody who enforces policy may open a flow.
 */
import { MessageWriter, NETLINK_NETFILTER, NetlinkSocket, NLM_F_ACK, NLM_F_REQUEST } from 'nftables-js';

const CT_NEW = 0x100;
const NLM_F_CREATE_EXCL = 0x600;
const NLMSG_ERROR = 2;
const ENTRIES_PER_DATAGRAM = 64;
const AF_INET = 2;
const UDP = 17;
const TIMEOUT_SECONDS = 3_000;
/** IPS_SEEN_REPLY and IPS_ASSURED: it is not the first to go when the table is full. IPS_CONFIRMED has to be asked for as well. */
const STATUS = 0b1110;

/** An IPv4 address as a number, and a port. */
export interface End {
  readonly address: number;
  readonly port: number;
}

/**
 * Makes entries of UDP over IPv4, in the network namespace of this thread; those that are there already are left.
 *
 * @throws Error where the kernel refuses one: EPERM without CAP_NET_ADMIN, ENOMEM where the table is full
 */
export function makeEntries(count: number, of: (index: number) => { readonly from: End; readonly to: End }): void {
  const socket = NetlinkSocket.open(NETLINK_NETFILTER);
  try {
    const writer = new MessageWriter(ENTRIES_PER_DATAGRAM * 160);
    for (let from = 0; from < count; from += ENTRIES_PER_DATAGRAM) {
      writer.truncate(0);
      const end = Math.min(count, from + ENTRIES_PER_DATAGRAM);
      for (let index = from; index < end; index++) {
        const flags = NLM_F_REQUEST | NLM_F_CREATE_EXCL | (index === end - 1 ? NLM_F_ACK : 0);
        const start = writer.beginMessage(CT_NEW, flags, socket.nextSequence());
        writer.raw(Uint8Array.of(AF_INET, 0, 0, 0));
        const { from: client, to: server } = of(index);
        writeTuple(writer, 1, client, server);
        writeTuple(writer, 2, server, client);
        writer.be32(3, STATUS);
        writer.be32(7, TIMEOUT_SECONDS);
        writer.endMessage(start);
      }
      socket.send(writer.bytes(), 'making conntrack entries');
      readErrors(socket);
    }
  } finally {
    socket.close();
  }
}

const EEXIST = 17;

function readErrors(socket: NetlinkSocket): void {
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive()) {
    const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
    const errno = view.getUint16(4, true) === NLMSG_ERROR ? -view.getInt32(16, true) : 0;
    if (errno !== 0 && errno !== EEXIST) throw new Error(`making conntrack entries: errno ${errno}`);
  }
}

function writeTuple(writer: MessageWriter, type: number, source: End, destination: End): void {
  const tuple = writer.beginNested(type);
  const addresses = writer.beginNested(1);
  writer.be32(1, source.address);
  writer.be32(2, destination.address);
  writer.endNested(addresses);
  const protocol = writer.beginNested(2);
  writer.u8(1, UDP);
  writer.be16(2, source.port);
  writer.be16(3, destination.port);
  writer.endNested(protocol);
  writer.endNested(tuple);
}
