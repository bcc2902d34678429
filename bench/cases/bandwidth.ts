// Large payloads from the server to the client, in the three ways in which a receiver can have them.
//   owned     a stream of dispatches, each the receiver's own for ever
//   into      a request of 8 bytes, and the payload as its answer in memory that the caller brought; one
//             at a time, so writing, copying and reading do not overlap
//   in-place  a stream of dispatches, each read where it lies and given back
import type { CpuMeter } from '../cpu-meter.js'
import { Caller, PayloadCheck } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf, type Measurement, type Task } from '../task.js'
import {
  type ClientCase,
  measureBlocking,
  measurementOf,
  required,
  withConnection,
} from './client-case.js'
import { measureDispatches, messagesPerSample } from './dispatch.js'

export const bandwidth: ClientCase = {
  about: 'large payloads from server to client: owned, into memory of the caller, read in place',
  run: (task, connect, { cpu }) =>
    withConnection(connect, (side) => {
      if (task.variant === 'into') return measureInto(task, side, cpu)
      if (task.variant === 'in-place') return measureInPlace(task, side, cpu)
      return measureDispatches(task, side, cpu)
    }),
}

function measureInto(task: Task, side: ClientSide, cpu: CpuMeter): Measurement {
  const request = required(side.requestSync, 'requestSync').bind(side)
  const caller = new Caller(exchangeOf(task))
  const into = new Uint8Array(task.payloadBytes)
  const samples = new Samples()
  const { elapsedMs, use } = measureBlocking(task, samples, cpu, () =>
    caller.checkAnswer(request(caller.nextRequest(), into)),
  )
  return measurementOf(samples, samples.count, elapsedMs, caller.wrong, use)
}

function measureInPlace(task: Task, side: ClientSide, cpu: CpuMeter): Measurement {
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
