/** A connection as the client sees it: requests, sends, dispatches, buffers. */
import type {
  BufferPart,
  Credentials,
  Encoded,
  ErrorCode,
  IpcError,
  LatencyStats,
  Payload,
  SharedBuffer,
  Stats,
  StatsOptions,
} from '@coroipc/native'
import type { EventEmitter } from 'eventemitter3'
import type { DispatchIterator, Message } from './dispatches.js'
import type { Lease } from './lease.js'
import type { RequestOptions, RequestSyncOptions, RequestTimeout } from './options.js'
import type { Answer, Callback, Outcome, TransientCallback } from './pending.js'

/** What can be sent: bytes in any form, a buffer made by `allocate`, a value with its encoder, or nothing. */
export type RequestPayload = Payload | SharedBuffer | BufferPart | Encoded | undefined

/** Events of a {@link Connection}. */
export interface ConnectionEvents {
  /** The server sent a message. Having a listener takes dispatches away from `dispatchSync`. */
  dispatch: [message: Message]
  /** The server has begun (true) or stopped (false) to queue dispatches for us: we are slow. */
  flowControl: [on: boolean]
  /** There is room again after `send` returned false. */
  drain: []
  /** The connection is over; why. Every request has had its outcome. */
  close: [reason: IpcError]
  /** A message that was taken by `send` could not be delivered. Without a listener: a process warning. */
  error: [error: IpcError]
}

/** Counters of a connection. */
export interface ConnectionStats extends Stats {
  /** Call to outcome of requests, microseconds. Only with the option `latency`. */
  readonly latency?: LatencyStats
}

/**
 * What `transientDispatches` calls for each message: its payload is `length` bytes at `offset` of `bytes`, until the
 * listener returns. `id` and `sequence` as in {@link Message}.
 */
export type TransientListener = (
  bytes: Uint8Array,
  offset: number,
  length: number,
  id: number,
  sequence: number,
) => void

/** What `dispatchSync` takes. */
export interface DispatchSyncOptions extends RequestTimeout {
  /** Return a {@link Lease}. */
  readonly inPlace?: boolean | undefined
}

/** What `allocate` takes. */
export interface AllocateOptions extends RequestTimeout {
  /** Gives up: `ERR_COROIPC_ABORTED`. */
  readonly signal?: AbortSignal | undefined
}

/** The error of `requestSync` with an `into` that is too small: the answer is not lost. */
export interface AnswerTooLarge extends IpcError {
  readonly code: Extract<ErrorCode, 'ERR_COROIPC_TOO_LARGE'>
  /** The whole answer. */
  readonly answer: Uint8Array
}

/**
 * A connection to one service of one server.
 *
 * Messages of one connection arrive in the order in which they were sent, each at most once. An answered
 * request was executed. When the server dies, every promise is settled: with
 * `ERR_COROIPC_UNKNOWN_OUTCOME` if the request was in flight, its `cause` saying why
 * (`ERR_COROIPC_PEER_DEAD`, `ERR_COROIPC_DISCONNECTED`, `ERR_COROIPC_PROTOCOL`); with that code itself
 * if it was never handed over. Nothing is ever sent twice.
 *
 * It keeps the process alive until it is over or `unref` was called.
 *
 * Codes that the server answers with: `ERR_COROIPC_NO_HANDLER`, `_HANDLER_FAILED`, `_HANDLER_REJECTED`,
 * `_HANDLER_ASYNC`, `_ANSWER_INVALID`, `_ANSWER_TOO_LARGE`, `_RETRY`, `_REFUSED`. Wrong arguments are
 * `ERR_COROIPC_INVALID_ARGUMENT`, thrown before anything is sent (`request` without callback rejects).
 */
export interface Connection extends EventEmitter<ConnectionEvents>, AsyncDisposable, Disposable {
  /** 16 hex digits, random; both sides see the same. */
  readonly id: string
  /** The same for all connections to one server object: tells a restarted server from the old one. */
  readonly serverId: string
  /** The service that it is connected to. */
  readonly service: number
  /** Who the server is, from the kernel. */
  readonly server: Credentials
  /** Largest payload, both ways. */
  readonly messageBytes: number
  /** Requests that may be unanswered; further ones wait here. */
  readonly requestsInFlight: number
  /** True once it is over. */
  readonly closed: boolean
  /** True while the server queues dispatches for us: we are slow. */
  readonly flowControl: boolean
  /**
   * A pollable fd of this connection alone: readable when a dispatch, an answer or the server's death may
   * be there. Do not read or close it. Call `dispatchSync(0)` until undefined before polling it.
   */
  readonly fd: number

  /**
   * Asks the server and resolves to its answer. Any number may be on their way; answers come in any order.
   * The payload is copied before this returns. Beyond `requestsInFlight` it waits its turn privately.
   *
   * @param id 0 to 65535
   * @returns the answer's payload, the caller's own for ever; or what `full`, `inPlace` say. Options whose
   *   type leaves that open, in a variable, have the type of all three: {@link Outcome}
   * @throws (rejects) `ERR_COROIPC_TIMED_OUT`, `_ABORTED`, `_LIMIT` (too many wait), `_TOO_LARGE`,
   *   `_UNKNOWN_OUTCOME`, `_PEER_DEAD`, `_DISCONNECTED`, or what the server answered
   * @example
   * const answer = await connection.request(0, 'hello', { timeoutMs: 100 })
   */
  request(id: number, payload?: RequestPayload, options?: PayloadOptions): Promise<Uint8Array>
  request(id: number, payload: RequestPayload, options: FullOptions): Promise<Answer>
  request(id: number, payload: RequestPayload, options: LeaseOptions): Promise<Lease>
  request(id: number, payload?: RequestPayload, options?: RequestOptions): Promise<Outcome>
  /** The same with a callback, which is called once, and never before this returns. */
  request(id: number, payload: RequestPayload, callback: Callback<Uint8Array>): void
  request(
    id: number,
    payload: RequestPayload,
    options: PayloadOptions,
    callback: Callback<Uint8Array>,
  ): void
  request(
    id: number,
    payload: RequestPayload,
    options: FullOptions,
    callback: Callback<Answer>,
  ): void
  request(
    id: number,
    payload: RequestPayload,
    options: LeaseOptions,
    callback: Callback<Lease>,
  ): void
  request(
    id: number,
    payload: RequestPayload,
    options: RequestOptions | undefined,
    callback: Callback<Outcome>,
  ): void

  /**
   * `request` with a callback, for loops that count every nanosecond: the answer's bytes are lent to `callback` until it
   * returns, `length` bytes at `offset` of `bytes`, and that memory is then used for the next. No view is made of it.
   * The connection's `requestTimeoutMs` holds; what lies around the answer is none of the callback's business, and it
   * must not keep, transfer or write to `bytes`. Called once, and never before this returns.
   *
   * @throws as `request` with a callback: wrong arguments are thrown, everything else goes to `callback`
   * @example
   * connection.requestTransient(0, question, (error, bytes, offset, length) => {
   *   if (error) throw error
   *   for (let at = offset; at < offset + length; at++) sum += bytes[at]
   * })
   */
  requestTransient(id: number, payload: RequestPayload, callback: TransientCallback): void

  /**
   * Asks the server and blocks this thread until it answers. Dispatches and other answers that come
   * meanwhile are kept. Goes before requests that wait privately for their turn.
   *
   * @returns the answer's payload, the caller's own for ever; with `into` the part of it that was filled;
   *   or what `full`, `inPlace` say
   * @throws as `request`, and `ERR_COROIPC_DEADLOCK` (the server runs in this thread),
   *   `ERR_COROIPC_LEASE_HELD`, `ERR_COROIPC_TOO_LARGE` if `into` is too small ({@link AnswerTooLarge})
   * @example
   * using lease = connection.requestSync(0, question, { inPlace: true })
   */
  requestSync(id: number, payload?: RequestPayload, options?: SyncPayloadOptions): Uint8Array
  requestSync(id: number, payload: RequestPayload, options: SyncFullOptions): Answer
  requestSync(id: number, payload: RequestPayload, options: SyncLeaseOptions): Lease
  requestSync(id: number, payload?: RequestPayload, options?: RequestSyncOptions): Outcome

  /**
   * Sends one way: no answer, no outcome. The payload is copied before this returns.
   *
   * @returns true: taken, and delivered unless the connection ends. false: not taken, try again after
   *   `'drain'`.
   * @throws `ERR_COROIPC_TOO_LARGE`, `ERR_COROIPC_PEER_DEAD`, `ERR_COROIPC_DISCONNECTED`
   */
  send(id: number, payload?: RequestPayload): boolean

  /**
   * The server's dispatches, in order. Reading stops at 1024 messages or 1 MiB that were not taken: the
   * server's backlog and its policy do the rest. Ends when the connection is closed in order; throws
   * `ERR_COROIPC_PEER_DEAD` or `ERR_COROIPC_PROTOCOL` else, after the last message, and
   * `ERR_COROIPC_ABORTED` with the signal. Several iterators each get every message. One that is not read
   * any more has to be ended ({@link DispatchIterator}): it goes on collecting, and stops all others when it
   * is full.
   *
   * @example
   * for await (const { id, payload } of connection.dispatches()) console.log(id, payload)
   */
  dispatches(options?: { readonly signal?: AbortSignal | undefined }): DispatchIterator

  /**
   * For loops that count every nanosecond: all dispatches from now on go to `listener` and to nobody else, without
   * an object or a view for any of them. A payload is `length` bytes at `offset` of `bytes` **until the listener
   * returns**; the memory is then used for the next. What lies around it is none of the listener's business, and
   * it must not keep, transfer or write to `bytes`.
   *
   * One at a time. What it throws surfaces as an uncaught exception; the next message is delivered all the same.
   *
   * @returns ends it: dispatches go to iterators and listeners again
   * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT` if `listener` is no function, or there is one already
   * @example
   * const stop = connection.transientDispatches((bytes, offset, length) => {
   *   for (let at = offset; at < offset + length; at++) sum += bytes[at]
   * })
   */
  transientDispatches(listener: TransientListener): () => void

  /**
   * The next dispatch; blocks this thread up to `timeoutMs` (a number stands for it; default: the
   * connection's `requestTimeoutMs`).
   *
   * @returns undefined if none came in time; with 0 it does not wait
   * @throws `ERR_COROIPC_PEER_DEAD`, `_DISCONNECTED`, `_PROTOCOL` after the last one, `_LEASE_HELD`,
   *   `_DEADLOCK` if it would have to wait for a server of this thread
   */
  dispatchSync(
    options?: number | (RequestTimeout & { readonly inPlace?: false | undefined }),
  ): Message | undefined
  dispatchSync(options: RequestTimeout & { readonly inPlace: true }): Lease | undefined
  dispatchSync(options?: number | DispatchSyncOptions): Message | Lease | undefined

  /**
   * A zero-copy buffer: fill it, then send it in place of a payload. Shared with the server where both
   * sides declared trust; private, and copied when it is sent, where `trustServer` is not set.
   *
   * @param bytes 1 to `messageBytes`
   * @throws (rejects) `ERR_COROIPC_LIMIT` (segments), `_NO_MEMORY`, `_TIMED_OUT`, `_ABORTED`,
   *   `_PEER_DEAD`, `_DISCONNECTED`
   * @example
   * using buffer = await connection.allocate(1 << 20)
   */
  allocate(bytes: number, options?: AllocateOptions): Promise<SharedBuffer>
  /** The same, blocking this thread. */
  allocateSync(bytes: number, options?: RequestTimeout): SharedBuffer

  /** Counters. @throws `ERR_COROIPC_DISCONNECTED` after `close`. */
  stats(options?: StatsOptions): ConnectionStats

  /** Keeps the process alive (the default). */
  ref(): this
  /** Lets the process end although it is open. */
  unref(): this

  /**
   * Closes in order, after what was sent before. Requests in flight end with
   * `ERR_COROIPC_UNKNOWN_OUTCOME`, those that wait with `ERR_COROIPC_DISCONNECTED`. Leases are disposed
   * of, buffers stay valid. Never rejects; calling it again does nothing.
   *
   * @param options.timeoutMs wait so long for answers and for messages that wait for room; default 0
   */
  close(options?: RequestTimeout): Promise<void>
  /** Closes at once: `close()` for `using`. */
  [Symbol.dispose](): void
}

/** {@link RequestOptions} of a request that resolves to its payload. */
export type PayloadOptions = RequestOptions & {
  readonly full?: false | undefined
  readonly inPlace?: false | undefined
}
/** {@link RequestOptions} of a request that resolves to an {@link Answer}. */
export type FullOptions = RequestOptions & {
  readonly full: true
  readonly inPlace?: false | undefined
}
/** {@link RequestOptions} of a request that resolves to a {@link Lease}. */
export type LeaseOptions = RequestOptions & {
  readonly full?: false | undefined
  readonly inPlace: true
}
/** {@link RequestSyncOptions} of a request that returns its payload. */
export type SyncPayloadOptions = RequestSyncOptions & {
  readonly full?: false | undefined
  readonly inPlace?: false | undefined
}
/** {@link RequestSyncOptions} of a request that returns an {@link Answer}. */
export type SyncFullOptions = RequestSyncOptions & {
  readonly full: true
  readonly inPlace?: false | undefined
}
/** {@link RequestSyncOptions} of a request that returns a {@link Lease}. */
export type SyncLeaseOptions = RequestTimeout & {
  readonly full?: false | undefined
  readonly inPlace: true
}
