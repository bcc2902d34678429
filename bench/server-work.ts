// The server's half of every case: answers, and the feed of dispatches.
import { Answerer, PayloadBuffer } from './payload.js'
import type { Feed, Publisher, ServerWork } from './subject.js'
import type { Task } from './task.js'

/** Messages between two looks at the event loop: acknowledgements, the end, other connections. */
const BURST = 512

export function createServerWork(task: Task): ServerWork {
  const answerer = new Answerer(task.payloadBytes)
  return {
    answer: (request) => answerer.answer(request),
    feed: (publisher) => new DispatchFeed(task.payloadBytes, publisher),
  }
}

/** Publishes as fast as the subject takes it. Seeds count up, so that the client sees a lost message. */
class DispatchFeed implements Feed {
  readonly #publisher: Publisher
  readonly #payload: PayloadBuffer
  #seed = 0
  #running = false
  #scheduled = false

  constructor(payloadBytes: number, publisher: Publisher) {
    this.#publisher = publisher
    this.#payload = new PayloadBuffer(payloadBytes)
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
    setImmediate(this.#burst)
  }

  readonly #burst = (): void => {
    this.#scheduled = false
    if (!this.#running) return
    this.#publisher.cork?.()
    let full = false
    for (let i = 0; i < BURST && !full; i++) {
      if (this.#publisher.publish(this.#payload.fill(this.#seed))) this.#seed = (this.#seed + 1) | 0
      else full = true
    }
    this.#publisher.uncork?.()
    if (!full) this.#schedule()
  }
}
