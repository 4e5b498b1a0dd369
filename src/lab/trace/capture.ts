/**
 * Every frame on every interface of a network namespace, as a packet socket sees it (packet(7)): when a frame has come in, before
 * anything was decided about it, and when it leaves, after everything was.
 *
 * Times are the kernel's, taken as the frame passed. A frame that goes up through several interfaces of one namespace may keep the
 * time of the first; their order is that in which they were read.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { LabError } from '../errors.ts';
import {
  AF_PACKET,
  addressOf,
  checked,
  EAGAIN,
  EINTR,
  ETH_P_ALL,
  int32,
  libc,
  MSG_DONTWAIT,
  PACKET_STATISTICS,
  SO_RCVBUF,
  SO_TIMESTAMPING,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOL_PACKET,
  SOL_SOCKET,
  syscallError,
} from '../libc.ts';
import { inNamespace } from '../namespaces.ts';

export interface CapturedFrame {
  readonly netns: string;
  /** The index of the interface. */
  readonly link: number;
  readonly direction: 'in' | 'out';
  /** It came in, and is for another hardware address than the interface's: a port of a bridge takes it, others throw it away. */
  readonly forOthers: boolean;
  /** Nanoseconds since 1970. Undefined: the kernel had not begun to note times. */
  readonly at: bigint | undefined;
  readonly bytes: Uint8Array;
}

/** Headers and more; what a packet carries is of no interest. */
const FRAME_BYTES = 2048;
const RECEIVE_BYTES = 1 << 20;

/** struct sockaddr_ll, linux/if_packet.h */
const SOCKADDR_LL_BYTES = 20;
const SLL_IFINDEX = 4;
const SLL_PKTTYPE = 10;
const PACKET_OTHERHOST = 3;
const PACKET_OUTGOING = 4;

/** struct msghdr, struct iovec, struct cmsghdr of 64-bit Linux, and struct scm_timestamping: three times, the first is the kernel's. */
const MSGHDR_BYTES = 56;
const MSG_NAME = 0;
const MSG_NAMELEN = 8;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const IOVEC_BYTES = 16;
const CONTROL_BYTES = 128;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;

const TIMED_MS = 10_000;
const TIMED_POLL_MS = 1;
const LOOPBACK_INDEX = 1;
/** struct sockaddr_ll: family and interface; the frame has its own header. */
const LOOPBACK = new Uint8Array(SOCKADDR_LL_BYTES);
new DataView(LOOPBACK.buffer).setUint16(0, AF_PACKET, true);
new DataView(LOOPBACK.buffer).setInt32(SLL_IFINDEX, LOOPBACK_INDEX, true);
/** An Ethernet header with the type for local experiments (IEEE 802), and room for no more than anybody expects behind it. */
const TEST_FRAME = new Uint8Array(60);
new DataView(TEST_FRAME.buffer).setUint16(12, 0x88b5);

/** One message at a time, always read into the same memory. */
class MessageBuffer {
  readonly data = new ArrayBuffer(FRAME_BYTES);
  readonly address = new DataView(new ArrayBuffer(SOCKADDR_LL_BYTES));
  readonly control = new DataView(new ArrayBuffer(CONTROL_BYTES));
  readonly #iovec = new DataView(new ArrayBuffer(IOVEC_BYTES));
  readonly #header = new DataView(new ArrayBuffer(MSGHDR_BYTES));

  constructor() {
    this.#iovec.setBigUint64(0, addressOf(this.data), true);
    this.#iovec.setBigUint64(8, BigInt(FRAME_BYTES), true);
  }

  /** Length of what was received, or -1. */
  receive(fd: number): number {
    const header = this.#header;
    header.setBigUint64(MSG_NAME, addressOf(this.address.buffer), true);
    header.setUint32(MSG_NAMELEN, SOCKADDR_LL_BYTES, true);
    header.setBigUint64(MSG_IOV, addressOf(this.#iovec.buffer), true);
    header.setBigUint64(MSG_IOVLEN, 1n, true);
    header.setBigUint64(MSG_CONTROL, addressOf(this.control.buffer), true);
    header.setBigUint64(MSG_CONTROLLEN, BigInt(CONTROL_BYTES), true);
    return libc().recvmsg(fd, new Uint8Array(header.buffer), MSG_DONTWAIT);
  }

  /** When the kernel saw what was received last. */
  get time(): bigint | undefined {
    const { control } = this;
    const end = Number(this.#header.getBigUint64(MSG_CONTROLLEN, true));
    for (let at = 0; at + CMSG_DATA + 16 <= end; ) {
      const length = Number(control.getBigUint64(at, true));
      if (control.getInt32(at + CMSG_LEVEL, true) === SOL_SOCKET && control.getInt32(at + CMSG_TYPE, true) === SO_TIMESTAMPING) {
        const seconds = control.getBigInt64(at + CMSG_DATA, true);
        const nanoseconds = control.getBigInt64(at + CMSG_DATA + 8, true);
        return seconds === 0n ? undefined : seconds * 1_000_000_000n + nanoseconds;
      }
      if (length < CMSG_DATA) return undefined;
      at += (length + 7) & ~7;
    }
    return undefined;
  }
}

export class Capture {
  readonly netns: string;
  readonly #fd: number;
  readonly #buffer = new MessageBuffer();

  private constructor(netns: string, fd: number) {
    this.netns = netns;
    this.#fd = fd;
  }

  /** Begins at once. @throws LabError `LAB_SYSCALL` where the namespace is not there, or without CAP_NET_RAW in it */
  static open(netns: string): Capture {
    const protocol = ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >> 8);
    const fd = inNamespace(netns, () =>
      checked(libc().socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), `listening to all interfaces of ${netns}`),
    );
    libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUF, int32(RECEIVE_BYTES), 4);
    const flags = int32(SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
    if (libc().setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, flags, 4) < 0) {
      const error = syscallError(`asking for the times of frames in ${netns}`);
      libc().close(fd);
      throw error;
    }
    return new Capture(netns, fd);
  }

  /**
   * Resolves when the kernel notes times, which it begins to do a moment after it was asked, everywhere at once. Frames are lost until
   * then: those that were sent to find out, and others.
   * @throws LabError `LAB_TRACE` where it does not
   */
  async timed(): Promise<void> {
    const until = performance.now() + TIMED_MS;
    for (;;) {
      // Nobody takes such a frame, and it does not leave the namespace.
      libc().sendto(this.#fd, TEST_FRAME, TEST_FRAME.length, 0, LOOPBACK, LOOPBACK.length);
      if (this.read().some(({ link, at }) => link === LOOPBACK_INDEX && at !== undefined)) return;
      if (performance.now() > until) throw new LabError('LAB_TRACE', 'following a packet: the kernel does not note the times of frames');
      await sleep(TIMED_POLL_MS);
    }
  }

  /** What has passed since the last call, in order. @throws LabError `LAB_SYSCALL` */
  read(): CapturedFrame[] {
    const frames: CapturedFrame[] = [];
    for (;;) {
      const length = this.#buffer.receive(this.#fd);
      if (length < 0) {
        const errno = libc().errno();
        if (errno === EINTR) continue;
        if (errno === EAGAIN) return frames;
        throw syscallError(`listening to all interfaces of ${this.netns}`, errno);
      }
      const { address, data, time } = this.#buffer;
      const type = address.getUint8(SLL_PKTTYPE);
      frames.push({
        netns: this.netns,
        link: address.getInt32(SLL_IFINDEX, true),
        direction: type === PACKET_OUTGOING ? 'out' : 'in',
        forOthers: type === PACKET_OTHERHOST,
        at: time,
        bytes: new Uint8Array(data.slice(0, length)),
      });
    }
  }

  /** How many frames were lost since the last call, because nobody had read. */
  lost(): number {
    // struct tpacket_stats { u32 packets, drops; }, set to zero by being read.
    const statistics = new Uint8Array(8);
    if (libc().getsockopt(this.#fd, SOL_PACKET, PACKET_STATISTICS, statistics, int32(8)) < 0) return 0;
    return new DataView(statistics.buffer).getUint32(4, true);
  }

  close(): void {
    libc().close(this.#fd);
  }
}
