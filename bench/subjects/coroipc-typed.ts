// This library by its typed layer: a contract on both sides, whose codec writes a payload where it is sent from. Beside
// `coroipc` it shows what the layer costs; a schema costs what its library takes, on top.
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'
import { type Codec, defineService } from '@coroipc/contract'
import { refusesLayered } from './layered.js'

const TIMEOUT_MS = 10_000

const payload: Codec<Uint8Array> = {
  name: 'payload',
  encode(value, memory, at, end) {
    if (value.length > end - at) return -value.length
    memory.set(value, at)
    return value.length
  },
  decode: (bytes) => bytes,
}

const service = defineService({
  id: 7,
  requests: { call: { id: 0, request: payload, response: payload } },
})

export const coroipcTyped: SidesSubject = {
  kind: 'sides',
  name: 'coroipc-typed',
  about: '@coroipc/contract over coroipc: types, a codec of its own, no schema',
  refuses: refusesLayered,
  copies: (task) => (task.form === 'sync' ? 5 : 6),
  serve,
  connect,
}

async function serve(_task: Task, path: string, work: ServerWork): Promise<Serving> {
  const { Server } = await import('@coroipc/ipcs')
  const { implement } = await import('@coroipc/contract/server')
  const server = new Server()
  server.addService(implement(service, { handlers: { call: (value) => work.answer(value) } }))
  await server.listen(path)
  return { close: () => server.close({ timeoutMs: 1000 }) }
}

async function connect(_task: Task, path: string): Promise<ClientSide> {
  const ipcc = await import('@coroipc/ipcc')
  const { client } = await import('@coroipc/contract/client')
  const connection = await ipcc.connect(path, { service: service.id, timeoutMs: TIMEOUT_MS })
  const { call, sync } = client(connection, service)
  return {
    greeted: true,
    requestSync: (value) => sync.call(value),
    request: (value) => call(value),
    close: () => connection.close(),
  }
}
