/**
 * The one table of codes. Native code reports numbers (`enum coroipc_status_code`); here each gets its
 * public code `ERR_COROIPC_<NAME>`, one meaning and one message. `docs/reference/errors.md` is compared
 * with this table by a test.
 */
import { inspect, getSystemErrorName } from 'node:util'
import { abiVersion, Status } from './abi.generated.js'

/** A status that is an error: OK is none, and AGAIN never leaves the native loop. */
export type StatusName = Exclude<keyof typeof Status, 'OK' | 'AGAIN'>

/** What {@link IpcError.code} can be. */
export type ErrorCode = `ERR_COROIPC_${StatusName}`

/** What is known beyond the status. */
export interface ErrorDetails {
  /** What it happened to ("request 3 of service 7"); stands before the message. */
  subject?: string | undefined
  /** As in C: positive. After SYSTEM and NO_MEMORY. */
  errno?: number | undefined
  syscall?: string | undefined
  cause?: unknown
  /** ABI version of the peer, after VERSION. */
  peerVersion?: number | undefined
  /** The application's own status that came with an answer. */
  applicationStatus?: number | undefined
  /** False: it is known that nothing of the request was sent. */
  sent?: false | undefined
}

/** Message of each status. `{}` is filled in from the details where there is something to say. */
const messages: Record<StatusName, string | ((details: ErrorDetails) => string)> = {
  INVALID_ARGUMENT: 'an argument is invalid; nothing was sent',
  SYSTEM: (details) => `a system call failed${systemCall(details)}`,
  NO_MEMORY: (details) => `memory, file descriptors or address space ran out${systemCall(details)}`,
  CONNECT_REFUSED: 'no server listens under this name',
  DENIED: 'the server refused this process, or is not the server that was demanded',
  LIMIT: 'a configured limit is reached',
  NO_SERVICE: 'the server does not offer this service',
  VERSION: ({ peerVersion }) =>
    `the peer speaks ABI version ${peerVersion ?? 'unknown'}, this package ${abiVersion}`,
  PROTOCOL: 'the peer broke the protocol; the connection is closed',
  PEER_DEAD: "the peer's process is gone; nothing was handed over to it",
  DISCONNECTED: 'the connection is closed',
  UNKNOWN_OUTCOME:
    'the peer went away before it answered; whether it executed the request is not known',
  TIMED_OUT: 'nothing came in time',
  ABORTED: 'aborted by the caller',
  FULL: 'there is no room now; nothing was queued',
  TOO_LARGE: 'the message is larger than the negotiated maximum, or than the buffer given',
  LEASE_HELD: 'an earlier message is still leased and stands in the way; dispose of it first',
  FORKED: "a forked child cannot use its parent's connection",
  NO_HANDLER: 'the service has no handler for this id',
  HANDLER_FAILED: 'the handler threw',
  HANDLER_REJECTED: "the handler's promise was rejected",
  HANDLER_ASYNC: 'the handler returned a promise where none can settle (a blocking loop)',
  ANSWER_INVALID: 'the handler answered neither bytes nor a list of bytes',
  ANSWER_TOO_LARGE: "the handler's answer is larger than the negotiated maximum",
  RETRY: 'the server cannot take this now; try again later',
  REFUSED: 'the server will not take this',
  DEADLOCK: 'a blocking call to a server in the same thread can never be answered',
  ADDRESS_IN_USE:
    'the name is taken: another server listens under it, or something that is no socket is there',
  BACKLOG_OVERFLOW: 'too many dispatches were waiting; the server closed the connection',
}

function systemCall({ syscall, errno }: ErrorDetails): string {
  if (errno === undefined || errno === 0) return syscall ? `: ${syscall}` : ''
  let name: string
  try {
    name = getSystemErrorName(-errno)
  } catch {
    name = `errno ${errno}` // one that libuv has no name for
  }
  return `: ${syscall || 'unknown'} ${name}`
}

const codes = new Map<number, ErrorCode>()
const numbers = new Map<string, number>()
for (const name of Object.keys(messages) as StatusName[]) {
  const code: ErrorCode = `ERR_COROIPC_${name}`
  codes.set(Status[name], code)
  numbers.set(code, Status[name])
}

/** All codes, in the order of their numbers. */
export const errorCodes: readonly ErrorCode[] = [...codes.entries()]
  .sort(([a], [b]) => a - b)
  .map(([, code]) => code)

/**
 * A failure that is not a wrong argument. Match `code`, or use {@link IpcError.is}: `instanceof` is
 * false for an error of another copy of this package.
 *
 * @example
 * try {
 *   await connection.request(0, payload, { timeoutMs: 100 })
 * } catch (error) {
 *   if (!IpcError.is(error) || error.code !== 'ERR_COROIPC_TIMED_OUT') throw error
 * }
 */
export class IpcError extends Error {
  static {
    this.prototype.name = 'IpcError'
  }

  /** `ERR_COROIPC_*`: stable, one meaning each. */
  readonly code: ErrorCode
  /** The system call that failed. */
  declare readonly syscall?: string
  /** Its errno, negative as everywhere in Node.js: `util.getSystemErrorName(error.errno)`. */
  declare readonly errno?: number
  /** The application's own status, when an answer carried one beside its code. */
  declare readonly applicationStatus?: number
  /**
   * False where it is known that the request was never sent: asking again cannot do it twice. Not there
   * otherwise, which says nothing.
   */
  declare readonly sent?: false

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    // Defined only when known, so that printed errors show nothing that is not there.
    if (details.syscall) this.syscall = details.syscall
    if (details.errno) this.errno = -details.errno
    if (details.applicationStatus) this.applicationStatus = details.applicationStatus
    if (details.sent === false) this.sent = false
  }

  /** Whether `value` is an IpcError, of this copy of the package or of another; with `code`, that one. */
  static is<Code extends ErrorCode = ErrorCode>(
    value: unknown,
    code?: Code,
  ): value is IpcError & { readonly code: Code } {
    if (!(value instanceof Error) || value.name !== 'IpcError') return false
    const found = (value as Partial<IpcError>).code
    return code === undefined
      ? typeof found === 'string' && found.startsWith('ERR_COROIPC_')
      : found === code
  }
}

/**
 * The error of a status number. Natives return `-status`: `ipcError(-result)`. An unknown number, which
 * only a peer of a later version can send, becomes PROTOCOL.
 */
export function ipcError(status: number, details: ErrorDetails = {}): IpcError {
  const code = codes.get(status) ?? 'ERR_COROIPC_PROTOCOL'
  const message = messages[code.slice('ERR_COROIPC_'.length) as StatusName]
  const text = typeof message === 'function' ? message(details) : message
  return new IpcError(
    code,
    details.subject === undefined ? text : `${details.subject}: ${text}`,
    details,
  )
}

/** The status number of an error: of an {@link IpcError} its own, else undefined. */
export function statusOf(error: unknown): number | undefined {
  return IpcError.is(error) ? numbers.get(error.code) : undefined
}

/** An error of {@link invalidArgument}: nothing was sent. */
export interface InvalidArgument {
  readonly code: 'ERR_COROIPC_INVALID_ARGUMENT'
}

// What `expected` says of values of the right type; else a number that came was of the wrong one.
const numeric = /integer|number|multiple|power|milliseconds|\d/

/**
 * The error for a wrong argument: `requestBytes: expected a multiple of 8, got 4097`.
 * A RangeError when a number was expected and a number came, else a TypeError; `kind` says otherwise.
 */
export function invalidArgument(
  name: string,
  expected: string,
  actual: unknown,
  kind?: 'type' | 'range',
): (TypeError | RangeError) & InvalidArgument {
  const shown =
    typeof actual === 'function'
      ? `function ${actual.name}`.trim()
      : inspect(actual, { depth: -1, maxStringLength: 60 })
  const number = typeof actual === 'number' || typeof actual === 'bigint'
  const outOfRange = kind === undefined ? number && numeric.test(expected) : kind === 'range'
  const message = `${name}: expected ${expected}, got ${shown}`
  const error = outOfRange ? new RangeError(message) : new TypeError(message)
  return Object.assign(error, { code: 'ERR_COROIPC_INVALID_ARGUMENT' } as const)
}
