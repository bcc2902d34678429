/**
 * The typed face of the addon: loads the binary and declares every native function. For
 * `@coroipc/ipcs` and `@coroipc/ipcc` only; users never see it.
 *
 * Conventions of all natives:
 *  - plain functions over small integers; no argument is checked here (the packages do that first);
 *  - a negative result is `-status` (see `errors.ts`); after `SYSTEM` and `NO_MEMORY`, `lastError()`;
 *  - natives never build messages or throw, but for programming errors inside our own packages.
 *
 * A *loop* is what receives: a server, or the one client group of this thread. Each has
 *  - a *table* of received rows (`Row`), filled by the native drain before it calls `onBatch(count)`;
 *  - a *slab*, private memory that received payloads are copied to; rows point into it. Payloads are
 *    the receiver's own for ever: the slab is never written again below `words[Word.slabPosition]`,
 *    which goes back only over payloads that nobody was given to keep;
 *  - an *outbox* (bytes) and an *out table* (rows) for sending many small messages by one call;
 *  - `words`, an Int32Array shared with the native side: reading or writing one costs no call.
 */
import { abiVersion, layout, statsNames } from './abi.generated.js'
import { binaryError, loadBinary } from './binary.js'

/** Int32 columns of one row, of received rows and out rows alike (struct coroipc_entry). */
export const Row = {
  connection: 0,
  kind: 1,
  id: 2,
  correlation: 3,
  /** The application's status, in answers. */
  status: 4,
  /**
   * Received REQUEST: milliseconds to the client's deadline, 0 none. Received RESPONSE: a status
   * (0 = OK). Events: as in `Kind`. Out rows: timeout in ms for REQUEST, status code for RESPONSE;
   * after the flush the status of the row.
   */
  argument: 5,
  sequence: 6,
  /** `In`. */
  flags: 7,
  /** Of the payload in the slab (received), in the outbox (out rows), or in the segment. */
  offset: 8,
  bytes: 9,
  segment: 10,
  /** Int32s of a row. */
  length: 12,
} as const

/** `enum coroipc_kind`. */
export const Kind = {
  request: 1,
  send: 2,
  cancel: 3,
  response: 4,
  dispatch: 5,
  /** server: a peer asks for service `id`; answer by `authorize`. */
  authorize: 16,
  /** server: handshake done; group: connectStart succeeded. */
  connected: 17,
  /** `argument` = why; the last row of a connection: answer by `release` (server). */
  disconnected: 18,
  /** server: the dispatch backlog has room again. */
  drain: 19,
  /** group: `argument` = 0 or 1. */
  flowControl: 20,
  /** group: `argument` = why; last row of that connection. */
  connectFailed: 21,
  /** group: bufferAllocStart's `correlation` is done: `segment`, `argument` = status. */
  buffer: 22,
  /** group: the late answer of cancelled request `correlation` came; its slot is usable again. */
  slotFree: 23,
  /** server: the peer left while authorize was pending, or its time was up; no verdict needed. */
  authorizeEnded: 24,
  /** group: queued requests have drained; FULL is over. */
  room: 25,
  /** server with acceptRows: `argument` = a connected socket, the receiver's own. */
  accepted: 26,
} as const

/** Where a received payload is (`Row.flags`). */
export const In = { slab: 0, block: 1, segment: 2, large: 4 } as const

/** Int32 words that JavaScript and the native side of a loop share. */
export const Word = {
  /** Next free byte of the slab, 8-aligned; whoever writes a payload there moves it on. */
  slabPosition: 0,
  /** Rows in the out table, set by JavaScript; the flush sets it to 0. */
  outRows: 1,
  /** Bytes used in the outbox; the flush sets it to 0. */
  outBytes: 2,
  /** 1 while native code is calling onBatch: it flushes the outbox itself when onBatch returns. */
  inBatch: 3,
  /** Results of call, callInPlace, dispatchReceive ... */
  status: 4,
  sequence: 5,
  /** Offset of the payload in the slab; -1: it did not fit, fetch it with `take`; -2: it is in `into`. */
  offset: 6,
  /** Segment of an in-place result, or -1. */
  segment: 7,
  /** Dispatch id of dispatchReceive. */
  id: 8,
  /** Offset inside the segment of an in-place result. */
  segmentOffset: 9,
  /** As slabPosition, of the large slab. */
  largePosition: 10,
  /** Bytes of payloads of 8 KiB to 2 MiB that had no place in it, and came as blocks. */
  largeMissed: 11,
  length: 16,
} as const

export type Bytes = Uint8Array
/** One payload, or a gather list of at most 1024 parts. */
export type Parts = Bytes | readonly Bytes[]

/** What a loop is made of; `handle` names it in all other natives. */
export interface Loop {
  readonly handle: number
  /** Received rows: 256 x `Row.length`. */
  readonly table: Int32Array
  readonly words: Int32Array
  /** Out rows: 256 x `Row.length`. */
  readonly outTable: Int32Array
  /** 64 KiB; flush before a payload that does not fit. */
  readonly outbox: Uint8Array
}

/**
 * Called with the number of rows in the table. `blocks` holds, in row order, one ArrayBuffer for each
 * row whose flags are `In.block`; undefined if there is none. Runs with a callback scope: the outbox
 * is flushed when it returns, then microtasks and ticks run, then what they queued is flushed.
 */
export type OnBatch = (count: number, blocks: ArrayBuffer[] | undefined) => void
/**
 * Called after a turn, for each line that native code wrote meanwhile; `level` as in pino: 20 debug, 30
 * info, 40 warn, 50 error.
 */
export type OnLog = (level: number, text: string) => void
/** Called after a flush by native code of which at least one row failed: rows' `argument` tell. */
export type OnSent = (rows: number) => void

export interface NativeServerOptions {
  wait: number
  anyService: boolean
  allowUnmapped: boolean
  prefault: boolean
  /** 0 no, 1 try, 2 demand. */
  lock: number
  hugePages: number
  acceptRows: boolean
  authorizeTimeoutMs: number
  handshakeTimeoutMs: number
  connections: number
  connectionsPerUid: number
  handshakes: number
  handshakesPerUid: number
  authorizing: number
  requestRingBytes: number
  responseRingBytes: number
  dispatchRingBytes: number
  ringBytesMin: number
  ringBytesMax: number
  messageBytes: number
  messageBytesMin: number
  requestsInFlight: number
  unsentBytes: number
  backlogBytes: number
  segments: number
  segmentBytes: number
  bytesPerUid: number
}

export interface NativeServiceOptions {
  policy: number
  priority: number
  requestsPerSecond: number
  backlogBytes: number
}

/** The poll callbacks of `struct coroipcs_poll`; cookies are small integers. */
export interface NativePoll {
  acceptAdd(fd: number, cookie: number): void
  dispatchAdd(fd: number, events: number, cookie: number): void
  dispatchModify(fd: number, events: number, cookie: number): void
  dispatchDestroy(fd: number, cookie: number): void
}

export interface NativeConnectOptions {
  service: number
  wait: number
  timeoutMs: number
  requestRingBytes: number
  responseRingBytes: number
  dispatchRingBytes: number
  messageBytes: number
  requestsInFlight: number
  inboxBytes: number
  queueBytes: number
  trustServer: boolean
  /** -1: any. */
  serverUid: number
  serverPid: number
}

export interface NativeCredentials {
  pid: number
  uid: number
  gid: number
  groups: number[]
  /** -1 where the kernel has none. Belongs to the connection. */
  pidfd: number
}

export interface NativeConnectionInfo {
  /** 16 hex digits. */
  id: string
  serverId: string
  service: number
  messageBytes: number
  requestsInFlight: number
  credentials: NativeCredentials
}

export interface Addon {
  readonly abiVersion: number
  readonly layout: number
  /** Names of status codes by number: ['OK', 'INVALID_ARGUMENT', ...]. */
  readonly statusNames: readonly string[]
  /** False where the host allows no ArrayBuffer over memory that is not V8's: what would be shared is copied. */
  readonly externalBuffers: boolean
  /** Names of the stats counters in order (struct coroipc_stats). */
  readonly statsNames: readonly string[]
  lastError(): { errno: number; syscall: string }
  peerVersion(): number
  statusToCsError(status: number): number
  /** Tries a feature of the kernel (`featureCodes`): 0, or the errno that it failed with. */
  featureTry(feature: number): number
  /** Whether the other end of a pipe or socket is closed: 1 or 0. Streams learn that only by reading or writing. */
  hungUp(fd: number): number

  // -- any loop ----------------------------------------------------------------------------------
  setSlab(loop: number, slab: ArrayBuffer): void
  setLargeSlab(loop: number, slab: ArrayBuffer): void
  /**
   * Of payloads of 8 KiB to 2 MiB since the large slab was set: the power of two up to which, from its half on, most of their
   * bytes came.
   */
  largeSize(loop: number): number
  /** Sends the out rows; returns how many of them failed (their `argument` is the status). */
  flush(loop: number): number
  /** libuv: watches the loop's fd, looks before libuv sleeps, calls onBatch. */
  attach(loop: number): number
  detach(loop: number): void
  ref(loop: number): void
  unref(loop: number): void
  /** The epoll fd of the loop, -1 with poll callbacks. */
  fd(loop: number): number
  /**
   * One bounded turn: onBatch is called if there is something. Returns 0 idle and armed, 1 more. Inside
   * onBatch it does nothing, and returns 1. After `wait` returned 1 it does not arm, and returns 1:
   * the next `wait` does that.
   */
  pump(loop: number): number
  /** look + sleep: 1 something is there, 0 time out, negative: interrupted (worker terminating). */
  wait(loop: number, timeoutMs: number): number
  /** Of one connection, or (-1) of the whole server. */
  stats(loop: number, connection: number, clear: boolean, into: BigUint64Array): number

  // -- server ------------------------------------------------------------------------------------
  serverCreate(
    options: NativeServerOptions,
    onBatch: OnBatch,
    onSent: OnSent,
    poll: NativePoll | undefined,
    onLog?: OnLog,
  ): Loop | number
  serverListen(loop: number, name: string): number
  serverListenFd(loop: number, fd: number): number
  /** Of a process that hands its name over; takes the fds, whatever comes of it. `lock` may be -1. */
  serverListenInherited(loop: number, fd: number, lock: number): number
  /** [listening socket, lock of its path]: the server's own, -1 where there is none. */
  serverListenFds(loop: number): [number, number]
  /** Stops listening and leaves the name to whoever was handed it. */
  serverListenLeave(loop: number): number
  /** A connected socket of an ACCEPTED row of this process; takes the fd, whatever comes of it. */
  serverAdopt(loop: number, fd: number): number
  serverAddress(loop: number): string
  serverListenStop(loop: number): number
  /** Ends every connection; their DISCONNECTED rows still come. */
  serverClose(loop: number): number
  serverDestroy(loop: number): void
  handlerAccept(loop: number, cookie: number): number
  handlerDispatch(loop: number, cookie: number, revents: number): number
  serviceAdd(loop: number, service: number, options: NativeServiceOptions): number
  /** 0 all gone, 1 some are still held: call again. */
  serviceClose(loop: number, service: number): number
  /** verdict: a status, 0 lets in. */
  authorize(loop: number, connection: number, verdict: number, trusted: boolean): number
  serverConnectionInfo(loop: number, connection: number): NativeConnectionInfo | number
  /** Of the request, response and dispatch ring in turn: its bytes, and those in use now. */
  serverRings(loop: number, connection: number, into: Uint32Array): number
  hold(loop: number, connection: number): void
  release(loop: number, connection: number): void
  serverDisconnect(loop: number, connection: number, why: number): number
  rateLimit(loop: number, connection: number, requestsPerSecond: number): number
  priority(loop: number, connection: number, priority: number): number
  policy(loop: number, connection: number, policy: number): number
  respond(
    loop: number,
    connection: number,
    correlation: number,
    code: number,
    status: number,
    payload: Parts | undefined,
  ): number
  dispatch(loop: number, connection: number, id: number, payload: Parts): number
  respondBuffer(
    loop: number,
    connection: number,
    correlation: number,
    status: number,
    buffer: number,
    offset: number,
    bytes: number,
  ): number
  dispatchBuffer(
    loop: number,
    connection: number,
    id: number,
    buffer: number,
    offset: number,
    bytes: number,
  ): number
  /** A buffer handle. */
  serverBufferAlloc(loop: number, connection: number, bytes: number): number
  serverBufferGet(loop: number, connection: number, segment: number): number

  // -- client ------------------------------------------------------------------------------------
  /** The client group of this thread: call once. */
  groupCreate(onBatch: OnBatch, onSent: OnSent, onLog?: OnLog): Loop | number
  groupDestroy(loop: number): void
  /** Where a server of this name may listen, spelled as `serverAddress` does. */
  connectAddresses(name: string): string[]
  /** A connection number, or -status. CONNECTED or CONNECT_FAILED follows. */
  connectStart(loop: number, name: string, options: NativeConnectOptions, timeoutMs: number): number
  connectSync(loop: number, name: string, options: NativeConnectOptions, timeoutMs: number): number
  clientConnectionInfo(loop: number, connection: number): NativeConnectionInfo | number
  /** Frees the number; no more rows come. */
  disconnect(loop: number, connection: number): void
  /** 0 open, else the status that ended it. */
  state(loop: number, connection: number): number
  flowControl(loop: number, connection: number): number
  /** Blocking requests that ended without the answer, which still takes a place in flight. */
  givenUp(loop: number, connection: number): number
  connectionFd(loop: number, connection: number): number
  dispatchFlow(loop: number, connection: number, on: boolean): void
  /**
   * Blocking request. Returns the answer's byte length or -status. The payload is in `into` if given,
   * else in the slab at words[offset], or (offset -1) to be fetched by `take`. An answer too large for
   * `into` is TOO_LARGE with offset -1: `take` has it.
   */
  call(
    loop: number,
    connection: number,
    id: number,
    payload: Parts,
    timeoutMs: number,
    into: Bytes | undefined,
  ): number
  /** As call; the answer stays where it is: `leaseBuffer`, then `leaseRelease`. */
  callInPlace(
    loop: number,
    connection: number,
    id: number,
    payload: Parts,
    timeoutMs: number,
  ): number
  /** As call, the request's payload being a part of a buffer. */
  callBuffer(
    loop: number,
    connection: number,
    id: number,
    buffer: number,
    offset: number,
    bytes: number,
    timeoutMs: number,
    into: Bytes | undefined,
  ): number
  /** The answer or dispatch that did not fit the slab: an ArrayBuffer of its own. */
  take(loop: number, connection: number, channel: number): ArrayBuffer
  /** Memory of the lease itself (trusted peers only). channel: 0 response, 1 dispatch. */
  leaseBuffer(loop: number, connection: number, channel: number): ArrayBuffer
  /** A private copy of the lease. */
  leaseCopy(loop: number, connection: number, channel: number): ArrayBuffer
  /** Ends the lease; detaches what leaseBuffer gave. */
  leaseRelease(loop: number, connection: number, channel: number): void
  /** Blocking (timeoutMs 0: not): as call; words[id], words[sequence]. */
  dispatchReceive(loop: number, connection: number, timeoutMs: number): number
  dispatchInPlace(loop: number, connection: number, timeoutMs: number): number
  /** One out row without the outbox. */
  sendRow(
    loop: number,
    connection: number,
    kind: number,
    id: number,
    correlation: number,
    timeoutMs: number,
    payload: Parts,
  ): number
  sendRowBuffer(
    loop: number,
    connection: number,
    id: number,
    correlation: number,
    timeoutMs: number,
    buffer: number,
    offset: number,
    bytes: number,
  ): number
  /** Blocking: a buffer handle. */
  clientBufferAlloc(loop: number, connection: number, bytes: number, timeoutMs: number): number
  /** A correlation, unsigned; KIND_BUFFER follows, then clientBufferGet of its segment. */
  clientBufferAllocStart(loop: number, connection: number, bytes: number): number
  clientBufferGet(loop: number, connection: number, segment: number): number

  // -- buffers -----------------------------------------------------------------------------------
  /** The shared memory itself, one ArrayBuffer for each handle. */
  bufferArray(buffer: number): ArrayBuffer
  bufferBytes(buffer: number): number
  /** Detaches the ArrayBuffer, gives the handle back. */
  bufferRelease(buffer: number): void
}

/** What the binary itself exports; the names of its counters come from the headers (abi.generated.ts). */
type Binding = Omit<Addon, 'statsNames'> & { readonly statsWords: number }

function load(): Addon {
  const { path, binding: loaded } = loadBinary()
  const binding = loaded as Binding
  const { statsWords } = binding
  if (
    binding.abiVersion !== abiVersion ||
    binding.layout !== layout ||
    statsWords !== statsNames.length
  ) {
    throw binaryError(
      'ERR_COROIPC_BINARY_REFUSED',
      `${path} is of another version (ABI ${binding.abiVersion}, layout ${binding.layout}; expected ${abiVersion}, ${layout})`,
    )
  }
  return Object.assign(binding, { statsNames })
}

/** The natives of this thread. */
export const addon: Addon = load()
