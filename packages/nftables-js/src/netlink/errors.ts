import { errnoName } from './libc.ts';

/** Every error of this package is one of these; `code` is stable. */
export class NetlinkError extends Error {
  override readonly name: string = 'NetlinkError';
  /** `EPERM`, `ENOENT`, … where the kernel refused; `ERR_MALFORMED`, `ERR_INVALID`, `ERR_CLOSED`, … where this package did. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A system call failed, or the kernel answered a request with an error. */
export class KernelError extends NetlinkError {
  override readonly name: string = 'KernelError';
  readonly errno: number;
  /** What the kernel says of it (NLMSGERR_ATTR_MSG), where it says something. */
  readonly kernelMessage: string | undefined;

  /** @param doing what was being done to what, as in `adding chain inet/sluice/egress`. */
  constructor(errno: number, doing: string, kernelMessage?: string) {
    const reason = kernelMessage === undefined ? '' : ` (${kernelMessage})`;
    super(errnoName(errno), `${doing}: ${errnoName(errno)}${reason}`);
    this.errno = errno;
    this.kernelMessage = kernelMessage;
  }
}

/** Bytes from outside do not have the form they should have. The only error that decoders throw. */
export class MalformedError extends NetlinkError {
  override readonly name: string = 'MalformedError';

  constructor(message: string) {
    super('ERR_MALFORMED', message);
  }
}

/** The receive buffer of a socket ran over: messages were lost, and what they told of has to be read anew. */
export class OverrunError extends KernelError {
  override readonly name: string = 'OverrunError';

  constructor(doing: string) {
    super(105, doing);
  }
}
