/**
 * Plays the requests of a recording to a server: each recorded connection by one of its own, at the times of the
 * recording, or as fast as it goes. Answers are compared with those that were recorded.
 */
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import { type Connection, IpcError } from '@coroipc/ipcc'
import { Distribution, type Spread } from '../distribution.js'
import { type AnswerLine, type Line, payloadOf, type RequestLine } from './format.js'

/** A request and what became of it. */
interface Recorded {
  readonly request: RequestLine
  readonly answer: AnswerLine | undefined
}

export interface Difference {
  readonly t: number
  readonly service: number
  readonly id: number
  readonly what: 'code' | 'status' | 'payload'
  readonly recorded: string
  readonly replayed: string
}

export interface Played {
  readonly requests: number
  /** Without an answer in the recording, given up by its client, or one-way: nothing to compare with. */
  readonly uncompared: number
  /** Cut off in the recording: not sent. */
  readonly skipped: number
  readonly seconds: number
  readonly latency: Spread
  /** As far as the recording tells: at the server, receive to answer. */
  readonly recordedLatency: Spread
  /** How far behind its time a request was sent at most, milliseconds. */
  readonly lateMs: number
  /** Answers by code; `OK` for those that are. */
  readonly codes: Readonly<Record<string, number>>
  readonly differences: number
}

export interface PlayOptions {
  /** 1: as it was; 2: twice as fast; Infinity: as fast as it goes. */
  readonly speed: number
  /** Requests of one connection that are on their way. */
  readonly window: number
  /** To this service instead of the recorded ones. */
  readonly service: number | undefined
  readonly connect: (service: number) => Promise<Connection>
  readonly signal: AbortSignal
  readonly onDifference: ((difference: Difference) => void) | undefined
}

/** Timers are exact to a millisecond; what is nearer is waited for by turns. */
const TIMER_MS = 2
const TIMER_MS_MAX = 0x7fffffff
const SHOWN = 60

/** Requests with their answers, in the order of the recording. */
export function pairs(lines: readonly Line[]): Recorded[] {
  const open = new Map<string, { request: RequestLine; answer: AnswerLine | undefined }>()
  const found: Recorded[] = []
  for (const line of lines) {
    if (line.kind !== 'request' && line.kind !== 'answer') continue
    const key = `${line.connection} ${line.request}`
    if (line.kind === 'request') {
      const pair = { request: line, answer: undefined }
      found.push(pair)
      if (line.oneWay !== true) open.set(key, pair)
    } else {
      const pair = open.get(key)
      open.delete(key)
      if (pair !== undefined) pair.answer = line
    }
  }
  return found
}

/** How requests end that their client gave up: its deadline, its signal. A recording does not have them. */
const givenUp = new Set(['ERR_COROIPC_TIMED_OUT', 'ERR_COROIPC_ABORTED'])

/** Whether the recording says what the server answers. */
const isComparable = ({ answer }: Recorded): boolean =>
  answer !== undefined && !givenUp.has(answer.code ?? 'OK')

interface Outcome {
  readonly code: string
  readonly status: number
  readonly payload: Uint8Array
}

function difference(pair: Recorded, outcome: Outcome): Difference | undefined {
  const { request, answer } = pair
  if (answer === undefined || !isComparable(pair)) return undefined
  const about = { t: request.t, service: request.service, id: request.id }
  const code = answer.code ?? 'OK'
  if (code !== outcome.code)
    return { ...about, what: 'code', recorded: code, replayed: outcome.code }
  if (code !== 'OK') return undefined
  if (answer.status !== outcome.status)
    return { ...about, what: 'status', recorded: `${answer.status}`, replayed: `${outcome.status}` }
  const recorded = payloadOf(answer)
  // Of one that was cut off: the length and what is left of it.
  const replayed = Buffer.from(outcome.payload)
  const same =
    answer.bytes === replayed.length && recorded.equals(replayed.subarray(0, recorded.length))
  if (same) return undefined
  const shown = (bytes: Buffer): string => {
    const text = bytes.subarray(0, SHOWN).toString('utf8')
    return bytes.length > SHOWN ? `${text}... (${bytes.length} bytes)` : text
  }
  return { ...about, what: 'payload', recorded: shown(recorded), replayed: shown(replayed) }
}

/** One recorded connection, played. */
class Lane {
  readonly connection: Connection
  readonly #window: number
  readonly #done: (pair: Recorded, outcome: Outcome, started: number) => void
  #inFlight = 0
  #room: (() => void) | undefined

  constructor(
    connection: Connection,
    window: number,
    done: (pair: Recorded, outcome: Outcome, started: number) => void,
  ) {
    this.connection = connection
    this.#window = Math.min(window, connection.requestsInFlight)
    this.#done = done
  }

  /** Waits only while too many are on their way. */
  async send(pair: Recorded, signal: AbortSignal): Promise<void> {
    const { request } = pair
    const payload = payloadOf(request)
    if (request.oneWay === true) {
      while (!signal.aborted && !this.connection.send(request.id, payload)) await setImmediate()
      return
    }
    while (this.#inFlight >= this.#window)
      await new Promise<void>((resolve) => {
        this.#room = resolve
      })
    this.#inFlight++
    void this.#ask(pair, payload)
  }

  async #ask(pair: Recorded, payload: Uint8Array): Promise<void> {
    const started = performance.now()
    let outcome: Outcome
    try {
      const answer = await this.connection.request(pair.request.id, payload, { full: true })
      outcome = { code: 'OK', status: answer.status, payload: answer.payload }
    } catch (error) {
      const code = IpcError.is(error) ? error.code : String(error)
      outcome = { code, status: 0, payload: new Uint8Array(0) }
    }
    this.#inFlight--
    this.#done(pair, outcome, started)
    this.#wake()
  }

  async idle(): Promise<void> {
    while (this.#inFlight > 0)
      await new Promise<void>((resolve) => {
        this.#room = resolve
      })
  }

  #wake(): void {
    const room = this.#room
    this.#room = undefined
    room?.()
  }
}

async function sleepUntil(time: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const left = time - performance.now()
    if (left <= 0) return
    if (left > TIMER_MS)
      await delay(Math.min(left - 1, TIMER_MS_MAX), undefined, { signal }).catch(() => {})
    else await setImmediate()
  }
}

/** Plays what was recorded. Ends early, in order, with the signal. */
export async function play(lines: readonly Line[], options: PlayOptions): Promise<Played> {
  const { speed, signal } = options
  const all = pairs(lines)
  const wanted = all.filter(({ request }) => request.cut !== true)
  const latency = new Distribution()
  const recordedLatency = new Distribution()
  const codes: Record<string, number> = {}
  let differences = 0
  let requests = 0
  let uncompared = 0
  let lateMs = 0

  const lanes = new Map<number, Lane>()
  const done = (pair: Recorded, outcome: Outcome, started: number): void => {
    latency.record(started, performance.now())
    codes[outcome.code] = (codes[outcome.code] ?? 0) + 1
    const { request, answer } = pair
    if (!isComparable(pair)) uncompared++
    if (answer !== undefined) recordedLatency.record(request.t, answer.t)
    const found = difference(pair, outcome)
    if (found === undefined) return
    differences++
    options.onDifference?.(found)
  }
  try {
    for (const { request } of wanted) {
      if (lanes.has(request.connection)) continue
      const connection = await options.connect(options.service ?? request.service)
      lanes.set(request.connection, new Lane(connection, options.window, done))
    }
    const [first] = wanted
    const began = performance.now()
    for (const pair of wanted) {
      if (signal.aborted) break
      const due = began + (pair.request.t - (first as Recorded).request.t) / speed
      if (speed !== Infinity) {
        await sleepUntil(due, signal)
        if (signal.aborted) break
        lateMs = Math.max(lateMs, performance.now() - due)
      }
      await (lanes.get(pair.request.connection) as Lane).send(pair, signal)
      requests++
      if (pair.request.oneWay === true) uncompared++
    }
    await Promise.all([...lanes.values()].map((lane) => lane.idle()))
    return {
      requests,
      uncompared,
      skipped: all.length - wanted.length,
      seconds: (performance.now() - began) / 1000,
      latency: latency.read(),
      recordedLatency: recordedLatency.read(),
      lateMs,
      codes,
      differences,
    }
  } finally {
    await Promise.all([...lanes.values()].map(({ connection }) => connection.close()))
  }
}
