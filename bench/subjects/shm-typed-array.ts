// shm-typed-array: a System V segment as a typed array, and nothing else: no wait, no wake, no ring. One
// slot a direction and a byte on a Unix socket make a call of it. Of the root's optional dependencies.
import { spawnSync } from 'node:child_process'
import net from 'node:net'
import { readFileSync, writeFileSync } from 'node:fs'
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { exchangeOf, type Task } from '../task.js'
import { loadPackage, missingPackage } from './package.js'

interface Segment extends Uint8Array {
  readonly key: number
}
interface Shm {
  create(bytes: number, type: string): Segment | null
  get(key: number, type: string): Segment | null
}

const BYTE = Buffer.of(1)

export const shmTypedArray: SidesSubject = {
  kind: 'sides',
  name: 'shm-typed-array',
  about: 'shm-typed-array 0.1.1: a System V segment, one slot a direction, a byte on a Unix socket',
  missing: () =>
    missingPackage('shm-typed-array') === undefined
      ? undefined
      : 'npm ci in the root (optional there; it does not build on every Node.js)',
  refuses: (task) => {
    if (task.form === 'sync') return 'a socket of Node.js cannot block'
    if (task.inFlight > 1 || task.connections > 1 || task.case === 'dispatch')
      return 'one slot: a call at a time'
    return task.wait === 'own' ? undefined : 'Node sleeps in epoll, always'
  },
  takes: (task) => task.case === 'zero-copy',
  copies: (task) => (task.case === 'zero-copy' ? 0 : 4),
  serve,
  connect,
}

function load(): Promise<{ default: Shm }> {
  // Before its own listener: at exit it says on stdout how many segments it took away, in the middle of
  // the harness's table.
  process.on('exit', () => {
    console.info = () => {}
  })
  return loadPackage<{ default: Shm }>('shm-typed-array')
}

/** Request and answer, at the least a page each. */
function slotBytes(task: Task): number {
  return Math.max(4096, task.payloadBytes)
}

function slotsOf(segment: Uint8Array, task: Task): { request: Uint8Array; answer: Uint8Array } {
  const { requestBytes, answerBytes } = exchangeOf(task)
  const second = slotBytes(task)
  return {
    request: segment.subarray(0, requestBytes),
    answer: segment.subarray(second, second + answerBytes),
  }
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const { default: shm } = await load()
  const segment = shm.create(2 * slotBytes(task), 'Uint8Array')
  if (segment === null) throw new Error('shmget: the segment exists')
  const { request, answer } = slotsOf(segment, task)
  const own = new Uint8Array(request.length)
  writeFileSync(`${path}.key`, String(segment.key))
  const server = net.createServer((socket) => {
    socket.on('data', () => {
      if (task.case !== 'zero-copy') own.set(request)
      answer.set(work.answer(task.case === 'zero-copy' ? request : own))
      socket.write(BYTE)
    })
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
      }),
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const { default: shm } = await load()
  const key = Number(readFileSync(`${path}.key`, 'utf8'))
  const segment = shm.get(key, 'Uint8Array')
  if (segment === null) throw new Error('shmget: no such segment')
  // Both have it: without its key it ends with them, also when they are killed. (Its own `destroy` unmaps
  // what is still in use.)
  const removed = spawnSync('ipcrm', ['-M', String(key)], { encoding: 'utf8' })
  if (removed.status !== 0) throw new Error(`ipcrm: ${removed.stderr}`)
  const { request, answer } = slotsOf(segment, task)
  const socket = net.connect(path)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  let waiting: (answer: Uint8Array) => void = () => {}
  socket.on('data', () => waiting(answer.slice()))
  const call = (done: (answer: Uint8Array) => void): void => {
    waiting = done
    socket.write(BYTE)
  }
  const requestCallback = (payload: Uint8Array, done: (answer: Uint8Array) => void): void => {
    request.set(payload)
    call(done)
  }
  return {
    request: (payload) => new Promise((resolve) => requestCallback(payload, resolve)),
    requestCallback: (done) => (payload) => requestCallback(payload, done),
    share: () => ({ bytes: request, requestCallback: call, release: () => {} }),
    close: () =>
      new Promise((resolve) => {
        socket.once('close', () => resolve())
        socket.destroy()
      }),
  }
}
