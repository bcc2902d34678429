// The server that client tests talk to, in a process of its own: blocking calls need one that is not this thread.
// Service 7 trusts nobody, service 8 everybody. What each id does is said below.
import { type Handler, Server, type ServiceOptions } from '@coroipc/ipcs'

const text = (payload: Uint8Array): string => Buffer.from(payload).toString()
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

let sent: string[] = []
// Of id 22: what is held, by the payload that it came with.
const held: { readonly key: string; answer(): void }[] = []

const handlers: Record<number, Handler> = {
  // echo
  0: (request) => request.payload,
  // a gather list, by promise
  1: async (request) => ['<', request.payload, '>'],
  2: () => {
    throw new Error('on purpose')
  },
  3: async () => {
    throw new Error('on purpose')
  },
  // an application status
  4: (request) => ({ status: -7, payload: request.payload }),
  // no answer at all
  5: () => 5 as unknown as string,
  // deferred
  6: (request) => {
    request.defer()
    setTimeout(() => request.respond('later', { status: 3 }), 10)
  },
  7: () => new Uint8Array(3 << 20),
  // never answers
  8: (request) => request.defer(),
  // dispatches { count, bytes, id }, answers how many were taken
  9: (request, connection) => {
    const { count, bytes, id } = JSON.parse(text(request.payload)) as Record<string, number>
    let taken = 0
    for (let i = 0; i < (count ?? 0); i++) {
      const payload = Buffer.alloc(Math.max(4, bytes ?? 4))
      payload.writeUInt32LE(i)
      if (connection.dispatch(payload, { id: id ?? 0 })) taken++
    }
    return String(taken)
  },
  10: () => process.kill(process.pid, 'SIGKILL') && undefined,
  11: (_, connection) => connection.disconnect(),
  // an answer in a buffer
  12: (request, connection) => {
    const buffer = connection.allocate(Number(text(request.payload)))
    buffer.bytes.fill(42)
    return buffer
  },
  // how the payload came
  13: (request) =>
    JSON.stringify({
      inPlace: request.inPlace,
      bytes: request.payload.length,
      last: request.payload.at(-1),
    }),
  // an answer after some milliseconds
  14: async (request) => {
    await sleep(Number(text(request.payload)))
    return request.payload
  },
  // what came one way; forgets it
  15: () => {
    const all = sent.join(',')
    sent = []
    return all
  },
  16: (request) => {
    sent.push(text(request.payload.subarray(0, 20)))
  },
  // an answer of so many bytes
  17: (request) => new Uint8Array(Number(text(request.payload))).fill(1),
  // why nobody waits any more
  18: (request) =>
    new Promise((resolve) => {
      request.signal.addEventListener('abort', () => {
        sent.push((request.signal.reason as { code: string }).code)
        setTimeout(resolve, 50, 'late')
      })
    }),
  19: () => {
    throw Object.assign(new Error('not now'), { name: 'IpcError', code: 'ERR_COROIPC_RETRY' })
  },
  // a dispatch that lies in a buffer
  20: (request, connection) => {
    const buffer = connection.allocate(Number(text(request.payload)))
    buffer.bytes.fill(9)
    return String(connection.dispatch(buffer, { id: 5 }))
  },
  // dispatches what came, whatever its length
  24: (request, connection) => void connection.dispatch(request.payload),
  // blocks this process
  21: (request) => {
    const until = Date.now() + Number(text(request.payload))
    while (Date.now() < until);
  },
  // echo, but not before 23 asks for it, on whatever connection: how long that takes is the test's to say, not the machine's
  22: (request) => {
    const payload = Uint8Array.from(request.payload)
    held.push({ key: text(payload), answer: () => request.respond(payload) })
    request.defer()
  },
  // lets go of the first one that is held for this payload; says how many of it are held still, -1 if none was
  23: (request) => {
    const key = text(request.payload)
    const at = held.findIndex((each) => each.key === key)
    const [first] = at < 0 ? [] : held.splice(at, 1)
    first?.answer()
    return String(first === undefined ? -1 : held.filter((each) => each.key === key).length)
  },
}

const limits = { messageBytes: 2 << 20, requestsInFlight: 16, backlogBytes: 8 << 20 }
const server = new Server({ limits })
server.on('error', () => {})
const options: Omit<ServiceOptions, 'id'> = { handlers }
server.addService({ id: 7, ...options })
server.addService({ id: 8, ...options, trust: () => true })
await server.listen(process.argv[2] as string)
process.send?.('ready')
process.on('disconnect', () => process.exit())
