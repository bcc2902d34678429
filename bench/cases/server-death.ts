// The server is killed while calls wait for it. A sample is the time from before kill(2) until one waiting
// call is told, whatever it is told: each must be. Another server is started for the next kill.
import { performance } from 'node:perf_hooks'
import { setTimeout as delay } from 'node:timers/promises'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf } from '../task.js'
import { type ClientCase, measurementOf, required } from './client-case.js'

export const KILLS = 20

/** For the requests to arrive; they are to wait in the server when it dies. */
const SETTLE_MS = 10
/** Later than this is not told: the row fails. */
const TOLD_WITHIN_MS = 5000

export const serverDeath: ClientCase = {
  about: `the server is killed, ${KILLS} times, with calls waiting: time until each of them is told`,
  run: async (task, connect, surroundings) => {
    const samples = new Samples(1 << 16)
    const caller = new Caller(exchangeOf(task))
    const begin = performance.now()
    let hosted = false // then each connection has a server of its own
    for (let kill = 0; kill < KILLS; kill++) {
      if (kill > 0 && !hosted) await surroundings.renewServer()
      const sides: ClientSide[] = []
      for (let i = 0; i < task.connections; i++) sides.push(await connect())
      hosted = sides.some((side) => side.killServer !== undefined)
      let killed = 0
      const told = (): void => samples.add((performance.now() - killed) * 1000)
      const waiting = sides.flatMap((side) =>
        Array.from({ length: task.inFlight }, () =>
          required(side.request, 'request').call(side, caller.nextRequest()).then(answered, told),
        ),
      )
      await delay(SETTLE_MS)
      killed = performance.now()
      if (sides[0]?.killServer === undefined) process.kill(surroundings.serverPid, 'SIGKILL')
      else for (const side of sides) side.killServer?.()
      await Promise.race([Promise.all(waiting), silence()])
      await Promise.all(sides.map((side) => side.close()))
    }
    return measurementOf(samples, samples.count, performance.now() - begin, 0)
  },
}

function answered(): never {
  throw new Error('a request was answered that was to wait')
}

async function silence(): Promise<never> {
  await delay(TOLD_WITHIN_MS, undefined, { ref: false })
  throw new Error(`a waiting call was not told within ${TOLD_WITHIN_MS} ms`)
}
