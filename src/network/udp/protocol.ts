/** What the main thread and the thread of a `UdpProxy` say to each other. */
import type { MessagePort } from 'node:worker_threads';

/** What the thread is started with. Descriptors are of the whole process, and the thread closes none. */
export interface ProxyWorkerData {
  readonly tunFd: number;
  readonly socketFd: number;
  /** Raw, for ICMP errors; undefined where the process may have none. */
  readonly icmpFd: number | undefined;
  /** The read end of a pipe: a byte says that commands are waiting, its end that the thread is to end. */
  readonly wakeFd: number;
  readonly commands: MessagePort;
  readonly tunAddress: number;
  readonly mtu: number;
  /** Whether the kernel has UDP_SEGMENT, and whether UDP_GRO is on. */
  readonly segmentation: boolean;
  readonly coalescing: boolean;
  /** A Float64 for each of {@link COUNTERS}, in this order, then one for the last error of sending. */
  readonly counters: SharedArrayBuffer;
}

export type RouteCommand =
  | { readonly command: 'set'; readonly network: number; readonly length: number; readonly address: number; readonly port: number }
  | { readonly command: 'remove'; readonly network: number; readonly length: number };

/** Why the thread has ended by itself. */
export interface ProxyFailure {
  readonly doing: string;
  readonly errno: number;
}

/** What is counted, in packets unless its name says otherwise. */
export const COUNTERS = [
  /** From the device to peers, without the headers of the tunnel. */
  'sentPackets',
  'sentBytes',
  /** From peers to the device. */
  'receivedPackets',
  'receivedBytes',
  /** From the device, and of no peer's subnet. */
  'noRoute',
  /** Their time to live was over. */
  'timeExceeded',
  /** Not IPv4, in either direction: the kernel sends IPv6 of its own out of every device. */
  'notIPv4',
  /** Of version 4, with a header that cannot be; or shorter than one. */
  'malformed',
  /** Longer than the MTU. */
  'oversized',
  /** Refused by the kernel on the way to a peer (no route there, forbidden by a rule …), or by the device. */
  'sendErrors',
  'deviceErrors',
  /** ICMP errors sent, and those that were due and not sent because there were too many. */
  'icmpSent',
  'icmpSuppressed',
] as const;
export type CounterName = (typeof COUNTERS)[number];

/** Index of a counter. */
export function counterIndex(name: CounterName): number {
  return COUNTERS.indexOf(name);
}

/** Index of the errno of the last error of sending; 0: there was none. */
export const LAST_SEND_ERROR = COUNTERS.length;
