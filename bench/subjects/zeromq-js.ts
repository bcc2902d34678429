// zeromq.js: the same ZeroMQ from Node.js, DEALER/ROUTER for calls and PUSH/PULL one way.
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'
import { loadPackage, missingPackage } from './package.js'

interface Socket extends AsyncIterable<Uint8Array[]> {
  bind(address: string): Promise<void>
  connect(address: string): void
  send(message: Uint8Array | Uint8Array[]): Promise<void>
  close(): void
}
interface Zeromq {
  readonly Router: new () => Socket
  readonly Dealer: new () => Socket
  readonly Push: new () => Socket
  readonly Pull: new () => Socket
}

/** Of the feed, before it is told to wait: as many as a burst has, or so many bytes. */
const QUEUE = 512
const QUEUE_BYTES = 4 << 20

export const zeromqJs: SidesSubject = {
  kind: 'sides',
  name: 'zeromq-js',
  about: 'zeromq.js 6 on ipc://: DEALER/ROUTER, PUSH/PULL (dispatch)',
  missing: () => missingPackage('zeromq'),
  refuses: (task) => {
    if (task.form === 'sync') return 'zeromq.js cannot block'
    return task.wait === 'own' ? undefined : 'ZeroMQ sleeps, always'
  },
  // As in C (zeromq-c.ts), but it hands out received messages where they are: five and one less. The
  // copy into a message is ours, since it keeps what it is given.
  copies: (task) => (task.case === 'dispatch' ? 4 : 8),
  serve,
  connect,
}

function addressOf(task: Task, path: string): string {
  return `ipc://${path}${task.case === 'dispatch' ? '.push' : ''}`
}

/** zeromq.js takes one send at a time for a socket: the next waits for the promise of the last. */
class Sender {
  readonly #socket: Socket
  readonly #room: () => void
  #queue: Uint8Array[][] = []
  #bytes = 0
  #sending = false

  constructor(socket: Socket, room: () => void = () => {}) {
    this.#socket = socket
    this.#room = room
  }

  get full(): boolean {
    return this.#queue.length >= QUEUE || this.#bytes >= QUEUE_BYTES
  }

  send(...parts: Uint8Array[]): void {
    this.#queue.push(parts)
    for (const part of parts) this.#bytes += part.length
    if (!this.#sending) void this.#run()
  }

  async #run(): Promise<void> {
    this.#sending = true
    while (this.#queue.length > 0) {
      const batch = this.#queue
      this.#queue = []
      this.#bytes = 0
      for (const parts of batch) await this.#socket.send(parts)
      this.#room()
    }
    this.#sending = false
  }
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const zeromq = await loadPackage<Zeromq>('zeromq')
  const socket = task.case === 'dispatch' ? new zeromq.Push() : new zeromq.Router()
  await socket.bind(addressOf(task, path))
  let feed: Feed | undefined
  if (task.case === 'dispatch') {
    const sender = new Sender(socket, () => feed?.drained())
    feed = work.feed({
      publish: (payload) => {
        if (sender.full) return false
        sender.send(payload.slice())
        return true
      },
    })
    feed.start() // it waits in send() until somebody pulls
  } else {
    void answerAll(socket, work)
  }
  return {
    close: () => {
      feed?.stop()
      socket.close()
      return Promise.resolve()
    },
  }
}

async function answerAll(socket: Socket, work: ServerWork): Promise<void> {
  const sender = new Sender(socket)
  for await (const [identity, request] of socket) {
    const answer = work.answer(request as Uint8Array)
    sender.send(identity as Uint8Array, answer.slice())
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const zeromq = await loadPackage<Zeromq>('zeromq')
  const socket = task.case === 'dispatch' ? new zeromq.Pull() : new zeromq.Dealer()
  socket.connect(addressOf(task, path))
  const close = (): Promise<void> => {
    socket.close()
    return Promise.resolve()
  }
  if (task.case === 'dispatch') {
    return {
      subscribe: (onPayload) => void receiveAll(socket, onPayload),
      close,
    }
  }
  const waiting: ((answer: Uint8Array) => void)[] = []
  const sender = new Sender(socket)
  void receiveAll(socket, (answer) => waiting.shift()?.(answer))
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    waiting.push(done)
    sender.send(payload.slice())
  }
  return {
    request: (payload) => new Promise((resolve) => requestCallback(payload, resolve)),
    requestCallback,
    close,
  }
}

async function receiveAll(socket: Socket, onPayload: (payload: Uint8Array) => void): Promise<void> {
  for await (const [payload] of socket) onPayload(payload as Uint8Array)
}
