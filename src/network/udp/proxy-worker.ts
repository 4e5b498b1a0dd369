/**
 * The thread that carries packets: what comes out of the TUN device goes to the peer whose subnet it is for, in a UDP datagram of its
 * own, and what comes in datagrams goes into the device. Its life is one synchronous loop around poll(2): it waits there when there is
 * nothing to do, and otherwise works in batches. Nothing is allocated for a packet that arrives.
 *
 * When the socket takes no more, the device is not read until it does: the kernel then drops at the device's queue, where it is seen
 * (`ip -s link`) and where TCP expects it. flannel's C proxy waits there just so.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { IcmpLimit } from './icmp-limit.ts';
import {
  EAGAIN,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  libc,
  MSG_DONTWAIT,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  socketAddress,
} from './libc.ts';
import { Incoming, Outgoing } from './messages.ts';
import {
  decrementTtl,
  destinationOf,
  type IcmpError,
  ipv4Length,
  MAX_ICMP_ERROR_BYTES,
  mayAnswerWithError,
  NET_UNREACHABLE,
  TIME_EXCEEDED,
  versionOf,
  writeIcmpError,
} from './packet.ts';
import { counterIndex, LAST_SEND_ERROR, type ProxyFailure, type ProxyWorkerData, type RouteCommand } from './protocol.ts';
import { RouteTable } from './routes.ts';

/** Packets that are read before they are sent, and datagrams that are received at once. */
const BATCH = 64;
const DATAGRAMS = 16;
/** Batches between two looks at the pipe of commands. */
const TURNS = 16;
const MAX_COALESCED_BYTES = 65_535;
/** Slots that all began at the same place of a page would fall on the same few lines of the processor's caches. */
const STAGGER = 192;

const SENT_PACKETS = counterIndex('sentPackets');
const SENT_BYTES = counterIndex('sentBytes');
const RECEIVED_PACKETS = counterIndex('receivedPackets');
const RECEIVED_BYTES = counterIndex('receivedBytes');
const NO_ROUTE = counterIndex('noRoute');
const TIME_EXCEEDED_COUNT = counterIndex('timeExceeded');
const NOT_IPV4 = counterIndex('notIPv4');
const MALFORMED = counterIndex('malformed');
const OVERSIZED = counterIndex('oversized');
const SEND_ERRORS = counterIndex('sendErrors');
const DEVICE_ERRORS = counterIndex('deviceErrors');
const ICMP_SENT = counterIndex('icmpSent');
const ICMP_SUPPRESSED = counterIndex('icmpSuppressed');

/** The device or the socket is not to be used any more. */
class Failure extends Error {
  readonly failure: ProxyFailure;

  constructor(doing: string, errno: number) {
    super(doing);
    this.failure = { doing, errno };
  }
}

class Proxy {
  readonly #c = libc();
  readonly #data: ProxyWorkerData;
  readonly #routes = new RouteTable();
  readonly #counters: Float64Array;
  readonly #outgoing: Outgoing;
  readonly #incoming: Incoming;
  /** One byte more than the MTU: what is longer shows. */
  readonly #readBytes: number;
  readonly #icmp = new DataView(new ArrayBuffer(MAX_ICMP_ERROR_BYTES));
  readonly #icmpBytes = new Uint8Array(this.#icmp.buffer);
  readonly #icmpLimit = new IcmpLimit();

  constructor(data: ProxyWorkerData) {
    this.#data = data;
    this.#counters = new Float64Array(data.counters);
    this.#readBytes = data.mtu + 1;
    const slotBytes = roundUp(this.#readBytes) + STAGGER;
    this.#outgoing = new Outgoing(BATCH, slotBytes, data.segmentation);
    this.#incoming = new Incoming(DATAGRAMS, data.coalescing ? roundUp(MAX_COALESCED_BYTES) + STAGGER : slotBytes);
  }

  /** Returns when the pipe ends. @throws Failure */
  run(): void {
    const { tunFd, socketFd, wakeFd } = this.#data;
    const c = this.#c;
    // struct pollfd { int fd; short events; short revents; }
    const fds = new DataView(new ArrayBuffer(24));
    const fdBytes = new Uint8Array(fds.buffer);
    fds.setInt32(0, tunFd, true);
    fds.setInt32(8, socketFd, true);
    fds.setInt32(16, wakeFd, true);
    fds.setInt16(20, POLLIN, true);
    for (;;) {
      const pending = this.#outgoing.pending;
      fds.setInt16(4, pending ? 0 : POLLIN, true);
      fds.setInt16(12, pending ? POLLIN | POLLOUT : POLLIN, true);
      if (c.poll(fdBytes, 3, -1) < 0) {
        const errno = c.errno();
        if (errno === EINTR) continue;
        throw new Failure('waiting for packets', errno);
      }
      const tun = fds.getInt16(6, true);
      const socket = fds.getInt16(14, true);
      if (fds.getInt16(22, true) !== 0 && !this.#takeCommands()) return;
      if (((tun | socket) & POLLNVAL) !== 0) throw new Failure('waiting for packets: a descriptor was closed', 0);
      if ((tun & (POLLERR | POLLHUP)) !== 0) throw new Failure('the TUN device is gone', 0);
      this.#carry(tun !== 0, socket !== 0);
    }
  }

  /** Moves packets until there are none, or commands have to be looked at. */
  #carry(fromDevice: boolean, fromPeers: boolean): void {
    for (let turn = 0; turn < TURNS && (fromDevice || fromPeers); turn++) {
      if (this.#outgoing.pending) this.#send();
      if (fromDevice) fromDevice = !this.#outgoing.pending && this.#readDevice();
      if (fromPeers) fromPeers = this.#receive();
    }
  }

  /** Whether there may be more. */
  #readDevice(): boolean {
    const { tunFd } = this.#data;
    const outgoing = this.#outgoing;
    const c = this.#c;
    const readBytes = this.#readBytes;
    let more = true;
    while (!outgoing.full) {
      const length = c.read(tunFd, outgoing.nextAddress, readBytes);
      if (length < 0) {
        const errno = c.errno();
        if (errno === EINTR) continue;
        if (errno !== EAGAIN) throw new Failure('reading the TUN device', errno);
        more = false;
        break;
      }
      this.#takeFromDevice(outgoing.nextAt, length);
    }
    if (outgoing.pending) this.#send();
    return more;
  }

  #takeFromDevice(at: number, length: number): void {
    const counters = this.#counters;
    const { packets } = this.#outgoing;
    const total = ipv4Length(packets, at, length);
    if (length > this.#data.mtu) count(counters, OVERSIZED);
    else if (total === 0) count(counters, length > 0 && versionOf(packets, at) !== 4 ? NOT_IPV4 : MALFORMED);
    else {
      const hop = this.#routes.find(destinationOf(packets, at));
      if (hop === undefined) {
        count(counters, NO_ROUTE);
        this.#answer(NET_UNREACHABLE, packets, at, total);
      } else if (decrementTtl(packets, at)) {
        this.#outgoing.add(total, hop);
      } else {
        count(counters, TIME_EXCEEDED_COUNT);
        this.#answer(TIME_EXCEEDED, packets, at, total);
      }
    }
  }

  /** Sends what is to be sent, as far as the socket takes it. */
  #send(): void {
    const outgoing = this.#outgoing;
    const counters = this.#counters;
    const c = this.#c;
    const { socketFd } = this.#data;
    while (outgoing.pending) {
      const sent = c.sendmmsg(socketFd, outgoing.unsentAddress, outgoing.unsent, MSG_DONTWAIT);
      if (sent > 0) {
        for (let index = 0; index < sent; index++) {
          count(counters, SENT_PACKETS, outgoing.unsentPackets);
          count(counters, SENT_BYTES, outgoing.unsentBytes);
          outgoing.advance();
        }
        continue;
      }
      const errno = c.errno();
      if (errno === EINTR) continue;
      if (errno === EAGAIN) return;
      // EMSGSIZE and EINVAL: the path takes only smaller packets, which are fragmented, but not in a train. EIO: no checksums there.
      if (outgoing.unsentPackets > 1 && (errno === EMSGSIZE || errno === EINVAL || errno === EIO)) this.#sendOneByOne();
      else this.#notSent(errno, outgoing.unsentPackets);
      outgoing.advance();
    }
  }

  #sendOneByOne(): void {
    const outgoing = this.#outgoing;
    outgoing.refuseTrains();
    for (let index = 0; index < outgoing.unsentPackets; index++) {
      const { address, length, name } = outgoing.unsentPacket(index);
      const sent = this.#c.sendto(this.#data.socketFd, address, length, MSG_DONTWAIT, name, 16);
      if (sent < 0) {
        this.#notSent(this.#c.errno(), 1);
      } else {
        count(this.#counters, SENT_PACKETS);
        count(this.#counters, SENT_BYTES, length);
      }
    }
  }

  #notSent(errno: number, packets: number): void {
    count(this.#counters, SEND_ERRORS, packets);
    this.#counters[LAST_SEND_ERROR] = errno;
  }

  /** Whether there may be more. */
  #receive(): boolean {
    const incoming = this.#incoming;
    const c = this.#c;
    const received = c.recvmmsg(this.#data.socketFd, incoming.address, incoming.capacity, MSG_DONTWAIT, null);
    // An error that was waiting at the socket is gone now that it was told; it is no packet's.
    if (received < 0) return false;
    for (let message = 0; message < received; message++) {
      const length = incoming.lengthOf(message);
      const unit = Math.max(1, incoming.unitOf(message));
      const begin = message * incoming.slotBytes;
      if (incoming.isTruncated(message)) count(this.#counters, OVERSIZED);
      else if (length === 0) count(this.#counters, MALFORMED);
      else for (let at = 0; at < length; at += unit) this.#takeFromPeer(begin + at, Math.min(unit, length - at));
      incoming.reset(message);
    }
    return received === incoming.capacity;
  }

  #takeFromPeer(at: number, length: number): void {
    const counters = this.#counters;
    const incoming = this.#incoming;
    const { packets } = incoming;
    const total = ipv4Length(packets, at, length);
    if (total === 0) count(counters, versionOf(packets, at) !== 4 ? NOT_IPV4 : MALFORMED);
    else if (total > this.#data.mtu) count(counters, OVERSIZED);
    else if (!decrementTtl(packets, at)) {
      count(counters, TIME_EXCEEDED_COUNT);
      this.#answer(TIME_EXCEEDED, packets, at, total);
    } else if (this.#c.write(this.#data.tunFd, incoming.addressOf(at), total) === total) {
      count(counters, RECEIVED_PACKETS);
      count(counters, RECEIVED_BYTES, total);
    } else {
      count(counters, DEVICE_ERRORS);
    }
  }

  /**
   * Sends an ICMP error about a packet, where one is due. It leaves through a raw socket, so that the kernel takes it as its own: an
   * error that came in from the device with an address of this node as its source would be dropped as a Martian.
   */
  #answer(error: IcmpError, packet: DataView, at: number, total: number): void {
    if (!mayAnswerWithError(packet, at, total)) return;
    const { icmpFd, tunFd, tunAddress } = this.#data;
    if (!this.#icmpLimit.take()) return count(this.#counters, ICMP_SUPPRESSED);
    const length = writeIcmpError(this.#icmp, error, tunAddress, packet, at, total);
    const name = socketAddress(this.#icmp.getUint32(16), 0);
    const sent =
      icmpFd === undefined
        ? this.#c.write(tunFd, this.#icmpBytes, length)
        : this.#c.sendto(icmpFd, this.#icmpBytes, length, MSG_DONTWAIT, name, name.length);
    count(this.#counters, sent === length ? ICMP_SENT : ICMP_SUPPRESSED);
  }

  /** False at the end of the pipe. */
  #takeCommands(): boolean {
    const { wakeFd, commands } = this.#data;
    const length = this.#c.read(wakeFd, new Uint8Array(256), 256);
    if (length === 0) return false;
    for (let next = receiveMessageOnPort(commands); next !== undefined; next = receiveMessageOnPort(commands)) {
      const command = next.message as RouteCommand;
      if (command.command === 'remove') this.#routes.delete(command.network, command.length);
      else this.#routes.set(command.network, command.length, { address: command.address, port: command.port, trainsOffFor: 0 });
    }
    return true;
  }
}

function count(counters: Float64Array, index: number, by = 1): void {
  counters[index] = (counters[index] ?? 0) + by;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 64) * 64;
}

if (parentPort === null) throw new Error('proxy-worker runs only as the thread of a UdpProxy');
const data = workerData as ProxyWorkerData;
try {
  new Proxy(data).run();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  parentPort.postMessage(error.failure, []);
} finally {
  data.commands.close();
}
