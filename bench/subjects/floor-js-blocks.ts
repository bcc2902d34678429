// What JavaScript itself costs where payloads are large: slots of a payload's size in memory that both processes map, written and
// read by JavaScript alone. `owned`: each payload gets memory of its own from Node.js, unzeroed, and is copied there; `in-place`: it
// is read in its slot. No record, no check, nobody asleep. As many bytes of ring as this library has.
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'
import { again, ringMemory, TURNS } from './floor-js-ring.js'

const RING_BYTES = 512 << 10
const PAYLOAD_BYTES_MAX = 64 << 10
const HEAD_BYTES = 4096
/** Int32s, a line of their own each. */
const Word = { sent: 0, read: 16, subscribed: 32 } as const

export const floorJsBlocks: SidesSubject = {
  kind: 'sides',
  name: 'floor-js-blocks',
  about:
    'slots of a payload in shared memory, JavaScript alone: no native call, no record, no check; both sides spin',
  refuses: (task) => {
    if (task.case !== 'bandwidth' || task.variant === 'into') return 'streams of large payloads'
    if (task.payloadBytes > PAYLOAD_BYTES_MAX) return `a slot has ${PAYLOAD_BYTES_MAX} bytes`
    return task.wait === 'spin' ? undefined : 'it spins'
  },
  takes: (task) => task.case === 'bandwidth',
  copies: (task) => (task.variant === 'in-place' ? 1 : 2),
  serve: (task, path, work) => Promise.resolve(serve(task, path, work)),
  connect: (task, path) => Promise.resolve(connect(task, path)),
}

class Slots {
  readonly words: Int32Array
  readonly #slots: readonly Uint8Array[]

  constructor(path: string, { payloadBytes }: Task, create: boolean) {
    const memory = ringMemory(path, HEAD_BYTES + RING_BYTES, create)
    this.words = new Int32Array(memory, 0, HEAD_BYTES / 4)
    this.#slots = Array.from(
      { length: Math.floor(RING_BYTES / payloadBytes) },
      (_, at) => new Uint8Array(memory, HEAD_BYTES + at * payloadBytes, payloadBytes),
    )
  }

  get count(): number {
    return this.#slots.length
  }

  at(position: number): Uint8Array {
    return this.#slots[position % this.#slots.length] as Uint8Array
  }
}

function serve(task: Task, path: string, work: ServerWork): Serving {
  const slots = new Slots(path, task, true)
  const { words } = slots
  let sent = 0
  let full = false
  const feed: Feed = work.feed({
    publish: (payload) => {
      full = sent - Atomics.load(words, Word.read) === slots.count
      if (full) return false
      slots.at(sent++).set(payload)
      Atomics.store(words, Word.sent, sent)
      return true
    },
  })
  let started = false
  const stop = again(() => {
    if (!started) {
      started = Atomics.load(words, Word.subscribed) === 1
      if (started) feed.start()
    }
    for (let turn = 0; full && turn < TURNS; turn++) {
      if (sent - Atomics.load(words, Word.read) > slots.count / 2) continue
      full = false
      feed.drained()
    }
  })
  return {
    close: () => {
      stop()
      return Promise.resolve()
    },
  }
}

function connect(task: Task, path: string): ClientSide {
  const slots = new Slots(path, task, false)
  const { words } = slots
  let read = 0
  let stop = (): void => {}
  return {
    greeted: true,
    subscribe: (onPayload) => {
      Atomics.store(words, Word.subscribed, 1)
      stop = again(() => {
        for (let turn = 0; turn < TURNS && Atomics.load(words, Word.sent) !== read; turn++) {
          const own = Buffer.allocUnsafeSlow(task.payloadBytes)
          own.set(slots.at(read++))
          Atomics.store(words, Word.read, read)
          onPayload(own)
        }
      })
    },
    receiveInPlace: (use) => {
      Atomics.store(words, Word.subscribed, 1)
      while (Atomics.load(words, Word.sent) === read);
      use(slots.at(read++))
      Atomics.store(words, Word.read, read)
    },
    close: () => {
      stop()
      return Promise.resolve()
    },
  }
}
