// node-ipc over a Unix socket, as its manual has it: events with JSON data, profile `fast`. JSON carries
// text, so the payload goes as base64 (a Buffer in JSON would be a list of numbers).
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { answerOn, askOn, type Receiver } from './ordered.js'
import { loadPackage, missingPackage } from './package.js'

type Listener = (data: never, socket: object) => void
interface Emitter {
  on(event: string, listener: Listener): void
  emit(...args: unknown[]): void
}
interface Ipc {
  readonly config: { silent: boolean; maxRetries: number; stopRetrying: boolean }
  readonly server: Emitter & { start(): void; stop(): void }
  readonly of: Record<string, Emitter>
  serve(path: string, callback: () => void): void
  connectTo(id: string, path: string, callback: () => void): void
  disconnect(id: string): void
}

export const nodeIpc: SidesSubject = {
  kind: 'sides',
  name: 'node-ipc',
  about: 'node-ipc 14.0.0, Unix socket, profile fast (JSON); payloads as base64',
  missing: () => missingPackage('node-ipc'),
  refuses: (task) => {
    if (task.form === 'sync') return 'node-ipc cannot block'
    if (task.connections > 1) return 'one connection for each id of a process'
    return task.wait === 'own' ? undefined : 'Node sleeps in epoll, always'
  },
  // To base64, to JSON, to UTF-8, into the kernel, out of it, to a string, out of JSON, out of base64.
  takes: (task) => task.variant === 'owned',
  copies: (task) => 8 * waysOf(task),
  serve,
  connect,
}

async function newIpc(): Promise<Ipc> {
  const { IPCModule } = await loadPackage<{ IPCModule: new () => Ipc }>('node-ipc')
  const ipc = new IPCModule()
  ipc.config.silent = true
  return ipc
}

function toText(payload: Uint8Array): string {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('base64')
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const ipc = await newIpc()
  const receivers = new Map<object, Receiver>()
  const receiverOf = (socket: object): Receiver => {
    let receiver = receivers.get(socket)
    if (receiver === undefined) {
      receiver = answerOn(
        {
          payload: (payload) => ipc.server.emit(socket, 'payload', toText(payload)),
          control: (word) => ipc.server.emit(socket, 'control', word),
        },
        work,
        task,
      )
      receivers.set(socket, receiver)
    }
    return receiver
  }
  await new Promise<void>((resolve) => {
    ipc.serve(path, resolve)
    ipc.server.on('payload', (text: string, socket) =>
      receiverOf(socket).payload(Buffer.from(text, 'base64')),
    )
    ipc.server.on('control', (word: number, socket) => receiverOf(socket).control(word))
    ipc.server.on('socket.disconnected', (socket: object) => {
      receivers.get(socket)?.ended()
      receivers.delete(socket)
    })
    ipc.server.start()
  })
  return {
    close: () => {
      for (const receiver of receivers.values()) receiver.ended()
      ipc.server.stop()
      return Promise.resolve()
    },
  }
}

const SERVER = 'bench'

async function connect(task: Task, path: string): Promise<ClientSide> {
  const ipc = await newIpc()
  ipc.config.stopRetrying = true
  const server = await new Promise<Emitter>((resolve, reject) => {
    ipc.connectTo(SERVER, path, () => {
      const emitter = ipc.of[SERVER] as Emitter
      emitter.on('connect', () => resolve(emitter))
      emitter.on('error', (error: Error) => reject(error))
    })
  })
  const { side, receiver } = askOn(
    {
      payload: (payload) => server.emit('payload', toText(payload)),
      control: (word) => server.emit('control', word),
      close: () => {
        ipc.disconnect(SERVER)
        return Promise.resolve()
      },
    },
    task,
  )
  server.on('payload', (text: string) => receiver.payload(Buffer.from(text, 'base64')))
  return side
}
