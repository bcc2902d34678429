// This library with somebody who listens: the same calls as `coroipc`, and on the tracing channels of requests, of both
// sides, subscribers that only count. Beside `coroipc`, where nobody listens, it shows what listening costs; what a
// subscriber does there, it adds.
import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel'
import type { SidesSubject } from '../subject.js'
import { coroipc } from './coroipc.js'
import { refusesLayered } from './layered.js'

export const coroipcTraced: SidesSubject = {
  kind: 'sides',
  name: 'coroipc-traced',
  about: 'coroipc with subscribers of the request tracing channels on both sides, which count',
  refuses: refusesLayered,
  copies: coroipc.copies,
  async serve(task, path, work) {
    count('server')
    return coroipc.serve(task, path, work)
  },
  async connect(task, path) {
    const check = count('client')
    const side = await coroipc.connect(task, path)
    return { ...side, close: () => side.close().then(check) }
  },
}

/** Until the process ends, which does nothing else. The check throws if there was nothing to count. */
function count(side: 'server' | 'client'): () => void {
  let told = 0
  const each = (): void => {
    told++
  }
  const channel: TracingChannel<unknown, object> = tracingChannel(`coroipc:${side}:request`)
  channel.subscribe({ start: each, end: each, asyncStart: each, asyncEnd: each, error: each })
  return () => {
    if (told === 0) throw new Error(`the ${side}'s subscribers were told nothing`)
  }
}
