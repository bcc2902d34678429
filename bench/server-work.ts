// The server's half of every case: answers, and the feed of dispatches.
import { Answerer, PayloadBuffer } from './payload.js'
import type { Feed, Publisher, ServerWork } from './subject.js'
import { exchangeOf, type Task } from './task.js'

/**
 * Messages between two looks at the event loop (acknowledgements, the end, other connections), or fewer
 * large ones.
 */
const BURST = 512
const BURST_BYTES = 8 << 20

const settled = Promise.resolve()

export function createServerWork(task: Task): ServerWork {
  const answerer = new Answerer(exchangeOf(task))
  return {
    answer: (request) => answerer.answer(request),
    answerAt: (memory, offset, length) => answerer.answerAt(memory, offset, length),
    feed: (publisher) => new DispatchFeed(task, publisher),
  }
}

/** Publishes as fast as the subject takes it. Seeds count up, so that the client sees a lost message. */
class DispatchFeed implements Feed {
  readonly #publisher: Publisher
  readonly #payload: PayloadBuffer
  readonly #each: boolean
  readonly #burstMessages: number
  #left = 0
  #seed = 0
  #running = false
  #scheduled = false

  constructor(task: Task, publisher: Publisher) {
    this.#publisher = publisher
    this.#payload = new PayloadBuffer(task.payloadBytes, task.touch)
    this.#each = task.variant === 'publish-each'
    const fitting = Math.floor(BURST_BYTES / Math.max(1, task.payloadBytes))
    this.#burstMessages = Math.min(BURST, Math.max(1, fitting))
  }

  start(): void {
    this.#running = true
    this.#schedule()
  }

  stop(): void {
    this.#running = false
  }

  drained(): void {
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled || !this.#running) return
    this.#scheduled = true
    setImmediate(this.#each ? this.#burstOfOnes : this.#burst)
  }

  readonly #burst = (): void => {
    this.#scheduled = false
    if (!this.#running) return
    this.#publisher.cork?.()
    let full = false
    for (let i = 0; i < this.#burstMessages && !full; i++) full = !this.#publish()
    this.#publisher.uncork?.()
    if (!full) this.#schedule()
  }

  readonly #burstOfOnes = (): void => {
    this.#scheduled = false
    this.#left = this.#burstMessages
    this.#one()
  }

  /** What gathers messages of one turn sends them in a microtask: the next message comes behind it. */
  readonly #one = (): void => {
    if (!this.#running || !this.#publish()) return
    if (--this.#left > 0) void settled.then(this.#one)
    else this.#schedule()
  }

  #publish(): boolean {
    if (!this.#publisher.publish(this.#payload.fill(this.#seed))) return false
    this.#seed = (this.#seed + 1) | 0
    return true
  }
}
