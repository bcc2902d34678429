// Several requests in flight on one connection: each slot sends its next request when its answer has
// come. All slots are alike, so the latency of the first stands for all: a clock reading for every
// request would be a fifth of what a request costs.
import { performance } from 'node:perf_hooks'
import { type CpuMeter, type CpuUse, unknownCpuUse } from '../cpu-meter.js'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf, type Measurement, type Task } from '../task.js'
import { type ClientCase, measurementOf, required, withConnection } from './client-case.js'

export const pipelined: ClientCase = {
  about: 'several requests in flight on one connection',
  run: (task, connect, { cpu }) =>
    withConnection(connect, async (side) => {
      const run = new Run(task, cpu)
      const slots = Array.from({ length: task.inFlight }, (_, slot) =>
        task.variant === 'offset'
          ? run.transientSlot(side, slot)
          : task.form === 'promise'
            ? run.promiseSlot(side, slot)
            : run.callbackSlot(side, slot),
      )
      await Promise.all(slots)
      return run.result()
    }),
}

/** What the slots of one repetition share. */
class Run {
  readonly #task: Task
  readonly #cpu: CpuMeter
  #use: CpuUse = unknownCpuUse
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

  constructor(task: Task, cpu: CpuMeter) {
    this.#task = task
    this.#cpu = cpu
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
    return this.#slot(slot, (caller, next) => {
      const request = required(side.requestCallback, 'requestCallback').call(side, (answer) => {
        caller.checkAnswer(answer)
        if (next()) request(caller.nextRequest())
      })
      return () => request(caller.nextRequest())
    })
  }

  transientSlot(side: ClientSide, slot: number): Promise<void> {
    return this.#slot(slot, (caller, next) => {
      const request = required(side.requestTransient, 'requestTransient').call(
        side,
        (memory, offset, length) => {
          caller.checkAnswerAt(memory, offset, length)
          if (next()) request(caller.nextRequest())
        },
      )
      return () => request(caller.nextRequest())
    })
  }

  /** `prepare` gets what says after each answer whether to ask again, and gives what asks first. */
  #slot(slot: number, prepare: (caller: Caller, next: () => boolean) => () => void): Promise<void> {
    const caller = this.#caller(slot)
    return new Promise((resolve) => {
      let last = performance.now()
      const next = (): boolean => {
        this.#operations++
        if (slot === 0) last = this.#tick(last)
        if (!this.#over) return true
        this.#wrong += caller.wrong
        resolve()
        return false
      }
      prepare(caller, next)()
    })
  }

  result(): Measurement {
    const elapsedMs = this.#last - this.#begin
    return measurementOf(this.#samples, this.#counted, elapsedMs, this.#wrong, this.#use)
  }

  #caller(slot: number): Caller {
    return new Caller(exchangeOf(this.#task), slot << 20)
  }

  /** The clock of the whole run: read by the first slot alone. */
  #tick(last: number): number {
    const now = performance.now()
    this.#samples.add((now - last) * 1000)
    if (now >= this.#warm) {
      this.#warm = Number.POSITIVE_INFINITY
      this.#operations = 0
      this.#samples.clear()
      this.#cpu.begin()
      this.#begin = performance.now()
      return this.#begin
    }
    if ((now >= this.#end || this.#samples.full) && !this.#over) {
      this.#over = true
      this.#last = now
      this.#counted = this.#operations
      this.#use = this.#cpu.end()
    }
    return now
  }
}
