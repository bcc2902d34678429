/**
 * The receiving half of a server: walks the rows of each batch, finds the connection and the handler,
 * and sends what the handler answered. One instance for each `Server`; nothing here is public.
 *
 *   row -> #authorize | #connected | #request | #cancelled | #disconnected | drain
 *   request -> (mutex) -> select or handlers -> admit -> handler -> #settle -> #send -> #finish
 *
 * A request is in `connection.pending` from the moment its handler has returned without an answer (or
 * it waits for the mutex) until it is answered: that is how a cancel and a death find it.
 */
import type { Addon, Credentials, Latency, NativeConnectionInfo, Stats } from '@coroipc/native'
import {
  addon,
  bufferError,
  BufferPart,
  Encoded,
  type FailedRow,
  In,
  invalidArgument,
  IpcError,
  ipcError,
  isBytes,
  isTraced,
  isTransferred,
  Kind,
  MessageLoop,
  nativeError,
  type NativePoll,
  type NativeServerOptions,
  payloadBytes,
  payloadError,
  payloadLength,
  Row,
  SharedBuffer,
  SMALL_BYTES,
  SMALL_TEXT,
  statsFrom,
  Status,
  statusOf,
  TRANSFERRED,
  Word,
} from '@coroipc/native'
import { type Connection, type ConnectionOwner, ServerConnection } from './connection.js'
import {
  connectChannel,
  type ConnectTrace,
  connectTracing,
  disconnectChannel,
  requestChannel,
  requestTracing,
} from './diagnostics.js'
import { type FullAnswer, type Request, type RequestOwner, ServerRequest } from './request.js'
import { RequestTraces } from './request-traces.js'
import type { Mutex } from './mutex.js'
import type { Recorder } from './recorder.js'
import { type Handler, rateCode, type Service, type TransientHandler } from './service.js'

/** Where an error came from, as far as it is known. */
export interface ErrorSource<Context = unknown> {
  readonly connection?: Connection<Context>
  readonly request?: Request<Context>
}

/** The developer's part in it, checked by `Server`. */
export interface LoopOptions<Context> {
  readonly authorize: (credentials: Credentials, service: number) => boolean | PromiseLike<boolean>
  readonly select:
    | ((
        service: number,
        id: number,
        connection: Connection<Context>,
      ) => Handler<Context> | undefined)
    | undefined
  /** Stands for services that were not added; only with `select`. */
  readonly anyService: Service<Context>
  readonly latency: Latency | undefined
  readonly native: NativeServerOptions
  readonly poll: NativePoll | undefined
}

/** What the loop tells `Server`. None of these may throw. */
export interface LoopEvents<Context> {
  connection(connection: Connection<Context>): void
  disconnect(connection: Connection<Context>, reason: IpcError): void
  denied(credentials: Credentials, service: number): void
  error(error: IpcError, source: ErrorSource<Context>): void
  /** The native side says something; levels as in pino. */
  log(level: number, text: string): void
  /** User `uid` has connected, for somebody else: only with `acceptRows`. The socket is the receiver's own. */
  accepted?(fd: number, uid: number): void
  /** A connection's resources were given back, or a request was answered: a closing server looks. */
  progress(): void
}

const EMPTY = new Uint8Array(0)

/** What is to be awaited. A proxy may throw when it is looked at, and so may a getter: inside the `try` of the call. */
function thenable(value: unknown): PromiseLike<unknown> | undefined {
  return typeof value === 'object' &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
    ? (value as PromiseLike<unknown>)
    : undefined
}

/** Runs user code whose exception must not stop a batch: it surfaces as any uncaught one does. */
export function isolated(call: () => void): void {
  try {
    call()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

export class ServerLoop<Context> implements ConnectionOwner, RequestOwner<Context> {
  readonly addon: Addon = addon
  readonly loop: MessageLoop
  readonly latency: Latency | undefined
  readonly services: Map<number, Service<Context>> = new Map()
  /** By number; a number is used again only after `release`. */
  readonly connections: (ServerConnection<Context> | undefined)[] = []
  /** Requests that are being handled and whose client still waits. */
  awaited = 0
  /** Connections whose resources are not given back yet. */
  alive = 0
  /** `run()`: promises cannot settle. */
  running = false
  /** `close()`: requests are answered RETRY. */
  closing = false
  /** Somebody waits for what is being handled: `progress` is told. */
  watched = false
  destroyed = false
  /** There while a tool records. */
  recorder: Recorder | undefined = undefined

  readonly #options: LoopOptions<Context>
  readonly #events: LoopEvents<Context>
  /** By connection number, between AUTHORIZE and CONNECTED: what `trust` said. */
  readonly #trusted: boolean[] = []
  /** By connection number: the verdict that is waited for. */
  readonly #authorizing: (object | undefined)[] = []
  readonly #stats: BigUint64Array = new BigUint64Array(addon.statsNames.length)
  #batchTime = 0
  /** Whether requests of the batch being walked are traced. */
  #traced = false
  /** Why an answer is invalid, on its way to whoever reports it: what its encoder threw, or which memory is not there. */
  #invalid: unknown
  /** Dispatches that ended connections answered false themselves. */
  #refused = 0
  /** Requests that are traced; made by the first. */
  #traces: RequestTraces | undefined
  /** By connection number, from `authorize` to CONNECTED: the connects that are traced. */
  readonly #connects: (ConnectTrace | undefined)[] = []

  constructor(options: LoopOptions<Context>, events: LoopEvents<Context>) {
    this.#options = options
    this.#events = events
    this.latency = options.latency
    this.loop = new MessageLoop(
      addon,
      (onBatch, onSent) =>
        addon.serverCreate(options.native, onBatch, onSent, options.poll, events.log),
      (count, blocks) => this.#batch(count, blocks),
      (rows) => this.#failed(rows),
      (status) => nativeError(-status, { subject: 'new Server' }),
    )
  }

  // -- receiving ------------------------------------------------------------------------------------

  #batch(count: number, blocks: ArrayBuffer[] | undefined): void {
    const { table, slab, large, words } = this.loop
    let block = 0
    // Payloads in the slab that somebody keeps; where the first one lies that nobody does.
    let kept = 0
    let lentFrom = -1
    const position = words[Word.slabPosition] as number
    const memory = this.loop.slabBytes(slab)
    this.#batchTime = 0
    // Who subscribes or records meanwhile sees the next batch.
    this.#traced = isTraced(requestTracing)
    const direct =
      !this.#traced &&
      this.#options.select === undefined &&
      this.latency === undefined &&
      this.recorder === undefined &&
      !requestChannel.hasSubscribers
    for (let at = 0, end = count * Row.length; at < end; at += Row.length) {
      const number = table[at + Row.connection] as number
      const flags = table[at + Row.flags] as number
      let buffer = -1
      let payload: Uint8Array = EMPTY
      const bytes = table[at + Row.bytes] as number
      const kind = table[at + Row.kind] as number
      try {
        // Closing is asked for each: a handler of this batch may have begun it, and those behind it are told RETRY.
        if (
          direct &&
          !this.closing &&
          kind === Kind.request &&
          flags === In.slab &&
          memory.length > 0
        ) {
          const connection = this.connections[number]
          if (connection?.home.direct === true && !connection.closed) {
            const id = table[at + Row.id] as number
            const offset = table[at + Row.offset] as number
            const transient = connection.home.transient(id)
            if (transient !== undefined) {
              if (lentFrom < 0 && bytes > 0) lentFrom = offset
              this.#lend(at, connection, transient, memory, offset, bytes)
              continue
            }
            const handler = connection.home.handler(id)
            if (handler !== undefined) {
              if (bytes > 0) {
                payload = new Uint8Array(slab, offset, bytes)
                kept++
              }
              this.#serve(at, connection, handler, payload)
              continue
            }
          }
        }
        if (kind <= Kind.dispatch && bytes > 0 && isTransferred(memory, large, flags)) {
          this.#lost(at, number, kind)
          continue
        }
        if (flags === In.block) {
          payload = new Uint8Array((blocks as ArrayBuffer[])[block++] as ArrayBuffer, 0, bytes)
        } else if (flags === In.large) {
          payload = new Uint8Array(large, table[at + Row.offset], bytes)
        } else if (kind <= Kind.dispatch && bytes > 0) {
          const offset = table[at + Row.offset] as number
          if (flags === In.slab) {
            payload = new Uint8Array(slab, offset, bytes)
            kept++
          } else {
            buffer = addon.serverBufferGet(
              this.loop.handle,
              number,
              table[at + Row.segment] as number,
            )
            if (buffer >= 0) payload = new Uint8Array(addon.bufferArray(buffer), offset, bytes)
          }
        }
        this.#row(at, number, kind, payload, buffer)
      } catch (error) {
        // Only the developer's listeners can get here; whatever they throw, the batch goes on.
        isolated(() => {
          throw error
        })
      }
    }
    if (lentFrom >= 0 && kept === 0) this.loop.turnBack(slab, position, lentFrom)
  }

  /** A request came, in memory which a handler of this batch has transferred to somebody else: as if its own had thrown. */
  #lost(at: number, number: number, kind: number): void {
    const { table } = this.loop
    const connection = this.connections[number]
    if (connection === undefined || connection.closed) return
    const request = new ServerRequest(
      this,
      connection,
      table[at + Row.id] as number,
      table[at + Row.correlation] as number,
      kind === Kind.send,
      EMPTY,
      (table[at + Row.argument] as number) >>> 0,
      0,
      -1,
    )
    this.#threw(request, new TypeError(TRANSFERRED), Status.HANDLER_FAILED)
  }

  /** The short way of a request that is answered at once, with few bytes. Whatever else comes of it goes the long way. */
  #serve(
    at: number,
    connection: ServerConnection<Context>,
    handler: Handler<Context>,
    payload: Uint8Array,
  ): void {
    const { table } = this.loop
    const correlation = table[at + Row.correlation] as number
    const id = table[at + Row.id] as number
    const timeoutMs = (table[at + Row.argument] as number) >>> 0
    const request = new ServerRequest<Context>(
      this,
      connection,
      id,
      correlation,
      false,
      payload,
      timeoutMs,
      0,
      -1,
    )
    let result: unknown
    try {
      result = handler(request, connection)
      // Here as well: a proxy may throw when it is looked at, and so may a getter.
      if (
        isBytes(result) &&
        result.length <= Math.min(SMALL_BYTES, connection.messageBytes) &&
        !request.answered &&
        !request.isDeferred &&
        !connection.closed
      ) {
        this.loop.post(connection.number, Kind.response, 0, correlation, 0, 0, result)
        request.finished()
        return
      }
    } catch (error) {
      this.#threw(request, error, Status.HANDLER_FAILED)
      return
    }
    void this.#returned(request, connection, result)
  }

  /** The same where its bytes are lent to the handler, and nothing is made for it that its answer does not need. */
  #lend(
    at: number,
    connection: ServerConnection<Context>,
    handler: TransientHandler<Context>,
    memory: Uint8Array,
    offset: number,
    bytes: number,
  ): void {
    const { table } = this.loop
    const correlation = table[at + Row.correlation] as number
    const id = table[at + Row.id] as number
    const timeoutMs = (table[at + Row.argument] as number) >>> 0
    let result: unknown
    try {
      result = handler(memory, offset, bytes, connection)
      if (
        isBytes(result) &&
        result.length <= Math.min(SMALL_BYTES, connection.messageBytes) &&
        !connection.closed
      ) {
        this.loop.post(connection.number, Kind.response, 0, correlation, 0, 0, result)
        return
      }
    } catch (error) {
      const failed = this.#lent(connection, id, correlation, timeoutMs)
      this.#threw(failed, error, Status.HANDLER_FAILED)
      return
    }
    const request = this.#lent(connection, id, correlation, timeoutMs)
    void this.#returned(request, connection, result)
  }

  /** The request that a transient handler had, for whatever comes of it: its bytes were lent, and are gone. */
  #lent(
    connection: ServerConnection<Context>,
    id: number,
    correlation: number,
    timeoutMs: number,
  ): ServerRequest<Context> {
    return new ServerRequest(this, connection, id, correlation, false, EMPTY, timeoutMs, 0, -1)
  }

  #row(at: number, number: number, kind: number, payload: Uint8Array, buffer: number): void {
    const { table } = this.loop
    const connection = this.connections[number]
    switch (kind) {
      case Kind.request:
      case Kind.send: {
        const timeoutMs = table[at + Row.argument] as number
        const correlation = table[at + Row.correlation] as number
        if (connection === undefined || connection.closed) {
          if (buffer >= 0) addon.bufferRelease(buffer)
          return
        }
        let received = 0
        if (this.latency !== undefined) {
          if (this.#batchTime === 0) this.#batchTime = performance.now()
          received = this.#batchTime
        }
        const request = new ServerRequest(
          this,
          connection,
          table[at + Row.id] as number,
          correlation,
          kind === Kind.send,
          payload,
          timeoutMs >>> 0,
          received,
          buffer,
        )
        if (this.recorder !== undefined) this.recorder.request(connection, request)
        const { mutex } = connection.home
        if (this.#traced) this.#handleTraced(request, connection, mutex)
        else if (mutex === undefined) void this.#handle(request, connection)
        else this.#handleAlone(request, connection, mutex)
        return
      }
      case Kind.cancel:
        this.#abort(
          connection?.pending[slotOf(table[at + Row.correlation] as number)],
          ipcError(Status.ABORTED, { subject: 'the client gave the request up' }),
        )
        return
      case Kind.authorize:
        this.#authorize(number, table[at + Row.id] as number)
        return
      case Kind.authorizeEnded:
        this.#authorizing[number] = undefined
        this.#trusted[number] = false
        this.#connectFailed(number, table[at + Row.argument] as number)
        return
      case Kind.connected:
        this.#connected(number)
        return
      case Kind.disconnected:
        this.#disconnected(number, table[at + Row.argument] as number)
        return
      case Kind.drain:
        if (connection !== undefined && !connection.closed) connection.drained()
        return
      case Kind.accepted:
        this.#events.accepted?.(
          table[at + Row.argument] as number,
          (table[at + Row.correlation] as number) >>> 0,
        )
        return
      default:
    }
  }

  // -- connections ----------------------------------------------------------------------------------

  #authorize(number: number, service: number): void {
    const info = addon.serverConnectionInfo(this.loop.handle, number)
    if (typeof info === 'number') return
    if (!isTraced(connectTracing)) {
      this.#ask(number, info, service)
      return
    }
    const trace: ConnectTrace = { credentials: info.credentials, service }
    this.#connects[number] = trace
    connectTracing.start.runStores(trace, () => this.#ask(number, info, service))
    connectTracing.end.publish(trace)
  }

  #ask(number: number, info: NativeConnectionInfo, service: number): void {
    let verdict: unknown
    let later: PromiseLike<unknown> | undefined
    try {
      verdict = this.#options.authorize(info.credentials, service)
      later = thenable(verdict)
    } catch (error) {
      this.#events.error(hookFailed('authorize', error), {})
    }
    if (later === undefined) {
      this.#verdict(number, info, verdict)
      return
    }
    if (this.running) {
      void settled(later, () => {})
      this.#events.error(ipcError(Status.HANDLER_ASYNC, { subject: 'authorize' }), {})
      this.#verdict(number, info, false)
      return
    }
    const token = {}
    this.#authorizing[number] = token
    const settle = (value: unknown): void => {
      // The number may be somebody else's by now.
      if (this.#authorizing[number] !== token || this.destroyed) return
      this.#authorizing[number] = undefined
      this.#verdict(number, info, value)
    }
    void settled(
      later,
      (error) => {
        this.#events.error(hookRejected('authorize', error), {})
        settle(false)
      },
      settle,
    )
  }

  #verdict(number: number, info: NativeConnectionInfo, verdict: unknown): void {
    const home = this.#home(info.service)
    let trusted = false
    let status: number = verdict === true ? Status.OK : Status.DENIED
    if (status === Status.OK && home === undefined) status = Status.NO_SERVICE
    if (status === Status.OK && home?.options.trust !== undefined) {
      try {
        const answer: unknown = home.options.trust(info.credentials)
        // Memory that is shared is shown as external ArrayBuffers; where the host has none, it is copied.
        trusted = answer === true && addon.externalBuffers
      } catch (error) {
        this.#events.error(hookFailed('trust', error), {})
        status = Status.DENIED
      }
    }
    this.#trusted[number] = trusted
    if (status !== Status.OK) {
      this.#events.denied(info.credentials, info.service)
      this.#connectFailed(number, status)
    }
    addon.authorize(this.loop.handle, number, status, trusted)
  }

  #connectFailed(number: number, status: number): void {
    const trace = this.#connects[number]
    if (trace === undefined) return
    this.#connects[number] = undefined
    // `authorize` may have said so at once: `end` comes first.
    queueMicrotask(() => {
      trace.error = ipcError(status)
      connectTracing.error.publish(trace)
      connectTracing.asyncStart.publish(trace)
      connectTracing.asyncEnd.publish(trace)
    })
  }

  #home(service: number): Service<Context> | undefined {
    return (
      this.services.get(service) ??
      (this.#options.select === undefined ? undefined : this.#options.anyService)
    )
  }

  #connected(number: number): void {
    // Asked again: sizes were agreed on after authorize.
    const info = addon.serverConnectionInfo(this.loop.handle, number)
    if (typeof info === 'number') return
    const home = this.#home(info.service)
    if (home === undefined || this.closing) {
      this.#connectFailed(number, Status.DISCONNECTED)
      addon.serverDisconnect(this.loop.handle, number, Status.DISCONNECTED)
      return
    }
    const connection = new ServerConnection<Context>(
      this,
      number,
      info,
      home,
      this.#trusted[number] ?? false,
    )
    this.connections[number] = connection
    this.alive++
    this.recorder?.connected(connection)
    if (connectChannel.hasSubscribers) connectChannel.publish({ connection })
    const trace = this.#connects[number]
    this.#connects[number] = undefined
    const welcome =
      trace === undefined
        ? () => this.#welcome(connection)
        : () => this.#welcomeTraced(connection, trace)
    if (home.mutex === undefined) void welcome()
    else home.mutex.run(welcome)
  }

  #welcomeTraced(
    connection: ServerConnection<Context>,
    trace: ConnectTrace,
  ): Promise<void> | undefined {
    trace.connection = connection
    const end = (): void => {
      if (trace.error !== undefined) connectTracing.error.publish(trace)
      connectTracing.asyncEnd.publish(trace)
    }
    const result = connectTracing.asyncStart.runStores(trace, () =>
      this.#welcome(connection, trace),
    )
    if (result === undefined) end()
    return result?.then(end)
  }

  #welcome(connection: ServerConnection<Context>, trace?: ConnectTrace): Promise<void> | undefined {
    const { context, onConnect } = connection.home.options
    let later: PromiseLike<unknown> | undefined
    try {
      if (context !== undefined) connection.context = context(connection)
      connection.welcomed = true
      later = thenable(onConnect?.(connection))
    } catch (error) {
      const hook = connection.welcomed ? 'onConnect' : 'context'
      this.#unwelcome(connection, hookFailed(hook, error), trace)
      return undefined
    }
    this.#events.connection(connection)
    if (later === undefined) return undefined
    if (this.running) {
      void settled(later, () => {})
      this.#unwelcome(connection, ipcError(Status.HANDLER_ASYNC, { subject: 'onConnect' }), trace)
      return undefined
    }
    return settled(later, (error) =>
      this.#unwelcome(connection, hookRejected('onConnect', error), trace),
    )
  }

  #unwelcome(
    connection: ServerConnection<Context>,
    error: IpcError,
    trace: ConnectTrace | undefined,
  ): void {
    if (trace !== undefined) trace.error = error
    this.#events.error(error, { connection })
    connection.disconnect()
  }

  #disconnected(number: number, why: number): void {
    this.#trusted[number] = false
    this.#authorizing[number] = undefined
    const connection = this.connections[number]
    if (connection === undefined) {
      addon.release(this.loop.handle, number)
      return
    }
    connection.closed = true
    const reason = ipcError(why === Status.OK ? Status.DISCONNECTED : why)
    for (const request of connection.pending) this.#abort(request, reason)
    this.recorder?.disconnected(connection)
    if (disconnectChannel.hasSubscribers) disconnectChannel.publish({ connection, reason })
    const farewell = (): Promise<void> | undefined => this.#farewell(connection, reason)
    isolated(() => connection.emit('close', reason))
    if (connection.welcomed) this.#events.disconnect(connection, reason)
    if (connection.home.mutex === undefined) void farewell()
    else connection.home.mutex.run(farewell)
  }

  #farewell(connection: ServerConnection<Context>, reason: IpcError): Promise<void> | undefined {
    let later: PromiseLike<unknown> | undefined
    try {
      if (connection.welcomed)
        later = thenable(connection.home.options.onDisconnect?.(connection, reason))
    } catch (error) {
      this.#events.error(hookFailed('onDisconnect', error), { connection })
    }
    if (later !== undefined) {
      if (!this.running) {
        return settled(later, (error) =>
          this.#events.error(hookRejected('onDisconnect', error), { connection }),
        ).then(() => connection.end())
      }
      void settled(later, () => {})
      const error = ipcError(Status.HANDLER_ASYNC, { subject: 'onDisconnect' })
      this.#events.error(error, { connection })
    }
    connection.end()
    return undefined
  }

  /** ConnectionOwner: onDisconnect is done and nobody holds it. */
  released(connection: { readonly number: number }): void {
    const { number } = connection
    const ended = this.connections[number]
    if (ended === undefined) return
    // Handlers that still run finish with their promise; of a deferred request nothing more may come.
    for (const request of ended.pending) if (request?.isDeferred) this.#finish(request, ended, '')
    this.#refused += ended.refused
    this.connections[number] = undefined
    this.alive--
    if (!this.destroyed) addon.release(this.loop.handle, number)
    this.#events.progress()
  }

  // -- requests -------------------------------------------------------------------------------------

  // No closure in what every request goes through: one that closes over an argument costs each call an
  // allocation, also those that never make it.

  #handleAlone(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    mutex: Mutex,
  ): void {
    this.#list(request, connection)
    mutex.run(() => this.#handle(request, connection))
  }

  /** Between the tracing channel's `start` and `end`, whatever becomes of it. */
  #handleTraced(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    mutex: Mutex | undefined,
  ): void {
    const traces = (this.#traces ??= new RequestTraces())
    const handle = (): Promise<void> | undefined =>
      traces.run(request, () => this.#handle(request, connection))
    if (mutex === undefined) {
      void handle()
      return
    }
    this.#list(request, connection)
    mutex.run(handle)
  }

  #handle(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
  ): Promise<void> | undefined {
    const { options } = connection.home
    if (connection.closed && request.listed) {
      this.#finish(request, connection, '')
      return undefined
    }
    let handler: Handler<Context> | undefined
    let result: unknown
    try {
      if (this.closing) {
        this.#code(request, connection, Status.RETRY)
        return undefined
      }
      if (this.#options.select !== undefined)
        handler = this.#options.select(connection.service, request.id, connection)
      if (handler === undefined) handler = connection.home.handler(request.id)
      if (typeof handler !== 'function') {
        this.#code(request, connection, Status.NO_HANDLER)
        return undefined
      }
      if (options.admit !== undefined || options.onAdmitted !== undefined) {
        request.admitted = true
        const admission: unknown = options.admit === undefined ? 'accept' : options.admit(request)
        if (admission !== 'accept') {
          if (admission === 'retry') this.#code(request, connection, Status.RETRY)
          else {
            this.#code(request, connection, Status.REFUSED)
            if (admission !== 'refuse')
              throw invalidArgument('admit', "'accept', 'retry' or 'refuse'", admission)
          }
          return undefined
        }
      }
      result = handler(request, connection)
    } catch (error) {
      this.#threw(request, error, Status.HANDLER_FAILED)
      return undefined
    }
    return this.#returned(request, connection, result)
  }

  /** What a handler has returned: its answer, or a promise of it. */
  #returned(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    result: unknown,
  ): Promise<void> | undefined {
    let later: PromiseLike<unknown> | undefined
    try {
      if (!(result instanceof Uint8Array)) later = thenable(result)
    } catch (error) {
      this.#threw(request, error, Status.HANDLER_FAILED) // a getter of what it returned
      return undefined
    }
    if (later === undefined) {
      this.#settle(request, connection, result)
      return undefined
    }
    if (this.running) {
      void settled(later, () => {})
      this.#threw(
        request,
        ipcError(Status.HANDLER_ASYNC, { subject: describe(request) }),
        Status.HANDLER_ASYNC,
      )
      return undefined
    }
    this.#list(request, connection)
    return this.#await(request, connection, later)
  }

  #await(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    result: PromiseLike<unknown>,
  ): Promise<void> {
    return settled(
      result,
      (error) => this.#threw(request, error, Status.HANDLER_REJECTED),
      (value) => this.#settle(request, connection, value),
    )
  }

  /** The handler has said what it wants to say. */
  #settle(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    result: unknown,
  ): void {
    if (request.answered) {
      if (result !== undefined) {
        // The words of the table are about what is no answer; this one came too late.
        const message = `${describe(request)} was answered already; what its handler returned is dropped`
        const error = new IpcError('ERR_COROIPC_ANSWER_INVALID', message)
        this.#events.error(error, { connection, request })
      }
    } else if (request.isDeferred) {
      // With a value as well: it is the answer, after all.
      if (result !== undefined) this.#answer(request, connection, result, 0)
    } else this.#answer(request, connection, result, 0)
  }

  #answer(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    result: unknown,
    status: number,
  ): void {
    if (request.oneWay || connection.closed) {
      this.#finish(request, connection, 'OK')
      return
    }
    let code: number
    try {
      code = this.#send(request, connection, result, status)
    } catch (error) {
      this.#threw(request, error, Status.HANDLER_FAILED) // a getter of the answer
      return
    }
    if (code === Status.OK) {
      this.#finish(request, connection, 'OK')
      return
    }
    const subject = describe(request)
    const cause = this.#invalid
    this.#invalid = undefined
    if (isTold(code)) this.#finish(request, connection, ipcErrorCode(code))
    else this.#code(request, connection, code)
    this.#events.error(ipcError(code, { subject, cause }), { connection, request })
  }

  /** Sends an answer; a code other than OK means that nothing was sent, unless `isTold(code)`. */
  #send(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    payload: unknown,
    status: number,
  ): number {
    const { loop } = this
    const { number } = connection
    const { correlation } = request
    if (this.recorder !== undefined) this.recorder.answering(payload, status)
    if (payload === undefined) {
      loop.post(number, Kind.response, 0, correlation, status, 0, EMPTY)
      return Status.OK
    }
    let bytes: Uint8Array | Uint8Array[] | undefined
    if (isBytes(payload)) {
      if (payload.length <= SMALL_BYTES && payload.length <= connection.messageBytes) {
        loop.post(number, Kind.response, 0, correlation, status, 0, payload)
        return Status.OK
      }
      bytes = payload
    } else if (typeof payload === 'string') {
      if (payload.length <= SMALL_TEXT && payload.length * 3 <= connection.messageBytes) {
        loop.postText(number, Kind.response, 0, correlation, status, 0, payload)
        return Status.OK
      }
      bytes = Buffer.from(payload, 'utf8')
    } else {
      if (payload instanceof SharedBuffer || payload instanceof BufferPart)
        return this.#sendBuffer(request, connection, payload, status)
      if (payload instanceof Encoded) {
        try {
          return this.#send(request, connection, loop.encode(payload), status)
        } catch (error) {
          this.#invalid = error
          return Status.ANSWER_INVALID
        }
      }
      bytes = payloadBytes(payload)
      if (bytes === undefined) {
        // Neither bytes nor a list: the object form, or nothing that could be sent.
        if (!isFullAnswer(payload)) {
          if (
            Array.isArray(payload) ||
            ArrayBuffer.isView(payload) ||
            payload instanceof ArrayBuffer
          )
            this.#invalid = payloadError('payload', payload)
          return Status.ANSWER_INVALID
        }
        const own = payload.status ?? 0
        if (!Number.isInteger(own) || own !== (own | 0)) return Status.ANSWER_INVALID
        if (isFullAnswer(payload.payload)) return Status.ANSWER_INVALID
        return this.#send(request, connection, payload.payload, own)
      }
    }
    const length = payloadLength(bytes)
    if (length > connection.messageBytes) return Status.ANSWER_TOO_LARGE
    if (length <= SMALL_BYTES) {
      if (isBytes(bytes)) loop.post(number, Kind.response, 0, correlation, status, 0, bytes)
      else loop.postParts(number, Kind.response, 0, correlation, status, 0, bytes)
      return Status.OK
    }
    loop.flush()
    return this.#sent(addon.respond(loop.handle, number, correlation, Status.OK, status, bytes))
  }

  #sendBuffer(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    payload: SharedBuffer | BufferPart,
    status: number,
  ): number {
    const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
    const wrong = bufferError(payload)
    if (wrong !== undefined) {
      this.#invalid = wrong
      return Status.ANSWER_INVALID
    }
    let code: number
    if (buffer.inPlace && buffer.owner === connection) {
      const offset = payload instanceof SharedBuffer ? 0 : payload.offset
      this.loop.flush()
      code = this.#sent(
        addon.respondBuffer(
          this.loop.handle,
          connection.number,
          request.correlation,
          status,
          buffer.handle,
          offset,
          payload.byteLength,
        ),
      )
    } else code = this.#send(request, connection, payload.bytes, status)
    if (code === Status.OK && buffer.owner === connection) buffer.release()
    return code
  }

  /** What a direct send means for the answer: a client that is gone needs none. */
  #sent(result: number): number {
    switch (-result) {
      case Status.PEER_DEAD:
      case Status.DISCONNECTED:
      case Status.PROTOCOL:
      case Status.OK:
        return Status.OK
      case Status.TOO_LARGE:
        return Status.ANSWER_TOO_LARGE
      default:
        return -result
    }
  }

  /** Answers with a code alone. */
  #code(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    code: number,
  ): void {
    if (!request.oneWay && !connection.closed)
      this.loop.post(connection.number, Kind.response, 0, request.correlation, 0, code, EMPTY)
    this.#finish(request, connection, code === Status.OK ? 'OK' : ipcErrorCode(code))
  }

  /** A handler, `admit` or `select` threw, or its promise was rejected. */
  #threw(request: ServerRequest<Context>, error: unknown, code: number): void {
    const connection = request.connection as ServerConnection<Context>
    this.#traces?.threw(request, error)
    const deliberate =
      IpcError.is(error, 'ERR_COROIPC_RETRY') || IpcError.is(error, 'ERR_COROIPC_REFUSED')
    if (!request.answered) {
      // A handler that stops because nobody waits any more does what it should; and whose clock was first
      // makes no difference to the client.
      const told = deliberate ? error : request.abortedBy(error)
      this.#code(request, connection, statusOf(told) ?? code)
      if (told !== undefined) return
    }
    const wrapped =
      code === Status.HANDLER_ASYNC
        ? (error as IpcError)
        : ipcError(code, { subject: describe(request), cause: error })
    this.#events.error(wrapped, { connection, request })
  }

  #list(request: ServerRequest<Context>, connection: ServerConnection<Context>): void {
    if (request.listed || request.answered || request.oneWay) return
    request.listed = true
    request.noteReceived()
    request.awaited = true
    connection.pending[slotOf(request.correlation)] = request
    this.awaited++
  }

  /** Nobody waits for it any more, neither its client nor a closing server. */
  #abort(request: ServerRequest<Context> | undefined, reason: Error): void {
    if (request === undefined) return
    this.#unawait(request)
    request.abort(reason)
  }

  #unawait(request: ServerRequest<Context>): void {
    if (!request.awaited) return
    request.awaited = false
    this.awaited--
    if (this.watched) this.#events.progress()
  }

  #finish(
    request: ServerRequest<Context>,
    connection: ServerConnection<Context>,
    code: string,
  ): void {
    request.finished()
    if (this.recorder !== undefined) this.recorder.finished(connection, request, code)
    if (request.listed) {
      request.listed = false
      connection.pending[slotOf(request.correlation)] = undefined
      this.#unawait(request)
    }
    if (request.buffer !== -1) addon.bufferRelease(request.buffer)
    if (this.latency !== undefined) {
      const now = performance.now()
      this.latency.record(request.received, now)
      connection.latency?.record(request.received, now)
    }
    if (request.admitted) {
      request.admitted = false
      try {
        connection.home.options.onAdmitted?.(request)
      } catch (error) {
        this.#events.error(hookFailed('onAdmitted', error), { connection, request })
      }
    }
    if (requestChannel.hasSubscribers) requestChannel.publish({ request, code })
    this.#traces?.finished(request, code)
  }

  // -- RequestOwner ---------------------------------------------------------------------------------

  respond(request: ServerRequest<Context>, payload: unknown, status: number): boolean {
    const connection = request.connection as ServerConnection<Context>
    if (request.answered) {
      if (connection.closed) return false
      throw invalidArgument('respond', 'a request without an answer', request.id, 'type')
    }
    if (!Number.isInteger(status) || status !== (status | 0))
      throw invalidArgument('status', 'a 32-bit integer', status)
    if (request.oneWay || connection.closed) {
      this.#finish(request, connection, '')
      return false
    }
    const code = this.#send(request, connection, payload, status)
    if (code === Status.OK) {
      this.#finish(request, connection, 'OK')
      return true
    }
    if (isTold(code)) this.#finish(request, connection, ipcErrorCode(code))
    const invalid = this.#invalid
    this.#invalid = undefined
    if (invalid !== undefined) throw invalid
    if (code === Status.ANSWER_INVALID)
      throw invalidArgument('payload', 'bytes, a list of bytes or a buffer', payload, 'type')
    const subject = `answer to ${describe(request)}`
    throw code === Status.ANSWER_TOO_LARGE
      ? ipcError(Status.TOO_LARGE, {
          subject: `${subject}, at most ${connection.messageBytes} bytes`,
        })
      : ipcError(code, { subject })
  }

  fail(request: ServerRequest<Context>, error: unknown, code: number): boolean {
    const connection = request.connection as ServerConnection<Context>
    if (request.answered) {
      if (connection.closed) return false
      throw invalidArgument('fail', 'a request without an answer', request.id, 'type')
    }
    const waited = !request.oneWay && !connection.closed
    this.#threw(request, error, code)
    return waited
  }

  deferred(request: ServerRequest<Context>): void {
    this.#list(request, request.connection as ServerConnection<Context>)
  }

  // -- the rest -------------------------------------------------------------------------------------

  /** Rows that a flush could not send. */
  #failed(rows: readonly FailedRow[]): void {
    for (const row of rows) {
      const connection = this.connections[row.connection]
      if (connection === undefined) continue
      switch (row.code) {
        case Status.FULL:
          if (row.kind === Kind.dispatch) connection.block()
          break
        case Status.PEER_DEAD:
        case Status.DISCONNECTED:
        case Status.PROTOCOL:
        case Status.BACKLOG_OVERFLOW:
          // The row that says so comes after this turn: whoever dispatches in a loop must see it now.
          connection.block()
          break
        default:
          this.#events.error(
            ipcError(row.code, { subject: row.kind === Kind.dispatch ? 'dispatch' : 'answer' }),
            { connection },
          )
      }
    }
  }

  /** How long the oldest of the requests waits whose handler has returned without an answer; 0: none does. */
  oldestMs(): number {
    let oldest = Infinity
    for (const connection of this.connections)
      for (const request of connection?.pending ?? [])
        if (request !== undefined && request.received !== 0)
          oldest = Math.min(oldest, request.received)
    return oldest === Infinity ? 0 : performance.now() - oldest
  }

  /**
   * Closing for a successor: no connection is read any more, and those that owe their client nothing end. True while some are
   * left, or on their way in.
   */
  leave(): boolean {
    const { handle } = this.loop
    for (const connection of this.connections) {
      if (connection === undefined || connection.closed) continue
      const { unsentResponses, backlogMessages } = this.readStats(connection.number, false)
      const handled = connection.pending.some((request) => request !== undefined)
      if (handled || unsentResponses + backlogMessages > 0)
        addon.rateLimit(handle, connection.number, rateCode(0))
      else connection.disconnect()
    }
    return (
      this.connections.some((each) => each?.closed === false) ||
      this.readStats(-1, false).handshakesPending > 0
    )
  }

  readStats(connection: number, clear: boolean): Stats {
    this.loop.flush() // what was said to be queued counts
    addon.stats(this.loop.handle, connection, clear, this.#stats)
    const stats = statsFrom(this.#stats)
    if (connection >= 0) return stats
    let overload = stats.overload + this.#refused
    for (const each of this.connections) overload += each?.refused ?? 0
    if (clear) {
      this.#refused = 0
      for (const each of this.connections) if (each !== undefined) each.refused = 0
    }
    return { ...stats, overload }
  }

  /** Of `readStats` what the native side counts, without a look at each connection. */
  counts(): Stats {
    addon.stats(this.loop.handle, -1, false, this.#stats)
    return statsFrom(this.#stats)
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.loop.destroyed()
    addon.serverDestroy(this.loop.handle)
  }
}

/** Waits for a promise of the developer's, whatever it comes to: also a `then` that throws is a rejection. */
async function settled(
  promise: PromiseLike<unknown>,
  failed: (error: unknown) => void,
  done?: (value: unknown) => void,
): Promise<void> {
  let value: unknown
  try {
    value = await promise
  } catch (error) {
    failed(error)
    return
  }
  done?.(value)
}

/** What the `error` event says of a hook that threw. */
function hookFailed(hook: string, cause: unknown): IpcError {
  return ipcError(Status.HANDLER_FAILED, { subject: hook, cause })
}

/** The same of one whose promise was rejected. */
function hookRejected(hook: string, cause: unknown): IpcError {
  return ipcError(Status.HANDLER_REJECTED, { subject: hook, cause })
}

/** Slot of a correlation: its lower half. */
function slotOf(correlation: number): number {
  return correlation & 0xffff
}

function describe(request: { readonly id: number; readonly service: number }): string {
  return `request ${request.id} of service ${request.service}`
}

function ipcErrorCode(code: number): string {
  return ipcError(code).code
}

/** An answer that cannot be kept: the native side has answered with that code instead. */
function isTold(code: number): boolean {
  return code === Status.LIMIT || code === Status.NO_MEMORY
}

function isFullAnswer(value: unknown): value is FullAnswer {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !ArrayBuffer.isView(value) &&
    !(value instanceof ArrayBuffer) &&
    ('payload' in value || 'status' in value) &&
    Object.keys(value).every((key) => key === 'payload' || key === 'status')
  )
}
