// What JavaScript itself costs in a blocking round trip: the least that can carry 64 bytes from one Node.js
// to another and back (bench/floor/napi/slots.c), with the same work at both ends. What the library takes
// beyond `floor-napi` is its own; what that takes beyond `floor-c`, and `floor-js` does not, is the way into
// native code and back, on both sides.
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'

interface Addon {
  create(path: string): ArrayBuffer
  attach(path: string): ArrayBuffer
  call(request: Uint8Array, answer: Uint8Array): void
  callArena(bytes: number): void
  serve(handler: (request: Uint8Array) => Uint8Array, request: Uint8Array): void
  serveScoped(handler: (request: Uint8Array) => Uint8Array, request: Uint8Array): void
  serveArena(handler: () => void, bytes: number): void
  readonly arena: ArrayBuffer
  /** Where in `arena` answers lie; requests begin it. */
  readonly arenaAnswer: number
  /** Where in what `create` and `attach` give. */
  readonly requestTurn: number
  readonly requestPayload: number
  readonly answerTurn: number
  readonly answerPayload: number
}

type Call = (payload: Uint8Array, into: Uint8Array) => Uint8Array

/** How one of the floors enters native code, if at all. */
interface Way {
  call(addon: Addon, bytes: number, slots: ArrayBuffer): Call
  /** Answers until nothing has come for a while. */
  serve(addon: Addon, bytes: number, slots: ArrayBuffer, work: ServerWork): () => void
}

/** As in slots.c. */
const SLOT_BYTES = 65_536
const IDLE_TURNS = 1 << 20

function loadAddon(): Addon {
  const path = fileURLToPath(new URL('../floor/napi/slots.node', import.meta.url))
  return createRequire(import.meta.url)(path) as Addon
}

const callByArrays = (addon: Addon): Call => {
  const call = addon.call
  return (payload, into) => {
    call(payload, into)
    return into
  }
}

const byArrays: Way = {
  call: callByArrays,
  serve: ({ serve: native }, bytes, _slots, { answer }) => {
    const request = new Uint8Array(bytes)
    return () => native(answer, request)
  },
}

const inScope: Way = {
  call: callByArrays,
  serve: ({ serveScoped: native }, bytes, _slots, { answer }) => {
    const request = new Uint8Array(bytes)
    return () => native(answer, request)
  },
}

const byArena: Way = {
  call: ({ callArena: call, arena, arenaAnswer }, bytes) => {
    const request = new Uint8Array(arena, 0, bytes)
    const answer = new Uint8Array(arena, arenaAnswer, bytes)
    return (payload) => {
      request.set(payload)
      call(bytes)
      return answer
    }
  },
  serve: ({ serveArena: native, arena, arenaAnswer }, bytes, _slots, work) => {
    const request = new Uint8Array(arena, 0, bytes)
    const answer = new Uint8Array(arena, arenaAnswer, bytes)
    const handler = (): void => answer.set(work.answer(request))
    return () => native(handler, bytes)
  },
}

const inJavaScript: Way = {
  call: (addon, bytes, slots) => {
    const turns = new Int32Array(slots)
    const request = new Uint8Array(slots, addon.requestPayload, bytes)
    const answer = new Uint8Array(slots, addon.answerPayload, bytes)
    const [asked, answered] = [addon.requestTurn / 4, addon.answerTurn / 4]
    let turn = 0
    return (payload, into) => {
      turn = (turn + 1) | 0
      request.set(payload)
      Atomics.store(turns, asked, turn)
      while (Atomics.load(turns, answered) !== turn);
      into.set(answer)
      return into
    }
  },
  serve: (addon, bytes, slots, work) => {
    const turns = new Int32Array(slots)
    const request = new Uint8Array(slots, addon.requestPayload, bytes)
    const answer = new Uint8Array(slots, addon.answerPayload, bytes)
    const [asked, answered] = [addon.requestTurn / 4, addon.answerTurn / 4]
    const own = new Uint8Array(bytes)
    let turn = 1
    return () => {
      for (let idle = 0; idle < IDLE_TURNS; idle++) {
        if (Atomics.load(turns, asked) !== turn) continue
        idle = 0
        own.set(request)
        answer.set(work.answer(own))
        Atomics.store(turns, answered, turn)
        turn = (turn + 1) | 0
      }
    }
  },
}

function floor(name: string, about: string, copies: number, way: Way): SidesSubject {
  return {
    kind: 'sides',
    name,
    about,
    refuses: (task) => {
      if (task.case !== 'rtt-sync' || task.variant !== undefined || task.form !== 'sync')
        return 'one call at a time, blocking'
      if (task.payloadBytes > SLOT_BYTES) return `a slot has ${SLOT_BYTES} bytes`
      return task.wait === 'spin' ? undefined : 'it spins'
    },
    copies: () => copies,
    serve: (task, path, work) => Promise.resolve(serve(way, task, path, work)),
    connect: (task, path) => Promise.resolve(connect(way, task, path)),
  }
}

export const floorNapi = floor(
  'floor-napi',
  'floor of Node-API: JavaScript to JavaScript, one slot each way, no ring, no check, no wake-up; spins',
  4,
  byArrays,
)

export const floorNapiScope = floor(
  'floor-napi-scope',
  'floor-napi with the handler in a callback scope (napi_make_callback)',
  4,
  inScope,
)

export const floorNapiArena = floor(
  'floor-napi-arena',
  'floor-napi with payloads in an arena that native code knows, no typed arrays as arguments',
  6,
  byArena,
)

export const floorJs = floor(
  'floor-js',
  'the same slots without native code: both sides spin in JavaScript, on Atomics.load',
  4,
  inJavaScript,
)

function slotsPath(path: string): string {
  return `${path}.slots`
}

function serve(way: Way, { payloadBytes }: Task, path: string, work: ServerWork): Serving {
  const addon = loadAddon()
  const turn = way.serve(addon, payloadBytes, addon.create(slotsPath(path)), work)
  const serveOn = (): void => {
    turn()
    next = setImmediate(serveOn)
  }
  let next = setImmediate(serveOn)
  return {
    close: () => {
      clearImmediate(next)
      return Promise.resolve()
    },
  }
}

function connect(way: Way, { payloadBytes }: Task, path: string): ClientSide {
  const addon = loadAddon()
  return {
    requestSync: way.call(addon, payloadBytes, addon.attach(slotsPath(path))),
    close: () => Promise.resolve(),
  }
}
