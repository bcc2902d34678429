// One request in flight. A sample runs from one answer read to the next, with one reading of the clock
// (about 45 ns here, 25 ns in the C floor): writing the request and reading the answer are inside. With
// a pace it runs from the end of the pause.
import { performance } from 'node:perf_hooks'
import type { CpuMeter } from '../cpu-meter.js'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf, type Measurement, type Task } from '../task.js'
import {
  type ClientCase,
  measureBlocking,
  measureCalledBack,
  measurementOf,
  required,
  withConnection,
} from './client-case.js'

const PACE_MS = 1

/** Blocking where the subject can; else the quickest that it has, which the row's form then says. */
export const rttSync: ClientCase = {
  about:
    'one request at a time, blocking (form callback: the subject cannot block); paced: one each ms',
  run: (task, connect, { cpu }) =>
    withConnection(connect, (side) => {
      if (task.form === 'sync') return measureSync(task, side, cpu)
      return task.form === 'callback'
        ? measureCallback(task, side, cpu)
        : measurePromise(task, side, cpu)
    }),
}

export const rttAsync: ClientCase = {
  about: 'one request at a time, awaited',
  run: (task, connect, { cpu }) =>
    withConnection(connect, (side) => measurePromise(task, side, cpu)),
}

function measureSync(task: Task, side: ClientSide, cpu: CpuMeter): Measurement {
  const request = required(side.requestSync, 'requestSync').bind(side)
  const caller = new Caller(exchangeOf(task))
  const into = new Uint8Array(task.payloadBytes)
  const samples = new Samples()
  const never = new Int32Array(new SharedArrayBuffer(4))
  const { elapsedMs, use } = measureBlocking(
    task,
    samples,
    cpu,
    () => caller.checkAnswer(request(caller.nextRequest(), into)),
    { pause: task.variant === 'paced' ? () => Atomics.wait(never, 0, 0, PACE_MS) : undefined },
  )
  return measurementOf(samples, samples.count, elapsedMs, caller.wrong, use)
}

async function measurePromise(task: Task, side: ClientSide, cpu: CpuMeter): Promise<Measurement> {
  const request = required(side.request, 'request').bind(side)
  const caller = new Caller(exchangeOf(task))
  const samples = new Samples()
  const paced = task.variant === 'paced'
  const until = async (end: number): Promise<number> => {
    samples.clear()
    let last = performance.now()
    while (last < end && !samples.full) {
      if (paced) {
        await new Promise((resolve) => setTimeout(resolve, PACE_MS))
        last = performance.now()
      }
      caller.checkAnswer(await request(caller.nextRequest()))
      const now = performance.now()
      samples.add((now - last) * 1000)
      last = now
    }
    return last
  }
  await until(performance.now() + task.warmupMs)
  cpu.begin()
  const begin = performance.now()
  const last = await until(begin + task.durationMs)
  return measurementOf(samples, samples.count, last - begin, caller.wrong, cpu.end())
}

async function measureCallback(task: Task, side: ClientSide, cpu: CpuMeter): Promise<Measurement> {
  const caller = new Caller(exchangeOf(task))
  const samples = new Samples()
  const { elapsedMs, use } = await measureCalledBack(
    task,
    samples,
    cpu,
    (over) => {
      const request = required(side.requestCallback, 'requestCallback').call(side, (answer) => {
        caller.checkAnswer(answer)
        over()
      })
      return () => request(caller.nextRequest())
    },
    { pauseMs: task.variant === 'paced' ? PACE_MS : undefined },
  )
  return measurementOf(samples, samples.count, elapsedMs, caller.wrong, use)
}
