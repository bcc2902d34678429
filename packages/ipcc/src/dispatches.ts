/** Dispatches as an asynchronous iterator, with back-pressure: what is not read stays in the ring. */
import { type IpcError, ipcError, Status } from '@coroipc/native'

/** A message that the server sent unasked. */
export interface Message {
  /** What the server named it, 0 to 65535. */
  readonly id: number
  /** The bytes; the receiver's own for ever. */
  readonly payload: Uint8Array
  /** Orders answers and dispatches of one connection against each other. Unsigned, 32 bits, wraps. */
  readonly sequence: number
}

/**
 * The dispatches of one connection, in order: what `dispatches` returns.
 *
 * It collects from the call on, until it is ended: by `break` out of `for await`, by `return()`, by leaving
 * an `await using` scope, by its signal or by the connection. One that is left lying goes on collecting, and
 * once it is full nobody of the connection gets dispatches any more.
 *
 * @example
 * await using messages = connection.dispatches()
 * const first = await messages.next()
 */
export interface DispatchIterator
  extends AsyncIterableIterator<Message, undefined>,
    AsyncDisposable {
  /** Ends it. What it held and nobody else had is kept for the next reader. */
  return(): Promise<IteratorResult<Message, undefined>>
  [Symbol.asyncIterator](): this
}

/** Messages, or bytes, in an iterator at which the connection stops reading. */
const MESSAGES_MAX = 1024
const BYTES_MAX = 1 << 20

/** What an iterator needs of its connection. */
export interface DispatchSource {
  /** An iterator has filled up, or has room again. */
  iteratorChanged(): void
  /** A reader waits at one: for nothing, if its connection is over and others are full. */
  readerWaits(): void
  /** `rest`: what it was given and nobody read. */
  iteratorDone(iterator: Dispatches, rest: readonly Message[]): void
}

interface Waiting {
  readonly resolve: (result: IteratorResult<Message, undefined>) => void
  readonly reject: (error: Error) => void
}

/** The iterator of `connection.dispatches()`. */
export class Dispatches implements DispatchIterator {
  readonly #source: DispatchSource
  readonly #signal: AbortSignal | undefined
  #messages: Message[] = []
  #next = 0
  #bytes = 0
  #waiting: Waiting[] = []
  #ended = false
  #error: Error | undefined

  constructor(source: DispatchSource, signal: AbortSignal | undefined) {
    this.#source = source
    this.#signal = signal
    if (signal?.aborted === true) this.#onAbort()
    else signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  readonly #onAbort = (): void => {
    this.end(ipcError(Status.ABORTED, { subject: 'dispatches', cause: this.#signal?.reason }))
  }

  /** True while nothing more should be read for it. */
  get full(): boolean {
    return this.#messages.length - this.#next >= MESSAGES_MAX || this.#bytes >= BYTES_MAX
  }

  /** Whether a reader waits for what comes next. */
  get awaited(): boolean {
    return this.#waiting.length > 0
  }

  /** True once it will take nothing more. */
  get ended(): boolean {
    return this.#ended
  }

  push(message: Message): void {
    if (this.#ended) return
    const waiting = this.#waiting.shift()
    if (waiting !== undefined) {
      waiting.resolve({ done: false, value: message })
      return
    }
    const wasFull = this.full
    this.#messages.push(message)
    this.#bytes += message.payload.length
    if (!wasFull && this.full) this.#source.iteratorChanged()
  }

  /** What is here can still be read; then comes the error, or the end. */
  end(error: IpcError | undefined): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#source.iteratorDone(this, [])
    for (const { resolve, reject } of this.#waiting.splice(0)) {
      if (this.#error === undefined) resolve({ done: true, value: undefined })
      else {
        reject(this.#error)
        this.#error = undefined
      }
    }
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    const message = this.#messages[this.#next]
    if (message !== undefined) {
      const wasFull = this.full
      this.#next++
      this.#bytes -= message.payload.length
      if (this.#next === this.#messages.length) {
        this.#messages = []
        this.#next = 0
      } else if (this.#next >= MESSAGES_MAX) {
        // A reader that never quite catches up must not keep what it has read.
        this.#messages = this.#messages.slice(this.#next)
        this.#next = 0
      }
      if (wasFull && !this.full) this.#source.iteratorChanged()
      return Promise.resolve({ done: false, value: message })
    }
    if (this.#ended) {
      const error = this.#error
      this.#error = undefined
      return error === undefined
        ? Promise.resolve({ done: true, value: undefined })
        : Promise.reject(error)
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#source.readerWaits()
    })
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    const rest = this.#messages.slice(this.#next)
    this.#messages = []
    this.#next = 0
    this.#bytes = 0
    if (!this.#ended) {
      this.#ended = true
      this.#signal?.removeEventListener('abort', this.#onAbort)
      this.#source.iteratorDone(this, rest)
      for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined })
    }
    this.#error = undefined
    return Promise.resolve({ done: true, value: undefined })
  }

  /** As `return()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
