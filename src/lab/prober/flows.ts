/**
 * Long-lived flows: a TCP connection or a UDP exchange that stays open, with either side sending when told to, or at a constant
 * rate, and both sides counting what arrives. What shows whether a live flow was cut, and in which direction.
 */
import { LabError } from '../errors.ts';
import { EAGAIN, EPOLLIN, EPOLLOUT, MSG_NOSIGNAL, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, SO_ERROR, errnoName, int32, libc } from '../libc.ts';
import { type Means, clientSocket } from './attempts.ts';
import type { Timer } from './loop.ts';
import type { FlowCounts, FlowRequest, FlowSide } from './protocol.ts';
import { FLOW_MESSAGE_LENGTH, type FlowListener, type SendToClient, writeFlowMessage } from './servers.ts';
import { receive, socketAddress } from './sockets.ts';

const RESEND_MS = 200;

interface Flow {
  readonly id: number;
  readonly fd: number;
  readonly sent: Record<FlowSide, number>;
  readonly received: Record<FlowSide, number>;
  /** What the client has read of a message that is not whole yet: TCP divides where it likes. */
  partBytes: number;
  readonly timers: Timer[];
  sendToClient: SendToClient | undefined;
  answeredBy: string;
  broken: string | undefined;
  /** Called when the server has answered the first message, and on an error before that. */
  opened: ((error?: string) => void) | undefined;
}

export class Flows implements FlowListener {
  readonly #flows = new Map<number, Flow>();
  #last = 0;

  /** `done` gets the flow's number once both ends know of each other. */
  open(means: Means, request: FlowRequest, done: (result: number | LabError) => void): void {
    const tcp = request.protocol === 'TCP';
    const fd = clientSocket(means, request, tcp ? SOCK_STREAM : SOCK_DGRAM);
    const flow: Flow = {
      id: ++this.#last,
      fd,
      sent: { client: 0, server: 0 },
      received: { client: 0, server: 0 },
      partBytes: 0,
      timers: [],
      sendToClient: undefined,
      answeredBy: '',
      broken: undefined,
      opened: undefined,
    };
    this.#flows.set(flow.id, flow);
    const timers: Timer[] = [];
    flow.opened = (error) => {
      flow.opened = undefined;
      for (const timer of timers) timer.cancel();
      if (error === undefined) {
        done(flow.id);
        return;
      }
      this.close(means, flow.id);
      done(new LabError('LAB_PROBER', `opening a ${request.protocol} flow to port ${request.port}: ${error}`));
    };
    timers.push(means.loop.after(request.timeoutMs, () => flow.opened?.('no answer')));

    const to = socketAddress(request.destination, request.port);
    const errno = libc().connect(fd, to, to.length) === 0 ? 0 : libc().errno();
    let connecting = tcp;
    means.loop.watch(fd, tcp ? EPOLLIN | EPOLLOUT : EPOLLIN, () => {
      if (connecting) {
        const error = int32(0);
        libc().getsockopt(fd, SOL_SOCKET, SO_ERROR, error, int32(4));
        const code = new DataView(error.buffer).getInt32(0, true);
        if (code !== 0) {
          flow.opened?.(errnoName(code));
          return;
        }
        connecting = false;
        means.loop.change(fd, EPOLLIN);
        this.#send(flow, 'client');
      }
      this.#clientReadable(means, flow, tcp);
    });
    if (!tcp && errno === 0) {
      // The first message may be lost on the way, as any datagram.
      this.#send(flow, 'client');
      timers.push(means.loop.every(RESEND_MS, () => this.#send(flow, 'client')));
    }
  }

  #clientReadable(means: Means, flow: Flow, tcp: boolean): void {
    const data = receive(flow.fd);
    if (data === EAGAIN) return;
    if (typeof data === 'number' || (tcp && data.length === 0)) {
      flow.broken ??= typeof data === 'number' ? errnoName(data) : 'closed';
      // A UDP socket reports an error once and goes on; a TCP socket would report its end for ever.
      if (tcp) means.loop.unwatch(flow.fd);
      flow.opened?.(flow.broken);
      return;
    }
    let { length } = data;
    if (tcp && flow.answeredBy === '') {
      const newline = data.indexOf(0x0a);
      flow.answeredBy = Buffer.from(data.subarray(0, newline)).toString();
      length -= newline + 1;
    }
    length += flow.partBytes;
    flow.partBytes = length % FLOW_MESSAGE_LENGTH;
    flow.received.client += (length - flow.partBytes) / FLOW_MESSAGE_LENGTH;
    if (flow.received.client > 0) flow.opened?.();
  }

  arrived(id: number, messages: number, serverName: string, send: SendToClient): void {
    const flow = this.#flows.get(id);
    if (flow === undefined) return;
    flow.received.server += messages;
    flow.sendToClient = send;
    if (flow.answeredBy === '') flow.answeredBy = serverName;
    if (flow.opened !== undefined) this.#send(flow, 'server');
  }

  broken(id: number, reason: string): void {
    const flow = this.#flows.get(id);
    if (flow === undefined) return;
    flow.sendToClient = undefined;
    flow.broken ??= `server's end: ${reason}`;
  }

  #send(flow: Flow, from: FlowSide): void {
    const message = writeFlowMessage({ flow: flow.id, sequence: flow.sent[from] });
    const taken =
      from === 'client'
        ? libc().send(flow.fd, message, message.length, MSG_NOSIGNAL) === message.length
        : flow.sendToClient?.(message) === true;
    if (taken) flow.sent[from]++;
  }

  #flow(id: number): Flow {
    const flow = this.#flows.get(id);
    if (flow === undefined) throw new LabError('LAB_PROBER', `flow ${id} is closed`);
    return flow;
  }

  /** @param everyMs undefined: once */
  send(means: Means, id: number, from: FlowSide, everyMs: number | undefined): void {
    const flow = this.#flow(id);
    if (everyMs === undefined) this.#send(flow, from);
    else flow.timers.push(means.loop.every(everyMs, () => this.#send(flow, from)));
  }

  /** Neither side sends any more. */
  stop(id: number): void {
    for (const timer of this.#flow(id).timers.splice(0)) timer.cancel();
  }

  counts(id: number): FlowCounts {
    const { sent, received, answeredBy, broken } = this.#flow(id);
    return {
      client: { sent: sent.client, received: received.client },
      server: { sent: sent.server, received: received.server },
      answeredBy,
      ...(broken === undefined ? {} : { broken }),
    };
  }

  close(means: Means, id: number): FlowCounts {
    const counts = this.counts(id);
    this.stop(id);
    const flow = this.#flow(id);
    means.loop.unwatch(flow.fd);
    libc().close(flow.fd);
    this.#flows.delete(id);
    return counts;
  }

  closeAll(means: Means): void {
    for (const id of this.#flows.keys()) this.close(means, id);
  }
}
