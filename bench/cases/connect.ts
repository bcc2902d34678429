// Connections that are made and closed again: one after the other, or several in the making at any time,
// all by one client process. A sample is one connect, up to the server's first word: by a handshake where
// there is one. The rate has the closing too.
import { performance } from 'node:perf_hooks'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import { exchangeOf } from '../task.js'
import { type ClientCase, measurementOf, required } from './client-case.js'

export const connect: ClientCase = {
  about: 'connections made and closed, one after the other or several at once',
  run: async (task, connectOne, { cpu }) => {
    const samples = new Samples()
    let wrong = 0
    const until = async (end: number): Promise<void> => {
      while (performance.now() < end && !samples.full) {
        const begin = performance.now()
        const side = await connectOne()
        // connect(2) is done before the server has looked.
        if (side.greeted !== true) {
          const caller = new Caller(exchangeOf(task))
          const request = required(side.request, 'request').bind(side)
          caller.checkAnswer(await request(caller.nextRequest()))
          wrong += caller.wrong
        }
        samples.add((performance.now() - begin) * 1000)
        await side.close()
      }
    }
    const all = (end: number): Promise<unknown> =>
      Promise.all(Array.from({ length: task.connections }, () => until(end)))
    await all(performance.now() + task.warmupMs)
    samples.clear()
    cpu.begin()
    const begin = performance.now()
    await all(begin + task.durationMs)
    const elapsedMs = performance.now() - begin
    return measurementOf(samples, samples.count, elapsedMs, wrong, cpu.end())
  },
}
