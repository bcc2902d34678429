// What the load programs write down about every message: test/programs/ledger.h in TypeScript, word for word. Node.js maps
// no files; reads and writes at a place of the file are seen by those who map it, and outlive the process as well.
import { closeSync, fstatSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { isAlive } from '../support/alive.js'

const HEAD_BYTES = 4096
const LANE_BYTES = 1024

/** Of the server as a whole. */
const serverWords = {
  pid: 0,
  connections: 1,
  connectionsTotal: 2,
  handshakesPending: 3,
  inFlight: 4,
  unsentResponses: 5,
  backlogMessages: 6,
  segments: 7,
  segmentBytes: 8,
  protocolErrors: 9,
  backlogBytes: 10,
  turns: 11,
  liveBytes: 12,
  leastRss: 13,
  doorbellsATurn: 14,
  leastBeside: 15,
  paused: 64,
} as const

/** Of a lane: the client's, then the server's. */
const laneWords = {
  pid: 0,
  epoch: 1,
  sent: 2,
  answered: 3,
  answers: 4,
  unknown: 5,
  never: 6,
  wrong: 7,
  failed: 8,
  failedCode: 9,
  deathNs: 10,
  dispatches: 11,
  skipped: 12,
  longestNs: 13,
  executed: 16,
  executions: 17,
  doubled: 18,
  lost: 19,
  torn: 20,
  goneNs: 21,
  goneWhy: 22,
  dispatched: 23,
  refused: 24,
  liveBytes: 25,
  leastRss: 26,
  leastBeside: 27,
} as const

const LATENCY = 32
export const BUCKETS = 64

export type ServerWord = keyof typeof serverWords
export type LaneWord = keyof typeof laneWords
export type Account = Readonly<Record<ServerWord, number>>
export type Entry = Readonly<Record<LaneWord, number>>

/** The clock that all of them write down. */
export const nowNs = (): number => Number(process.hrtime.bigint())

export class Ledger implements Disposable {
  readonly lanes: number
  readonly #fd: number
  readonly #word = new BigUint64Array(1)

  private constructor(fd: number, lanes: number) {
    this.#fd = fd
    this.lanes = lanes
  }

  static create(path: string, lanes: number): Ledger {
    writeFileSync(path, new Uint8Array(HEAD_BYTES + lanes * LANE_BYTES))
    return new Ledger(openSync(path, 'r+'), lanes)
  }

  static open(path: string): Ledger {
    const fd = openSync(path, 'r+')
    return new Ledger(fd, (fstatSync(fd).size - HEAD_BYTES) / LANE_BYTES)
  }

  #at(lane: number | undefined, word: number): number {
    return (lane === undefined ? 0 : HEAD_BYTES + lane * LANE_BYTES) + word * 8
  }

  #get(at: number): number {
    readSync(this.#fd, this.#word, 0, 8, at)
    return Number(this.#word[0])
  }

  #set(at: number, value: number): void {
    this.#word[0] = BigInt(value)
    writeSync(this.#fd, this.#word, 0, 8, at)
  }

  get(lane: number, word: LaneWord): number {
    return this.#get(this.#at(lane, laneWords[word]))
  }
  set(lane: number, word: LaneWord, value: number): void {
    this.#set(this.#at(lane, laneWords[word]), value)
  }
  add(lane: number, word: LaneWord, value: number = 1): void {
    this.set(lane, word, this.get(lane, word) + value)
  }
  server(word: ServerWord): number {
    return this.#get(this.#at(undefined, serverWords[word]))
  }
  setServer(word: ServerWord, value: number): void {
    this.#set(this.#at(undefined, serverWords[word]), value)
  }

  /** Whether the clients of this lane and those behind it are to be silent. */
  paused(lane: number): boolean {
    const from = this.server('paused')
    return from !== 0 && lane + 1 >= from
  }
  /** Silences the clients from this lane on; undefined: nobody. */
  pause(from: number | undefined): void {
    this.setServer('paused', from === undefined ? 0 : from + 1)
  }

  #read<Word extends string>(
    words: Readonly<Record<Word, number>>,
    at: number,
  ): Readonly<Record<Word, number>> {
    const all = new BigUint64Array(LANE_BYTES / 8)
    readSync(this.#fd, all, 0, LANE_BYTES, at)
    const names = Object.keys(words) as Word[]
    return Object.fromEntries(names.map((name) => [name, Number(all[words[name]])])) as Record<
      Word,
      number
    >
  }

  /** All words of a lane. */
  entry(lane: number): Entry {
    return this.#read(laneWords, this.#at(lane, 0))
  }
  account(): Account {
    return this.#read(serverWords, this.#at(undefined, 0))
  }

  /** How many calls took how long: counts by half powers of two of nanoseconds. */
  latency(lane: number): number[] {
    const counts = new BigUint64Array(BUCKETS)
    readSync(this.#fd, counts, 0, BUCKETS * 8, this.#at(lane, LATENCY))
    return [...counts].map(Number)
  }
  time(lane: number, ns: number): void {
    const power = Math.floor(Math.log2(Math.max(1, ns)))
    const bucket = Math.min(BUCKETS - 1, power * 2 + (ns >= 1.5 * 2 ** power ? 1 : 0))
    const at = this.#at(lane, LATENCY + bucket)
    this.#set(at, this.#get(at) + 1)
    if (ns > this.get(lane, 'longestNs')) this.set(lane, 'longestNs', Math.round(ns))
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** The time below which such a part of the calls stayed, in microseconds: the upper end of its bucket. */
export function latencyUs(counts: readonly number[], part: number): number {
  const total = counts.reduce((sum, count) => sum + count, 0)
  let below = 0
  for (const [bucket, count] of counts.entries()) {
    below += count
    if (total > 0 && below >= part * total)
      return (2 ** (bucket >> 1) * (bucket % 2 === 1 ? 2 : 1.5)) / 1000
  }
  return 0
}

/**
 * Whoever leads may be killed, too: nobody goes on without it. The leader is the parent; a server that was started by the one
 * before is told who it is.
 *
 * @returns the environment of a successor
 */
export function endWithParent(): NodeJS.ProcessEnv {
  const leader = Number(process.env['COROIPC_TEST_LEADER'] ?? process.ppid)
  setInterval(() => isAlive(leader) || process.exit(1), 500).unref()
  return { ...process.env, COROIPC_TEST_LEADER: String(leader) }
}

// -- messages --------------------------------------------------------------------------------------

export const SMALL_BYTES = 64
export const LARGE_BYTES = 100_000
const HEAD_WORDS = 4

/** A message of so many bytes, a multiple of 4. */
export function writeMessage(
  bytes: number,
  lane: number,
  epoch: number,
  number: number,
): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4)
  words[0] = lane
  words[1] = epoch
  words[2] = number % 2 ** 32
  words[3] = Math.floor(number / 2 ** 32)
  const base = Math.imul(number % 2 ** 32, 0x9e3779b1)
  for (let i = HEAD_WORDS; i < words.length; i++) words[i] = base + i
  return new Uint8Array(words.buffer)
}

/** Whose it is, and which; undefined if its bytes are not those of its head. */
export function readMessage(payload: Uint8Array): { lane: number; number: number } | undefined {
  const { byteLength } = payload
  if (byteLength < HEAD_WORDS * 4 || byteLength % 4 !== 0) return undefined
  const whole = payload.byteOffset % 4 === 0 ? payload : payload.slice()
  const words = new Uint32Array(whole.buffer, whole.byteOffset, byteLength / 4)
  const [lane = 0, , low = 0, high = 0] = words
  const base = Math.imul(low, 0x9e3779b1)
  let difference = 0
  for (let i = HEAD_WORDS; i < words.length; i++)
    difference |= (words[i] as number) ^ ((base + i) | 0)
  return difference === 0 ? { lane, number: low + high * 2 ** 32 } : undefined
}
