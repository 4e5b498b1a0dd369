/** Events of the connection tracking table: flows that begin, change and end. */
import type { Message } from '../netlink/attributes.ts';
import type { NetlinkError } from '../netlink/errors.ts';
import { NETLINK_NETFILTER, NetlinkSocket, NLM_F_CREATE } from '../netlink/socket.ts';
import { listen } from '../poller/listen.ts';
import type { Poller } from '../poller/poller.ts';
import { CT_DELETE, CT_NEW, NFNLGRP_CONNTRACK_DESTROY, NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE } from './attributes.ts';
import { type Flow, readFlow } from './flow.ts';

export type FlowEventKind = 'new' | 'update' | 'destroy';

export type FlowEvent =
  | { readonly event: FlowEventKind; readonly flow: Flow }
  /** Events were lost. */
  | { readonly event: 'overrun'; readonly cause: NetlinkError };

export interface ConntrackEventsOptions {
  readonly poller: Poller;
  readonly onEvent: (event: FlowEvent) => void;
  /** All unless told. */
  readonly events?: readonly FlowEventKind[];
  /** The size of the kernel's receive buffer, 4 MiB unless told, as far as it is granted. */
  readonly receiveBytes?: number;
}

const GROUPS: Readonly<Record<FlowEventKind, number>> = {
  new: NFNLGRP_CONNTRACK_NEW,
  update: NFNLGRP_CONNTRACK_UPDATE,
  destroy: NFNLGRP_CONNTRACK_DESTROY,
};

/** Reads one message of these groups; undefined where it is none of IPv4 or IPv6. @throws MalformedError */
export function readFlowEvent(message: Message): { readonly event: FlowEventKind; readonly flow: Flow } | undefined {
  if (message.type !== CT_NEW && message.type !== CT_DELETE) return undefined;
  const flow = readFlow(message.payload);
  if (flow === undefined) return undefined;
  if (message.type === CT_DELETE) return { event: 'destroy', flow };
  return { event: (message.flags & NLM_F_CREATE) === 0 ? 'update' : 'new', flow };
}

export class ConntrackEvents {
  readonly #socket: NetlinkSocket;
  readonly #stop: () => void;

  private constructor(socket: NetlinkSocket, options: ConntrackEventsOptions) {
    const { poller, onEvent } = options;
    this.#socket = socket;
    this.#stop = listen(poller, socket, {
      message: (message) => {
        const event = readFlowEvent(message);
        if (event !== undefined) onEvent(event);
      },
      lost: (cause) => onEvent({ event: 'overrun', cause }),
    });
  }

  /**
   * Listens from now on, in this thread's network namespace. A flow that began before anybody listened tells nothing, not even
   * its end, unless net.netfilter.nf_conntrack_events is 1 (its default, 2, is "when somebody listens").
   *
   * @throws KernelError EPERM without CAP_NET_ADMIN
   */
  static open(options: ConntrackEventsOptions): ConntrackEvents {
    const socket = NetlinkSocket.open(NETLINK_NETFILTER, { receiveBytes: options.receiveBytes ?? 4 << 20 });
    try {
      for (const event of new Set(options.events ?? (['new', 'update', 'destroy'] as const))) socket.join(GROUPS[event]);
    } catch (error) {
      socket.close();
      throw error;
    }
    return new ConntrackEvents(socket, options);
  }

  /** No event comes after this. */
  close(): void {
    this.#stop();
    this.#socket.close();
  }
}
