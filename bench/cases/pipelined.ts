// Several requests in flight on one connection: each slot sends its next request when its answer has
// come. All slots are alike, so the latency of the first stands for all: a clock reading for every
// request would be a fifth of what a request costs.
import { performance } from 'node:perf_hooks'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import { type ClientCase, measurementOf, required } from './client-case.js'

export const pipelined: ClientCase = {
  about: 'several requests in flight on one connection',
  run: async (task, connect) => {
    const side = await connect()
    try {
      const run = new Run(task)
      const slots = Array.from({ length: task.inFlight }, (_, slot) =>
        task.form === 'promise' ? run.promiseSlot(side, slot) : run.callbackSlot(side, slot),
      )
      await Promise.all(slots)
      return run.result()
    } finally {
      await side.close()
    }
  },
}

/** What the slots of one repetition share. */
class Run {
  readonly #task: Task
  readonly #samples = new Samples()
  readonly #end: number
  /** When the warm-up ends; infinite when it has ended. */
  #warm: number
  #begin = 0
  #last = 0
  #operations = 0
  #counted = 0
  #wrong = 0
  #over = false

  constructor(task: Task) {
    this.#task = task
    this.#warm = performance.now() + task.warmupMs
    this.#end = this.#warm + task.durationMs
  }

  async promiseSlot(side: ClientSide, slot: number): Promise<void> {
    const request = required(side.request, 'request').bind(side)
    const caller = this.#caller(slot)
    let last = performance.now()
    while (!this.#over) {
      caller.checkAnswer(await request(caller.nextRequest()))
      this.#operations++
      if (slot === 0) last = this.#tick(last)
    }
    this.#wrong += caller.wrong
  }

  callbackSlot(side: ClientSide, slot: number): Promise<void> {
    const request = required(side.requestCallback, 'requestCallback').bind(side)
    const caller = this.#caller(slot)
    return new Promise((resolve) => {
      let last = performance.now()
      const done = (answer: Uint8Array): void => {
        caller.checkAnswer(answer)
        this.#operations++
        if (slot === 0) last = this.#tick(last)
        if (!this.#over) {
          request(caller.nextRequest(), done)
        } else {
          this.#wrong += caller.wrong
          resolve()
        }
      }
      request(caller.nextRequest(), done)
    })
  }

  result(): Measurement {
    return measurementOf(this.#samples, this.#counted, this.#last - this.#begin, this.#wrong)
  }

  #caller(slot: number): Caller {
    return new Caller(this.#task.payloadBytes, slot << 20)
  }

  /** The clock of the whole run: read by the first slot alone. */
  #tick(last: number): number {
    const now = performance.now()
    this.#samples.add((now - last) * 1000)
    if (now >= this.#warm) {
      this.#warm = Number.POSITIVE_INFINITY
      this.#begin = now
      this.#operations = 0
      this.#samples.clear()
    }
    if ((now >= this.#end || this.#samples.full) && !this.#over) {
      this.#over = true
      this.#last = now
      this.#counted = this.#operations
    }
    return now
  }
}
