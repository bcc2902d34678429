// What runs in a Peer: takes functions as text, runs them, sends back what they return. Ends with its parent.
import { createRequire } from 'node:module'
import { parentPort } from 'node:worker_threads'
import * as ipcc from '@coroipc/ipcc'
import * as ipcs from '@coroipc/ipcs'
import type { Order, Reply, Scope, Task } from './peer.js'
import * as wait from './wait.js'

const scope: Scope = { ipcs, ipcc, wait, require: createRequire(import.meta.url), state: {} }

async function obey({ order, source, args }: Order): Promise<Reply> {
  try {
    // oxlint-disable-next-line no-eval -- that is what it is for
    const task = (0, eval)(`(${source})`) as Task<unknown[], unknown>
    return { order, result: await task(scope, ...args) }
  } catch (error) {
    const { message, code, stack } = error as Error & { code?: string }
    return { order, error: { message: message ?? String(error), code, stack } }
  }
}

if (parentPort !== null) {
  const port = parentPort
  port.on('message', (order: Order) => void obey(order).then((reply) => port.postMessage(reply)))
} else {
  process.on(
    'message',
    (order: Order) => void obey(order).then((reply) => process.send?.(reply, () => {})),
  )
  process.on('disconnect', () => process.exit())
}
