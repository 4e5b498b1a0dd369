/**
 * Receives the packets that rules log to an NFLOG group (`log group 5`). One listener a group; what is lost on the way is counted,
 * never passed over: the kernel numbers the messages.
 */
import type { Message, MessageWriter } from '../netlink/attributes.ts';
import { NetlinkError } from '../netlink/errors.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../netlink/socket.ts';
import { listen } from '../poller/listen.ts';
import type { Poller } from '../poller/poller.ts';
import { type LoggedPacket, readLoggedPacket } from './message.ts';

export type PacketLogEvent =
  | { readonly event: 'packet'; readonly packet: LoggedPacket }
  /** So many packets were lost between the one before and the one after. */
  | { readonly event: 'lost'; readonly count: number }
  /** Packets were lost, or one could not be read. Their number follows with the next packet (`lost`). */
  | { readonly event: 'overrun'; readonly cause: NetlinkError };

export interface PacketLogOptions {
  readonly poller: Poller;
  /** The number of the group, 0 to 65535. */
  readonly group: number;
  readonly onEvent: (event: PacketLogEvent) => void;
  /** So much of each packet is copied at most; 128 unless told, enough for the headers. A rule's `snaplen` may make it less. */
  readonly copyBytes?: number;
  /** The kernel sends when so many packets are there; 1 unless told, at most 1024 … */
  readonly queueThreshold?: number;
  /** … or after this time, in steps of 10 ms; 1000 unless told. Means something only with a threshold above 1. */
  readonly flushMs?: number;
  /** The size of the kernel's receive buffer, 1 MiB unless told, as far as it is granted. */
  readonly receiveBytes?: number;
}

const NFNL_SUBSYS_ULOG = 4;
const NFULNL_MSG_PACKET = (NFNL_SUBSYS_ULOG << 8) | 0;
const NFULNL_MSG_CONFIG = (NFNL_SUBSYS_ULOG << 8) | 1;
const NFULA_CFG_CMD = 1;
const NFULA_CFG_MODE = 2;
const NFULA_CFG_TIMEOUT = 4;
const NFULA_CFG_QTHRESH = 5;
const NFULA_CFG_FLAGS = 6;
const NFULNL_CFG_CMD_BIND = 1;
const NFULNL_CFG_CMD_UNBIND = 2;
const NFULNL_COPY_PACKET = 2;
const NFULNL_CFG_F_SEQ = 1;

export class PacketLog {
  readonly group: number;
  readonly #socket: NetlinkSocket;
  readonly #onEvent: (event: PacketLogEvent) => void;
  readonly #stop: () => void;
  #closed = false;
  /** The number that the next message has if nothing is lost; the kernel counts from 0 at each bind. */
  #nextSequence = 0;
  #lost = 0;

  private constructor(socket: NetlinkSocket, options: PacketLogOptions) {
    this.group = options.group;
    this.#socket = socket;
    this.#onEvent = options.onEvent;
    this.#stop = listen(options.poller, socket, {
      message: (message) => this.#read(message),
      lost: (cause) => this.#onEvent({ event: 'overrun', cause }),
    });
  }

  /**
   * Binds to the group in this thread's network namespace.
   * @throws KernelError EPERM where another socket has the group, and without CAP_NET_ADMIN
   */
  static open(options: PacketLogOptions): PacketLog {
    const { group, copyBytes = 128, queueThreshold = 1, flushMs = 1000 } = options;
    if (!Number.isInteger(group) || group < 0 || group > 0xffff)
      throw new NetlinkError('ERR_INVALID', `binding to NFLOG group ${group}: the number of a group is one of 0 to 65535`);
    const socket = NetlinkSocket.open(NETLINK_NETFILTER, { receiveBytes: options.receiveBytes ?? 1 << 20 });
    try {
      // All in one message: a packet that came between two of them would be taken for an answer to the second, and be lost.
      configure(socket, group, `binding to NFLOG group ${group} (who has it now: /proc/net/netfilter/nfnetlink_log)`, (writer) => {
        writer.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_BIND);
        writer.data(NFULA_CFG_MODE, copyMode(copyBytes));
        writer.be32(NFULA_CFG_TIMEOUT, Math.max(1, Math.round(flushMs / 10)));
        writer.be32(NFULA_CFG_QTHRESH, queueThreshold);
        writer.be16(NFULA_CFG_FLAGS, NFULNL_CFG_F_SEQ);
      });
      return new PacketLog(socket, options);
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** How many packets are known to be lost since it was opened. */
  get lost(): number {
    return this.#lost;
  }

  /** Gives the group back. No event comes after this. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    try {
      // Closing the socket would unbind too, but only once the poller's thread has let go of it.
      configure(this.#socket, this.group, `unbinding from NFLOG group ${this.group}`, (writer) =>
        writer.u8(NFULA_CFG_CMD, NFULNL_CFG_CMD_UNBIND),
      );
    } catch (error) {
      // A receive buffer that has just run over has no room for the acknowledgement either.
      if (!(error instanceof NetlinkError)) throw error;
    } finally {
      this.#socket.close();
    }
  }

  #read(message: Message): void {
    if (message.type !== NFULNL_MSG_PACKET) return;
    const packet = readLoggedPacket(message.payload);
    if (packet.sequence !== undefined) {
      const count = (packet.sequence - this.#nextSequence) >>> 0;
      this.#nextSequence = (packet.sequence + 1) >>> 0;
      if (count > 0) {
        this.#lost += count;
        this.#onEvent({ event: 'lost', count });
      }
    }
    // The listener may have closed the log when it heard of the loss.
    if (!this.#closed) this.#onEvent({ event: 'packet', packet });
  }
}

function configure(socket: NetlinkSocket, group: number, doing: string, write: (writer: MessageWriter) => void): void {
  socket.request(
    NFULNL_MSG_CONFIG,
    0,
    (writer) => {
      // struct nfgenmsg: family, version, and the group in network order.
      writer.raw(new Uint8Array([0, 0, group >> 8, group & 0xff]));
      write(writer);
    },
    () => {},
    doing,
  );
}

/** struct nfulnl_msg_config_mode { __be32 copy_range; __u8 copy_mode; __u8 _pad; } */
function copyMode(copyBytes: number): Uint8Array {
  const bytes = new Uint8Array(6);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, copyBytes);
  view.setUint8(4, NFULNL_COPY_PACKET);
  return bytes;
}
