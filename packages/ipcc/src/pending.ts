/**
 * Requests without an answer. A table by slot (the slot is the request's correlation on the wire), a free
 * list, and one timer for the earliest deadline.
 *
 *   free --take--> waiting --answer--> free
 *                     |--time out, abort--> abandoned --late answer or SLOT_FREE--> free
 *
 * An abandoned slot is not used again before the server has answered it: so a late answer can never reach
 * another call.
 */
import { performance } from 'node:perf_hooks'
import { type IpcError, TIMEOUT_MS_MAX } from '@coroipc/native'
import type { Lease } from './lease.js'

/** An answer with everything that came with it. */
export interface Answer {
  /** The bytes; the caller's own for ever. */
  readonly payload: Uint8Array
  /** The application's own status, an int32. */
  readonly status: number
  /** Orders answers and dispatches of one connection against each other. Unsigned, 32 bits, wraps. */
  readonly sequence: number
}

/** What a request comes to, by its options: the payload, with `full` an answer, with `inPlace` a lease. */
export type Outcome = Uint8Array | Answer | Lease

/**
 * What is called when a request without promise has its outcome: once, never before `request` returns. As in Node.js
 * `answer` is there only when `error` is null.
 */
export type Callback<T> = (error: IpcError | null, answer: T) => void

/**
 * What `requestTransient` calls with the answer: `length` bytes at `offset` of `bytes`, **until the callback returns**, and the
 * application's own status. With an `error` all of them are empty. `bytes` must not be kept, transferred or written to.
 */
export type TransientCallback = (
  error: IpcError | null,
  bytes: Uint8Array,
  offset: number,
  length: number,
  status: number,
) => void

/** The form that was asked for. `transient`: an answer as for `full`, unless it can be lent. */
export const Form = { payload: 0, full: 1, lease: 2, transient: 3 } as const

/**
 * Requests with a long deadline that were made at about the same time: they share one look at the clock, which would
 * be a third of what a small request costs. It is taken after them, so that none ends too early.
 */
export class Epoch {
  /** performance.now() at its end; Infinity while it lasts. */
  end: number = Infinity
  /** The shortest time that one of its requests may take, milliseconds. */
  shortest: number = Infinity
}

/** One request, from the call to its outcome. Either `callback` is called, or one of the others; once. */
export class Pending {
  id: number
  form: number
  /** Milliseconds that it may take; Infinity: as long as it likes. */
  timeoutMs: number
  /** With a short deadline: when it ends, on the clock of performance.now(). */
  until: number
  /** With a long one. */
  epoch: Epoch | undefined
  /** performance.now() of the call, when latency is recorded; else 0. */
  readonly started: number
  callback: Callback<never> | TransientCallback | undefined
  readonly resolve: ((outcome: Outcome) => void) | undefined
  readonly reject: ((error: Error) => void) | undefined
  slot = -1
  /** True once `request` has returned: no callback before that. */
  returned = false
  /** Takes the listener off the caller's signal. */
  unlisten: (() => void) | undefined

  constructor(
    id: number,
    form: number,
    timeoutMs: number,
    until: number,
    epoch: Epoch | undefined,
    started: number,
    callback: Callback<never> | TransientCallback | undefined,
    resolve: ((outcome: Outcome) => void) | undefined,
    reject: ((error: Error) => void) | undefined,
  ) {
    this.id = id
    this.form = form
    this.timeoutMs = timeoutMs
    this.until = until
    this.epoch = epoch
    this.started = started
    this.callback = callback
    this.resolve = resolve
    this.reject = reject
  }

  /** Another request with a callback, when the last one is over: `PendingTable.again`. */
  renew(
    id: number,
    form: number,
    timeoutMs: number,
    epoch: Epoch | undefined,
    callback: Callback<never> | TransientCallback,
  ): void {
    this.id = id
    this.form = form
    this.timeoutMs = timeoutMs
    this.until = Infinity
    this.epoch = epoch
    this.callback = callback
    this.returned = false
  }

  /** On the clock of performance.now(); Infinity: never, or not known yet. */
  get deadline(): number {
    return this.epoch === undefined ? this.until : this.epoch.end + this.timeoutMs
  }
}

const FREE = undefined
/** Given up, but the server has not answered it yet. */
const ABANDONED = null

/** The slots of one connection. */
export class PendingTable {
  readonly #slots: (Pending | undefined | null)[] = []
  readonly #free: number[] = []
  /** Of answered requests, to be used again: at most as many as there are slots. */
  readonly #spare: Pending[] = []
  readonly #capacity: number
  #waiting = 0
  /** Places in flight that are taken outside of this table: blocking calls that were given up. */
  reserved = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  /** Requests that wait for an answer. */
  get waiting(): number {
    return this.#waiting
  }

  /** True while a slot can be taken. */
  get room(): boolean {
    return this.#slots.length - this.#free.length + this.reserved < this.#capacity
  }

  /** One that is over, to be renewed. */
  again(): Pending | undefined {
    return this.#spare.pop()
  }

  /**
   * It is over, and nothing is left that could still name it: no listener, no deadline that is just being looked at.
   * Returns what is to be called.
   */
  recycle(pending: Pending): Callback<never> | TransientCallback {
    const callback = pending.callback as Callback<never> | TransientCallback
    pending.callback = undefined
    pending.epoch = undefined
    // Not each is renewed: those of requests with options, or with more than bytes, are made anew.
    if (this.#spare.length < this.#capacity) this.#spare.push(pending)
    return callback
  }

  /** Gives the request a slot; there must be room. */
  take(pending: Pending): number {
    let slot = this.#free.pop()
    if (slot === undefined) {
      slot = this.#slots.length
      this.#slots.push(pending)
    } else this.#slots[slot] = pending
    pending.slot = slot
    this.#waiting++
    return slot
  }

  /** Who waits for the answer of a slot; undefined: nobody. */
  waits(slot: number): Pending | undefined {
    return this.#slots[slot] ?? undefined
  }

  /** The answer of a slot came: whose it is; undefined if nobody's any more. The slot is free. */
  answered(slot: number): Pending | undefined {
    const pending = this.#slots[slot]
    if (pending === FREE) return undefined
    this.#slots[slot] = FREE
    this.#free.push(slot)
    if (pending === ABANDONED) return undefined
    this.#waiting--
    return pending
  }

  /** Nobody waits for it any more; its slot stays taken until the answer. False: it has its outcome already. */
  abandon(pending: Pending): boolean {
    if (pending.slot < 0 || this.#slots[pending.slot] !== pending) return false
    this.#slots[pending.slot] = ABANDONED
    this.#waiting--
    return true
  }

  /** The late answer of an abandoned slot was dropped. */
  slotFree(slot: number): void {
    if (this.#slots[slot] !== ABANDONED) return
    this.#slots[slot] = FREE
    this.#free.push(slot)
  }

  /** Takes out all that wait. */
  takeAll(): Pending[] {
    const all = this.#slots.filter((each): each is Pending => each instanceof Pending)
    this.#slots.fill(ABANDONED)
    this.#waiting = 0
    return all
  }

  /** Those that wait, for a look at their deadlines. */
  *[Symbol.iterator](): IterableIterator<Pending> {
    for (const pending of this.#slots) if (pending instanceof Pending) yield pending
  }
}

/** Deadlines from this on are kept to within EPOCH_MS. */
export const LONG_MS = 250
const EPOCH_MS = 20

/** One timer for many deadlines: it rings at the earliest, and is asked again then. */
export class DeadlineTimer {
  readonly #expired: (now: number) => number
  #at = Infinity
  #timer: NodeJS.Timeout | undefined
  #epoch: Epoch | undefined
  #epochTimer: NodeJS.Timeout | undefined

  /** @param expired ends what is late and returns the earliest deadline that is left, or Infinity */
  constructor(expired: (now: number) => number) {
    this.#expired = expired
  }

  /** Something ends at `deadline`, on the clock of performance.now(). */
  add(deadline: number): void {
    if (deadline >= this.#at) return
    this.#at = deadline
    clearTimeout(this.#timer)
    const left = Math.ceil(deadline - performance.now())
    this.#timer = setTimeout(this.#ring, left < 1 ? 1 : Math.min(left, TIMEOUT_MS_MAX))
    // What keeps the process alive is the connection, not its clock.
    this.#timer.unref()
  }

  /** The epoch of a request that is made now and may take `timeoutMs`, at least LONG_MS. */
  epoch(timeoutMs: number): Epoch {
    let epoch = this.#epoch
    if (epoch === undefined) {
      epoch = this.#epoch = new Epoch()
      this.#epochTimer = setTimeout(this.#endEpoch, EPOCH_MS)
      this.#epochTimer.unref()
    }
    if (timeoutMs < epoch.shortest) epoch.shortest = timeoutMs
    return epoch
  }

  readonly #endEpoch = (): void => {
    const epoch = this.#epoch
    if (epoch === undefined) return
    this.#epoch = undefined
    epoch.end = performance.now()
    this.add(epoch.end + epoch.shortest)
  }

  readonly #ring = (): void => {
    this.#at = Infinity
    this.#timer = undefined
    const next = this.#expired(performance.now())
    if (next < Infinity) this.add(next)
  }

  stop(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#epochTimer)
    this.#timer = undefined
    this.#epoch = undefined
    this.#at = Infinity
  }
}
