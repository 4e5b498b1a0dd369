/**
 * Errors that a person is meant to read: the program prints their message, and a hint where there is one, without a stack.
 * Everything else that is thrown is a defect, and is printed with its stack.
 */
export interface SluiceErrorOptions {
  /** What to do next, as a sentence. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
  /** 1: it failed or found something; 2: it was called wrongly. */
  readonly exitStatus?: 1 | 2;
}

export class SluiceError extends Error {
  /** Stable, for programs: `SOURCE_DIRECTORY_MISSING`. */
  readonly code: string;
  readonly hint: string | undefined;
  readonly exitStatus: 1 | 2;

  /** `message` says what was being done to what, and what was wrong. */
  constructor(code: string, message: string, { hint, cause, exitStatus = 1 }: SluiceErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SluiceError';
    this.code = code;
    this.hint = hint;
    this.exitStatus = exitStatus;
  }
}

/** The `code` of a system error (`ENOENT`), where there is one. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
