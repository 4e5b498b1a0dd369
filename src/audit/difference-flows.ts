/** What a change of objects does to the live flows of a node: judged as the agent's sweep judges them, by the same function. */
import { Conntrack, type Flow, KernelError } from 'nftables-js';
import { cutBy, type FlowJudge, mayGoOn, questionOf } from '../enforcement/conntrack/flow-sweep.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import type { Question } from '../policy/evaluate.ts';

export interface FlowDifference {
  /** How many were looked at. */
  readonly judged: number;
  /** Those that go on now, and would be cut. */
  readonly cut: readonly Question[];
  /** Those that are cut, and would go on. */
  readonly restored: readonly Question[];
}

/** @param cutMark the agent's: which flows are cut now */
export function flowDifference(flows: Iterable<Flow>, before: FlowJudge, after: FlowJudge, cutMark: number): FlowDifference {
  let judged = 0;
  const [cut, restored]: [Question[], Question[]] = [[], []];
  for (const flow of flows) {
    judged++;
    const question = questionOf(flow);
    const goesOn = mayGoOn(question, after);
    const { labelled, marked } = cutBy(flow, cutMark);
    const isCut = labelled || marked;
    // A flow that the state of now forbids already is about to be cut whatever changes.
    if (!goesOn && !isCut && mayGoOn(question, before)) cut.push(question);
    if (goesOn && isCut) restored.push(question);
  }
  return { judged, cut, restored };
}

/** With the live flows of this kernel's network namespace. @throws SluiceError `FLOWS_UNREADABLE` */
export function withLiveFlows<T>(read: (flows: Iterable<Flow>) => T): T {
  try {
    const conntrack = Conntrack.open();
    try {
      return read(conntrack.flows());
    } finally {
      conntrack.close();
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const isForbidden = systemErrorCode(error) === 'EPERM';
    throw new SluiceError('FLOWS_UNREADABLE', isForbidden ? 'reading the flows of this kernel is not permitted' : error.message, {
      hint: 'CAP_NET_ADMIN is needed, in the network namespace of the node.',
      cause: error,
    });
  }
}
