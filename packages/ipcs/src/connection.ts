/** A connection as the server sees it: one client at one service. */
import type {
  Addon,
  Credentials,
  IpcError,
  LatencyStats,
  MessageLoop,
  NativeConnectionInfo,
  Stats,
  StatsOptions,
} from '@coroipc/native'
import {
  abortSignal,
  bufferError,
  BufferPart,
  checkedPayload,
  checkOptions,
  Encoded,
  integer,
  invalidArgument,
  ipcError,
  isBytes,
  isTraced,
  Kind,
  Latency,
  milliseconds,
  nativeError,
  oneOf,
  payloadLength,
  policyCodes,
  priorityCodes,
  sendAsLeft,
  SharedBuffer,
  SMALL_BYTES,
  statsChecks,
  Status,
} from '@coroipc/native'
import { EventEmitter } from 'eventemitter3'
import { type DispatchTrace, dispatchTracing } from './diagnostics.js'
import { keptPayload, type Recorder } from './recorder.js'
import type { AnswerPayload, ServerRequest } from './request.js'
import {
  type BacklogPolicy,
  checkRate,
  ID_MAX,
  type Priority,
  rateCode,
  type Service,
} from './service.js'

/** Events of a {@link Connection}. */
export interface ConnectionEvents {
  /** There is room again after `dispatch` returned false, or a buffer after `allocate` said FULL. */
  drain: []
  /** The client is gone; why, as in `onDisconnect`. */
  close: [reason: IpcError]
}

/** Counters of one connection. */
export interface ConnectionStats extends Stats {
  /** Receive to answer, microseconds. Only with the server's option `latency`. */
  readonly latency?: LatencyStats
}

/** What `dispatch` takes beside the payload. */
export interface DispatchOptions {
  /** What the client sees as `message.id`, 0 to 65535. Default 0. */
  readonly id?: number | undefined
}

/** What `drain` takes. */
export interface DrainOptions {
  /** Milliseconds; 0 does not wait, Infinity: no limit. Default 5000. */
  readonly timeoutMs?: number | undefined
  /** Gives up: `ERR_COROIPC_ABORTED` with `cause` the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/**
 * One client at one service. Made by the server; it emits `'drain'` and `'close'`.
 *
 * After the client's death every method may still be called: sending returns false, and what
 * the kernel said about the peer stays.
 */
export interface Connection<Context = unknown> extends EventEmitter<ConnectionEvents> {
  /** 16 hex digits, random; both sides see the same. */
  readonly id: string
  /** 0 to 65535. */
  readonly service: number
  /** Who the client is, from the kernel. */
  readonly credentials: Credentials
  /** What the service's `context` returned; yours to use and replace. */
  context: Context
  /** Whether the service's `trust` said yes; false in hosts that cannot show shared memory (Electron). */
  readonly trusted: boolean
  /** Largest payload, both ways. */
  readonly messageBytes: number
  /** Requests that its client may have unanswered. */
  readonly requestsInFlight: number
  /** True once the client is gone or was disconnected. */
  readonly closed: boolean
  /** True while dispatches wait in the backlog: the ring is full. */
  readonly flowControl: boolean
  /**
   * Sends the client a message that it did not ask for. Copied before it returns; it does not block.
   *
   * @returns true: queued, and it arrives unless the connection ends; in order. false: not queued, try
   *   again after `'drain'`, or the connection has ended (`closed`). Policies other than `'error'`
   *   return true also for what they drop. Inside one turn a few small messages more than the backlog
   *   limit may be taken.
   * @throws `ERR_COROIPC_TOO_LARGE` above `messageBytes`; `ERR_COROIPC_LIMIT`, `ERR_COROIPC_NO_MEMORY`:
   *   a large message for which no segment can be had, not queued; `ERR_COROIPC_INVALID_ARGUMENT`.
   * @example
   * if (!connection.dispatch(line, { id: 3 })) connection.once('drain', more)
   */
  dispatch(payload: AnswerPayload, options?: DispatchOptions): boolean
  /**
   * Waits until `dispatch` takes messages, and `allocate` has buffers, again; at once, if it is so now. The way to wait inside a
   * handler: a client that is waiting for that very answer, and does not read dispatches meanwhile,
   * would otherwise wait for the handler as the handler waits for it.
   *
   * @throws (rejects) `ERR_COROIPC_TIMED_OUT`; `ERR_COROIPC_ABORTED` by `signal`; why it ended when the
   *   client is gone, `ERR_COROIPC_DISCONNECTED` if it was already; `ERR_COROIPC_INVALID_ARGUMENT`
   * @example
   * for (const row of rows)
   *   while (!connection.dispatch(row)) await connection.drain({ signal: request.signal })
   */
  drain(options?: DrainOptions): Promise<void>
  /** Keeps the connection's resources past a disconnect, until as many `release` calls. */
  hold(): void
  /** Takes one `hold` back. @throws `ERR_COROIPC_INVALID_ARGUMENT` if there is none. */
  release(): void
  /**
   * Ends the connection: the client sees `ERR_COROIPC_DISCONNECTED`, after what was sent before.
   * `onDisconnect` and `'close'` follow.
   */
  disconnect(): void
  /**
   * A zero-copy buffer, to be filled and then returned by a handler or dispatched; it is the client's
   * afterwards. Where the client is not trusted it is private and copied when it is handed over.
   *
   * @param bytes 1 to `messageBytes`
   * @throws `ERR_COROIPC_FULL`: all segments are with the client, `'drain'` follows and `drain()` waits
   *   for it; `ERR_COROIPC_LIMIT`: this one can never be had; `ERR_COROIPC_NO_MEMORY`; why it ended when the
   *   client is gone, `ERR_COROIPC_DISCONNECTED` if it was already; `ERR_COROIPC_INVALID_ARGUMENT`
   */
  allocate(bytes: number): SharedBuffer
  /** Counters of this connection. @throws `ERR_COROIPC_DISCONNECTED` when gone. */
  stats(options?: StatsOptions): ConnectionStats
  /** Requests read each second: Infinity no limit, 0 paused. */
  setRequestsPerSecond(requestsPerSecond: number): void
  /** How urgent its requests are beside those of others. */
  setPriority(priority: Priority): void
  /** What becomes of dispatches beyond the backlog limit. */
  setBacklogPolicy(policy: BacklogPolicy): void
}

/** What a connection needs of its server. */
export interface ConnectionOwner {
  readonly addon: Addon
  readonly loop: MessageLoop
  readonly latency: Latency | undefined
  readonly recorder: Recorder | undefined
  readStats(connection: number, clear: boolean): Stats
  released(connection: { readonly number: number }): void
}

const DISPATCH_CHECKS = { id: integer(0, ID_MAX) }
const DRAIN_TIMEOUT_MS = 5000
const DRAIN_CHECKS = { timeoutMs: milliseconds, signal: abortSignal }
const checkPriority = oneOf(...Object.keys(priorityCodes))
const checkPolicy = oneOf(...Object.keys(policyCodes))

function onlyId(options: object): boolean {
  for (const key in options) if (key !== 'id') return false
  return true
}

/** The connection behind the interface. */
export class ServerConnection<Context>
  extends EventEmitter<ConnectionEvents>
  implements Connection<Context>
{
  readonly id: string
  readonly service: number
  readonly credentials: Credentials
  context: Context
  readonly trusted: boolean
  readonly messageBytes: number
  readonly requestsInFlight: number
  closed = false

  /** Dispatches that were answered false without asking the native side. */
  refused = 0
  readonly number: number
  readonly home: Service<Context>
  readonly latency: Latency | undefined
  /** Requests without an answer whose handler has returned, or waits its turn: by slot. */
  readonly pending: (ServerRequest<Context> | undefined)[] = []
  /** onConnect was called, so onDisconnect will be. */
  welcomed = false

  readonly #owner: ConnectionOwner
  #blocked = false
  /** `allocate` found all buffers out. */
  #buffersOut = false
  #holds = 0
  /** Its last row came and onDisconnect is done. */
  #ended = false
  #gone = false

  constructor(
    owner: ConnectionOwner,
    number: number,
    info: NativeConnectionInfo,
    home: Service<Context>,
    trusted: boolean,
  ) {
    super()
    this.#owner = owner
    this.number = number
    this.id = info.id
    this.service = info.service
    this.credentials = info.credentials
    this.messageBytes = info.messageBytes
    this.requestsInFlight = info.requestsInFlight
    this.home = home
    this.trusted = trusted
    this.context = undefined as Context
    this.latency = owner.latency === undefined ? undefined : new Latency()
  }

  get flowControl(): boolean {
    return !this.#gone && this.#owner.readStats(this.number, false).flowControl !== 0
  }

  dispatch(payload: AnswerPayload, options?: DispatchOptions): boolean {
    let id = 0
    if (options !== undefined) {
      id = options?.id ?? 0
      // The one check that is made for every message: by hand, and exact only when it fails.
      if (options === null || typeof id !== 'number' || (id & ID_MAX) !== id || !onlyId(options)) {
        checkOptions('options', options, DISPATCH_CHECKS)
      }
    }
    return isTraced(dispatchTracing) ? this.#sendTraced(payload, id) : this.#send(payload, id)
  }

  // Apart: a closure, and be it one that is never made, costs each call of its function an allocation.
  #sendTraced(payload: AnswerPayload, id: number): boolean {
    const trace: DispatchTrace = { connection: this, id, payload }
    return dispatchTracing.traceSync(
      () => sendAsLeft(trace, id, payload, (sentId, sent) => this.#send(sent, sentId)),
      trace,
    )
  }

  #send(payload: AnswerPayload, id: number): boolean {
    const { addon, loop, recorder } = this.#owner
    // What most messages are.
    if (
      isBytes(payload) &&
      payload.length <= SMALL_BYTES &&
      payload.length <= this.messageBytes &&
      !this.closed &&
      !this.#blocked
    ) {
      loop.post(this.number, Kind.dispatch, id, 0, 0, 0, payload)
      if (recorder !== undefined) recorder.dispatched(this, id, payload)
      return true
    }
    if (payload instanceof SharedBuffer || payload instanceof BufferPart)
      return this.#dispatchBuffer(payload, id)
    const bytes = isBytes(payload)
      ? payload
      : payload instanceof Encoded
        ? loop.encode(payload)
        : checkedPayload('payload', payload)
    const length = payloadLength(bytes)
    if (length > this.messageBytes) throw this.#tooLarge(length)
    if (this.closed) return false
    if (this.#blocked) return this.#refuse()
    if (length <= SMALL_BYTES) {
      if (isBytes(bytes)) loop.post(this.number, Kind.dispatch, id, 0, 0, 0, bytes)
      else loop.postParts(this.number, Kind.dispatch, id, 0, 0, 0, bytes)
      if (recorder !== undefined) recorder.dispatched(this, id, bytes)
      return true
    }
    loop.flush()
    if (this.closed) return false
    if (this.#blocked) return this.#refuse()
    const queued = this.#dispatched(addon.dispatch(loop.handle, this.number, id, bytes), length)
    if (queued && recorder !== undefined) recorder.dispatched(this, id, bytes)
    return queued
  }

  #dispatchBuffer(payload: SharedBuffer | BufferPart, id: number): boolean {
    const { addon, loop, recorder } = this.#owner
    const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
    const wrong = bufferError(payload)
    if (wrong !== undefined) throw wrong
    if (!buffer.inPlace || buffer.owner !== this) {
      if (!this.#send(payload.bytes, id)) return false
      if (buffer.owner === this) buffer.release()
      return true
    }
    if (this.closed) return false
    if (this.#blocked) return this.#refuse()
    loop.flush()
    const offset = payload instanceof SharedBuffer ? 0 : payload.offset
    const length = payload.byteLength
    const kept = recorder === undefined ? undefined : keptPayload(payload)
    const queued = this.#dispatched(
      addon.dispatchBuffer(loop.handle, this.number, id, buffer.handle, offset, length),
      length,
    )
    if (queued) {
      buffer.release()
      recorder?.dispatched(this, id, kept)
    }
    return queued
  }

  #refuse(): false {
    this.refused++
    return false
  }

  #dispatched(result: number, length: number): boolean {
    switch (-result) {
      case Status.OK:
        return true
      case Status.FULL:
        this.#blocked = true
        return false
      case Status.PEER_DEAD:
      case Status.DISCONNECTED:
      case Status.PROTOCOL:
      case Status.BACKLOG_OVERFLOW:
        return false
      case Status.TOO_LARGE:
        throw this.#tooLarge(length)
      default:
        throw nativeError(result, { subject: 'dispatch' })
    }
  }

  #tooLarge(length: number): IpcError {
    return ipcError(Status.TOO_LARGE, {
      subject: `dispatch of ${length} bytes, at most ${this.messageBytes}`,
    })
  }

  /** A row said FULL: it was queued all the same, but it was the last. */
  block(): void {
    this.#blocked = true
  }

  drained(): void {
    this.#blocked = false
    this.#buffersOut = false
    this.emit('drain')
  }

  drain(options?: DrainOptions): Promise<void> {
    return new Promise((resolve, reject) => {
      checkOptions('options', options, DRAIN_CHECKS)
      const timeoutMs = options?.timeoutMs ?? DRAIN_TIMEOUT_MS
      const signal = options?.signal
      const aborted = (): IpcError =>
        ipcError(Status.ABORTED, { subject: 'drain', cause: signal?.reason })
      if (signal?.aborted === true) throw aborted()
      // What the outbox holds may be what fills it.
      this.#owner.loop.flush()
      if (this.closed) throw ipcError(Status.DISCONNECTED, { subject: 'drain' })
      if (!this.#blocked && !this.#buffersOut) {
        resolve()
        return
      }
      const settle = (error?: Error): void => {
        clearTimeout(timer)
        this.off('drain', settle)
        this.off('close', settle)
        signal?.removeEventListener('abort', onAbort)
        if (error === undefined) resolve()
        else reject(error)
      }
      const onAbort = (): void => settle(aborted())
      const late = (): void => settle(ipcError(Status.TIMED_OUT, { subject: 'drain' }))
      const timer = timeoutMs === Infinity ? undefined : setTimeout(late, timeoutMs)
      timer?.unref()
      this.on('drain', settle)
      this.on('close', settle)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  hold(): void {
    if (this.#gone) throw ipcError(Status.DISCONNECTED, { subject: 'hold' })
    this.#holds++
  }

  release(): void {
    if (this.#holds === 0) throw invalidArgument('release', 'a hold to take back', 0)
    this.#holds--
    this.#releaseWhenDone()
  }

  /** Its last row came, and onDisconnect with its promise is done. */
  end(): void {
    this.#ended = true
    this.#releaseWhenDone()
  }

  #releaseWhenDone(): void {
    if (!this.#ended || this.#holds > 0 || this.#gone) return
    this.#gone = true
    this.#owner.released(this)
  }

  disconnect(): void {
    if (this.closed) return
    const { addon, loop } = this.#owner
    loop.flush()
    this.closed = true
    addon.serverDisconnect(loop.handle, this.number, Status.DISCONNECTED)
  }

  allocate(bytes: number): SharedBuffer {
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > this.messageBytes)
      throw invalidArgument('bytes', `an integer from 1 to ${this.messageBytes}`, bytes)
    if (this.closed) throw ipcError(Status.DISCONNECTED, { subject: 'allocate' })
    if (!this.trusted) return new SharedBuffer(this, new Uint8Array(bytes))
    const { addon, loop } = this.#owner
    const handle = addon.serverBufferAlloc(loop.handle, this.number, bytes)
    if (handle < 0) {
      if (handle === -Status.FULL) this.#buffersOut = true
      throw nativeError(handle, { subject: 'allocate' })
    }
    return new SharedBuffer(
      this,
      new Uint8Array(addon.bufferArray(handle), 0, bytes),
      addon,
      handle,
    )
  }

  stats(options?: StatsOptions): ConnectionStats {
    checkOptions('options', options, statsChecks)
    const clear = options?.clear ?? false
    if (this.#gone) throw ipcError(Status.DISCONNECTED, { subject: 'stats' })
    const native = this.#owner.readStats(this.number, clear)
    const stats = { ...native, overload: native.overload + this.refused }
    if (clear) this.refused = 0
    return this.latency === undefined ? stats : { ...stats, latency: this.latency.read(options) }
  }

  /** Of the request, response and dispatch ring: bytes, bytes in use. For the inspection. */
  rings(into: Uint32Array): void {
    if (!this.#gone) this.#owner.addon.serverRings(this.#owner.loop.handle, this.number, into)
  }

  setRequestsPerSecond(requestsPerSecond: number): void {
    checkRate('requestsPerSecond', requestsPerSecond)
    if (this.closed) return
    this.#owner.addon.rateLimit(this.#owner.loop.handle, this.number, rateCode(requestsPerSecond))
  }

  setPriority(priority: Priority): void {
    checkPriority('priority', priority)
    if (this.closed) return
    this.#owner.addon.priority(this.#owner.loop.handle, this.number, priorityCodes[priority])
  }

  setBacklogPolicy(policy: BacklogPolicy): void {
    checkPolicy('policy', policy)
    if (this.closed) return
    this.#owner.addon.policy(this.#owner.loop.handle, this.number, policyCodes[policy])
  }
}
