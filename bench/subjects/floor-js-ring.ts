// What JavaScript itself costs where messages come in batches: rings of 64-byte slots in memory that both processes map, read and
// written by JavaScript alone. No native call, no record, no check, no sleep, one connection, nothing allocated but what a row
// promises its receiver (a payload of its own, a promise). What a library does beyond it is its own; what this takes nobody who
// hands messages to JavaScript one by one gets below, with as many copies.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'

interface Addon {
  create(path: string, bytes: number): ArrayBuffer
  attach(path: string, bytes: number): ArrayBuffer
}

const SLOT_BYTES = 64
const SLOTS = 1024
const MASK = SLOTS - 1
/** Messages after which a position is told to the other side, so that both work at the same time. */
const TOLD_EACH = 8
const SLAB_BYTES = 65536

/** Int32s, a line of their own each. */
const Word = { asked: 0, answered: 16, sent: 32, read: 48, subscribed: 64 } as const
const HEAD_BYTES = 4096
const MEMORY_BYTES = HEAD_BYTES + 2 * SLOTS * SLOT_BYTES

/** Memory that a server makes and its clients map, in a file beside `path`. */
export function ringMemory(path: string, bytes: number, create: boolean): ArrayBuffer {
  const addon = createRequire(import.meta.url)(
    fileURLToPath(new URL('../floor/napi/slots.node', import.meta.url)),
  ) as Addon
  return create ? addon.create(`${path}.ring`, bytes) : addon.attach(`${path}.ring`, bytes)
}

/** The two rings as they are seen from JavaScript: a view for each slot, made once. */
class Rings {
  readonly words: Int32Array
  readonly requests: readonly Uint8Array[]
  /** Or dispatches. */
  readonly answers: readonly Uint8Array[]

  constructor(memory: ArrayBuffer, bytes: number) {
    this.words = new Int32Array(memory, 0, HEAD_BYTES / 4)
    const ring = (from: number): Uint8Array[] =>
      Array.from(
        { length: SLOTS },
        (_, at) => new Uint8Array(memory, from + at * SLOT_BYTES, bytes),
      )
    this.requests = ring(HEAD_BYTES)
    this.answers = ring(HEAD_BYTES + SLOTS * SLOT_BYTES)
  }
}

function floor(name: string, about: string, inPlace: boolean): SidesSubject {
  return {
    kind: 'sides',
    name,
    about,
    refuses: (task) => {
      const batches =
        (task.case === 'pipelined' &&
          task.inFlight <= SLOTS &&
          (task.variant === 'offset' || task.variant === undefined)) ||
        (task.case === 'dispatch' &&
          (task.variant === 'offset' || (task.variant === undefined && !inPlace)))
      if (!batches) return 'messages in batches'
      if (task.payloadBytes !== SLOT_BYTES) return `payloads of ${SLOT_BYTES} bytes`
      return task.wait === 'spin' ? undefined : 'it spins'
    },
    takes: (task) =>
      (task.case === 'dispatch' || task.case === 'pipelined') && task.variant === 'offset',
    copies: (task) => (task.case === 'dispatch' ? 1 : 2) * (inPlace ? 1 : 2),
    serve: (task, path, work) => Promise.resolve(serve(task, path, work, inPlace)),
    connect: (task, path) => Promise.resolve(connect(task, path, inPlace)),
  }
}

export const floorJsRing = floor(
  'floor-js-ring',
  'rings of slots in shared memory, JavaScript alone: no native call, no record, no check; both sides spin',
  false,
)

export const floorJsRingInPlace = floor(
  'floor-js-ring-in-place',
  'floor-js-ring, each payload read in the slot where the other side wrote it',
  true,
)

/** Runs `turn` again and again between the events of the loop; gives what ends it. */
export function again(turn: () => void): () => void {
  const run = (): void => {
    turn()
    next = setImmediate(run)
  }
  let next = setImmediate(run)
  return () => clearImmediate(next)
}

export const TURNS: number = 1 << 12

function serve(task: Task, path: string, work: ServerWork, inPlace: boolean): Serving {
  const rings = new Rings(ringMemory(path, MEMORY_BYTES, true), task.payloadBytes)
  const stop = again(
    task.case === 'dispatch'
      ? dispatching(rings, work)
      : answering(rings, work, inPlace, task.variant === 'offset'),
  )
  return {
    close: () => {
      stop()
      return Promise.resolve()
    },
  }
}

function answering(
  { words, requests, answers }: Rings,
  work: ServerWork,
  inPlace: boolean,
  byOffset: boolean,
): () => void {
  const own = new Uint8Array((requests[0] as Uint8Array).length)
  const ring = new Uint8Array((requests[0] as Uint8Array).buffer)
  let taken = 0
  return () => {
    for (let turn = 0; turn < TURNS; turn++) {
      const asked = Atomics.load(words, Word.asked)
      if (asked === taken) continue
      while (taken !== asked) {
        let request = requests[taken & MASK] as Uint8Array
        if (!inPlace) {
          own.set(request)
          request = own
        }
        const answer = byOffset
          ? work.answerAt(inPlace ? ring : own, inPlace ? request.byteOffset : 0, request.length)
          : work.answer(request)
        ;(answers[taken & MASK] as Uint8Array).set(answer)
        taken = (taken + 1) | 0
        if (taken % TOLD_EACH === 0) Atomics.store(words, Word.answered, taken)
      }
      Atomics.store(words, Word.answered, taken)
    }
  }
}

function dispatching({ words, answers }: Rings, work: ServerWork): () => void {
  let sent = 0
  let read = 0
  let full = false
  const room = (): number => SLOTS - ((sent - (read = Atomics.load(words, Word.read))) | 0)
  const feed: Feed = work.feed({
    publish: (payload) => {
      if (((sent - read) | 0) === SLOTS && room() === 0) {
        full = true
        return false
      }
      ;(answers[sent & MASK] as Uint8Array).set(payload)
      sent = (sent + 1) | 0
      if (sent % TOLD_EACH === 0) Atomics.store(words, Word.sent, sent)
      return true
    },
    cork: () => {},
    uncork: () => Atomics.store(words, Word.sent, sent),
  })
  let started = false
  return () => {
    if (!started) {
      started = Atomics.load(words, Word.subscribed) === 1
      if (started) feed.start()
      return
    }
    for (let turn = 0; full && turn < TURNS; turn++) {
      if (room() < SLOTS / 2) continue
      full = false
      feed.drained()
    }
  }
}

function connect(task: Task, path: string, inPlace: boolean): ClientSide {
  const rings = new Rings(ringMemory(path, MEMORY_BYTES, false), task.payloadBytes)
  return task.case === 'dispatch' ? receiver(rings, inPlace) : caller(rings, task, inPlace)
}

type Done = (answer: Uint8Array) => void
type DoneAt = (memory: Uint8Array, offset: number, length: number) => void

function caller(
  { words, requests, answers }: Rings,
  { payloadBytes, form, variant }: Task,
  inPlace: boolean,
): ClientSide {
  const byOffset = variant === 'offset'
  // An answer is the caller's until as many more have come: a promise's is looked at later than the next one comes.
  const memory = inPlace
    ? new Uint8Array((answers[0] as Uint8Array).buffer)
    : new Uint8Array(SLOTS * SLOT_BYTES)
  const own = Array.from({ length: SLOTS }, (_, at) =>
    inPlace
      ? (answers[at] as Uint8Array)
      : memory.subarray(at * SLOT_BYTES, at * SLOT_BYTES + payloadBytes),
  )
  const waiting = Array.from({ length: SLOTS }, (): Done | DoneAt => () => {})
  let sent = 0
  let received = 0
  // Of what is asked from here on the other side is told when all have asked.
  let gathers = false
  const tell = (): void => void Atomics.store(words, Word.asked, sent)
  const ask = (payload: Uint8Array, done: Done | DoneAt): void => {
    ;(requests[sent & MASK] as Uint8Array).set(payload)
    waiting[sent & MASK] = done
    sent = (sent + 1) | 0
    if (!gathers || sent % TOLD_EACH === 0) tell()
  }
  const drain = (): void => {
    const answered = Atomics.load(words, Word.answered)
    if (answered === received) return
    gathers = true
    while (received !== answered) {
      const at = received & MASK
      const answer = own[at] as Uint8Array
      if (!inPlace) answer.set(answers[at] as Uint8Array)
      received = (received + 1) | 0
      const done = waiting[at]
      if (byOffset) (done as DoneAt)(memory, answer.byteOffset, payloadBytes)
      else (done as Done)(answer)
    }
    if (form === 'promise') return // they ask after this
    gathers = false
    tell()
  }
  const settled = Promise.resolve()
  let left = TURNS
  const stop =
    form === 'callback'
      ? again(() => {
          for (let turn = 0; turn < TURNS; turn++) drain()
        })
      : again(() => {
          gathers = true
          // Behind whoever was told by the last one: as often as the loop of events may wait.
          left = TURNS
          const turn = (): void => {
            tell()
            drain()
            if (--left > 0) void settled.then(turn)
          }
          turn()
        })
  return {
    greeted: true,
    requestCallback: (done) => (payload) => ask(payload, done),
    requestTransient: (done) => (payload) => ask(payload, done),
    request: (payload) => new Promise((resolve) => ask(payload, resolve)),
    close: () => {
      left = 0
      stop()
      return Promise.resolve()
    },
  }
}

function receiver({ words, answers }: Rings, inPlace: boolean): ClientSide {
  const { length } = answers[0] as Uint8Array
  const ring = new Uint8Array((answers[0] as Uint8Array).buffer)
  let slab = new Uint8Array(SLAB_BYTES)
  let at = 0
  let read = 0
  let stop = (): void => {}
  const subscribe = (use: (memory: Uint8Array, offset: number) => void, renew: boolean): void => {
    Atomics.store(words, Word.subscribed, 1)
    stop = again(() => {
      for (let turn = 0; turn < TURNS; turn++) {
        const sent = Atomics.load(words, Word.sent)
        if (sent === read) continue
        while (read !== sent) {
          if (inPlace) {
            const slot = answers[read & MASK] as Uint8Array
            read = (read + 1) | 0
            use(ring, slot.byteOffset)
            if (read % TOLD_EACH === 0) Atomics.store(words, Word.read, read)
            continue
          }
          if (at + SLOT_BYTES > SLAB_BYTES) {
            at = 0
            if (renew) slab = new Uint8Array(SLAB_BYTES)
          }
          slab.set(answers[read & MASK] as Uint8Array, at)
          read = (read + 1) | 0
          if (read % TOLD_EACH === 0) Atomics.store(words, Word.read, read)
          use(slab, at)
          at += SLOT_BYTES
        }
        Atomics.store(words, Word.read, read)
      }
    })
  }
  return {
    greeted: true,
    subscribe: (onPayload) =>
      subscribe((memory, offset) => onPayload(new Uint8Array(memory.buffer, offset, length)), true),
    subscribeTransient: (use) => subscribe((memory, offset) => use(memory, offset, length), false),
    close: () => {
      stop()
      return Promise.resolve()
    },
  }
}
