/**
 * The data path of flannel's `udp` backend: IPv4 packets of a TUN device, each as the payload of a UDP datagram to the node whose
 * subnet it is for, and back. A thread carries them (proxy-worker.ts); here it is started, told of routes, and ended.
 *
 * Who sends a datagram is not looked at, just as flanneld does not: a node sends from the address of its interface, while its lease
 * tells the address that others reach it by, and behind a NAT, with several interfaces, or with a public address that somebody has
 * set, the two differ. So whoever reaches the port can put packets with any source into the network; as with flanneld, it is for the
 * underlay's firewall to let only nodes reach it.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { SluiceError } from '../../errors.ts';
import { formatAddress, formatPrefix, type IPv4, type Prefix } from '../../policy/address.ts';
import {
  AF_INET,
  EADDRINUSE,
  EADDRNOTAVAIL,
  errnoName,
  int32,
  IPPROTO_RAW,
  IPPROTO_UDP,
  libc,
  O_CLOEXEC,
  O_NONBLOCK,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  socketAddress,
  SOL_SOCKET,
} from './libc.ts';
import { UDP_GRO, UDP_SEGMENT } from './messages.ts';
import { COUNTERS, type CounterName, LAST_SEND_ERROR, type ProxyFailure, type ProxyWorkerData, type RouteCommand } from './protocol.ts';

/**
 * What the socket may hold of datagrams that are not read yet: some milliseconds of a fast network. The kernel's default, 0.2 MB, holds
 * three trains of packets. That of datagrams to be sent stays as it is: what waits there only makes the tunnel slow to answer.
 */
const RECEIVE_BYTES = 4 << 20;

export interface UdpProxyOptions {
  /** Of a TUN device without headers, not blocking ({@link openTun}). The proxy closes it, unless {@link UdpProxy.start} throws. */
  readonly tunFd: number;
  /** Of this node's interface to the underlay: datagrams are received at and sent from it. */
  readonly address: IPv4;
  readonly port: number;
  /** Source of ICMP errors: the device's address. */
  readonly tunAddress: IPv4;
  /** The device's, bytes: longer packets are dropped. */
  readonly mtu: number;
  /** The thread has ended, and no packet passes any more; said once. A SluiceError `UDP_PROXY`, or a defect. */
  readonly onError: (error: unknown) => void;
}

export interface UdpProxyCounters extends Readonly<Record<CounterName, number>> {
  /** Why sending failed last, as in `ENETUNREACH`; undefined: it never has. */
  readonly lastSendError: string | undefined;
}

/** What is to be closed when the process exits: the thread would otherwise be waited for without end. */
const openPipes = new Set<number>();

function closePipe(fd: number): void {
  if (openPipes.delete(fd)) libc().close(fd);
}

/** One listener serves all proxies of the process. */
let closesPipesAtExit = false;

function closePipesAtExit(): void {
  if (closesPipesAtExit) return;
  closesPipesAtExit = true;
  process.on('exit', () => {
    for (const fd of openPipes) closePipe(fd);
  });
}

/** Descriptors that are closed together. */
class Descriptors {
  readonly #fds: number[] = [];

  add(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  close(): void {
    for (const fd of this.#fds.splice(0)) libc().close(fd);
  }
}

export class UdpProxy {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #descriptors: Descriptors;
  readonly #wake: number;
  readonly #commands: MessagePort;
  readonly #counters: Float64Array;
  #closing = false;

  private constructor(options: UdpProxyOptions, descriptors: Descriptors, wake: number, data: ProxyWorkerData, commands: MessagePort) {
    this.#descriptors = descriptors;
    this.#wake = wake;
    this.#commands = commands;
    this.#counters = new Float64Array(data.counters);
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./proxy-worker.${extension}`, import.meta.url), {
      workerData: data,
      transferList: [data.commands],
      name: 'udp-proxy',
      // Flags of the program are not the thread's: some of them (--input-type, --test) make a thread refuse to start.
      execArgv: [],
    });
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => resolve());
    });
    let told = false;
    const fail = (error: unknown): void => {
      if (!told && !this.#closing) options.onError(error);
      told = true;
    };
    this.#worker.on('error', fail);
    this.#worker.on('message', ({ doing, errno }: ProxyFailure) => {
      const fault = errno === 0 ? doing : `${doing}: ${errnoName(errno)}`;
      fail(
        new SluiceError('UDP_PROXY', `carrying packets of the udp backend: ${fault}`, {
          hint: 'If somebody has deleted the device (`ip -d link`), it has to be made anew, and a proxy for it.',
        }),
      );
    });
    this.#worker.unref();
  }

  /**
   * Starts to carry packets. The UDP socket is made here, so it is one of the network namespace that the calling thread is in.
   *
   * @throws SluiceError `UDP_SOCKET`
   */
  static start(options: UdpProxyOptions): UdpProxy {
    const descriptors = new Descriptors();
    try {
      const socketFd = descriptors.add(openSocket(options.address, options.port));
      const segmentation = setOption(socketFd, IPPROTO_UDP, UDP_SEGMENT, 0);
      const coalescing = setOption(socketFd, IPPROTO_UDP, UDP_GRO, 1);
      const icmpFd = libc().socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
      if (icmpFd >= 0) descriptors.add(icmpFd);
      const [wakeFd, wake] = makePipe();
      descriptors.add(wakeFd);
      const { port1: commands, port2 } = new MessageChannel();
      const data: ProxyWorkerData = {
        tunFd: options.tunFd,
        socketFd,
        icmpFd: icmpFd < 0 ? undefined : icmpFd,
        wakeFd,
        commands: port2,
        tunAddress: options.tunAddress,
        mtu: options.mtu,
        segmentation,
        coalescing,
        counters: new SharedArrayBuffer((COUNTERS.length + 1) * Float64Array.BYTES_PER_ELEMENT),
      };
      const proxy = new UdpProxy(options, descriptors, wake, data, commands);
      descriptors.add(options.tunFd);
      return proxy;
    } catch (error) {
      descriptors.close();
      throw error;
    }
  }

  /** Packets to the subnet go there from now on; where there was another next hop for it, no longer to that. */
  setRoute(subnet: Prefix, nextHop: { readonly address: IPv4; readonly port: number }): void {
    this.#command({ command: 'set', network: networkOf(subnet), length: subnet.length, address: nextHop.address, port: nextHop.port });
  }

  /** Packets to the subnet are answered with "network unreachable" from now on. It may be one without a route. */
  removeRoute(subnet: Prefix): void {
    this.#command({ command: 'remove', network: networkOf(subnet), length: subnet.length });
  }

  #command(command: RouteCommand): void {
    this.#commands.postMessage(command, []);
    // A pipe that is full will wake it too.
    if (openPipes.has(this.#wake)) libc().write(this.#wake, WAKE, WAKE.length);
  }

  /** Since the start. They are written by the thread while they are read, so they need not fit each other. */
  counters(): UdpProxyCounters {
    const errno = this.#counters[LAST_SEND_ERROR] ?? 0;
    const counts = Object.fromEntries(COUNTERS.map((name, index) => [name, this.#counters[index] ?? 0])) as Record<CounterName, number>;
    return { ...counts, lastSendError: errno === 0 ? undefined : errnoName(errno) };
  }

  /** Ends the thread, and closes the socket and the device. */
  async close(): Promise<void> {
    this.#closing = true;
    closePipe(this.#wake);
    // Nothing else may keep the process alive for so long.
    this.#worker.ref();
    await this.#ended;
    this.#commands.close();
    this.#descriptors.close();
  }
}

const WAKE = Uint8Array.of(1);

function networkOf(subnet: Prefix): number {
  if (typeof subnet.address === 'number') return subnet.address;
  throw new SluiceError('UDP_ROUTE', `adding a route to ${formatPrefix(subnet)}: the udp backend carries IPv4 alone`);
}

function openSocket(address: IPv4, port: number): number {
  const c = libc();
  const doing = `opening UDP port ${port} at ${formatAddress(address)}`;
  const fd = c.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw socketError(doing, c.errno());
  const name = socketAddress(address, port);
  if (c.bind(fd, name, name.length) < 0) {
    const errno = c.errno();
    c.close(fd);
    throw socketError(doing, errno);
  }
  // Without CAP_NET_ADMIN in the first user namespace only up to net.core.rmem_max.
  if (!setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)) setOption(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
  return fd;
}

function socketError(doing: string, errno: number): SluiceError {
  return new SluiceError('UDP_SOCKET', `${doing}: ${errnoName(errno)}`, { hint: SOCKET_HINTS[errno] });
}

const SOCKET_HINTS: Readonly<Record<number, string>> = {
  [EADDRINUSE]: 'Another program has this port: stop the other daemon (flanneld?) of this node.',
  [EADDRNOTAVAIL]: 'The address has to be one of this node: look with `ip address`.',
};

function setOption(fd: number, level: number, option: number, value: number): boolean {
  return libc().setsockopt(fd, level, option, int32(value), 4) === 0;
}

/** Its ends: to read, to write. Neither blocks. */
function makePipe(): [number, number] {
  const ends = new Int32Array(2);
  if (libc().pipe2(new Uint8Array(ends.buffer), O_CLOEXEC | O_NONBLOCK) < 0) throw socketError('making a pipe', libc().errno());
  const [read = -1, write = -1] = ends;
  closePipesAtExit();
  openPipes.add(write);
  return [read, write];
}
