/** A client that connects again, and never sends anything twice. Opt-in. */
import type { Checks } from '@coroipc/native'
import {
  abortSignal,
  BufferPart,
  checkOptions,
  integer,
  invalidArgument,
  IpcError,
  ipcError,
  joined,
  milliseconds,
  payloadBytes,
  payloadLength,
  SharedBuffer,
  Status,
  statusOf,
} from '@coroipc/native'
import { EventEmitter } from 'eventemitter3'
import { connect } from './connect.js'
import type {
  Connection,
  FullOptions,
  LeaseOptions,
  PayloadOptions,
  RequestPayload,
} from './connection.js'
import type { Message } from './dispatches.js'
import { isolated } from './group.js'
import type { Lease } from './lease.js'
import {
  checkConnect,
  checkRequest,
  type ConnectOptions,
  DEFAULT_TIMEOUT_MS,
  type RequestOptions,
} from './options.js'
import type { Answer, Outcome } from './pending.js'

/** What `reconnecting` takes beside what `connect` takes. */
export interface ReconnectingOptions extends ConnectOptions {
  /** First pause before connecting again, milliseconds; it doubles, with a random part. Default 20. */
  readonly pauseMs?: number | undefined
  /** Longest pause. Default 2000. */
  readonly pauseMsMax?: number | undefined
}

/** Events of a {@link Reconnecting}. */
export interface ReconnectingEvents {
  /** A connection is there, the first or a new one. A new server knows nothing of what came before. */
  connect: [connection: Connection]
  /** The connection is over; another one is being tried. */
  disconnect: [reason: IpcError]
  /** A message of whichever connection is there. */
  dispatch: [message: Message]
  /** Trying again is pointless (denied, another version): it has closed itself. */
  error: [error: IpcError]
  /** No further connection will be made. */
  close: []
}

const pauseChecks: Checks = { pauseMs: integer(1, 3600000), pauseMsMax: integer(1, 3600000) }
const waitChecks: Checks = { timeoutMs: milliseconds, signal: abortSignal }

/** Codes after which the same attempt can only fail again. */
const FINAL: readonly number[] = [
  Status.INVALID_ARGUMENT,
  Status.DENIED,
  Status.VERSION,
  Status.REFUSED,
  Status.FORKED,
]

interface Waiter {
  /** Of the requests that wait the oldest goes first. */
  readonly order: number
  readonly resolve: (connection: Connection) => void
  readonly reject: (error: Error) => void
}

/**
 * Keeps a connection to a server that may go away and come back.
 *
 * It never asks twice: a request that was in flight when the server died is rejected with
 * `ERR_COROIPC_UNKNOWN_OUTCOME`, and whether to ask again is the caller's decision. One that finds no
 * connection waits for the next, within its own deadline; so does one of which it is known that the server has not read it
 * (`sent: false`), because it left in order before it came to it.
 *
 * @example
 * const client = reconnecting('demo', { service: 7 })
 * client.on('connect', () => console.log('there'))
 * const answer = await client.request(0, 'hello', { timeoutMs: 5000 })
 */
export class Reconnecting extends EventEmitter<ReconnectingEvents> implements AsyncDisposable {
  readonly #name: string
  readonly #options: ConnectOptions
  readonly #pauseMs: number
  readonly #pauseMsMax: number
  readonly #stop = new AbortController()
  readonly #waiters = new Set<Waiter>()
  #order = 0
  #connection: Connection | undefined
  #final: IpcError | undefined

  /** @internal Users call `reconnecting`. */
  constructor(name: string, options: ReconnectingOptions) {
    super()
    if (typeof options !== 'object' || options === null)
      throw invalidArgument('options', 'an object with the service', options)
    const { pauseMs, pauseMsMax, signal, ...connectOptions } = options
    checkConnect(name, connectOptions, false)
    checkOptions('options', definedOnly({ pauseMs, pauseMsMax }), pauseChecks)
    if (signal !== undefined) abortSignal('signal', signal)
    this.#name = name
    this.#options = connectOptions
    this.#pauseMs = pauseMs ?? 20
    this.#pauseMsMax = pauseMsMax ?? 2000
    if (signal?.aborted === true) void this.close()
    else {
      signal?.addEventListener('abort', () => void this.close(), {
        once: true,
        signal: this.#stop.signal,
      })
      void this.#keep()
    }
  }

  /** The connection that is open now, if there is one. */
  get connection(): Connection | undefined {
    return this.#connection?.closed === false ? this.#connection : undefined
  }

  /** True once it was closed, or gave up. */
  get closed(): boolean {
    return this.#stop.signal.aborted
  }

  async #keep(): Promise<void> {
    let pause = this.#pauseMs
    while (!this.closed) {
      try {
        const connection = await connect(this.#name, {
          ...this.#options,
          signal: this.#stop.signal,
        })
        pause = this.#pauseMs
        const began = performance.now()
        const reason = await this.#serve(connection)
        if (this.closed) return
        isolated(() => this.emit('disconnect', reason))
        // A server that left in order may have a successor by now. One that sends everybody away at once has to wait.
        if (reason.code === 'ERR_COROIPC_DISCONNECTED' && performance.now() - began >= pause)
          continue
      } catch (error) {
        if (this.closed) return
        const status = statusOf(error)
        if (status === undefined || FINAL.includes(status)) {
          this.#giveUp(error as IpcError)
          return
        }
      }
      await this.#pause(pause * (0.5 + Math.random() / 2))
      pause = Math.min(pause * 2, this.#pauseMsMax)
    }
  }

  #serve(connection: Connection): Promise<IpcError> {
    return new Promise((resolve) => {
      this.#connection = connection
      connection.once('close', (reason) => {
        this.#connection = undefined
        connection[Symbol.dispose]()
        resolve(reason)
      })
      this.#noteTakers(connection)
      isolated(() => this.emit('connect', connection))
      const waiters = [...this.#waiters].sort((a, b) => a.order - b.order)
      this.#waiters.clear()
      for (const waiter of waiters) waiter.resolve(connection)
    })
  }

  readonly #onDispatch = (message: Message): void => {
    this.emit('dispatch', message)
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#stop.signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#stop.signal.addEventListener('abort', done, { once: true })
    })
  }

  #giveUp(error: IpcError): void {
    this.#final = error
    const told = this.#waiters.size > 0 || this.listenerCount('error') > 0
    if (this.listenerCount('error') > 0) isolated(() => this.emit('error', error))
    if (!told) process.emitWarning(error.message, { type: 'CoroipcClientError', code: error.code })
    void this.close()
  }

  /**
   * Waits for a connection.
   *
   * @throws (rejects) `ERR_COROIPC_TIMED_OUT`, `_ABORTED`, `_DISCONNECTED` after `close`, or what made it
   *   give up
   */
  connected(options?: {
    readonly timeoutMs?: number | undefined
    readonly signal?: AbortSignal | undefined
  }): Promise<Connection> {
    return this.#connected(this.#order++, undefined, options)
  }

  /** A connection that is not `over`, which has ended although its end is perhaps not told yet. */
  #connected(
    order: number,
    over: Connection | undefined,
    options:
      | { readonly timeoutMs?: number | undefined; readonly signal?: AbortSignal | undefined }
      | undefined,
  ): Promise<Connection> {
    return new Promise((resolve, reject) => {
      checkOptions('options', options, waitChecks)
      const subject = 'connected'
      const { connection } = this
      if (connection !== undefined && connection !== over) {
        resolve(connection)
        return
      }
      if (this.closed) throw this.#over()
      const signal = options?.signal
      const timeoutMs = options?.timeoutMs ?? DEFAULT_TIMEOUT_MS
      if (signal?.aborted === true)
        throw ipcError(Status.ABORTED, { subject, cause: signal.reason, sent: false })
      const settle = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        order,
        resolve: (found) => {
          settle()
          resolve(found)
        },
        reject: (error) => {
          settle()
          reject(error)
        },
      }
      const onAbort = (): void =>
        waiter.reject(ipcError(Status.ABORTED, { subject, cause: signal?.reason, sent: false }))
      const timer =
        timeoutMs === Infinity
          ? undefined
          : setTimeout(
              () => waiter.reject(ipcError(Status.TIMED_OUT, { subject, sent: false })),
              timeoutMs,
            )
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiters.add(waiter)
    })
  }

  /**
   * As `connection.request`, over the connection that is there or the next one. `timeoutMs` covers both
   * the wait and the request.
   */
  request(id: number, payload?: RequestPayload, options?: PayloadOptions): Promise<Uint8Array>
  request(id: number, payload: RequestPayload, options: FullOptions): Promise<Answer>
  request(id: number, payload: RequestPayload, options: LeaseOptions): Promise<Lease>
  request(id: number, payload?: RequestPayload, options?: RequestOptions): Promise<Outcome>
  async request(id: number, payload?: RequestPayload, options?: RequestOptions): Promise<Outcome> {
    if (options !== undefined) checkRequest(options)
    const timeoutMs = options?.timeoutMs ?? this.#options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS
    const until = performance.now() + timeoutMs
    const left = (): number =>
      timeoutMs === Infinity ? Infinity : Math.max(1, until - performance.now())
    // The caller's memory is the caller's again when this returns, and there may be another connection to send to.
    const mine = ownPayload(payload)
    const order = this.#order++
    let here = this.connection
    let over: Connection | undefined
    let rest = options
    for (;;) {
      if (here === undefined) {
        here = await this.#connected(order, over, { timeoutMs: left(), signal: options?.signal })
        rest = { ...options, timeoutMs: left() }
      }
      try {
        return await here.request(id, mine, rest)
      } catch (error) {
        if (this.closed || !isNeverHandedOver(error) || isBuffer(mine)) throw error
      }
      over = here
      here = undefined
    }
  }

  /** As `connection.send`; false also while there is no connection. */
  send(id: number, payload?: RequestPayload): boolean {
    const { connection } = this
    return connection === undefined ? false : connection.send(id, payload)
  }

  /** The connection has a listener of ours while we have one: it decides by that who gets dispatches. */
  #noteTakers(connection: Connection | undefined): void {
    if (connection === undefined) return
    const wants = this.listenerCount('dispatch') > 0
    const takes = connection.listeners('dispatch').includes(this.#onDispatch)
    if (wants && !takes) connection.on('dispatch', this.#onDispatch)
    else if (takes && !wants) connection.off('dispatch', this.#onDispatch)
  }

  override on<T extends EventEmitter.EventNames<ReconnectingEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ReconnectingEvents, T>,
    context?: unknown,
  ): this {
    super.on(event, listener, context)
    if (event === 'dispatch') this.#noteTakers(this.connection)
    return this
  }

  override addListener<T extends EventEmitter.EventNames<ReconnectingEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ReconnectingEvents, T>,
    context?: unknown,
  ): this {
    return this.on(event, listener, context)
  }

  override once<T extends EventEmitter.EventNames<ReconnectingEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ReconnectingEvents, T>,
    context?: unknown,
  ): this {
    super.once(event, listener, context)
    if (event === 'dispatch') this.#noteTakers(this.connection)
    return this
  }

  override removeListener<T extends EventEmitter.EventNames<ReconnectingEvents>>(
    event: T,
    listener?: EventEmitter.EventListener<ReconnectingEvents, T>,
    context?: unknown,
    once?: boolean,
  ): this {
    super.removeListener(event, listener, context, once)
    if (event === 'dispatch') this.#noteTakers(this.connection)
    return this
  }

  override off<T extends EventEmitter.EventNames<ReconnectingEvents>>(
    event: T,
    listener?: EventEmitter.EventListener<ReconnectingEvents, T>,
    context?: unknown,
    once?: boolean,
  ): this {
    return this.removeListener(event, listener, context, once)
  }

  override removeAllListeners(event?: EventEmitter.EventNames<ReconnectingEvents>): this {
    super.removeAllListeners(event)
    this.#noteTakers(this.connection)
    return this
  }

  /** Closes the connection that is there and makes no other. */
  async close(): Promise<void> {
    if (this.closed) return
    this.#stop.abort()
    const error = this.#over()
    for (const waiter of this.#waiters) waiter.reject(error)
    const connection = this.#connection
    this.#connection = undefined
    await connection?.close()
    isolated(() => this.emit('close'))
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #over(): IpcError {
    return this.#final ?? ipcError(Status.DISCONNECTED, { subject: 'reconnecting', sent: false })
  }
}

/** Whether a request ended with its connection and was not read by the server: asking the next one does nothing twice. */
function isNeverHandedOver(error: unknown): boolean {
  if (!IpcError.is(error) || error.sent !== false) return false
  return error.code === 'ERR_COROIPC_DISCONNECTED' || error.code === 'ERR_COROIPC_PEER_DEAD'
}

/** Memory of one connection, which no other one can send. */
function isBuffer(payload: RequestPayload): boolean {
  return payload instanceof SharedBuffer || payload instanceof BufferPart
}

/** A copy, unless nobody can change it. What is no payload stays as it is: `request` says so. */
function ownPayload(payload: RequestPayload): RequestPayload {
  if (payload === undefined || typeof payload === 'string' || isBuffer(payload)) return payload
  const bytes = payloadBytes(payload)
  return bytes === undefined ? payload : joined(bytes, payloadLength(bytes))
}

function definedOnly(options: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

/**
 * Makes a client that connects, and connects again when the server has gone: with growing pauses, until it
 * is closed, `signal` aborts, or the server says that it never will.
 *
 * @throws TypeError or RangeError `ERR_COROIPC_INVALID_ARGUMENT`
 */
export function reconnecting(name: string, options: ReconnectingOptions): Reconnecting {
  return new Reconnecting(name, options)
}
