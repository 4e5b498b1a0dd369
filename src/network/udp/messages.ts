/**
 * The memory that batches of datagrams are sent from and received into: vectors of struct mmsghdr that are laid out once and used
 * again and again, so that nothing is allocated for a packet.
 *
 * Packets of one length to one peer, as a bulk stream consists of, go to the kernel as one message that it cuts into datagrams
 * (UDP_SEGMENT), and where a network card or the sender's kernel has kept such together they come back as one (UDP_GRO). On the wire,
 * and to whoever receives with neither, they are datagrams of one packet each.
 */
import { AF_INET, addressOf, IPPROTO_UDP, MSG_TRUNC } from './libc.ts';
import type { NextHop } from './routes.ts';

/** linux/udp.h */
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

/**
 * struct mmsghdr { struct msghdr { void *name; u32 namelen; struct iovec *iov; size_t iovlen; void *control; size_t controllen;
 * int flags; }; u32 len; }
 */
const MMSGHDR_BYTES = 64;
const NAME = 0;
const NAMELEN = 8;
const IOV = 16;
const IOVLEN = 24;
const CONTROL = 32;
const CONTROLLEN = 40;
const FLAGS = 48;
const LENGTH = 56;
/** struct iovec { void *base; size_t len; } */
const IOVEC_BYTES = 16;
const SOCKADDR_BYTES = 16;
/** struct cmsghdr { size_t len; int level; int type; }, and what it holds: a u16 of UDP_SEGMENT, an int of UDP_GRO. */
const CONTROL_BYTES = 24;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;

/** The longest payload of UDP over IPv4. */
const MAX_DATAGRAM_BYTES = 65_507;
/** UDP_MAX_SEGMENTS of kernels before 6.9; newer ones take twice as many. */
const MAX_TRAIN = 64;
/** After a train was refused, so many messages to its peer go one packet each. */
const TRAINS_OFF_FOR = 10_000;

/** Memory of this thread that the kernel reads and writes. */
class Region {
  readonly view: DataView;
  readonly address: number;

  constructor(bytes: number) {
    const buffer = new ArrayBuffer(bytes);
    this.view = new DataView(buffer);
    this.address = addressOf(buffer);
  }
}

function setPointer(view: DataView, at: number, pointer: number): void {
  view.setUint32(at, pointer % 2 ** 32, true);
  view.setUint32(at + 4, pointer / 2 ** 32, true);
}

function setSize(view: DataView, at: number, size: number): void {
  view.setUint32(at, size, true);
  view.setUint32(at + 4, 0, true);
}

/** Packets on their way out: a slot each, filled one after the other, in messages to a peer each. */
export class Outgoing {
  /** All slots, one behind the other. */
  readonly packets: DataView;
  readonly slotBytes: number;
  readonly capacity: number;
  readonly #trains: boolean;
  readonly #memory: Region;
  readonly #messages: Region;
  readonly #iovecs: Region;
  readonly #names: Region;
  readonly #controls: Region;
  /** Of each message. */
  readonly #hops: (NextHop | undefined)[];
  readonly #firstPackets: Int32Array;
  #packetCount = 0;
  #messageCount = 0;
  #sent = 0;
  /** Of the last message: its packets, the length of the first, and their bytes; whether a shorter one has ended it. */
  #trainPackets = 0;
  #trainUnit = 0;
  #trainBytes = 0;
  #trainEnded = false;

  /** @param trains whether the kernel has UDP_SEGMENT */
  constructor(capacity: number, slotBytes: number, trains: boolean) {
    this.capacity = capacity;
    this.slotBytes = slotBytes;
    this.#trains = trains;
    this.#memory = new Region(capacity * slotBytes);
    this.packets = this.#memory.view;
    this.#messages = new Region(capacity * MMSGHDR_BYTES);
    this.#iovecs = new Region(capacity * IOVEC_BYTES);
    this.#names = new Region(capacity * SOCKADDR_BYTES);
    this.#controls = new Region(capacity * CONTROL_BYTES);
    this.#hops = Array.from({ length: capacity }, () => undefined);
    this.#firstPackets = new Int32Array(capacity);
    for (let index = 0; index < capacity; index++) {
      const at = index * MMSGHDR_BYTES;
      setPointer(this.#messages.view, at + NAME, this.#names.address + index * SOCKADDR_BYTES);
      setSize(this.#messages.view, at + NAMELEN, SOCKADDR_BYTES);
      setPointer(this.#messages.view, at + CONTROL, this.#controls.address + index * CONTROL_BYTES);
      setPointer(this.#iovecs.view, index * IOVEC_BYTES, this.#memory.address + index * slotBytes);
      this.#names.view.setUint16(index * SOCKADDR_BYTES, AF_INET, true);
      const control = this.#controls.view;
      setSize(control, index * CONTROL_BYTES, CMSG_DATA + 2);
      control.setInt32(index * CONTROL_BYTES + CMSG_LEVEL, IPPROTO_UDP, true);
      control.setInt32(index * CONTROL_BYTES + CMSG_TYPE, UDP_SEGMENT, true);
    }
  }

  get full(): boolean {
    return this.#packetCount === this.capacity;
  }

  /** Whether there are messages that are not sent yet. */
  get pending(): boolean {
    return this.#sent < this.#messageCount;
  }

  /** Where in {@link packets} the next packet is to be written. Not when it is {@link full}. */
  get nextAt(): number {
    return this.#packetCount * this.slotBytes;
  }

  /** The same as an address in memory. */
  get nextAddress(): number {
    return this.#memory.address + this.#packetCount * this.slotBytes;
  }

  /** Takes the packet at {@link nextAt} to be sent to the peer. */
  add(length: number, hop: NextHop): void {
    const packet = this.#packetCount++;
    this.#iovecs.view.setUint32(packet * IOVEC_BYTES + 8, length, true);
    const message = this.#messageCount - 1;
    if (
      this.#trainPackets > 0 &&
      !this.#trainEnded &&
      length <= this.#trainUnit &&
      this.#hops[message] === hop &&
      this.#trainPackets < MAX_TRAIN &&
      this.#trainBytes + length <= MAX_DATAGRAM_BYTES
    ) {
      const at = message * MMSGHDR_BYTES;
      this.#trainPackets++;
      this.#trainBytes += length;
      // The kernel cuts every so many bytes, so only the last may be shorter.
      this.#trainEnded = length < this.#trainUnit;
      this.#messages.view.setUint32(at + IOVLEN, this.#trainPackets, true);
      if (this.#trainPackets === 2) {
        this.#messages.view.setUint32(at + CONTROLLEN, CONTROL_BYTES, true);
        this.#controls.view.setUint16(message * CONTROL_BYTES + CMSG_DATA, this.#trainUnit, true);
      }
      return;
    }
    this.#begin(packet, length, hop);
  }

  #begin(packet: number, length: number, hop: NextHop): void {
    const message = this.#messageCount++;
    const at = message * MMSGHDR_BYTES;
    this.#hops[message] = hop;
    this.#firstPackets[message] = packet;
    this.#names.view.setUint16(message * SOCKADDR_BYTES + 2, hop.port);
    this.#names.view.setUint32(message * SOCKADDR_BYTES + 4, hop.address);
    setPointer(this.#messages.view, at + IOV, this.#iovecs.address + packet * IOVEC_BYTES);
    this.#messages.view.setUint32(at + IOVLEN, 1, true);
    this.#messages.view.setUint32(at + CONTROLLEN, 0, true);
    this.#trainUnit = length;
    this.#trainBytes = length;
    this.#trainPackets = 1;
    this.#trainEnded = !this.#trains || hop.trainsOffFor > 0;
    if (hop.trainsOffFor > 0) hop.trainsOffFor--;
  }

  // --- sending

  /** What sendmmsg is given: the messages that are not sent yet. */
  get unsentAddress(): number {
    return this.#messages.address + this.#sent * MMSGHDR_BYTES;
  }

  get unsent(): number {
    return this.#messageCount - this.#sent;
  }

  /** Packets in the first that is not sent. */
  get unsentPackets(): number {
    return this.#messages.view.getUint32(this.#sent * MMSGHDR_BYTES + IOVLEN, true);
  }

  /** Bytes of the first that is not sent, without the headers of IP and UDP; valid once the kernel has taken it. */
  get unsentBytes(): number {
    return this.#messages.view.getUint32(this.#sent * MMSGHDR_BYTES + LENGTH, true);
  }

  /** The first that is not sent is done with: sent, or given up. When it is the last, the slots are free again. */
  advance(): void {
    this.#sent++;
    if (this.#sent === this.#messageCount) this.clear();
  }

  /** Address and length of a packet of the first that is not sent, and whom it goes to (struct sockaddr_in): for sending it by itself. */
  unsentPacket(index: number): { readonly address: number; readonly length: number; readonly name: number } {
    const packet = (this.#firstPackets[this.#sent] ?? 0) + index;
    return {
      address: this.#memory.address + packet * this.slotBytes,
      length: this.#iovecs.view.getUint32(packet * IOVEC_BYTES + 8, true),
      name: this.#names.address + this.#sent * SOCKADDR_BYTES,
    };
  }

  /** The first that is not sent was refused as a train: its peer gets none for a while. */
  refuseTrains(): void {
    const hop = this.#hops[this.#sent];
    if (hop !== undefined) hop.trainsOffFor = TRAINS_OFF_FOR;
  }

  clear(): void {
    this.#packetCount = 0;
    this.#messageCount = 0;
    this.#sent = 0;
    this.#trainPackets = 0;
  }
}

/** Datagrams as they have come in. */
export class Incoming {
  readonly capacity: number;
  readonly slotBytes: number;
  readonly packets: DataView;
  readonly #memory: Region;
  readonly #messages: Region;
  readonly #iovecs: Region;
  readonly #controls: Region;

  constructor(capacity: number, slotBytes: number) {
    this.capacity = capacity;
    this.slotBytes = slotBytes;
    this.#memory = new Region(capacity * slotBytes);
    this.packets = this.#memory.view;
    this.#messages = new Region(capacity * MMSGHDR_BYTES);
    this.#iovecs = new Region(capacity * IOVEC_BYTES);
    this.#controls = new Region(capacity * CONTROL_BYTES);
    for (let index = 0; index < capacity; index++) {
      const at = index * MMSGHDR_BYTES;
      setPointer(this.#iovecs.view, index * IOVEC_BYTES, this.#memory.address + index * slotBytes);
      setSize(this.#iovecs.view, index * IOVEC_BYTES + 8, slotBytes);
      setPointer(this.#messages.view, at + IOV, this.#iovecs.address + index * IOVEC_BYTES);
      setSize(this.#messages.view, at + IOVLEN, 1);
      setPointer(this.#messages.view, at + CONTROL, this.#controls.address + index * CONTROL_BYTES);
      setSize(this.#messages.view, at + CONTROLLEN, CONTROL_BYTES);
    }
  }

  get address(): number {
    return this.#messages.address;
  }

  /** Where in memory the place `at` of {@link packets} is. */
  addressOf(at: number): number {
    return this.#memory.address + at;
  }

  lengthOf(message: number): number {
    return this.#messages.view.getUint32(message * MMSGHDR_BYTES + LENGTH, true);
  }

  /** There was more of it than its slot holds. */
  isTruncated(message: number): boolean {
    return (this.#messages.view.getUint32(message * MMSGHDR_BYTES + FLAGS, true) & MSG_TRUNC) !== 0;
  }

  /** Bytes of each datagram but for the last one, where there are several; otherwise the length of the only one. */
  unitOf(message: number): number {
    const at = message * MMSGHDR_BYTES;
    if (this.#messages.view.getUint32(at + CONTROLLEN, true) > CMSG_DATA) {
      const control = message * CONTROL_BYTES;
      const view = this.#controls.view;
      if (view.getInt32(control + CMSG_LEVEL, true) === IPPROTO_UDP && view.getInt32(control + CMSG_TYPE, true) === UDP_GRO) {
        return view.getInt32(control + CMSG_DATA, true);
      }
    }
    return this.lengthOf(message);
  }

  /** Makes a message ready to be received into again. */
  reset(message: number): void {
    this.#messages.view.setUint32(message * MMSGHDR_BYTES + CONTROLLEN, CONTROL_BYTES, true);
  }
}
