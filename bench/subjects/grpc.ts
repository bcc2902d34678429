// gRPC over a Unix socket: @grpc/grpc-js on both sides, no security, bytes as messages (no protobuf).
// Unary calls, and a stream of the server's for dispatch.
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { loadPackage, missingPackage } from './package.js'

type Done = (error: Error | null, answer?: Buffer) => void
interface Call {
  readonly request: Buffer
  write(message: Buffer): boolean
  on(event: 'cancelled' | 'drain', listener: () => void): void
}
interface Stream {
  on(event: 'data', listener: (message: Buffer) => void): void
  on(event: 'error', listener: (error: Error) => void): void
  cancel(): void
}
interface Client {
  call(request: Buffer, done: Done): void
  subscribe(request: Buffer): Stream
  waitForReady(deadline: number, done: (error?: Error) => void): void
  close(): void
}
interface Server {
  addService(definition: object, handlers: object): void
  bindAsync(address: string, credentials: unknown, done: (error: Error | null) => void): void
  forceShutdown(): void
}
interface Grpc {
  readonly Server: new (options: object) => Server
  readonly ServerCredentials: { createInsecure(): unknown }
  readonly credentials: { createInsecure(): unknown }
  makeGenericClientConstructor(
    definition: object,
    name: string,
  ): new (
    address: string,
    credentials: unknown,
    options: object,
  ) => Client
}

const asIs = (bytes: Buffer): Buffer => bytes
const method = {
  requestStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
}
const definition = {
  call: { ...method, path: '/bench/call', responseStream: false },
  subscribe: { ...method, path: '/bench/subscribe', responseStream: true },
}
const options = {
  // Its limit is 4 MiB.
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  // Else all clients of a process share one connection.
  'grpc.use_local_subchannel_pool': 1,
}
const READY_MS = 10_000

export const grpc: SidesSubject = {
  kind: 'sides',
  name: 'grpc-js',
  about:
    '@grpc/grpc-js 1, Unix socket, no security, bytes as messages; a server stream for dispatch',
  missing: () => missingPackage('@grpc/grpc-js'),
  refuses: (task) => {
    if (task.form === 'sync') return 'gRPC cannot block'
    return task.wait === 'own' ? undefined : 'Node sleeps in epoll, always'
  },
  // Into a message of its own, into a frame, into the kernel, out of it, out of HTTP/2, out of the frame.
  takes: (task) =>
    task.case === 'connect' ||
    task.case === 'many-connections' ||
    task.case === 'server-death' ||
    task.variant === 'owned',
  copies: (task) => 6 * waysOf(task),
  serve,
  connect,
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const { Server, ServerCredentials } = await loadPackage<Grpc>('@grpc/grpc-js')
  const server = new Server(options)
  server.addService(definition, {
    call: (call: Call, done: Done) => {
      if (task.case !== 'server-death') done(null, Buffer.from(work.answer(call.request)))
    },
    subscribe: (call: Call) => {
      let room = true
      const feed: Feed = work.feed({
        publish: (payload) => {
          if (room) room = call.write(Buffer.from(payload))
          else return false
          return true
        },
      })
      call.on('drain', () => {
        room = true
        feed.drained()
      })
      call.on('cancelled', () => feed.stop())
      feed.start()
    },
  })
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
  return {
    close: () => {
      server.forceShutdown()
      return Promise.resolve()
    },
  }
}

async function connect(_task: Task, path: string): Promise<ClientSide> {
  const { credentials, makeGenericClientConstructor } = await loadPackage<Grpc>('@grpc/grpc-js')
  const Bench = makeGenericClientConstructor(definition, 'bench')
  const client = new Bench(`unix:${path}`, credentials.createInsecure(), options)
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + READY_MS, (error) => {
      if (error === undefined || error === null) resolve()
      else reject(error)
    })
  })
  let stream: Stream | undefined
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    client.call(Buffer.from(payload), (error, answer) => {
      if (answer === undefined) throw error
      done(answer)
    })
  }
  return {
    greeted: true,
    request: (payload) =>
      new Promise((resolve, reject) => {
        client.call(Buffer.from(payload), (error, answer) => {
          if (answer === undefined) reject(error)
          else resolve(answer)
        })
      }),
    requestCallback: (done) => (payload) => requestCallback(payload, done),
    subscribe: (onPayload) => {
      stream = client.subscribe(Buffer.alloc(0))
      stream.on('data', onPayload)
      stream.on('error', () => {}) // its own cancellation
    },
    close: () => {
      stream?.cancel()
      client.close()
      return Promise.resolve()
    },
  }
}
