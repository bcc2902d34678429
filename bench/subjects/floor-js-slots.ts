// What JavaScript itself costs with many connections that have one request in flight each: a pair of slots for each in memory that
// both processes map, polled in turn by JavaScript alone. No native call, no record, no check, nobody asleep; payloads are copied out
// of the slots before they are read, as the receiver's own.
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { again, ringMemory, TURNS } from './floor-js-ring.js'

const SLOT_BYTES = 64
const CONNECTIONS = 64
/** Of a connection, a line each: what was asked so far, the question, what was answered so far, the answer. */
const PAIR_BYTES = 256
const MEMORY_BYTES = CONNECTIONS * PAIR_BYTES

export const floorJsSlots: SidesSubject = {
  kind: 'sides',
  name: 'floor-js-slots',
  about:
    'a pair of slots in shared memory for each connection, JavaScript alone: no native call, no check; both sides spin',
  refuses: (task) => {
    if (task.case !== 'many-connections' || task.active !== task.connections)
      return 'connections that are all active'
    if (task.connections > CONNECTIONS) return `at most ${CONNECTIONS} connections`
    if (task.payloadBytes !== SLOT_BYTES) return `payloads of ${SLOT_BYTES} bytes`
    return task.wait === 'spin' ? undefined : 'it spins'
  },
  takes: (task) => task.case === 'many-connections',
  copies: () => 4,
  serve: (_task, path, work) => Promise.resolve(serve(path, work)),
  connect: (_task, path) => Promise.resolve(connect(path)),
}

interface Pair {
  readonly words: Int32Array
  /** Indices of words. */
  readonly asked: number
  readonly answered: number
  readonly request: Uint8Array
  readonly answer: Uint8Array
}

function pairsOf(memory: ArrayBuffer): Pair[] {
  const words = new Int32Array(memory)
  return Array.from({ length: CONNECTIONS }, (_, n) => {
    const [asked, request, answered, answer] = [0, 1, 2, 3].map(
      (line) => n * PAIR_BYTES + line * SLOT_BYTES,
    ) as [number, number, number, number]
    return {
      words,
      asked: asked / 4,
      answered: answered / 4,
      request: new Uint8Array(memory, request, SLOT_BYTES),
      answer: new Uint8Array(memory, answer, SLOT_BYTES),
    }
  })
}

function serve(path: string, work: ServerWork): Serving {
  const pairs = pairsOf(ringMemory(path, MEMORY_BYTES, true))
  const taken = pairs.map(() => 0)
  const own = new Uint8Array(SLOT_BYTES)
  const stop = again(() => {
    for (let turn = 0; turn < TURNS; turn++) {
      const n = turn % CONNECTIONS
      const { words, asked, answered, request, answer } = pairs[n] as Pair
      const count = Atomics.load(words, asked)
      if (count === taken[n]) continue
      taken[n] = count
      own.set(request)
      answer.set(work.answer(own))
      Atomics.store(words, answered, count)
    }
  })
  return {
    close: () => {
      stop()
      return Promise.resolve()
    },
  }
}

type Done = (answer: Uint8Array) => void

/** Of one process: all its connections are polled by one loop. */
class Poller {
  readonly #pairs: readonly Pair[]
  readonly #asked: number[] = []
  readonly #waiting: (Done | undefined)[] = []
  readonly #own: Uint8Array[] = []
  readonly stop: () => void

  constructor(path: string) {
    this.#pairs = pairsOf(ringMemory(path, MEMORY_BYTES, false))
    this.stop = again(() => {
      const { length } = this.#asked
      for (let turn = 0; turn < TURNS; turn++) this.#look(turn % length)
    })
  }

  open(): number {
    this.#own.push(new Uint8Array(SLOT_BYTES))
    this.#waiting.push(undefined)
    return this.#asked.push(0) - 1
  }

  ask(n: number, payload: Uint8Array, done: Done): void {
    const { words, asked, request } = this.#pairs[n] as Pair
    request.set(payload)
    this.#waiting[n] = done
    const count = (this.#asked[n] as number) + 1
    this.#asked[n] = count
    Atomics.store(words, asked, count)
  }

  #look(n: number): void {
    const done = this.#waiting[n]
    if (done === undefined) return
    const { words, answered, answer } = this.#pairs[n] as Pair
    if (Atomics.load(words, answered) !== this.#asked[n]) return
    this.#waiting[n] = undefined
    const own = this.#own[n] as Uint8Array
    own.set(answer)
    done(own)
  }
}

const pollers = new Map<string, Poller>()

function connect(path: string): ClientSide {
  const poller = pollers.get(path) ?? new Poller(path)
  pollers.set(path, poller)
  const n = poller.open()
  return {
    greeted: true,
    request: (payload) => new Promise((resolve) => poller.ask(n, payload, resolve)),
    requestCallback: (done) => (payload) => poller.ask(n, payload, done),
    close: () => {
      poller.stop()
      return Promise.resolve()
    },
  }
}
