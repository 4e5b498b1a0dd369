/**
 * One probe: a real connection, request or INIT from an address to another, from a source port of its own. An attempt ends once,
 * by an answer or by an error; what it is waiting for, and how long, is its owner's business.
 */
import { randomInt } from 'node:crypto';
import { familyOf, formatAddress } from '../../policy/address.ts';
import {
  EAGAIN,
  ECONNREFUSED,
  EINPROGRESS,
  EPOLLIN,
  EPOLLOUT,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_ERROR,
  errnoName,
  int32,
  libc,
} from '../libc.ts';
import type { Loop } from './loop.ts';
import { writeEcho, writeSctp } from './packets.ts';
import type { ProbeRequest } from './protocol.ts';
import { NONCE_LENGTH, PROBE, type Servers, type Station } from './servers.ts';
import { type Namespaces, type SourcePorts, receive, socketAddress } from './sockets.ts';
import { LabError } from '../errors.ts';

/** `by` is the name that answered; ICMP has none. */
export type Outcome = { readonly kind: 'answered'; readonly by?: string } | { readonly kind: 'failed'; readonly detail: string };

export interface Attempt {
  /** Sends once more what may have been lost. TCP does that by itself. */
  resend(): void;
  /** Gives up, or cleans up after the end. */
  close(): void;
}

/** What attempts are made with. */
export interface Means {
  readonly loop: Loop;
  readonly namespaces: Namespaces;
  readonly sourcePorts: SourcePorts;
  readonly servers: Servers;
}

export type ProbeTarget = Pick<ProbeRequest, 'netns' | 'source' | 'destination' | 'port' | 'protocol'>;

/**
 * Sends the first packet. `ended` is called at most once, never before this has returned.
 *
 * @throws LabError `LAB_SYSCALL` where there is no socket to be had, `LAB_PROBER` where nobody has the source address
 */
export function startAttempt(means: Means, target: ProbeTarget, ended: (outcome: Outcome) => void): Attempt {
  switch (target.protocol) {
    case 'TCP':
      return tcp(means, target, ended);
    case 'UDP':
      return udp(means, target, ended);
    case 'SCTP':
      return sctp(means, target, ended);
    case 'ICMP':
      return icmp(means, target, ended);
  }
}

function failed(errno: number): Outcome {
  return { kind: 'failed', detail: errnoName(errno) };
}

/** A socket of the source, bound to a port of its own. */
export function clientSocket(means: Means, target: ProbeTarget, type: number): number {
  const fd = means.namespaces.socket(target.netns, target.source, type, 0);
  try {
    means.sourcePorts.bind(fd, `${target.netns} ${target.source} ${target.protocol}`, target.source, `in ${target.netns}`);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
  return fd;
}

/** Allowed is only what gets an answer: a handshake alone could be had from a proxy, or by accident. */
function tcp(means: Means, target: ProbeTarget, ended: (outcome: Outcome) => void): Attempt {
  const fd = clientSocket(means, target, SOCK_STREAM);
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    means.loop.unwatch(fd);
    libc().close(fd);
  };
  const end = (outcome: Outcome): void => {
    close();
    ended(outcome);
  };
  let connected = false;
  let line = '';
  const to = socketAddress(target.destination, target.port);
  const errno = libc().connect(fd, to, to.length) === 0 ? 0 : libc().errno();
  means.loop.watch(fd, EPOLLIN | EPOLLOUT, () => {
    if (!connected) {
      const error = int32(0);
      libc().getsockopt(fd, SOL_SOCKET, SO_ERROR, error, int32(4));
      const code = new DataView(error.buffer).getInt32(0, true);
      if (code !== 0) {
        end(failed(code));
        return;
      }
      connected = true;
      means.loop.change(fd, EPOLLIN);
    }
    const data = receive(fd);
    if (data === EAGAIN) return;
    if (typeof data === 'number') end(failed(data));
    else if (data.length === 0) end({ kind: 'failed', detail: 'closed without an answer' });
    else {
      line += Buffer.from(data).toString();
      if (line.includes('\n')) end({ kind: 'answered', by: line.slice(0, line.indexOf('\n')) });
    }
  });
  if (errno !== 0 && errno !== EINPROGRESS) endSoon(means, () => open && end(failed(errno)));
  return { resend: () => undefined, close };
}

/** So that an attempt never ends before its owner knows it. */
function endSoon(means: Means, action: () => void): void {
  means.loop.after(0, action);
}

function udp(means: Means, target: ProbeTarget, ended: (outcome: Outcome) => void): Attempt {
  const fd = clientSocket(means, target, SOCK_DGRAM);
  let open = true;
  const close = (): void => {
    if (!open) return;
    open = false;
    means.loop.unwatch(fd);
    libc().close(fd);
  };
  const end = (outcome: Outcome): void => {
    close();
    ended(outcome);
  };
  const request = new Uint8Array(1 + NONCE_LENGTH);
  request[0] = PROBE;
  new DataView(request.buffer).setUint32(1, randomInt(2 ** 32));
  new DataView(request.buffer).setUint32(5, randomInt(2 ** 32));
  const to = socketAddress(target.destination, target.port);
  const errno = libc().connect(fd, to, to.length) === 0 ? 0 : libc().errno();
  means.loop.watch(fd, EPOLLIN, () => {
    const data = receive(fd);
    if (data === EAGAIN) return;
    if (typeof data === 'number') end(failed(data));
    else if (Buffer.compare(data.subarray(0, request.length), request) === 0) {
      end({ kind: 'answered', by: Buffer.from(data.subarray(request.length)).toString() });
    }
  });
  const resend = (): void => {
    // Refused at once (EPERM: dropped on the way out) may be otherwise the next time; an unreachable port stays one.
    if (open && libc().send(fd, request, request.length, 0) < 0 && libc().errno() === ECONNREFUSED)
      endSoon(means, () => open && end(failed(ECONNREFUSED)));
  };
  if (errno === 0) resend();
  else endSoon(means, () => open && end(failed(errno)));
  return { resend, close };
}

function sourceStation(means: Means, target: ProbeTarget): Station {
  const station = means.servers.station(target.netns, target.source);
  if (station !== undefined) return station;
  throw new LabError('LAB_PROBER', `no endpoint has the source address ${formatAddress(target.source)} in ${target.netns}`);
}

/** A raw socket is not connected; its address has no port. */
function sendRaw(fd: number, bytes: Uint8Array, target: ProbeTarget): void {
  const to = socketAddress(target.destination, 0);
  libc().sendto(fd, bytes, bytes.length, 0, to, to.length);
}

function sctp(means: Means, target: ProbeTarget, ended: (outcome: Outcome) => void): Attempt {
  const station = sourceStation(means, target);
  let sourcePort: number;
  do sourcePort = means.sourcePorts.take(`${target.netns} ${target.source} SCTP`);
  while (station.ports.has(sourcePort) || station.sctpWaiting.has(sourcePort));
  const tag = randomInt(1, 2 ** 32);
  const init = writeSctp({ kind: 'INIT', sourcePort, destinationPort: target.port, verificationTag: 0, initiateTag: tag, cookie: '' });
  const close = (): void => void station.sctpWaiting.delete(sourcePort);
  station.sctpWaiting.set(sourcePort, {
    tag,
    answered: (by) => {
      close();
      ended({ kind: 'answered', by });
    },
  });
  const resend = (): void => sendRaw(station.sctp, init, target);
  resend();
  return { resend, close };
}

let echoes = randomInt(2 ** 16);

function icmp(means: Means, target: ProbeTarget, ended: (outcome: Outcome) => void): Attempt {
  const station = sourceStation(means, target);
  // An identifier of its own, as a source port would be: each is a connection of its own to connection tracking.
  echoes = (echoes + 1) & 0xffff;
  const identifier = echoes;
  const keys: number[] = [];
  const close = (): void => {
    for (const key of keys) station.echoWaiting.delete(key);
  };
  const resend = (): void => {
    const sequence = keys.length + 1;
    const key = identifier * 65536 + sequence;
    keys.push(key);
    station.echoWaiting.set(key, () => {
      close();
      ended({ kind: 'answered' });
    });
    sendRaw(station.icmp, writeEcho(familyOf(target.destination), identifier, sequence), target);
  };
  resend();
  return { resend, close };
}
