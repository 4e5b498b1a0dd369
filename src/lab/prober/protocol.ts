/** What the lab's thread and the prober's thread say to each other. Everything is plain data (structured clone). */
import type { Address } from '../../policy/address.ts';

export type ProbeProtocol = 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
export type Measured = 'allowed' | 'denied';

/** Somebody who listens and from whom probes can be sent: a pod, a node, a host outside. */
export interface Endpoint {
  /** What it answers with. */
  readonly name: string;
  readonly netns: string;
  readonly addresses: readonly Address[];
  /** TCP, UDP and SCTP alike, on each address. */
  readonly ports: readonly number[];
}

export interface ProbeRequest {
  readonly netns: string;
  readonly source: Address;
  readonly destination: Address;
  /** 0 with ICMP. */
  readonly port: number;
  readonly protocol: ProbeProtocol;
  /** What is waited for: as long as it takes where `allowed`, for the grace time where not. Undefined: as long as it takes. */
  readonly expected: Measured | undefined;
}

export interface ProbeResult {
  readonly measured: Measured;
  /** Name of the endpoint that answered; with ICMP the kernel answers, and there is none. */
  readonly answeredBy?: string;
  /** From the first packet to the answer. */
  readonly latencyMs?: number;
  /** Why it was denied: `no answer`, `ECONNREFUSED`, `EHOSTUNREACH`, … */
  readonly detail?: string;
}

export interface BatchOptions {
  /** How long what is expected to be allowed may take. */
  readonly deadlineMs: number;
  /** How much longer the others are waited for, at least; four times the slowest answer if that is more. */
  readonly graceMs: number;
}

export interface FlowRequest {
  readonly netns: string;
  readonly source: Address;
  readonly destination: Address;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP';
  readonly timeoutMs: number;
}

export type FlowSide = 'client' | 'server';

export interface FlowCounts {
  readonly client: { readonly sent: number; readonly received: number };
  readonly server: { readonly sent: number; readonly received: number };
  /** Name of the endpoint at the other end. */
  readonly answeredBy: string;
  /** `ECONNRESET`, `closed`, … where an end noticed something. */
  readonly broken?: string;
}

export interface StreamRequest {
  readonly netns: string;
  readonly source: Address;
  readonly destination: Address;
  readonly port: number;
  readonly protocol: ProbeProtocol;
  readonly perSecond: number;
  /** When a probe without an answer counts as unanswered. */
  readonly timeoutMs: number;
}

export interface StreamCounts {
  readonly started: number;
  readonly answered: number;
  /** No answer within the timeout. */
  readonly unanswered: number;
  /** Refused, reset, unreachable: by errno name. */
  readonly failed: Readonly<Record<string, number>>;
  /** Started, and neither answered nor timed out yet. */
  readonly pending: number;
  readonly slowestMs: number;
}

/** Each operation: what goes in, what comes back. */
export interface Operations {
  addEndpoint: { readonly in: Endpoint; readonly out: undefined };
  removeEndpoint: { readonly in: { readonly name: string }; readonly out: undefined };
  probe: {
    readonly in: { readonly probes: readonly ProbeRequest[]; readonly options: BatchOptions };
    readonly out: readonly ProbeResult[];
  };
  openFlow: { readonly in: FlowRequest; readonly out: { readonly flow: number } };
  sendOnFlow: {
    readonly in: { readonly flow: number; readonly from: FlowSide; readonly everyMs: number | undefined };
    readonly out: undefined;
  };
  stopFlow: { readonly in: { readonly flow: number }; readonly out: undefined };
  countFlow: { readonly in: { readonly flow: number }; readonly out: FlowCounts };
  closeFlow: { readonly in: { readonly flow: number }; readonly out: FlowCounts };
  startStream: { readonly in: StreamRequest; readonly out: { readonly stream: number } };
  countStream: { readonly in: { readonly stream: number }; readonly out: StreamCounts };
  stopStream: { readonly in: { readonly stream: number }; readonly out: StreamCounts };
  close: { readonly in: undefined; readonly out: undefined };
}

export type OperationName = keyof Operations;
export type Input<Name extends OperationName> = Operations[Name]['in'];
export type Result<Name extends OperationName> = Operations[Name]['out'];

export type Request = {
  readonly [Name in OperationName]: { readonly id: number; readonly operation: Name; readonly input: Input<Name> };
}[OperationName];

export type Reply =
  | { readonly id: number; readonly ok: true; readonly result: Result<OperationName> }
  | { readonly id: number; readonly ok: false; readonly code: string; readonly message: string };
