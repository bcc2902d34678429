// Connections that were used once and then have nothing to do. The client only opens them; the harness
// asks both processes for their CPU time, waits, and asks again (bench/pair.ts).
import { Caller } from '../payload.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf } from '../task.js'
import { type ClientCase, required } from './client-case.js'

export const idleCpu: ClientCase = {
  about: 'CPU time of both sides while all connections are open and nothing happens',
  run: async (task, connect) => {
    const sides: ClientSide[] = []
    const caller = new Caller(exchangeOf(task))
    for (let i = 0; i < task.connections; i++) {
      const side = await connect()
      sides.push(side)
      caller.checkAnswer(await required(side.request, 'request').call(side, caller.nextRequest()))
    }
    if (caller.wrong !== 0) throw new Error(`${caller.wrong} wrong answers`)
    return {
      idle: true,
      close: async () => {
        await Promise.all(sides.map((side) => side.close()))
      },
    }
  },
}
