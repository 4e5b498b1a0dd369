/** What the policy code throws: only ever for a caller's mistake or for a spec that is no object, never for an object that is merely wrong. */
import type { Problem } from './objects.ts';

export type PolicyErrorCode =
  /** A number that is no address. */
  | 'ADDRESS_RANGE'
  /** Bytes of an address that are neither 4 nor 16. */
  | 'ADDRESS_LENGTH'
  /** A question whose source and destination are of different families. */
  | 'MIXED_FAMILIES'
  /** A question about TCP, UDP or SCTP without a port from 0 to 65535. */
  | 'PORT_INVALID'
  /** A spec that is no object: {@link SpecUnreadableError}. */
  | 'SPEC_UNREADABLE';

export class PolicyError extends Error {
  readonly code: PolicyErrorCode;

  constructor(code: PolicyErrorCode, message: string) {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}

/** There is nothing to interpret: whoever holds the last good version of the policy keeps it, and reports {@link problem}. */
export class SpecUnreadableError extends PolicyError {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super('SPEC_UNREADABLE', `${problem.path}: ${problem.message}`);
    this.problem = problem;
  }
}
