// zeromq.js: the same ZeroMQ from Node.js, DEALER/ROUTER for calls and PUSH/PULL one way.
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { Waiting } from './ordered.js'
import { loadPackage, missingPackage } from './package.js'

interface Socket extends AsyncIterable<Uint8Array[]> {
  bind(address: string): Promise<void>
  connect(address: string): void
  send(message: Uint8Array | Uint8Array[]): Promise<void>
  close(): void
  readonly events: { on(event: 'disconnect', listener: () => void): void }
}
interface Zeromq {
  readonly Router: new () => Socket
  readonly Dealer: new () => Socket
  readonly Push: new (options: { sendHighWaterMark: number }) => Socket
  readonly Pull: new (options: { receiveHighWaterMark: number }) => Socket
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
  takes: (task) =>
    task.case === 'connect' ||
    task.case === 'many-connections' ||
    task.case === 'server-death' ||
    task.variant === 'owned',
  copies: (task) => 4 * waysOf(task),
  serve,
  connect,
}

/** One way. */
function isFeed(task: Task): boolean {
  return task.case === 'dispatch' || task.variant === 'owned'
}

/** Its own default, or fewer large ones. */
function queueOf({ payloadBytes }: Task): number {
  return payloadBytes <= 4096 ? 1000 : Math.floor(QUEUE_BYTES / payloadBytes) + 2
}

function addressOf(task: Task, path: string): string {
  return `ipc://${path}${isFeed(task) ? '.push' : ''}`
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
  const socket = isFeed(task)
    ? new zeromq.Push({ sendHighWaterMark: queueOf(task) })
    : new zeromq.Router()
  await socket.bind(addressOf(task, path))
  let feed: Feed | undefined
  if (isFeed(task)) {
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
    void answerAll(socket, work, task)
  }
  return {
    close: () => {
      feed?.stop()
      socket.close()
      return Promise.resolve()
    },
  }
}

async function answerAll(socket: Socket, work: ServerWork, task: Task): Promise<void> {
  const sender = new Sender(socket)
  for await (const [identity, request] of socket) {
    if (task.case === 'server-death') continue
    const answer = work.answer(request as Uint8Array)
    sender.send(identity as Uint8Array, answer.slice())
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const zeromq = await loadPackage<Zeromq>('zeromq')
  const socket = isFeed(task)
    ? new zeromq.Pull({ receiveHighWaterMark: queueOf(task) })
    : new zeromq.Dealer()
  socket.connect(addressOf(task, path))
  const close = (): Promise<void> => {
    socket.close()
    return Promise.resolve()
  }
  if (isFeed(task)) {
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
  // It would wait for a server that comes back: who wants to know listens to the socket's monitor.
  const failing = new Waiting(task.case)
  if (task.case === 'server-death') socket.events.on('disconnect', () => failing.fail())
  return {
    request: (payload) =>
      new Promise((resolve, reject) => {
        failing.add(reject)
        requestCallback(payload, resolve)
      }),
    requestCallback: (done) => (payload) => requestCallback(payload, done),
    close,
  }
}

async function receiveAll(socket: Socket, onPayload: (payload: Uint8Array) => void): Promise<void> {
  for await (const [payload] of socket) onPayload(payload as Uint8Array)
}
