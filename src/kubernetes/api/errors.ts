/** What can go wrong between the agent and the API server, so that whoever waits knows for how long, and what for. */

export type ApiErrorCode =
  /** No answer: refused, reset, timed out, no name, a certificate that does not verify. */
  | 'API_UNREACHABLE'
  /** An answer that says no: its HTTP status is in `status`. */
  | 'API_REFUSED'
  /** The version that a watch was to go on from is no longer kept: everything has to be listed again (HTTP 410). */
  | 'API_GONE'
  /** The server cannot stream lists (WatchList): pages do. */
  | 'API_NO_WATCH_LIST'
  /** Something came that is no answer of a Kubernetes API: truncated JSON, a line without an event. */
  | 'API_GARBLED'
  /** Nothing came for longer than a healthy connection is silent. */
  | 'API_SILENT';

export class ApiError extends Error {
  readonly code: ApiErrorCode;
  /** HTTP status, or that of a Status object in a stream. */
  readonly status: number | undefined;
  /** What the server asked for with Retry-After, ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ApiErrorCode,
    message: string,
    {
      status,
      retryAfterMs,
      cause,
    }: { readonly status?: number; readonly retryAfterMs?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ApiError';
    this.code = code;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Seconds, or a date, as HTTP has it (RFC 9110, section 10.2.3), in ms from now; undefined where it is neither. */
export function readRetryAfter(header: string | undefined, now: number = Date.now()): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
