// Large payloads from the server to the client, in the three ways in which a receiver can have them.
//   owned     a stream of dispatches, each the receiver's own for ever
//   into      a request of 8 bytes, and the payload as its answer in memory that the caller brought; one
//             at a time, so writing, copying and reading do not overlap
//   in-place  a stream of dispatches, each read where it lies and given back
import type { CpuMeter } from '../cpu-meter.js'
import { Caller } from '../payload.js'
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
import { measureDispatches, measureInPlace } from './dispatch.js'

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
