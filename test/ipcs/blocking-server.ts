// A worker that does nothing but serve, in a blocking loop; stopped by request 4.
import { blockingPoll, type Request, Server } from '@coroipc/ipcs'
import { parentPort, workerData } from 'node:worker_threads'

const errors: string[] = []
let kept: Request | undefined
const fail = (): never => {
  throw new Error('on purpose')
}
/** Nobody waits for it, and its `then` throws when it is called all the same. */
const hostile = new Proxy({}, { get: () => fail }) as Promise<string>
const server = new Server({ poll: blockingPoll() })
server.on('error', (error) => errors.push(error.code))
server.addService({
  id: 1,
  handlers: {
    0: (request) => request.payload,
    1: async () => 'never',
    2: (request) => {
      request.defer()
      kept = request
    },
    3: () => {
      kept?.respond('later')
      return 'answered'
    },
    4: () => server.stop(),
    5: () => hostile,
  },
})
await server.listen(workerData as string)
parentPort?.postMessage('ready')
server.run()
await server.close()
parentPort?.postMessage({ errors })
