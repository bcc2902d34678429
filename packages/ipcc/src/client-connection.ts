/**
 * The connection behind the public interface: what it sends, what waits for an answer, what is kept.
 *
 *   request -> slot -> outbox or sendRow -> answered | slotFree | ended
 *           -> no slot: private queue, sent by #drain when one is free
 *   dispatch row -> iterators and listeners, or kept for the next that asks
 *
 * Every request has exactly one outcome, by #settle.
 */
import { performance } from 'node:perf_hooks'
import type {
  Credentials,
  FailedRow,
  IpcError,
  NativeConnectionInfo,
  StatsOptions,
} from '@coroipc/native'
import {
  abortSignal,
  addon,
  boolean,
  bufferError,
  BufferPart,
  callIn,
  checkedPayload,
  checkOptions,
  dropBuffer,
  Encoded,
  holdBuffer,
  integer,
  invalidArgument,
  ipcError,
  isBytes,
  isTraced,
  joined,
  Kind,
  Latency,
  localServers,
  milliseconds,
  nativeError,
  payloadLength,
  sendAsLeft,
  SharedBuffer,
  SMALL_BYTES,
  statsChecks,
  statsFrom,
  Status,
  timeout,
  TRANSFERRED,
  Word,
} from '@coroipc/native'
import { EventEmitter } from 'eventemitter3'
import { byAskedId } from './asked.js'
import type {
  AllocateOptions,
  AnswerTooLarge,
  Connection,
  ConnectionEvents,
  ConnectionStats,
  DispatchSyncOptions,
  FullOptions,
  LeaseOptions,
  PayloadOptions,
  RequestPayload,
  SyncFullOptions,
  SyncLeaseOptions,
  SyncPayloadOptions,
  TransientListener,
} from './connection.js'
import {
  closeChannel,
  type DispatchTrace,
  dispatchTracing,
  requestChannel,
  type RequestTrace,
  requestTracing,
} from './diagnostics.js'
import {
  type DispatchIterator,
  Dispatches,
  type DispatchSource,
  type Message,
} from './dispatches.js'
import { type Group, isolated } from './group.js'
import { Lease } from './lease.js'
import {
  checkRequest,
  checkRequestSync,
  type ConnectSyncOptions,
  DEFAULT_TIMEOUT_MS,
  ID_MAX,
  nativeTimeout,
  type RequestOptions,
  type RequestSyncOptions,
  type RequestTimeout,
  trusts,
  wireTimeout,
} from './options.js'
import {
  type Answer,
  type Callback,
  DeadlineTimer,
  Form,
  LONG_MS,
  type Outcome,
  Pending,
  PendingTable,
  type TransientCallback,
} from './pending.js'

/** A message that waits for its turn: a request that has no slot yet, or whatever is behind it. */
interface Queued {
  readonly id: number
  /** undefined: one way. */
  readonly pending: Pending | undefined
  /** A private copy, or the buffer itself, which is held for as long. */
  readonly payload: Uint8Array | SharedBuffer | BufferPart
  readonly bytes: number
}

interface Allocation {
  readonly bytes: number
  readonly settle: (error: Error | undefined, buffer?: SharedBuffer) => void
}

const EMPTY = new Uint8Array(0)
const NO_ANSWER: Answer = { payload: EMPTY, status: 0, sequence: 0 }
/** In SLOT_FREE: slots of blocking calls, which are not in this table. */
const SLOT_ANY = -1
const RESPONSE = 0
const DISPATCH = 1
/** Of a connection that is over, what is read in one turn. */
const REST_MESSAGES = 1024
const closeChecks = { timeoutMs: milliseconds }
const dispatchesChecks = { signal: abortSignal }
const dispatchSyncChecks = { timeoutMs: milliseconds, inPlace: boolean }
const allocateChecks = { timeoutMs: timeout, signal: abortSignal }
const allocateSyncChecks = { timeoutMs: timeout }
const checkId = integer(0, ID_MAX)

/** What the last new promise is settled by: read at once. One function for all, none made for each promise. */
const settlers: { resolve: (outcome: Outcome) => void; reject: (error: Error) => void } = {
  resolve: () => {},
  reject: () => {},
}
function takeSettlers(resolve: (outcome: Outcome) => void, reject: (error: Error) => void): void {
  settlers.resolve = resolve
  settlers.reject = reject
}

type DispatchListener = (message: Message) => void
type AnyCallback = (error: Error | null, outcome?: Outcome) => void

/** Calls what a request was given, in the form that it asked for. */
function tell(
  callback: Callback<never> | TransientCallback,
  form: number,
  error: Error | null,
  outcome: Outcome | undefined,
): void {
  if (form === Form.transient) {
    const { payload, status } = (outcome ?? NO_ANSWER) as Answer
    ;(callback as TransientCallback)(error as IpcError | null, payload, 0, payload.length, status)
  } else if (error === null) (callback as AnyCallback)(null, outcome)
  else (callback as AnyCallback)(error, undefined)
}

function tellLater(
  callback: Callback<never> | TransientCallback,
  form: number,
  error: Error | null,
  outcome: Outcome | undefined,
): void {
  queueMicrotask(() => tell(callback, form, error, outcome))
}

function throwLater(thrown: unknown): void {
  queueMicrotask(() => {
    throw thrown
  })
}

/** Connections that nobody closed and nobody knows any more. */
const forgotten = new FinalizationRegistry<{ group: Group; number: number }>(({ group, number }) =>
  group.disconnect(number),
)

/** The connection behind the interface. */
/** Of the many connections that have none: a set of its own is a tenth of what a connection takes. */
const NO_ITERATORS: Set<Dispatches> = new Set()

export class ClientConnection
  extends EventEmitter<ConnectionEvents>
  implements Connection, DispatchSource
{
  readonly id: string
  readonly serverId: string
  readonly service: number
  readonly server: Credentials
  readonly messageBytes: number
  readonly requestsInFlight: number

  readonly #group: Group
  readonly #number: number
  readonly #trusts: boolean
  /** Where a server of this thread would listen, if it is this process. */
  readonly #addresses: readonly string[]
  readonly #timeoutMs: number
  /** The same, as it travels with a request. */
  readonly #wire: number
  /** The longest payload of a request that needs no look at anything else; -1: every request needs one. */
  readonly #plainBytes: number
  readonly #queuedMax: number
  readonly #queueBytesMax: number
  readonly #table: PendingTable
  /** Made by the first request: who only listens needs none. */
  #timer: DeadlineTimer | undefined
  readonly #latency: Latency | undefined
  #iterators: Set<Dispatches> = NO_ITERATORS
  /** Dispatches that came in a batch when nobody wanted them any more; before all others. */
  readonly #kept: Message[] = []
  #allocations: Map<number, Allocation> | undefined
  readonly #leases: (Lease | undefined)[] = [undefined, undefined]

  readonly #queue: Queued[] = []
  #queueBytes = 0
  /** Requests and sends wait for room natively; ROOM follows. */
  #noRoom = false
  /** Whether the group need offer answers to `lend`: there was a transient request. */
  lends = false
  /** Takes dispatches by position; called by the group, which has them there. */
  transient: TransientListener | undefined
  #wantsDrain = false
  /** Whether anybody takes dispatches as they come: an iterator or a listener. */
  #wanted = false
  /** The listener of 'dispatch' that came last, if it did so by a plain `on`. */
  #plain: DispatchListener | undefined
  /** The same when nobody else takes dispatches: called without the emitter, which would be a tenth of the message. */
  #direct: DispatchListener | undefined
  #flowing = false
  /** What the last `flowControl` event said. */
  #queueing = false
  /** Why it is over. */
  #reason: number = Status.OK
  #freed = false
  #refed = true

  constructor(
    group: Group,
    number: number,
    info: NativeConnectionInfo,
    options: ConnectSyncOptions,
    addresses: readonly string[],
  ) {
    super()
    this.#group = group
    this.#number = number
    this.id = info.id
    this.serverId = info.serverId
    this.service = info.service
    this.server = info.credentials
    this.messageBytes = info.messageBytes
    this.requestsInFlight = info.requestsInFlight
    this.#trusts = trusts(options)
    this.#addresses = info.credentials.pid === process.pid ? addresses : []
    this.#timeoutMs = options.requestTimeoutMs ?? DEFAULT_TIMEOUT_MS
    this.#wire = wireTimeout(this.#timeoutMs)
    this.#queuedMax = options.queuedRequests ?? 1024
    this.#queueBytesMax = options.queueBytes ?? 4 << 20
    this.#table = new PendingTable(info.requestsInFlight)
    this.#latency = options.latency === true ? new Latency() : undefined
    this.#plainBytes =
      this.#latency === undefined && this.#timeoutMs >= LONG_MS
        ? Math.min(SMALL_BYTES, this.messageBytes)
        : -1
    group.connections[number] = this
    group.ref()
  }

  get closed(): boolean {
    return this.#reason !== Status.OK
  }

  get flowControl(): boolean {
    return this.#reason === Status.OK && addon.flowControl(this.#handle, this.#number) !== 0
  }

  get fd(): number {
    return this.#freed ? -1 : addon.connectionFd(this.#handle, this.#number)
  }

  get #handle(): number {
    return this.#group.loop.handle
  }

  #clock(): DeadlineTimer {
    return (this.#timer ??= new DeadlineTimer((now) => this.#expire(now)))
  }

  // -- asynchronous requests ------------------------------------------------------------------------

  request(id: number, payload?: RequestPayload, options?: PayloadOptions): Promise<Uint8Array>
  request(id: number, payload: RequestPayload, options: FullOptions): Promise<Answer>
  request(id: number, payload: RequestPayload, options: LeaseOptions): Promise<Lease>
  request(id: number, payload?: RequestPayload, options?: RequestOptions): Promise<Outcome>
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
  request(
    id: number,
    payload?: RequestPayload,
    options?: RequestOptions | Callback<never>,
    callback?: Callback<never>,
  ): Promise<Outcome> | void {
    if (isTraced(requestTracing)) return this.#requestTraced(id, payload, options, callback)
    if (typeof options === 'function') {
      this.#requestCallback(id, payload, undefined, options)
      return undefined
    }
    if (callback === undefined) return this.#requestPromise(id, payload, options)
    this.#requestCallback(id, payload, options, callback)
  }

  #trace(id: number, payload: RequestPayload, sync: boolean, oneWay: boolean): RequestTrace {
    return { connection: this, sync, oneWay, id, payload }
  }

  #requestTraced(
    id: number,
    payload: RequestPayload,
    given: RequestOptions | Callback<never> | undefined,
    last: Callback<never> | undefined,
  ): Promise<Outcome> | void {
    const trace = this.#trace(id, payload, false, false)
    const options = typeof given === 'function' ? undefined : given
    const callback = typeof given === 'function' ? given : last
    if (callback === undefined)
      return requestTracing.tracePromise(
        () =>
          sendAsLeft(trace, id, payload, (sentId, sent) => {
            const promise = this.#requestPromise(sentId, sent, options)
            if (sentId === id) return promise
            return promise.catch((error: unknown) => {
              throw byAskedId(error, id)
            })
          }),
        trace,
      )
    if (typeof callback !== 'function') throw invalidArgument('callback', 'a function', callback)
    requestTracing.traceCallback(
      (traced: Callback<never>) =>
        sendAsLeft(trace, id, payload, (sentId, sent) =>
          this.#requestCallback(sentId, sent, options, (error, answer) =>
            traced(byAskedId(error, id), answer),
          ),
        ),
      0,
      trace,
      undefined,
      (error: IpcError | null, answer: never) => callIn(trace, () => callback(error, answer)),
    )
  }

  // Each form in a function of its own, and no closure in any of them: one that closes over an argument costs every
  // call an allocation, also those that never make it.

  #requestPromise(
    id: number,
    payload: RequestPayload,
    options: RequestOptions | undefined,
  ): Promise<Outcome> {
    const promise = new Promise<Outcome>(takeSettlers)
    const { resolve, reject } = settlers
    try {
      this.#request(id, payload, options, Form.payload, undefined, resolve, reject)
    } catch (error) {
      reject(error as Error)
    }
    return promise
  }

  #requestCallback(
    id: number,
    payload: RequestPayload,
    options: RequestOptions | undefined,
    callback: Callback<never>,
  ): void {
    if (typeof callback !== 'function') throw invalidArgument('callback', 'a function', callback)
    const { payload: form } = Form
    const pending = this.#request(id, payload, options, form, callback, undefined, undefined)
    if (pending !== undefined) pending.returned = true
  }

  requestTransient(id: number, payload: RequestPayload, callback: TransientCallback): void {
    if (typeof callback !== 'function') throw invalidArgument('callback', 'a function', callback)
    if (isTraced(requestTracing)) {
      this.#requestTransientTraced(id, payload, callback)
      return
    }
    const { transient: form } = Form
    const pending = this.#request(id, payload, undefined, form, callback, undefined, undefined)
    if (pending === undefined) return
    pending.returned = true
    this.lends = true
  }

  #requestTransientTraced(id: number, payload: RequestPayload, callback: TransientCallback): void {
    const traced: Callback<Answer> = (error, answer) =>
      tell(callback, Form.transient, error, answer)
    void this.#requestTraced(id, payload, { full: true }, traced)
  }

  /** Throws wrong arguments; everything else goes to the callback, or to one of the other two. */
  #request(
    id: number,
    payload: RequestPayload,
    options: RequestOptions | undefined,
    plainForm: number,
    callback: Callback<never> | TransientCallback | undefined,
    resolve: ((outcome: Outcome) => void) | undefined,
    reject: ((error: Error) => void) | undefined,
  ): Pending | undefined {
    if (typeof id !== 'number' || (id & ID_MAX) !== id) checkId('id', id)
    // What most requests are: some bytes, no options, nothing in their way.
    if (
      options === undefined &&
      isBytes(payload) &&
      payload.length <= this.#plainBytes &&
      this.#queue.length === 0 &&
      this.#reason === Status.OK &&
      this.#table.room
    ) {
      const timeoutMs = this.#timeoutMs
      const epoch = timeoutMs < Infinity ? this.#clock().epoch(timeoutMs) : undefined
      let pending = callback === undefined ? undefined : this.#table.again()
      if (pending === undefined)
        pending = new Pending(
          id,
          plainForm,
          timeoutMs,
          Infinity,
          epoch,
          0,
          callback,
          resolve,
          reject,
        )
      else pending.renew(id, plainForm, timeoutMs, epoch, callback as Callback<never>)
      const slot = this.#table.take(pending)
      this.#group.loop.post(this.#number, Kind.request, id, slot, 0, this.#wire, payload)
      return pending
    }
    return this.#requestAnyhow(id, payload, options, plainForm, callback, resolve, reject)
  }

  #requestAnyhow(
    id: number,
    payload: RequestPayload,
    options: RequestOptions | undefined,
    plainForm: number,
    callback: Callback<never> | TransientCallback | undefined,
    resolve: ((outcome: Outcome) => void) | undefined,
    reject: ((error: Error) => void) | undefined,
  ): Pending | undefined {
    let timeoutMs = this.#timeoutMs
    let signal: AbortSignal | undefined
    if (options !== undefined) {
      checkRequest(options)
      timeoutMs = options.timeoutMs ?? timeoutMs
      signal = options.signal
    }
    const shared = payload instanceof SharedBuffer || payload instanceof BufferPart
    const bytes = shared
      ? this.#sharedBytes(payload)
      : isBytes(payload)
        ? payload
        : payload instanceof Encoded
          ? this.#group.loop.encode(payload)
          : checkedPayload('payload', payload)
    const length = payloadLength(bytes)
    let refused: IpcError | undefined
    if (length > this.messageBytes) refused = this.#tooLarge(`request ${id}`, length)
    else if (this.#reason !== Status.OK) refused = this.#overError(`request ${id}`, false)
    else if (signal?.aborted === true)
      refused = ipcError(Status.ABORTED, {
        subject: `request ${id}`,
        cause: signal.reason,
        sent: false,
      })
    if (refused !== undefined) {
      if (callback === undefined) reject?.(refused)
      else tellLater(callback, plainForm, refused, undefined)
      return undefined
    }
    const long = timeoutMs >= LONG_MS && timeoutMs < Infinity
    const epoch = long ? this.#clock().epoch(timeoutMs) : undefined
    const until = timeoutMs < LONG_MS ? performance.now() + timeoutMs : Infinity
    const started = this.#latency === undefined ? 0 : performance.now()
    const form = options === undefined ? plainForm : formOf(options)
    const pending = new Pending(
      id,
      form,
      timeoutMs,
      until,
      epoch,
      started,
      callback,
      resolve,
      reject,
    )
    if (signal !== undefined) this.#listen(pending, signal)
    if (until !== Infinity) this.#clock().add(until)
    if (this.#queue.length > 0 || !this.#table.room) {
      const own = shared && this.#isOurs(payload) ? payload : joined(bytes, length)
      if (!this.#enqueue({ id, pending, payload: own, bytes: length }))
        this.#fail(pending, ipcError(Status.LIMIT, { subject: this.#queueLimit(id), sent: false }))
      return pending
    }
    const own = shared && this.#isOurs(payload) ? payload : bytes
    this.#sendRequest(pending, own, length, timeoutMs)
    return pending
  }

  #listen(pending: Pending, signal: AbortSignal): void {
    const onAbort = (): void => this.#giveUp(pending, Status.ABORTED, signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    pending.unlisten = () => signal.removeEventListener('abort', onAbort)
  }

  /** Takes a slot and sends; there must be one. */
  #sendRequest(
    pending: Pending,
    payload: Uint8Array | readonly Uint8Array[] | SharedBuffer | BufferPart,
    length: number,
    timeoutMs: number,
  ): void {
    const { loop } = this.#group
    const { id } = pending
    const slot = this.#table.take(pending)
    const wire = timeoutMs === this.#timeoutMs ? this.#wire : wireTimeout(timeoutMs)
    let result: number
    if (payload instanceof SharedBuffer || payload instanceof BufferPart) {
      const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
      const offset = payload instanceof SharedBuffer ? 0 : payload.offset
      loop.flush()
      const { handle } = buffer
      result = addon.sendRowBuffer(
        loop.handle,
        this.#number,
        id,
        slot,
        wire,
        handle,
        offset,
        length,
      )
    } else if (length <= SMALL_BYTES) {
      if (payload instanceof Uint8Array)
        loop.post(this.#number, Kind.request, id, slot, 0, wire, payload)
      else loop.postParts(this.#number, Kind.request, id, slot, 0, wire, payload)
      return
    } else {
      loop.flush()
      result = addon.sendRow(loop.handle, this.#number, Kind.request, id, slot, wire, payload)
    }
    if (result < 0 && this.#table.answered(slot) === pending)
      this.#fail(pending, nativeError(result, { subject: `request ${id}`, sent: false }))
  }

  /** The one place where a request without callback or promise left gets its outcome. */
  #settle(pending: Pending, error: Error | undefined, outcome?: Outcome): void {
    pending.unlisten?.()
    if (this.#latency !== undefined) this.#latency.record(pending.started, performance.now())
    if (requestChannel.hasSubscribers)
      requestChannel.publish({ connection: this, id: pending.id, error })
    if (pending.callback !== undefined) this.#call(pending, error ?? null, outcome)
    else if (error === undefined) pending.resolve?.(outcome as Outcome)
    else pending.reject?.(error)
  }

  /** Its callback, once `request` has returned; what it throws surfaces as any uncaught exception. */
  #call(pending: Pending, error: Error | null, outcome: Outcome | undefined): void {
    const callback = pending.callback as Callback<never>
    if (!pending.returned) {
      tellLater(callback, pending.form, error, outcome)
      return
    }
    try {
      tell(callback, pending.form, error, outcome)
    } catch (thrown) {
      throwLater(thrown)
    }
  }

  #fail(pending: Pending, error: Error): void {
    this.#settle(pending, error)
  }

  /** A time out or an abort: the slot stays taken until the server has answered. */
  #giveUp(pending: Pending, status: number, cause?: unknown): void {
    const subject = `request ${pending.id}`
    // What has no slot yet was never handed over.
    const sent = pending.slot < 0 ? false : undefined
    if (pending.slot >= 0) {
      // Of several that end at once the callback of one may have ended another.
      if (!this.#table.abandon(pending)) return
      if (!this.#freed)
        this.#group.loop.post(this.#number, Kind.cancel, 0, pending.slot, 0, 0, EMPTY)
    } else {
      const at = this.#queue.findIndex((each) => each.pending === pending)
      if (at < 0) return
      const [{ payload, bytes }] = this.#queue.splice(at, 1) as [Queued]
      this.#queueBytes -= bytes
      if (!(payload instanceof Uint8Array)) dropBuffer(payload)
    }
    this.#fail(pending, ipcError(status, { subject, cause, sent }))
  }

  #expire(now: number): number {
    let next = Infinity
    const late: Pending[] = []
    const look = (pending: Pending): void => {
      if (pending.deadline <= now) late.push(pending)
      else if (pending.deadline < next) next = pending.deadline
    }
    for (const pending of this.#table) look(pending)
    for (const { pending } of this.#queue) if (pending !== undefined) look(pending)
    for (const pending of late) this.#giveUp(pending, Status.TIMED_OUT)
    return next
  }

  // -- one way --------------------------------------------------------------------------------------

  send(id: number, payload?: RequestPayload): boolean {
    return isTraced(requestTracing) ? this.#sendTraced(id, payload) : this.#send(id, payload)
  }

  #sendTraced(id: number, payload: RequestPayload): boolean {
    const trace = this.#trace(id, payload, true, true)
    return requestTracing.traceSync(
      () =>
        sendAsLeft(trace, id, payload, (sentId, sent) => {
          try {
            return this.#send(sentId, sent)
          } catch (error) {
            throw byAskedId(error, id)
          }
        }),
      trace,
    )
  }

  #send(id: number, payload: RequestPayload): boolean {
    if (typeof id !== 'number' || (id & ID_MAX) !== id) checkId('id', id)
    const bytes = isBytes(payload)
      ? payload
      : payload instanceof SharedBuffer || payload instanceof BufferPart
        ? this.#sharedBytes(payload)
        : payload instanceof Encoded
          ? this.#group.loop.encode(payload)
          : checkedPayload('payload', payload)
    const length = payloadLength(bytes)
    if (length > this.messageBytes) throw this.#tooLarge(`send ${id}`, length)
    if (this.#reason !== Status.OK) throw this.#overError(`send ${id}`, false)
    if (!this.#noRoom) {
      if (this.#queue.length === 0) {
        this.#sendOneWay(id, bytes, length)
        return true
      }
      // Behind the requests that wait for a slot: a channel keeps its order.
      const pending = undefined
      if (this.#enqueue({ id, pending, payload: joined(bytes, length), bytes: length })) return true
    }
    this.#wantsDrain = true
    return false
  }

  #sendOneWay(id: number, bytes: Uint8Array | readonly Uint8Array[], length: number): void {
    const { loop } = this.#group
    if (length <= SMALL_BYTES) {
      if (bytes instanceof Uint8Array) loop.post(this.#number, Kind.send, id, 0, 0, 0, bytes)
      else loop.postParts(this.#number, Kind.send, id, 0, 0, 0, bytes)
      return
    }
    loop.flush()
    const result = addon.sendRow(loop.handle, this.#number, Kind.send, id, 0, 0, bytes)
    if (result < 0) this.#notTaken(-result, () => nativeError(result, { subject: `send ${id}` }))
  }

  #notTaken(code: number, error: () => IpcError): void {
    // FULL: it was taken all the same, but it is the last until ROOM. That the connection is over is told
    // by 'close', after this turn; whoever sends in a loop must see it now.
    if (code === Status.FULL || code === Status.DISCONNECTED || code === Status.PEER_DEAD)
      this.#noRoom = true
    else this.#undelivered(error())
  }

  // -- the private queue ----------------------------------------------------------------------------

  #queueLimit(id: number): string {
    const bound =
      this.#queue.length >= this.#queuedMax
        ? `queuedRequests (${this.#queuedMax}) wait`
        : `queueBytes (${this.#queueBytesMax}) wait`
    return `request ${id}: ${bound} already`
  }

  #enqueue(message: Queued): boolean {
    if (this.#queue.length >= this.#queuedMax) return false
    if (this.#queueBytes + message.bytes > this.#queueBytesMax && this.#queue.length > 0)
      return false
    this.#queue.push(message)
    this.#queueBytes += message.bytes
    if (!(message.payload instanceof Uint8Array)) holdBuffer(message.payload)
    return true
  }

  /** Sends what may go now, in order. */
  #drain(): void {
    while (this.#queue.length > 0 && this.#reason === Status.OK) {
      const { id, pending, payload, bytes } = this.#queue[0] as Queued
      if (pending !== undefined && !this.#table.room) return
      this.#queue.shift()
      this.#queueBytes -= bytes
      if (pending === undefined) this.#sendOneWay(id, payload as Uint8Array, bytes)
      else {
        const { deadline, timeoutMs } = pending
        const left = deadline === Infinity ? timeoutMs : deadline - performance.now()
        this.#sendRequest(pending, payload, bytes, left)
        if (!(payload instanceof Uint8Array)) dropBuffer(payload)
      }
    }
    if (!this.#wantsDrain || this.#noRoom) return
    this.#wantsDrain = false
    isolated(() => this.emit('drain'))
  }

  /** A row of the outbox that was not taken. */
  rowFailed(row: FailedRow): void {
    if (row.kind === Kind.request) {
      const pending = this.#table.answered(row.correlation)
      if (pending !== undefined)
        this.#fail(pending, ipcError(row.code, { subject: `request ${row.id}`, sent: false }))
    } else if (row.kind === Kind.send) {
      this.#notTaken(row.code, () => ipcError(row.code, { subject: `send ${row.id}` }))
    }
  }

  #undelivered(error: IpcError): void {
    if (this.listenerCount('error') > 0) isolated(() => this.emit('error', error))
    else process.emitWarning(error.message, { type: 'CoroipcClientError', code: error.code })
  }

  // -- rows -----------------------------------------------------------------------------------------

  answered(
    slot: number,
    code: number,
    status: number,
    sequence: number,
    payload: Uint8Array,
    buffer: number,
  ): void {
    const pending = this.#table.answered(slot)
    if (pending === undefined) {
      if (buffer >= 0) addon.bufferRelease(buffer)
    } else if (code !== Status.OK) {
      if (buffer >= 0) addon.bufferRelease(buffer)
      this.#fail(pending, this.#answerError(code, `request ${pending.id}`, status))
    } else if (pending.form === Form.payload) {
      const bytes = buffer >= 0 ? own(payload, buffer) : payload
      if (this.#isPlain(pending)) {
        const callback = this.#table.recycle(pending) as Callback<Uint8Array>
        try {
          callback(null, bytes)
        } catch (thrown) {
          throwLater(thrown)
        }
      } else this.#settle(pending, undefined, bytes)
    } else if (pending.form === Form.full || pending.form === Form.transient) {
      const bytes = buffer >= 0 ? own(payload, buffer) : payload
      this.#settle(pending, undefined, { payload: bytes, status, sequence })
    } else {
      const lease = leaseOf(pending.id, payload, status, sequence, buffer)
      this.#settle(pending, undefined, lease)
    }
    if (this.#queue.length > 0) this.#drain()
  }

  /** An answer came, but its payload cannot be had any more. */
  answerLost(slot: number): void {
    const pending = this.#table.answered(slot)
    if (pending !== undefined)
      this.#fail(
        pending,
        ipcError(Status.ABORTED, {
          subject: `request ${pending.id}, which was answered`,
          cause: new TypeError(TRANSFERRED),
        }),
      )
    if (this.#queue.length > 0) this.#drain()
  }

  /** So for a dispatch. */
  dispatchLost(id: number): void {
    this.#undelivered(
      ipcError(Status.ABORTED, { subject: `dispatch ${id}`, cause: new TypeError(TRANSFERRED) }),
    )
  }

  /** Whether its callback is all that is to be told of its answer: the way of most, in which nothing is made. */
  #isPlain(pending: Pending): boolean {
    return (
      pending.callback !== undefined &&
      pending.returned &&
      pending.unlisten === undefined &&
      this.#latency === undefined &&
      !requestChannel.hasSubscribers
    )
  }

  /**
   * An answer whose bytes lie in the slab: lent to the callback of a transient request, and nothing made for it. False:
   * it is for `answered`.
   */
  lend(
    slot: number,
    code: number,
    status: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean {
    const pending = this.#table.waits(slot)
    if (
      pending === undefined ||
      pending.form !== Form.transient ||
      code !== Status.OK ||
      !this.#isPlain(pending)
    )
      return false
    this.#table.answered(slot)
    const callback = this.#table.recycle(pending) as TransientCallback
    try {
      callback(null, bytes, offset, length, status)
    } catch (thrown) {
      throwLater(thrown)
    }
    if (this.#queue.length > 0) this.#drain()
    return true
  }

  slotFree(slot: number): void {
    if (slot === SLOT_ANY) this.#table.reserved = addon.givenUp(this.#handle, this.#number)
    else this.#table.slotFree(slot)
    if (this.#queue.length > 0) this.#drain()
  }

  room(): void {
    this.#noRoom = false
    this.#drain()
  }

  /** Whether what came before goes to its readers first. */
  get keeps(): boolean {
    return this.#kept.length > 0
  }

  dispatched(id: number, sequence: number, payload: Uint8Array, buffer: number): void {
    const message: Message = {
      id,
      payload: buffer >= 0 ? own(payload, buffer) : payload,
      sequence,
    }
    if (this.#kept.length > 0 || !this.#wanted) this.#kept.push(message)
    else this.#deliver(message)
  }

  transientDispatches(listener: TransientListener): () => void {
    if (typeof listener !== 'function')
      throw invalidArgument('listener', 'a function', listener, 'type')
    if (this.transient !== undefined)
      throw invalidArgument('listener', 'the only one: end the other first', listener, 'type')
    this.transient = listener
    this.#updateFlow()
    return () => {
      if (this.transient !== listener) return
      this.transient = undefined
      this.#updateFlow()
    }
  }

  #deliver(message: Message): void {
    if (isTraced(dispatchTracing)) this.#handTraced(message)
    else this.#hand(message)
  }

  #handTraced(message: Message): void {
    const trace: DispatchTrace = { connection: this, message }
    dispatchTracing.traceSync(() => callIn(trace, () => this.#hand(trace.message)), trace)
  }

  #hand(message: Message): void {
    const { transient } = this
    if (transient !== undefined) {
      transient(message.payload, 0, message.payload.length, message.id, message.sequence)
      return
    }
    const direct = this.#direct
    if (direct !== undefined) {
      direct.call(this, message)
      return
    }
    if (this.#iterators.size > 0) for (const each of this.#iterators) each.push(message)
    this.emit('dispatch', message)
  }

  /** What was in a batch when its reader had gone: the next one gets it first. */
  #deliverKept(): void {
    while (this.#kept.length > 0 && this.#wanted) {
      const message = this.#kept.shift() as Message
      isolated(() => this.#deliver(message))
    }
  }

  flowControlChanged(on: boolean): void {
    if (on === this.#queueing) return
    this.#queueing = on
    this.emit('flowControl', on)
  }

  bufferCame(correlation: number, code: number, segment: number): void {
    const allocation = this.#allocations?.get(correlation)
    this.#allocations?.delete(correlation)
    if (code !== Status.OK) {
      allocation?.settle(ipcError(code, { subject: 'allocate' }))
      return
    }
    const handle = addon.clientBufferGet(this.#handle, this.#number, segment)
    if (allocation === undefined) {
      // Nobody waits any more: it goes straight back.
      if (handle >= 0) addon.bufferRelease(handle)
    } else if (handle < 0) allocation.settle(nativeError(handle, { subject: 'allocate' }))
    else allocation.settle(undefined, this.#shared(handle, allocation.bytes))
  }

  /** Its last row: everything that waits gets its outcome. */
  ended(why: number): void {
    if (this.#reason !== Status.OK) return
    // What is still in the outbox was never handed over: its rows fail now, and say so.
    this.#group.loop.flush()
    this.#reason = why
    this.#timer?.stop()
    const reason = ipcError(why)
    this.#deliverKept()
    this.#fetchRest()
    const inFlight = this.#table.takeAll()
    const queued = this.#queue.splice(0)
    this.#queueBytes = 0
    for (const pending of inFlight) {
      const subject = `request ${pending.id}`
      this.#fail(pending, ipcError(Status.UNKNOWN_OUTCOME, { subject, cause: reason }))
    }
    for (const { pending, payload } of queued) {
      if (!(payload instanceof Uint8Array)) dropBuffer(payload)
      if (pending !== undefined)
        this.#fail(pending, this.#overError(`request ${pending.id}`, false))
    }
    for (const { settle } of this.#allocations?.values() ?? []) settle(this.#overError('allocate'))
    this.#allocations = undefined
    if (this.#refed) this.#group.unref()
    this.#refed = false
    if (!this.#freed) {
      // What the server published can still be read, until close() or the collector ends that as well.
      this.#group.connections[this.#number] = undefined
      forgotten.register(this, { group: this.#group, number: this.#number }, this)
    }
    if (closeChannel.hasSubscribers) closeChannel.publish({ connection: this, reason })
    isolated(() => this.emit('close', reason))
  }

  /**
   * Iterators that were full still get what the server published before its end, as they are read: it may be a ring full
   * of messages, and the ring as large as the server liked. Then they end.
   */
  #fetchRest(): void {
    if (!this.#wanted) return
    const { loop } = this.#group
    let rest = REST_MESSAGES
    while (!this.#flowing && !this.#freed) {
      if (this.#isFull()) return
      if (rest-- === 0) {
        // Listeners are never full: others have their turn between.
        setImmediate(() => this.#fetchRest())
        return
      }
      const bytes = addon.dispatchReceive(loop.handle, this.#number, 0)
      if (bytes < 0) break
      const id = loop.words[Word.id] as number
      const sequence = (loop.words[Word.sequence] as number) >>> 0
      const payload = this.#received(bytes, DISPATCH)
      isolated(() => this.dispatched(id, sequence, payload, -1))
    }
    this.#endIterators()
  }

  /** Whether an iterator is full, and no reader waits at another for what comes next. */
  #isFull(): boolean {
    let full = false
    for (const iterator of this.#iterators) {
      if (iterator.awaited) return false
      if (iterator.full) full = true
    }
    return full
  }

  #endIterators(): void {
    const orderly = this.#reason === Status.DISCONNECTED
    for (const iterator of this.#iterators)
      iterator.end(orderly ? undefined : this.#overError('dispatches'))
  }

  // -- blocking -------------------------------------------------------------------------------------

  requestSync(id: number, payload?: RequestPayload, options?: SyncPayloadOptions): Uint8Array
  requestSync(id: number, payload: RequestPayload, options: SyncFullOptions): Answer
  requestSync(id: number, payload: RequestPayload, options: SyncLeaseOptions): Lease
  requestSync(id: number, payload?: RequestPayload, options?: RequestSyncOptions): Outcome
  requestSync(id: number, payload?: RequestPayload, options?: RequestSyncOptions): Outcome {
    return isTraced(requestTracing)
      ? this.#requestSyncTraced(id, payload, options)
      : this.#requestSync(id, payload, options)
  }

  #requestSyncTraced(
    id: number,
    payload: RequestPayload,
    options: RequestSyncOptions | undefined,
  ): Outcome {
    const trace = this.#trace(id, payload, true, false)
    return requestTracing.traceSync(
      () =>
        sendAsLeft(trace, id, payload, (sentId, sent) => {
          try {
            return this.#requestSync(sentId, sent, options)
          } catch (error) {
            throw byAskedId(error, id)
          }
        }),
      trace,
    )
  }

  #requestSync(
    id: number,
    payload: RequestPayload,
    options: RequestSyncOptions | undefined,
  ): Outcome {
    if (typeof id !== 'number' || (id & ID_MAX) !== id) checkId('id', id)
    let timeoutMs = this.#timeoutMs
    if (options !== undefined) {
      checkRequestSync(options)
      timeoutMs = options.timeoutMs ?? timeoutMs
    }
    const shared = payload instanceof SharedBuffer || payload instanceof BufferPart
    const bytes = shared
      ? this.#sharedBytes(payload)
      : isBytes(payload)
        ? payload
        : payload instanceof Encoded
          ? this.#encodeNow(payload)
          : checkedPayload('payload', payload)
    const length = payloadLength(bytes)
    if (length > this.messageBytes) throw this.#tooLarge(`requestSync ${id}`, length)
    if (this.#reason !== Status.OK) throw this.#overError(`requestSync ${id}`, false)
    if (this.#isLocal())
      throw ipcError(Status.DEADLOCK, { subject: `requestSync ${id}`, sent: false })
    const { loop } = this.#group
    loop.flush()
    const limit = nativeTimeout(timeoutMs)
    const number = this.#number
    if (options?.inPlace === true) return this.#requestInPlace(id, bytes, limit)
    let into = options?.into
    // An answer that fits neither the slab nor `into` would stay in the ring, where a lease of a trusted
    // server is: there is one a channel. So it gets room for any answer, and is copied from there.
    const held = this.#trusts && this.#leases[RESPONSE] !== undefined
    const scratch = held && (into === undefined || into.length < this.messageBytes)
    if (scratch) into = new Uint8Array(this.messageBytes)
    const started = this.#latency === undefined ? 0 : performance.now()
    let result: number
    // Beside a lease its bytes are copied: the native call for buffers lends its answer in place.
    if (shared && this.#isOurs(payload) && !held) {
      const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
      const offset = payload instanceof SharedBuffer ? 0 : payload.offset
      const { handle } = buffer
      result = addon.callBuffer(loop.handle, number, id, handle, offset, length, limit, into)
    } else result = addon.call(loop.handle, number, id, bytes, limit, into)
    this.#latency?.record(started, performance.now())
    if (result < 0) {
      if (-result === Status.TOO_LARGE && into !== undefined && !held)
        throw this.#intoTooSmall(
          id,
          into,
          new Uint8Array(addon.take(loop.handle, number, RESPONSE)),
        )
      throw this.#requestError(result, `requestSync ${id}`)
    }
    const status = loop.words[Word.status] as number
    const sequence = (loop.words[Word.sequence] as number) >>> 0
    const answer =
      into === undefined
        ? this.#received(result, RESPONSE)
        : scratch
          ? this.#fromScratch(id, into.subarray(0, result), options?.into)
          : // A view costs as much as the copy did: none where the answer fills it.
            result === into.length
            ? into
            : into.subarray(0, result)
    return options?.full === true ? { payload: answer, status, sequence } : answer
  }

  /** Where nothing is left to be flushed before the call: what a flush finds out may make callers send again. */
  #encodeNow(payload: Encoded): Uint8Array | Uint8Array[] {
    const { loop } = this.#group
    loop.flush()
    return loop.encode(payload)
  }

  /** The payload of a blocking call: in the slab, or an array of its own. */
  #received(bytes: number, channel: number): Uint8Array {
    if (bytes === 0) return new Uint8Array(0)
    const { loop } = this.#group
    const offset = loop.words[Word.offset] as number
    if (offset < 0) return new Uint8Array(addon.take(loop.handle, this.#number, channel), 0, bytes)
    const payload = new Uint8Array(loop.slab, offset, bytes)
    loop.renew()
    return payload
  }

  /** What stands in the scratch array goes where it was wanted. */
  #fromScratch(id: number, answer: Uint8Array, into: Uint8Array | undefined): Uint8Array {
    if (into === undefined) return answer.slice()
    if (answer.length > into.length) throw this.#intoTooSmall(id, into, answer.slice())
    into.set(answer)
    return into.subarray(0, answer.length)
  }

  #intoTooSmall(id: number, into: Uint8Array, answer: Uint8Array): AnswerTooLarge {
    const subject = `requestSync ${id}: an answer of ${answer.length} bytes into ${into.length}`
    return Object.assign(ipcError(Status.TOO_LARGE, { subject }), { answer }) as AnswerTooLarge
  }

  /** The question's bytes are gathered, also those of a buffer: it is the answer that stays in place. */
  #requestInPlace(id: number, bytes: Uint8Array | Uint8Array[], limit: number): Lease {
    const { loop } = this.#group
    if (this.#leases[RESPONSE] !== undefined)
      throw ipcError(Status.LEASE_HELD, { subject: `requestSync ${id}`, sent: false })
    const started = this.#latency === undefined ? 0 : performance.now()
    const result = addon.callInPlace(loop.handle, this.#number, id, bytes, limit)
    this.#latency?.record(started, performance.now())
    if (result < 0) throw this.#requestError(result, `requestSync ${id}`)
    return this.#lease(RESPONSE, id, result)
  }

  #lease(channel: number, id: number, bytes: number): Lease {
    const { loop } = this.#group
    const { handle, words } = loop
    const number = this.#number
    const status = channel === RESPONSE ? (words[Word.status] as number) : 0
    const sequence = (words[Word.sequence] as number) >>> 0
    let payload: Uint8Array
    if (this.#trusts) payload = new Uint8Array(addon.leaseBuffer(handle, number, channel), 0, bytes)
    else {
      payload = new Uint8Array(addon.leaseCopy(handle, number, channel), 0, bytes)
      addon.leaseRelease(handle, number, channel)
    }
    const lease = new Lease(id, payload, status, sequence, this.#trusts, () => {
      this.#leases[channel] = undefined
      if (this.#trusts) addon.leaseRelease(handle, number, channel)
    })
    this.#leases[channel] = lease
    return lease
  }

  dispatchSync(
    options?: number | (RequestTimeout & { readonly inPlace?: false | undefined }),
  ): Message | undefined
  dispatchSync(options: RequestTimeout & { readonly inPlace: true }): Lease | undefined
  dispatchSync(options?: number | DispatchSyncOptions): Message | Lease | undefined
  dispatchSync(options?: number | DispatchSyncOptions): Message | Lease | undefined {
    const message = this.#dispatchSync(options)
    if (message === undefined || !isTraced(dispatchTracing)) return message
    const trace: DispatchTrace = { connection: this, message }
    return dispatchTracing.traceSync(() => trace.message, trace)
  }

  #dispatchSync(options: number | DispatchSyncOptions | undefined): Message | Lease | undefined {
    let timeoutMs = this.#timeoutMs
    let inPlace = false
    if (typeof options === 'number') {
      milliseconds('timeoutMs', options)
      timeoutMs = options
    } else if (options !== undefined) {
      checkOptions('options', options, dispatchSyncChecks)
      timeoutMs = options.timeoutMs ?? timeoutMs
      inPlace = options.inPlace ?? false
    }
    if (this.#freed) throw this.#overError('dispatchSync')
    if (inPlace && this.#leases[DISPATCH] !== undefined)
      throw ipcError(Status.LEASE_HELD, { subject: 'dispatchSync' })
    const kept = this.#kept.shift()
    if (kept !== undefined)
      return inPlace ? new Lease(kept.id, kept.payload, 0, kept.sequence, false, undefined) : kept
    // Somebody else takes them, or did until now: what is in the ring comes behind what is in the batch.
    if (this.#reason === Status.OK && (this.#wanted || this.#group.hasDispatch(this.#number)))
      return undefined
    // What is here already may be taken; waiting for this very thread may not.
    const local = this.#isLocal()
    const limit = local ? 0 : nativeTimeout(timeoutMs)
    const { loop } = this.#group
    loop.flush()
    const result = inPlace
      ? addon.dispatchInPlace(loop.handle, this.#number, limit)
      : addon.dispatchReceive(loop.handle, this.#number, limit)
    if (result < 0) {
      const code = -result
      if (code === Status.AGAIN || code === Status.TIMED_OUT) {
        if (local && timeoutMs > 0) throw ipcError(Status.DEADLOCK, { subject: 'dispatchSync' })
        return undefined
      }
      throw this.#callError(result, 'dispatchSync')
    }
    const id = loop.words[Word.id] as number
    if (inPlace) return this.#lease(DISPATCH, id, result)
    const sequence = (loop.words[Word.sequence] as number) >>> 0
    return { id, payload: this.#received(result, DISPATCH), sequence }
  }

  // -- dispatches -----------------------------------------------------------------------------------

  dispatches(options?: { readonly signal?: AbortSignal | undefined }): DispatchIterator {
    checkOptions('options', options, dispatchesChecks)
    const iterator = new Dispatches(this, options?.signal)
    if (iterator.ended) return iterator
    if (this.#iterators === NO_ITERATORS) this.#iterators = new Set()
    this.#iterators.add(iterator)
    this.#noteTakers()
    if (this.#reason === Status.OK) this.#updateFlow()
    else {
      this.#deliverKept()
      this.#fetchRest()
    }
    return iterator
  }

  iteratorChanged(): void {
    this.#updateFlow()
  }

  readerWaits(): void {
    if (this.#reason !== Status.OK) queueMicrotask(() => this.#fetchRest())
  }

  iteratorDone(iterator: Dispatches, rest: readonly Message[]): void {
    this.#iterators.delete(iterator)
    this.#noteTakers()
    // Nobody else has had them: they are not lost.
    if (rest.length > 0 && !this.#wanted) this.#kept.unshift(...rest)
    this.#updateFlow()
  }

  /** After every change of who takes dispatches, before anything is decided by it. */
  #noteTakers(): void {
    const listeners = this.listenerCount('dispatch')
    this.#wanted = this.#iterators.size > 0 || listeners > 0 || this.transient !== undefined
    const alone = listeners === 1 && this.#iterators.size === 0
    this.#direct = alone && this.listeners('dispatch')[0] === this.#plain ? this.#plain : undefined
  }

  /** Dispatches come by themselves while somebody wants them and no iterator is full. */
  #updateFlow(): void {
    this.#noteTakers()
    if (this.#kept.length > 0 && this.#wanted) queueMicrotask(() => this.#deliverKept())
    if (this.#reason !== Status.OK) {
      if (this.#wanted) queueMicrotask(() => this.#fetchRest())
      return
    }
    let on = this.#wanted
    for (const iterator of this.#iterators) if (iterator.full) on = false
    if (on === this.#flowing) return
    this.#flowing = on
    addon.dispatchFlow(this.#handle, this.#number, on)
  }

  override on<T extends EventEmitter.EventNames<ConnectionEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ConnectionEvents, T>,
    context?: unknown,
  ): this {
    super.on(event, listener, context)
    if (event === 'dispatch') {
      this.#plain = context === undefined ? (listener as DispatchListener) : undefined
      this.#updateFlow()
    }
    return this
  }

  override addListener<T extends EventEmitter.EventNames<ConnectionEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ConnectionEvents, T>,
    context?: unknown,
  ): this {
    return this.on(event, listener, context)
  }

  override once<T extends EventEmitter.EventNames<ConnectionEvents>>(
    event: T,
    listener: EventEmitter.EventListener<ConnectionEvents, T>,
    context?: unknown,
  ): this {
    super.once(event, listener, context)
    if (event === 'dispatch') {
      this.#plain = undefined
      this.#updateFlow()
    }
    return this
  }

  override removeListener<T extends EventEmitter.EventNames<ConnectionEvents>>(
    event: T,
    listener?: EventEmitter.EventListener<ConnectionEvents, T>,
    context?: unknown,
    once?: boolean,
  ): this {
    super.removeListener(event, listener, context, once)
    if (event === 'dispatch') {
      if (context !== undefined) this.#plain = undefined
      this.#updateFlow()
    }
    return this
  }

  override off<T extends EventEmitter.EventNames<ConnectionEvents>>(
    event: T,
    listener?: EventEmitter.EventListener<ConnectionEvents, T>,
    context?: unknown,
    once?: boolean,
  ): this {
    return this.removeListener(event, listener, context, once)
  }

  override removeAllListeners(event?: EventEmitter.EventNames<ConnectionEvents>): this {
    super.removeAllListeners(event)
    this.#updateFlow()
    return this
  }

  // -- buffers --------------------------------------------------------------------------------------

  allocate(bytes: number, options?: AllocateOptions): Promise<SharedBuffer> {
    return new Promise((resolve, reject) => {
      this.#checkAllocation(bytes)
      checkOptions('options', options, allocateChecks)
      const timeoutMs = options?.timeoutMs ?? this.#timeoutMs
      const signal = options?.signal
      if (this.#reason !== Status.OK) throw this.#overError('allocate')
      if (signal?.aborted === true)
        throw ipcError(Status.ABORTED, { subject: 'allocate', cause: signal.reason })
      if (!this.#trusts) {
        resolve(new SharedBuffer(this, new Uint8Array(bytes)))
        return
      }
      const { loop } = this.#group
      loop.flush()
      const result = addon.clientBufferAllocStart(loop.handle, this.#number, bytes)
      if (result < 0) throw nativeError(result, { subject: 'allocate' })
      const correlation = result | 0 // unsigned here, as in rows there
      const giveUp = (status: number, cause?: unknown): void => {
        // Left in the native's hands; what still comes is given back by bufferCame.
        this.#allocations?.delete(correlation)
        settle(ipcError(status, { subject: 'allocate', cause }))
      }
      const onAbort = (): void => giveUp(Status.ABORTED, signal?.reason)
      const timer =
        timeoutMs === Infinity
          ? undefined
          : setTimeout(() => giveUp(Status.TIMED_OUT), nativeTimeout(timeoutMs))
      timer?.unref()
      const settle = (error: Error | undefined, buffer?: SharedBuffer): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        if (error === undefined) resolve(buffer as SharedBuffer)
        else reject(error)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#allocations ??= new Map()
      this.#allocations.set(correlation, { bytes, settle })
    })
  }

  allocateSync(bytes: number, options?: RequestTimeout): SharedBuffer {
    this.#checkAllocation(bytes)
    checkOptions('options', options, allocateSyncChecks)
    if (this.#reason !== Status.OK) throw this.#overError('allocateSync')
    if (!this.#trusts) return new SharedBuffer(this, new Uint8Array(bytes))
    if (this.#isLocal()) throw ipcError(Status.DEADLOCK, { subject: 'allocateSync' })
    const { loop } = this.#group
    loop.flush()
    const limit = nativeTimeout(options?.timeoutMs ?? this.#timeoutMs)
    const handle = addon.clientBufferAlloc(loop.handle, this.#number, bytes, limit)
    if (handle < 0) throw this.#callError(handle, 'allocateSync')
    return this.#shared(handle, bytes)
  }

  #checkAllocation(bytes: number): void {
    if (!Number.isInteger(bytes) || bytes < 1 || bytes > this.messageBytes)
      throw invalidArgument('bytes', `an integer from 1 to ${this.messageBytes}`, bytes)
  }

  #shared(handle: number, bytes: number): SharedBuffer {
    return new SharedBuffer(
      this,
      new Uint8Array(addon.bufferArray(handle), 0, bytes),
      addon,
      handle,
    )
  }

  #isOurs(payload: SharedBuffer | BufferPart): boolean {
    const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
    return buffer.inPlace && buffer.owner === this
  }

  #sharedBytes(payload: SharedBuffer | BufferPart): Uint8Array {
    const wrong = bufferError(payload)
    if (wrong !== undefined) throw wrong
    return payload.bytes
  }

  /** Whether the server runs in this thread: then waiting for it would be for ever. */
  #isLocal(): boolean {
    return this.#addresses.length > 0 && this.#addresses.some((each) => localServers.has(each))
  }

  // -- the rest -------------------------------------------------------------------------------------

  stats(options?: StatsOptions): ConnectionStats {
    checkOptions('options', options, statsChecks)
    if (this.#freed) throw this.#overError('stats')
    const clear = options?.clear ?? false
    this.#group.loop.flush() // what was said to be taken counts
    addon.stats(this.#handle, this.#number, clear, this.#group.stats)
    const stats = statsFrom(this.#group.stats)
    return this.#latency === undefined ? stats : { ...stats, latency: this.#latency.read(options) }
  }

  ref(): this {
    if (!this.#refed && this.#reason === Status.OK) {
      this.#refed = true
      this.#group.ref()
    }
    return this
  }

  unref(): this {
    if (this.#refed && this.#reason === Status.OK) {
      this.#refed = false
      this.#group.unref()
    }
    return this
  }

  async close(options?: RequestTimeout): Promise<void> {
    checkOptions('options', options, closeChecks)
    const until = performance.now() + (options?.timeoutMs ?? 0)
    while (this.#busy() && performance.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 1))
    this[Symbol.dispose]()
  }

  #busy(): boolean {
    if (this.#reason !== Status.OK) return false
    if (this.#table.waiting > 0 || this.#queue.length > 0) return true
    this.#group.loop.flush()
    return this.stats().backlogMessages > 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  [Symbol.dispose](): void {
    if (this.#freed) return
    this.#group.loop.flush()
    // What this flush found out may have ended it already.
    if (this.#freed) return
    for (const lease of this.#leases) lease?.release()
    this.#freed = true
    forgotten.unregister(this)
    this.#group.disconnect(this.#number)
    this.ended(Status.DISCONNECTED)
    this.#endIterators() // those of a connection that was over, which were still being read
  }

  /** What ended it, as the error of a call that comes too late. */
  #overError(subject: string, sent?: false): IpcError {
    const status = this.#reason === Status.OK ? Status.DISCONNECTED : this.#reason
    return ipcError(status, { subject, sent })
  }

  #tooLarge(subject: string, bytes: number): IpcError {
    return ipcError(Status.TOO_LARGE, {
      subject: `${subject} of ${bytes} bytes, at most ${this.messageBytes}`,
      sent: false,
    })
  }

  /** The error of a negative result of a blocking native. */
  #callError(result: number, subject: string): IpcError {
    this.#table.reserved = addon.givenUp(this.#handle, this.#number)
    if (-result === Status.SYSTEM || -result === Status.NO_MEMORY)
      return nativeError(result, { subject })
    return this.#answerError(-result, subject, this.#group.loop.words[Word.status] as number)
  }

  /** The error of a blocking request: of some it is known that they were not sent. */
  #requestError(result: number, subject: string): IpcError {
    const code = -result
    // An answer with this code would have given its place back.
    if (code === Status.LIMIT && this.stats().inFlight >= this.requestsInFlight) {
      const all = `${subject}: all ${this.requestsInFlight} requestsInFlight are taken`
      return ipcError(code, { subject: all, sent: false })
    }
    // In flight it would be UNKNOWN_OUTCOME.
    const state = this.#freed ? Status.OK : Math.abs(addon.state(this.#handle, this.#number))
    if (code === state) return ipcError(code, { subject, sent: false })
    return this.#callError(result, subject)
  }

  #answerError(code: number, subject: string, applicationStatus: number): IpcError {
    // No answer says that the connection is over: the request was never handed over, or never read.
    if (code === Status.DISCONNECTED || code === Status.PEER_DEAD)
      return ipcError(code, { subject, sent: false })
    if (code !== Status.UNKNOWN_OUTCOME) return ipcError(code, { subject, applicationStatus })
    const state = this.#freed ? Status.DISCONNECTED : addon.state(this.#handle, this.#number)
    const cause = ipcError(state === Status.OK ? Status.PEER_DEAD : Math.abs(state))
    return ipcError(code, { subject, cause })
  }
}

function formOf(options: RequestOptions): number {
  return options.full === true ? Form.full : options.inPlace === true ? Form.lease : Form.payload
}

/** A lease on an answer: on what a trusted server lent, or on private memory when `buffer` is none. */
function leaseOf(
  id: number,
  payload: Uint8Array,
  status: number,
  sequence: number,
  buffer: number,
): Lease {
  const release = buffer >= 0 ? () => addon.bufferRelease(buffer) : undefined
  return new Lease(id, payload, status, sequence, buffer >= 0, release)
}

/** A private copy of what a trusted server lent; gives the loan back. */
function own(payload: Uint8Array, buffer: number): Uint8Array {
  const copy = payload.slice()
  addon.bufferRelease(buffer)
  return copy
}
