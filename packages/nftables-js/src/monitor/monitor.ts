/**
 * Listens for changes of the ruleset by anyone in this network namespace, this process included (its own are told apart by
 * their port). What a commit changed comes before its generation.
 */
import type { Message } from '../netlink/attributes.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from '../netlink/socket.ts';
import { listen } from '../poller/listen.ts';
import type { Poller } from '../poller/poller.ts';
import { headOfChange, type MonitorEvent, type RulesetChange, readMonitorMessage, sameChange } from './change.ts';

const NFNLGRP_NFTABLES = 7;

export interface MonitorOptions {
  readonly poller: Poller;
  readonly onEvent: (event: MonitorEvent) => void;
  /**
   * The size of the kernel's receive buffer, 4 MiB unless told. One commit of 100,000 elements is about 100 times the default of
   * most systems; an overrun is reported, and costs a full comparison. Without CAP_NET_ADMIN in the first user namespace the
   * kernel grants no more than net.core.rmem_max.
   */
  readonly receiveBytes?: number;
}

interface Pending {
  readonly change: RulesetChange;
  readonly type: number;
  readonly port: number;
  readonly head: Uint8Array;
  count: number;
}

export class Monitor {
  readonly #socket: NetlinkSocket;
  readonly #onEvent: (event: MonitorEvent) => void;
  readonly #stop: () => void;
  /** The last change, while others of its kind may follow. No change is the last for long: a generation or a loss closes each commit. */
  #pending: Pending | undefined;

  private constructor(socket: NetlinkSocket, options: MonitorOptions) {
    this.#socket = socket;
    this.#onEvent = options.onEvent;
    this.#stop = listen(options.poller, socket, {
      message: (message) => this.#read(message),
      lost: (cause) => {
        this.#flush();
        this.#onEvent({ event: 'overrun', cause });
      },
    });
  }

  /**
   * Listens from now on, in this thread's network namespace.
   * @throws KernelError EPERM without CAP_NET_ADMIN
   */
  static open(options: MonitorOptions): Monitor {
    const socket = NetlinkSocket.open(NETLINK_NETFILTER, { receiveBytes: options.receiveBytes ?? 4 << 20 });
    try {
      socket.join(NFNLGRP_NFTABLES);
    } catch (error) {
      socket.close();
      throw error;
    }
    return new Monitor(socket, options);
  }

  /** No event comes after this. */
  close(): void {
    this.#pending = undefined;
    this.#stop();
    this.#socket.close();
  }

  #read(message: Message): void {
    if (this.#pending !== undefined && sameChange(message, this.#pending)) {
      this.#pending.count++;
      return;
    }
    this.#flush();
    const event = readMonitorMessage(message);
    if (event === undefined) return;
    const head = event.event === 'change' ? headOfChange(message.payload) : undefined;
    if (event.event === 'generation' || head === undefined) this.#onEvent(event);
    else this.#pending = { change: event, type: message.type, port: message.port, head, count: 1 };
  }

  #flush(): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    this.#onEvent({ ...pending.change, count: pending.count });
  }
}
