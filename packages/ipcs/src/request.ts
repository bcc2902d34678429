/** A request while it is being handled: what came, who asks, and the ways to answer. */
import type { BufferPart, Encoded, Payload, SharedBuffer } from '@coroipc/native'
import { ipcError, Status, TIMEOUT_MS_MAX } from '@coroipc/native'
import type { Connection } from './connection.js'

/** What an answer consists of: bytes in any form, a buffer made by `connection.allocate`, or a value with its encoder. */
export type AnswerPayload = Payload | SharedBuffer | BufferPart | Encoded | undefined

/** An answer that sets the application's own status as well. */
export interface FullAnswer {
  /** Any int32; the client reads it with `{ full: true }`. Default 0. */
  readonly status?: number | undefined
  readonly payload?: AnswerPayload | undefined
}

/** What a handler may return: see {@link Handler}. */
export type Answer = AnswerPayload | FullAnswer | void

/**
 * One request of a client, as its handler sees it.
 *
 * @example
 * const handler = async (request: Request) => {
 *   const text = await readFile(name, { signal: request.signal })
 *   return text
 * }
 */
export interface Request<Context = unknown> {
  /** Who asks. */
  readonly connection: Connection<Context>
  /** The service that was connected to, 0 to 65535. */
  readonly service: number
  /** The request's id within the service, 0 to 65535. */
  readonly id: number
  /**
   * The bytes that came. They are the handler's own for ever: nothing else is written there. The
   * exception is any large request, from a buffer or not, of a client that the service trusts
   * (`inPlace`): it is read where it lies, those bytes are the client's again, and the view has length 0,
   * once the request is answered.
   */
  readonly payload: Uint8Array
  /** True if `payload` is memory that the client can still change. Only where `trust` said so. */
  readonly inPlace: boolean
  /** True for `connection.send`: nobody waits, and what the handler returns goes nowhere. */
  readonly oneWay: boolean
  /** When the client gives up, on the clock of `performance.now()`; Infinity if it waits for ever. */
  readonly deadline: number
  /**
   * Aborts when nobody waits for the answer any more: the client's deadline has passed
   * (`ERR_COROIPC_TIMED_OUT`), it cancelled the request (`ERR_COROIPC_ABORTED`), or it is gone
   * (`ERR_COROIPC_PEER_DEAD`, `ERR_COROIPC_DISCONNECTED`); the reason is that error. Made when it is
   * first read. A handler that obeys it, by throwing that reason or an AbortError, has not failed: the
   * answer is the reason's code. Under `server.run()` it only tells what was known before the handler ran.
   */
  readonly signal: AbortSignal
  /** True once it was answered, by whatever way. */
  readonly answered: boolean
  /**
   * Says that the answer comes later, by `respond` or `fail`: the handler's own return is then no
   * answer. Counts against the client's requests in flight until it is answered.
   */
  defer(): void
  /**
   * Answers now; a handler that did so returns nothing. Never blocks: what finds no room in the ring
   * waits in private memory, bounded by `limits.unsentBytes`.
   *
   * @returns false if nobody waits: a one-way request, or the client is gone.
   * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT` if it was answered already or `payload` is none;
   *   `ERR_COROIPC_TOO_LARGE` above the connection's `messageBytes`: it is then still unanswered;
   *   `ERR_COROIPC_LIMIT`, `ERR_COROIPC_NO_MEMORY`: a large answer for which no segment can be had. The
   *   client was answered with that code.
   */
  respond(payload?: AnswerPayload, options?: { readonly status?: number | undefined }): boolean
  /**
   * Answers with a failure, as if the handler had thrown `error`: `ERR_COROIPC_HANDLER_FAILED`, or
   * `ERR_COROIPC_RETRY` / `ERR_COROIPC_REFUSED` if that is the error's code.
   *
   * @returns as `respond`
   */
  fail(error: unknown): boolean
}

/** What a request needs of its server. */
export interface RequestOwner<Context> {
  respond(request: ServerRequest<Context>, payload: unknown, status: number): boolean
  fail(request: ServerRequest<Context>, error: unknown, code: number): boolean
  deferred(request: ServerRequest<Context>): void
}

/** The request behind the interface. One object for each; nothing is made that nobody asks for. */
export class ServerRequest<Context> implements Request<Context> {
  // Declared, and set in the constructor once: a field of a class is defined first, by a call for each request.
  declare readonly connection: Connection<Context>
  /** Both as they came, unless a subscriber of the tracing channel has replaced them. */
  declare id: number
  declare payload: Uint8Array
  declare readonly oneWay: boolean
  declare readonly correlation: number
  /** When it came, on the clock of performance.now(); 0 until somebody wants to know. */
  declare received: number
  /** Handle of the buffer that `payload` lies in; -1: private memory. */
  declare buffer: number
  declare answered: boolean
  declare isDeferred: boolean
  /** True while it is in its connection's list of requests without an answer. */
  declare listed: boolean
  /** True while it is listed and its client waits. */
  declare awaited: boolean
  /** Whether `admit` was asked, and `onAdmitted` is due. */
  declare admitted: boolean

  readonly #owner: RequestOwner<Context>
  readonly #timeoutMs: number
  #controller: AbortController | undefined
  #reason: Error | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(
    owner: RequestOwner<Context>,
    connection: Connection<Context>,
    id: number,
    correlation: number,
    oneWay: boolean,
    payload: Uint8Array,
    timeoutMs: number,
    received: number,
    buffer: number,
  ) {
    this.#owner = owner
    this.connection = connection
    this.id = id
    this.correlation = correlation
    this.oneWay = oneWay
    this.payload = payload
    this.#timeoutMs = timeoutMs
    this.received = received
    this.buffer = buffer
    this.answered = false
    this.isDeferred = false
    this.listed = false
    this.awaited = false
    this.admitted = false
  }

  get service(): number {
    return this.connection.service
  }

  get inPlace(): boolean {
    return this.buffer !== -1
  }

  get deadline(): number {
    if (this.#timeoutMs === 0) return Infinity
    this.noteReceived()
    return this.received + this.#timeoutMs
  }

  /**
   * Reads the clock. Not for every request: most are answered before anybody asks for their deadline, and reading
   * it is a part of a short round trip. Called at the latest when the request outlives its handler's return.
   */
  noteReceived(): void {
    if (this.received === 0) this.received = performance.now()
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#reason !== undefined) this.#controller.abort(this.#reason)
      else if (this.#timeoutMs !== 0 && !this.answered) {
        const left = Math.min(Math.max(0, this.deadline - performance.now()), TIMEOUT_MS_MAX)
        this.#timer = setTimeout(() => this.abort(ipcError(Status.TIMED_OUT)), left)
        this.#timer.unref()
      }
    }
    return this.#controller.signal
  }

  defer(): void {
    if (this.answered || this.isDeferred) return
    this.isDeferred = true
    this.#owner.deferred(this)
  }

  respond(payload?: AnswerPayload, options?: { readonly status?: number | undefined }): boolean {
    return this.#owner.respond(this, payload, options?.status ?? 0)
  }

  fail(error: unknown): boolean {
    return this.#owner.fail(this, error, Status.HANDLER_FAILED)
  }

  /** Nobody waits any more. */
  abort(reason: Error): void {
    if (this.#reason !== undefined || this.answered) return
    this.#reason = reason
    this.#stopTimer()
    this.#controller?.abort(reason)
  }

  /**
   * Why `signal` aborted, if `error` is what a handler throws that obeyed it: the reason itself, an error
   * caused by it, or an AbortError.
   */
  abortedBy(error: unknown): Error | undefined {
    const reason = this.#reason
    if (reason === undefined || error === reason) return reason
    const { name, cause } = (error ?? {}) as Partial<Error>
    return name === 'AbortError' || cause === reason ? reason : undefined
  }

  /** It is answered, or its client gone: nothing of it is left running. */
  finished(): void {
    this.answered = true
    this.#stopTimer()
  }

  #stopTimer(): void {
    if (this.#timer === undefined) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
