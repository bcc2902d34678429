// One request in flight. A sample runs from one answer read to the next, with one reading of the clock
// (about 45 ns here, 25 ns in the C floor): writing the request and reading the answer are inside.
// The warm-up runs the very loop that is measured, samples included: a branch of its own that V8 saw
// for the first time when the measurement begins would throw the optimised code away.
import { performance } from 'node:perf_hooks'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import { type ClientCase, measurementOf, required } from './client-case.js'

/** Blocking where the subject can; else the quickest that it has, which the row's form then says. */
export const rttSync: ClientCase = {
  about: 'one request at a time, blocking (form callback: the subject cannot block)',
  run: async (task, connect) => {
    const side = await connect()
    try {
      return task.form === 'sync' ? measureSync(task, side) : await measureCallback(task, side)
    } finally {
      await side.close()
    }
  },
}

export const rttAsync: ClientCase = {
  about: 'one request at a time, awaited',
  run: async (task, connect) => {
    const side = await connect()
    try {
      return await measurePromise(task, side)
    } finally {
      await side.close()
    }
  },
}

function measureSync(task: Task, side: ClientSide): Measurement {
  const request = required(side.requestSync, 'requestSync').bind(side)
  const caller = new Caller(task.payloadBytes)
  const into = new Uint8Array(task.payloadBytes)
  const samples = new Samples()
  const until = (end: number): number => {
    samples.clear()
    let last = performance.now()
    while (last < end && !samples.full) {
      caller.checkAnswer(request(caller.nextRequest(), into))
      const now = performance.now()
      samples.add((now - last) * 1000)
      last = now
    }
    return last
  }
  until(performance.now() + task.warmupMs)
  const begin = performance.now()
  const last = until(begin + task.durationMs)
  return measurementOf(samples, samples.count, last - begin, caller.wrong)
}

async function measurePromise(task: Task, side: ClientSide): Promise<Measurement> {
  const request = required(side.request, 'request').bind(side)
  const caller = new Caller(task.payloadBytes)
  const samples = new Samples()
  const until = async (end: number): Promise<number> => {
    samples.clear()
    let last = performance.now()
    while (last < end && !samples.full) {
      caller.checkAnswer(await request(caller.nextRequest()))
      const now = performance.now()
      samples.add((now - last) * 1000)
      last = now
    }
    return last
  }
  await until(performance.now() + task.warmupMs)
  const begin = performance.now()
  const last = await until(begin + task.durationMs)
  return measurementOf(samples, samples.count, last - begin, caller.wrong)
}

function measureCallback(task: Task, side: ClientSide): Promise<Measurement> {
  const request = required(side.requestCallback, 'requestCallback').bind(side)
  const caller = new Caller(task.payloadBytes)
  const samples = new Samples()
  return new Promise((resolve) => {
    let last = performance.now()
    let begin = 0
    let warm = last + task.warmupMs
    const end = warm + task.durationMs
    const done = (answer: Uint8Array): void => {
      caller.checkAnswer(answer)
      const now = performance.now()
      samples.add((now - last) * 1000)
      last = now
      if (now >= warm) {
        warm = Number.POSITIVE_INFINITY
        begin = now
        samples.clear()
      }
      if (now >= end || samples.full) {
        resolve(measurementOf(samples, samples.count, now - begin, caller.wrong))
      } else {
        request(caller.nextRequest(), done)
      }
    }
    request(caller.nextRequest(), done)
  })
}
