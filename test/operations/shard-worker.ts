// One worker of a sharded service. Requests: 0 tells which one it is; 1 computes for so many milliseconds; 2 throws outside of
// any handler; 3 waits for so many milliseconds.
import { setTimeout as delay } from 'node:timers/promises'
import { threadId, workerData } from 'node:worker_threads'
import { Server, shardSocket } from '@coroipc/ipcs'

const socket = shardSocket()
if (socket === undefined) throw new Error('not in a worker of shard')
if (process.env['SHARD_FAILS'] !== undefined) throw new Error('never starts')
const name = (): string => `${socket.index} ${threadId}`
const number = (payload: Uint8Array): number => Number(Buffer.from(payload).toString())
const { handshakeTimeoutMs } = workerData as { handshakeTimeoutMs?: number }
const server = new Server({ handshakeTimeoutMs })
server.addService({
  id: 1,
  handlers: {
    0: name,
    1: ({ payload }) => {
      const end = performance.now() + number(payload)
      while (performance.now() < end);
      return name()
    },
    2: () => {
      setImmediate(() => {
        throw new Error('on purpose')
      })
      return 'soon'
    },
    3: async ({ payload }) => {
      await delay(number(payload))
      return name()
    },
  },
})
await server.listen(socket)
