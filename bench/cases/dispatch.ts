// One way, server to client, as fast as it goes. Each payload is handed out as the receiver's own,
// read whole, and known by its seed: a lost, doubled or reordered message is a wrong one. A sample is
// the time of 1024 messages, divided.
import { performance } from 'node:perf_hooks'
import { payloadSum, payloadSumExpected } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import { type ClientCase, measurementOf, required } from './client-case.js'

const MESSAGES_PER_SAMPLE = 1024

export const dispatch: ClientCase = {
  about: 'messages from the server to one client, unasked, payloads owned by the receiver',
  run: async (task, connect) => {
    const side = await connect()
    try {
      return await measure(task, side)
    } finally {
      await side.close()
    }
  },
}

function measure(task: Task, side: ClientSide): Promise<Measurement> {
  const subscribe = required(side.subscribe, 'subscribe').bind(side)
  const samples = new Samples()
  const bytes = task.payloadBytes
  return new Promise((resolve) => {
    let seed = 0
    let wrong = 0
    let untilSample = MESSAGES_PER_SAMPLE
    let last = performance.now()
    let begin = 0
    let warm = last + task.warmupMs
    const end = warm + task.durationMs
    let over = false
    subscribe((payload) => {
      if (over) return
      if (payload.length !== bytes || payloadSum(payload) !== payloadSumExpected(bytes, seed))
        wrong++
      seed = (seed + 1) | 0
      if (--untilSample !== 0) return
      untilSample = MESSAGES_PER_SAMPLE
      const now = performance.now()
      samples.add(((now - last) * 1000) / MESSAGES_PER_SAMPLE)
      last = now
      if (now >= warm) {
        warm = Number.POSITIVE_INFINITY
        begin = now
        samples.clear()
      }
      if (now >= end || samples.full) {
        over = true
        const messages = samples.count * MESSAGES_PER_SAMPLE
        resolve(measurementOf(samples, messages, now - begin, wrong))
      }
    })
  })
}
