// node:net over a Unix socket: what a Node.js user has without any library. Messages are framed by
// 8 bytes (payload bytes, kind), written by one write() each; writes of one turn go out together.
import net from 'node:net'
import type { ClientSide, Publisher, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { Waiting } from './ordered.js'

const HEADER_BYTES = 8
/** What libuv reads at a time. */
const READ_BYTES = 65536
const KIND_CALL = 0
const KIND_SUBSCRIBE = 1
const KIND_DISPATCH = 2

export const nodeNet: SidesSubject = {
  kind: 'sides',
  name: 'node-net',
  about: `node:net of Node.js ${process.versions.node}, Unix stream socket, frames of 8 bytes + payload`,
  refuses: (task) => {
    if (task.form === 'sync' && task.case === 'rtt-sync') return 'node:net cannot block'
    return task.wait === 'own' ? undefined : 'node:net sleeps in epoll, always'
  },
  takes: (task) =>
    task.case === 'connect' ||
    task.case === 'many-connections' ||
    task.case === 'server-death' ||
    task.variant === 'owned',
  // Into the frame, into the kernel, out of the kernel; answers the same. Of a payload larger than a read
  // (64 KiB) the pieces are put together, which is one copy more.
  copies: (task) => (task.payloadBytes + HEADER_BYTES > READ_BYTES ? 4 : 3) * waysOf(task),
  serve,
  connect,
}

function writeFrame(socket: net.Socket, kind: number, payload: Uint8Array): void {
  // A frame of its own: write() may still need the memory when the payload is filled again.
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length)
  frame.writeUInt32LE(payload.length, 0)
  frame.writeUInt32LE(kind, 4)
  frame.set(payload, HEADER_BYTES)
  socket.write(frame)
}

/** Cuts what arrives into frames. A payload is a part of Node's own fresh read buffer where it came whole. */
class FrameReader {
  #chunks: Buffer[] = []
  #bytes = 0
  /** Bytes with which there is at least one frame. */
  #wanted = HEADER_BYTES
  readonly #onFrame: (kind: number, payload: Uint8Array) => void

  constructor(onFrame: (kind: number, payload: Uint8Array) => void) {
    this.#onFrame = onFrame
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes < this.#wanted) return
    // Put together when a frame is there, not with every piece of it.
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
    let offset = 0
    this.#wanted = HEADER_BYTES
    while (bytes.length - offset >= HEADER_BYTES) {
      const frame = HEADER_BYTES + bytes.readUInt32LE(offset)
      const end = offset + frame
      if (end > bytes.length) {
        this.#wanted = frame
        break
      }
      this.#onFrame(bytes.readUInt32LE(offset + 4), bytes.subarray(offset + HEADER_BYTES, end))
      offset = end
    }
    this.#chunks = offset === bytes.length ? [] : [bytes.subarray(offset)]
    this.#bytes = bytes.length - offset
  }
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const server = net.createServer((socket) => {
    const publisher: Publisher = {
      publish: (payload) => {
        if (socket.writableNeedDrain) return false
        writeFrame(socket, KIND_DISPATCH, payload)
        return true
      },
      cork: () => socket.cork(),
      uncork: () => socket.uncork(),
    }
    const feed = work.feed(publisher)
    const reader = new FrameReader((kind, payload) => {
      if (kind === KIND_SUBSCRIBE) feed.start()
      else if (task.case !== 'server-death') writeFrame(socket, KIND_CALL, work.answer(payload))
    })
    socket.on('data', (chunk) => {
      socket.cork()
      reader.push(chunk)
      socket.uncork()
    })
    socket.on('drain', () => feed.drained())
    socket.on('close', () => feed.stop())
    socket.on('error', () => {}) // a client that leaves in the middle of a feed: 'close' follows
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path, backlog: 4096 }, resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
      }),
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const socket = net.connect(path)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  const waiting: ((answer: Uint8Array) => void)[] = [] // answers come in order
  const failing = new Waiting(task.case)
  let onPayload: (payload: Uint8Array) => void = () => {}
  const reader = new FrameReader((kind, payload) => {
    if (kind === KIND_DISPATCH) onPayload(payload)
    else waiting.shift()?.(payload)
  })
  socket.on('data', (chunk) => reader.push(chunk))
  socket.on('error', () => {}) // 'close' follows
  socket.on('close', () => failing.fail())

  const send = (kind: number, payload: Uint8Array): void => {
    if (task.inFlight > 1 && socket.writableCorked === 0) {
      socket.cork()
      process.nextTick(() => socket.uncork())
    }
    writeFrame(socket, kind, payload)
  }
  const request = (payload: Uint8Array): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      failing.add(reject)
      waiting.push(resolve)
      send(KIND_CALL, payload)
    })
  return {
    request,
    requestCallback: (done) => (payload) => {
      waiting.push(done)
      send(KIND_CALL, payload)
    },
    subscribe: (callback) => {
      onPayload = callback
      send(KIND_SUBSCRIBE, new Uint8Array(0))
    },
    close: () =>
      new Promise((resolve) => {
        if (socket.closed) resolve()
        socket.once('close', () => resolve())
        socket.destroy()
      }),
  }
}
