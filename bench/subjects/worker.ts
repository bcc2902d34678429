// worker_threads: two threads of one process, so no isolation at all: a crash of one ends both, and
// neither is another user's. MessagePort copies by structured clone. SharedArrayBuffer has one slot for
// the request and one for the answer, and Atomics.wait, which only blocks: hence no other case.
import { once } from 'node:events'
import { MessageChannel, Worker } from 'node:worker_threads'
import type { ClientSide, HostedSubject, ServerWork } from '../subject.js'
import { exchangeOf, type Task, waysOf } from '../task.js'
import { askOn } from './ordered.js'

/** Memory that both threads have. */
export interface Slots {
  /** Two words: calls asked, calls answered. They wrap. */
  readonly turns: SharedArrayBuffer
  readonly request: SharedArrayBuffer
  readonly answer: SharedArrayBuffer
}

export interface WorkerArguments {
  readonly task: Task
  readonly cpu: number | null
  readonly slots: Slots | undefined
}

const ASKED = 0
const ANSWERED = 1
const STALL_MS = 5000

export const workerPort: HostedSubject = {
  kind: 'hosted',
  name: 'worker-port',
  about: 'worker_threads, MessagePort by structured clone; two threads of one process',
  refuses: (task) => {
    if (task.form === 'sync') return 'a MessagePort of a blocked thread is not heard'
    if (task.case === 'server-death') return 'a thread cannot be killed alone'
    return task.wait === 'own' ? undefined : 'it sleeps, always'
  },
  takes: (task) =>
    task.case === 'connect' || task.case === 'many-connections' || task.variant === 'owned',
  copies: (task) => 2 * waysOf(task),
  connect: connectPort,
}

export const workerAtomics: HostedSubject = {
  kind: 'hosted',
  name: 'worker-atomics',
  about:
    'worker_threads, SharedArrayBuffer and Atomics.wait/notify, one slot; two threads of one process',
  refuses: (task) => {
    if (task.form !== 'sync') return 'one slot, and it blocks'
    return task.wait === 'own' ? undefined : 'Atomics.wait sleeps, always'
  },
  takes: (task) => task.case === 'zero-copy' || task.variant === 'into',
  copies: (task) => (task.case === 'zero-copy' ? 0 : 2 * waysOf(task)),
  connect: connectSlots,
}

async function startWorker(args: WorkerArguments): Promise<Worker> {
  const worker = new Worker(new URL('../peers/worker-server.js', import.meta.url), {
    workerData: args,
  })
  await once(worker, 'message') // rejects when the worker fails
  worker.on('error', (error) => {
    throw error
  })
  return worker
}

/** One for all ports of this process, which ends it. */
let portWorker: Promise<Worker> | undefined

async function connectPort(task: Task, serverCpu: number | null): Promise<ClientSide> {
  portWorker ??= startWorker({ task, cpu: serverCpu, slots: undefined })
  const worker = await portWorker
  const { port1: port, port2: itsPort } = new MessageChannel()
  const { side, receiver } = askOn(
    {
      payload: (payload) => port.postMessage(payload),
      control: (word) => port.postMessage(word),
      close: () => {
        port.close()
        return Promise.resolve()
      },
    },
    task,
  )
  port.on('message', (message: Uint8Array) => receiver.payload(message))
  worker.postMessage(itsPort, [itsPort])
  return side
}

async function connectSlots(task: Task, serverCpu: number | null): Promise<ClientSide> {
  const { requestBytes, answerBytes } = exchangeOf(task)
  const slots: Slots = {
    turns: new SharedArrayBuffer(8),
    request: new SharedArrayBuffer(requestBytes),
    answer: new SharedArrayBuffer(answerBytes),
  }
  const worker = await startWorker({ task, cpu: serverCpu, slots })
  const turns = new Int32Array(slots.turns)
  const request = new Uint8Array(slots.request)
  const answer = new Uint8Array(slots.answer)
  const call = (into: Uint8Array): Uint8Array => {
    const answered = Atomics.load(turns, ANSWERED)
    Atomics.add(turns, ASKED, 1)
    Atomics.notify(turns, ASKED)
    // A wake may be that of the last answer, which was seen before its notify came.
    while (Atomics.load(turns, ANSWERED) === answered) {
      if (Atomics.wait(turns, ANSWERED, answered, STALL_MS) === 'timed-out')
        throw new Error('no answer')
    }
    into.set(answer)
    return into
  }
  return {
    requestSync: (payload, into) => {
      request.set(payload)
      return call(into)
    },
    share: () => ({ bytes: request, requestSync: call, release: () => {} }),
    close: async () => {
      await worker.terminate()
    },
  }
}

/** In the worker, for ever: terminate() ends it. */
export function serveSlots(slots: Slots, work: ServerWork, { case: name }: Task): void {
  const turns = new Int32Array(slots.turns)
  const request = new Uint8Array(slots.request)
  const answer = new Uint8Array(slots.answer)
  const own = new Uint8Array(request.length)
  for (let done = 0; ; ) {
    Atomics.wait(turns, ASKED, done)
    if (Atomics.load(turns, ASKED) === done) continue
    done = (done + 1) | 0
    if (name !== 'zero-copy') own.set(request)
    answer.set(work.answer(name === 'zero-copy' ? request : own))
    Atomics.add(turns, ANSWERED, 1)
    Atomics.notify(turns, ANSWERED)
  }
}
