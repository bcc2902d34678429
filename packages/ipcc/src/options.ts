/** Options of connections and of requests: what they mean, and their one check. */
import type { Checks, Wait } from '@coroipc/native'
import {
  abortSignal,
  addon,
  boolean,
  checkName,
  checkOptions,
  integer,
  invalidArgument,
  isBytes,
  limits,
  nested,
  oneOf,
  powerOfTwo,
  TIMEOUT_MS_MAX,
  timeout,
} from '@coroipc/native'

/** Services, request ids and dispatch ids are 16 bits each. */
export const ID_MAX = 65535

/** What time a call has that says nothing, in milliseconds. */
export const DEFAULT_TIMEOUT_MS = 30000

/** Who the server must be; checked by the kernel's word before anything is sent. */
export interface ServerDemand {
  /** Its effective uid. */
  readonly uid?: number | undefined
  /** Its pid. */
  readonly pid?: number | undefined
}

/** What `connectSync` takes. Sizes of 0, and those left out, ask for the server's defaults. */
export interface ConnectSyncOptions {
  /** The service to connect to, 0 to 65535. */
  readonly service: number
  /** Time for connecting, milliseconds from 1; Infinity: no limit. Default 30000. */
  readonly timeoutMs?: number | undefined
  /** Time for each request that says nothing itself, milliseconds from 1; Infinity: no limit. Default 30000. */
  readonly requestTimeoutMs?: number | undefined
  /** Refuse any other server: `ERR_COROIPC_DENIED`. Default: whoever listens under the name. */
  readonly server?: ServerDemand | undefined
  /**
   * Read payloads in place where a lease or a zero-copy buffer asks for it. The server can then change
   * bytes while they are read, which can crash a process that decodes or sorts them. Default false: the
   * same calls work on private copies, as they do in hosts that cannot show shared memory (Electron).
   */
  readonly trustServer?: boolean | undefined
  /** How long to look at the rings before sleeping. Default `'adaptive'`. */
  readonly wait?: Wait | undefined
  /** Request ring: a power of two; the server's floor and ceiling apply. */
  readonly requestRingBytes?: number | undefined
  /** Response ring, likewise. */
  readonly responseRingBytes?: number | undefined
  /** Dispatch ring, likewise. */
  readonly dispatchRingBytes?: number | undefined
  /** Largest payload, both ways; `connection.messageBytes` says what was agreed. */
  readonly messageBytes?: number | undefined
  /** Unanswered requests; `connection.requestsInFlight` says what was agreed. */
  readonly requestsInFlight?: number | undefined
  /** Requests that wait privately for one of these to be answered; then `ERR_COROIPC_LIMIT`. Default 1024. */
  readonly queuedRequests?: number | undefined
  /** Bytes of requests that wait for room; then `ERR_COROIPC_LIMIT`. Default 4 MiB. */
  readonly queueBytes?: number | undefined
  /** Bytes of dispatches that are kept while something else is waited for. Default 4 MiB. */
  readonly inboxBytes?: number | undefined
  /** Record the latency of requests: `stats().latency`. Default false. */
  readonly latency?: boolean | undefined
}

/** What `connect` takes. */
export interface ConnectOptions extends ConnectSyncOptions {
  /** Gives up: `ERR_COROIPC_ABORTED` with `cause` the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** What every request takes. */
export interface RequestTimeout {
  /**
   * Milliseconds from 1; Infinity: no limit. Default: the connection's `requestTimeoutMs`. For `dispatchSync`
   * and `close` 0 is allowed as well: they do not wait.
   */
  readonly timeoutMs?: number | undefined
}

/** What `request` takes. */
export interface RequestOptions extends RequestTimeout {
  /** Gives the request up: `ERR_COROIPC_ABORTED` with `cause` the signal's reason. */
  readonly signal?: AbortSignal | undefined
  /** Resolve to an {@link Answer}: payload, application's status and sequence. Default: the payload. */
  readonly full?: boolean | undefined
  /** Resolve to a {@link Lease}: a zero-copy answer of a trusted server is read where it is. */
  readonly inPlace?: boolean | undefined
}

/** What `requestSync` takes. */
export interface RequestSyncOptions extends RequestTimeout {
  /** Return an {@link Answer} instead of the payload. */
  readonly full?: boolean | undefined
  /** Return a {@link Lease}. */
  readonly inPlace?: boolean | undefined
  /** Copy the answer here; the part that was filled is returned. */
  readonly into?: Uint8Array | undefined
}

const size = (min: number, max: number): ((name: string, value: unknown) => void) => {
  const check = integer(min, max)
  return (name, value) => {
    if (value !== 0) check(name, value)
  }
}
const ring = (name: string, value: unknown): void => {
  if (value !== 0) powerOfTwo(limits.ringBytesMin, limits.ringBytesMax)(name, value)
}

const connectSyncChecks: Checks = {
  service: integer(0, ID_MAX),
  timeoutMs: timeout,
  requestTimeoutMs: timeout,
  server: nested({ uid: integer(0, 0xfffffffe), pid: integer(1, 0x7fffffff) }),
  trustServer: boolean,
  wait: oneOf('adaptive', 'spin', 'sleep'),
  requestRingBytes: ring,
  responseRingBytes: ring,
  dispatchRingBytes: ring,
  messageBytes: size(1, limits.messageBytesMax),
  requestsInFlight: size(1, limits.requestsInFlightMax),
  queuedRequests: integer(0, 1 << 24),
  queueBytes: integer(0, 0x7fffffff),
  inboxBytes: integer(1, 0x7fffffff),
  latency: boolean,
}
const connectChecks: Checks = { ...connectSyncChecks, signal: abortSignal }
const requestChecks: Checks = {
  timeoutMs: timeout,
  signal: abortSignal,
  full: boolean,
  inPlace: boolean,
}
const requestSyncChecks: Checks = {
  timeoutMs: timeout,
  full: boolean,
  inPlace: boolean,
  into: (name, value) => {
    if (!isBytes(value)) throw invalidArgument(name, 'a Uint8Array', value, 'type')
  },
}

/** Checks name and options of `connect` (`sync` false) or `connectSync`. */
export function checkConnect(name: unknown, options: unknown, sync: boolean): void {
  checkName(name)
  if (typeof options !== 'object' || options === null)
    throw invalidArgument('options', 'an object with the service', options)
  checkOptions('options', options, sync ? connectSyncChecks : connectChecks)
  if ((options as { service?: unknown }).service === undefined)
    throw invalidArgument('service', `an integer from 0 to ${ID_MAX}`, undefined)
}

let passed: RequestOptions | undefined

/** Checks the options of `request`. */
export function checkRequest(options: RequestOptions): void {
  // A frozen object, as a layer above has it for all its calls, is looked at once.
  if (options === passed) return
  checkOptions('options', options, requestChecks)
  if (options.full === true && options.inPlace === true)
    throw invalidArgument('full', 'to be left out: a lease has the status as well', true)
  if (Object.isFrozen(options)) passed = options
}

let passedSync: RequestSyncOptions | undefined
let passedTimeoutMs: number | undefined
let passedInto: Uint8Array | undefined
let passedFull: boolean | undefined

/** Checks the options of `requestSync`. */
export function checkRequestSync(options: RequestSyncOptions): void {
  // A hot loop passes one object again and again: what was found right is not looked at twice while it stays so.
  if (
    options === passedSync &&
    options.timeoutMs === passedTimeoutMs &&
    options.into === passedInto &&
    options.full === passedFull &&
    options.inPlace !== true
  )
    return
  checkOptions('options', options, requestSyncChecks)
  passedSync = options
  passedTimeoutMs = options.timeoutMs
  passedInto = options.into
  passedFull = options.full
  if (options.inPlace !== true) return
  if (options.full === true)
    throw invalidArgument('full', 'to be left out: a lease has the status as well', true)
  if (options.into !== undefined)
    throw invalidArgument('into', 'to be left out: a lease is not copied', options.into)
}

/** Whether payloads are read in place: where the host has no ArrayBuffers for that, they are copied. */
export function trusts(options: { readonly trustServer?: boolean | undefined }): boolean {
  return options.trustServer === true && addon.externalBuffers
}

/** Milliseconds as natives take them: no limit is the longest there is. */
export function nativeTimeout(timeoutMs: number): number {
  return timeoutMs >= TIMEOUT_MS_MAX ? TIMEOUT_MS_MAX : Math.ceil(timeoutMs)
}

/** The milliseconds that travel with a request: 0 is no limit. */
export function wireTimeout(timeoutMs: number): number {
  return timeoutMs === Infinity ? 0 : Math.max(1, nativeTimeout(timeoutMs))
}
