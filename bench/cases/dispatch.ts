// One way, server to client, as fast as it goes. Each payload is handed out as the receiver's own,
// read, and known by its seed: a lost, doubled or reordered message is a wrong one. A sample is the time
// of as many messages as have about 4 MiB (at most 1024), divided: they come in batches.
import { performance } from 'node:perf_hooks'
import type { CpuMeter } from '../cpu-meter.js'
import { PayloadCheck } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import {
  type ClientCase,
  measureBlocking,
  measurementOf,
  required,
  withConnection,
} from './client-case.js'

export const dispatch: ClientCase = {
  about:
    'messages from the server to one client, unasked, payloads owned by the receiver; offset: in memory used again; in-place: where they lie',
  run: (task, connect, { cpu }) =>
    withConnection(connect, (side) =>
      task.variant === 'in-place'
        ? measureInPlace(task, side, cpu)
        : measureDispatches(task, side, cpu),
    ),
}

/**
 * Enough that the reading of the clock does not count, and more than one batch; bench/floor/dispatch.c does
 * the same.
 */
export function messagesPerSample(payloadBytes: number): number {
  return Math.min(1024, Math.max(1, Math.floor((4 << 20) / Math.max(1, payloadBytes))))
}

/** Also the rows `owned` of `bandwidth`. */
export function measureDispatches(
  task: Task,
  side: ClientSide,
  cpu: CpuMeter,
): Promise<Measurement> {
  const samples = new Samples()
  const check = new PayloadCheck(task.payloadBytes, task.touch)
  const perSample = messagesPerSample(task.payloadBytes)
  return new Promise((resolve) => {
    let seed = 0
    let wrong = 0
    let untilSample = perSample
    let last = performance.now()
    let begin = 0
    let warm = last + task.warmupMs
    const end = warm + task.durationMs
    let over = false
    const receive = (right: boolean): void => {
      if (over) return
      if (!right) wrong++
      seed = (seed + 1) | 0
      if (--untilSample !== 0) return
      untilSample = perSample
      const now = performance.now()
      samples.add(((now - last) * 1000) / perSample)
      last = now
      if (now >= warm) {
        warm = Number.POSITIVE_INFINITY
        samples.clear()
        cpu.begin()
        begin = last = performance.now()
      }
      if ((now >= end || samples.full) && samples.count > 0) {
        over = true
        const use = cpu.end()
        resolve(measurementOf(samples, samples.count * perSample, now - begin, wrong, use))
      }
    }
    if (task.variant === 'offset')
      required(side.subscribeTransient, 'subscribeTransient').call(side, (memory, offset, length) =>
        receive(check.rightAt(memory, offset, length, seed)),
      )
    else
      required(side.subscribe, 'subscribe').call(side, (payload) =>
        receive(check.right(payload, seed)),
      )
  })
}

/** By a receiver that trusts the sender: each is read where it lies, and given back. Also of `bandwidth`. */
export function measureInPlace(task: Task, side: ClientSide, cpu: CpuMeter): Measurement {
  const receive = required(side.receiveInPlace, 'receiveInPlace').bind(side)
  const bytes = task.payloadBytes
  const check = new PayloadCheck(bytes, task.touch)
  const samples = new Samples()
  let seed = 0
  let wrong = 0
  const use = (payload: Uint8Array): void => {
    if (!check.right(payload, seed)) wrong++
    seed = (seed + 1) | 0
  }
  const perSample = messagesPerSample(bytes)
  const receiveSome = (): void => {
    for (let i = 0; i < perSample; i++) receive(use)
  }
  const measured = measureBlocking(task, samples, cpu, receiveSome, { operationsEach: perSample })
  const messages = samples.count * perSample
  return measurementOf(samples, messages, measured.elapsedMs, wrong, measured.use)
}
