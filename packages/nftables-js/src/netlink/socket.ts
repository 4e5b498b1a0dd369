/**
 * One netlink socket. Requests are answered by the kernel within the very system call that sends them, and the next part of a
 * dump within the call that reads the last, so requests and answers are plain synchronous functions: nothing waits, and a small
 * commit costs microseconds. Only multicast sockets have to be waited for; that is what `poller.ts` is for.
 */
import { write } from 'node:fs';
import { promisify } from 'node:util';
import { type Message, MessageWriter, readAttributes, readMessages } from './attributes.ts';
import { KernelError, MalformedError, NetlinkError, OverrunError } from './errors.ts';
import { libc } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_EXT_ACK = 11;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const EAGAIN = 11;
const EINTR = 4;
const EIO = 5;
const ENOBUFS = 105;

/** linux/netlink.h */
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLMSGERR_ATTR_MSG = 1;

const writeFd = promisify(write);

function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

/** What an NLMSG_ERROR message says: `errno` 0 is an acknowledgement. */
export interface Answer {
  readonly errno: number;
  readonly sequence: number;
  readonly kernelMessage?: string;
}

/** Reads an NLMSG_ERROR message. @throws MalformedError */
export function readAnswer(message: Message): Answer {
  const { payload } = message;
  if (payload.length < 20) throw new MalformedError(`an answer of ${payload.length} bytes`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const errno = -view.getInt32(0, true);
  const sequence = view.getUint32(12, true);
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, sequence };
  const echoed = (message.flags & NLM_F_CAPPED) === 0 ? view.getUint32(4, true) : 16;
  if (4 + echoed > payload.length) throw new MalformedError(`an answer of ${payload.length} bytes that repeats ${echoed}`);
  const text = readAttributes(payload.subarray(4 + ((echoed + 3) & ~3)))
    .get(NLMSGERR_ATTR_MSG)
    ?.string();
  return text === undefined ? { errno, sequence } : { errno, sequence, kernelMessage: text };
}

/** The error with which a dump ended, 0 for none. @throws MalformedError */
export function doneErrno({ payload }: Message): number {
  if (payload.length < 4) throw new MalformedError(`the end of a dump of ${payload.length} bytes`);
  return -new DataView(payload.buffer, payload.byteOffset).getInt32(0, true);
}

export class NetlinkSocket {
  /** For poll(2). */
  readonly fd: number;
  /** The address that the kernel knows this socket by: the `port` of the messages it causes. */
  readonly port: number;
  #sequence = 1;
  #closed = false;
  #buffer: Uint8Array;
  /** A datagram of so many bytes goes through; less than the default of every system to begin with. */
  #sendBytes = 100_000;

  private constructor(fd: number, port: number, bufferBytes: number) {
    this.fd = fd;
    this.port = port;
    this.#buffer = new Uint8Array(bufferBytes);
  }

  /**
   * Opens a socket in this thread's network namespace.
   *
   * @param protocol NETLINK_NETFILTER or NETLINK_ROUTE
   * @param options.receiveBytes the size of the kernel's receive buffer, as far as it is granted (SO_RCVBUFFORCE needs CAP_NET_ADMIN in the first user namespace)
   */
  static open(protocol: number, options: { readonly receiveBytes?: number } = {}): NetlinkSocket {
    const c = libc();
    const fd = c.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) throw new KernelError(c.errno(), `opening a netlink socket (protocol ${protocol})`);
    const address = new Uint8Array(12);
    address[0] = AF_NETLINK;
    if (c.bind(fd, address, 12) < 0) {
      const error = new KernelError(c.errno(), 'binding a netlink socket');
      c.close(fd);
      throw error;
    }
    c.getsockname(fd, address, int32(12));
    c.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, int32(1), 4);
    const socket = new NetlinkSocket(fd, new DataView(address.buffer).getUint32(4, true), 1 << 17);
    if (options.receiveBytes !== undefined) socket.#bufferSize(SO_RCVBUF, SO_RCVBUFFORCE, options.receiveBytes);
    return socket;
  }

  #bufferSize(option: number, force: number, bytes: number): boolean {
    const c = libc();
    return (
      c.setsockopt(this.fd, SOL_SOCKET, force, int32(bytes), 4) === 0 || (c.setsockopt(this.fd, SOL_SOCKET, option, int32(bytes), 4), false)
    );
  }

  /** The send buffer has to take a datagram as a whole. The kernel doubles what it is told, for its own overhead. */
  #makeRoom(bytes: number): void {
    if (bytes > this.#sendBytes) {
      this.#bufferSize(SO_SNDBUF, SO_SNDBUFFORCE, bytes + 65536);
      this.#sendBytes = bytes;
    }
  }

  /** Joins a multicast group (NFNLGRP_*, RTNLGRP_*). */
  join(group: number): void {
    if (libc().setsockopt(this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int32(group), 4) < 0) {
      throw new KernelError(libc().errno(), `joining netlink group ${group}`);
    }
  }

  /** A number that no request of this socket has had. */
  nextSequence(): number {
    const sequence = this.#sequence;
    this.#sequence = sequence >= 0xffff_fff0 ? 1 : sequence + 1;
    return sequence;
  }

  /**
   * Sends bytes as one datagram; the kernel works it off before this returns.
   * @throws KernelError EMSGSIZE or ENOBUFS where it is larger than the kernel grants this user (wmem_max, without CAP_NET_ADMIN in the first user namespace)
   */
  send(bytes: Uint8Array, doing: string): void {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', `${doing}: the netlink socket is closed`);
    const c = libc();
    this.#makeRoom(bytes.length);
    while (c.send(this.fd, bytes, bytes.length, 0) < 0) {
      const errno = c.errno();
      if (errno !== EINTR) throw new KernelError(errno, doing);
    }
  }

  /**
   * Like {@link send}, in a thread of libuv's pool: the event loop goes on while the kernel works it off. The bytes must not change
   * until then. Answers are waiting when it is done; until then nothing else may be asked of this socket.
   */
  async sendAsync(bytes: Uint8Array, doing: string): Promise<void> {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', `${doing}: the netlink socket is closed`);
    this.#makeRoom(bytes.length);
    try {
      // write(2) and send(2) are the same here; fs has a pool of threads, and tells errno.
      await writeFd(this.fd, bytes);
    } catch (error) {
      const errno = error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? -error.errno : EIO;
      throw new KernelError(errno, doing);
    }
  }

  /**
   * The next datagram, or undefined when none is waiting. The bytes are valid until the next call.
   * @throws OverrunError messages were lost
   */
  receive(doing = 'reading from a netlink socket'): Uint8Array | undefined {
    if (this.#closed) throw new NetlinkError('ERR_CLOSED', `${doing}: the netlink socket is closed`);
    const c = libc();
    for (;;) {
      const length = c.recv(this.fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT | MSG_TRUNC);
      if (length > this.#buffer.length) throw new MalformedError(`${doing}: a datagram of ${length} bytes is longer than the buffer`);
      if (length >= 0) return this.#buffer.subarray(0, length);
      const errno = c.errno();
      if (errno === EAGAIN) return undefined;
      if (errno === ENOBUFS) throw new OverrunError(doing);
      if (errno !== EINTR) throw new KernelError(errno, doing);
    }
  }

  /**
   * Sends one request and gives its answers to `each`; the message's bytes are valid only during the call.
   * A dump that changed underneath (NLM_F_DUMP_INTR) calls `restart` and is read again.
   *
   * @param write writes what follows the message's header
   * @throws KernelError the kernel's answer
   */
  request(
    type: number,
    flags: number,
    write: (writer: MessageWriter) => void,
    each: (message: Message) => void,
    doing: string,
    restart?: () => void,
  ): void {
    for (let attempt = 1; ; attempt++) {
      const interrupted = this.#requestOnce(type, flags, write, each, doing);
      if (!interrupted) return;
      if (attempt >= 100)
        throw new NetlinkError('ERR_INTERRUPTED', `${doing}: changed underneath ${attempt} times; something rewrites it without pause`);
      restart?.();
    }
  }

  #requestOnce(
    type: number,
    flags: number,
    write: (writer: MessageWriter) => void,
    each: (message: Message) => void,
    doing: string,
  ): boolean {
    const sequence = this.nextSequence();
    const dump = (flags & NLM_F_DUMP) === NLM_F_DUMP;
    const writer = new MessageWriter(512);
    const start = writer.beginMessage(type, NLM_F_REQUEST | (dump ? flags : flags | NLM_F_ACK), sequence);
    write(writer);
    writer.endMessage(start);
    this.send(writer.bytes(), doing);
    let interrupted = false;
    for (;;) {
      const datagram = this.receive(doing);
      if (datagram === undefined) throw new NetlinkError('ERR_NO_ANSWER', `${doing}: the kernel gave no answer`);
      for (const message of readMessages(datagram)) {
        if (message.sequence !== sequence) continue;
        if ((message.flags & NLM_F_DUMP_INTR) !== 0) interrupted = true;
        if (message.type === NLMSG_DONE) {
          // A dump that fails half-way ends like one that is complete, but for the number.
          const errno = doneErrno(message);
          if (errno !== 0) throw new KernelError(errno, doing);
          return interrupted;
        }
        if (message.type === NLMSG_ERROR) {
          const answer = readAnswer(message);
          if (answer.errno === 4 && dump) return true;
          if (answer.errno !== 0) throw new KernelError(answer.errno, doing, answer.kernelMessage);
          return interrupted;
        }
        if (message.type !== NLMSG_NOOP) each(message);
      }
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    libc().close(this.fd);
  }
}
