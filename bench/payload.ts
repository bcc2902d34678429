// What every subject writes into a payload and reads out of it again. Whoever knows the seed of one knows
// what must be read of it, without a second buffer. bench/floor/payload.h is the same in C and says more;
// test/house/bench-payload.test.ts compares them.
//
//   below 4 KiB   little-endian u32 words, word[i] = seed + i; its digest is the wrapping sum of all words
//   from 4 KiB    chunks of 256 KiB: memcpy of a window of a template, and memcmp with it; each chunk's
//                 first word is seed + k, which says which window. A loop over words in JavaScript would
//                 be most of what is measured: 1.2 ns a word, where copying one takes 0.05
//   hand-over     only the first word of each 4 KiB is written and read
import type { Touch } from './task.js'

/** From here on, making an Int32Array view pays for itself (about 50 ns, then half the time a word). */
const VIEW_BYTES = 512
const HAND_OVER_WORDS = 1024
const BULK_BYTES = 4096
const CHUNK_BYTES = 262144
const CHUNK_WORDS = CHUNK_BYTES / 4
/** A prime: no ring has room for just so many messages again and again. */
const WINDOWS = 61
const WINDOW_WORDS = 16
/** An answer to a bulk payload must not be the payload. */
const BULK_DIGEST = 0x5bd1e995

/** How a payload is written and read. */
export interface PayloadWork {
  fill(words: Int32Array, seed: number): void
  /**
   * The digest of the payload from `begin` to `end` of `memory`; NaN, which equals nothing, if it is none of
   * any seed. It may lie anywhere: nothing is assumed about its alignment.
   */
  read(memory: Uint8Array, begin: number, end: number): number
  /** The digest of a payload of this size and seed. */
  expected(bytes: number, seed: number): number
}

const small: PayloadWork = {
  fill: (words, seed) => {
    const count = words.length
    // Two words a turn: payloads are a multiple of 8 bytes.
    for (let i = 0; i < count; i += 2) {
      words[i] = seed + i
      words[i + 1] = seed + i + 1
    }
  },
  read: (memory, begin, end) => {
    const bytes = end - begin
    let sum = 0
    if (bytes >= VIEW_BYTES && (memory.byteOffset + begin) % 4 === 0) {
      const words = new Int32Array(memory.buffer, memory.byteOffset + begin, bytes >>> 2)
      for (let i = 0; i < words.length; i++) sum = (sum + (words[i] as number)) | 0
      return sum
    }
    // A view of this payload alone would cost more than reading it byte by byte.
    for (let i = begin; i + 4 <= end; i += 4) sum = (sum + wordAt(memory, i)) | 0
    return sum
  },
  expected: (bytes, seed) => {
    const count = bytes >>> 2
    return (Math.imul(count, seed) + (count * (count - 1)) / 2) | 0
  },
}

const template = new Int32Array(CHUNK_WORDS + WINDOWS * WINDOW_WORDS).map((_, i) =>
  Math.imul(i + 1, 0x9e3779b1),
)

/** A view for each window: making one would cost more than copying a page. */
const windows = Array.from({ length: WINDOWS }, (_, k) => {
  const words = template.subarray(k * WINDOW_WORDS, k * WINDOW_WORDS + CHUNK_WORDS)
  return { words, bytes: new Uint8Array(words.buffer, words.byteOffset, CHUNK_BYTES) }
})

function windowOf(first: number): (typeof windows)[number] {
  return windows[(first >>> 0) % WINDOWS] as (typeof windows)[number]
}

/** memcmp of parts of arrays, without making views of them. */
const compare = Buffer.prototype.compare

const bulk: PayloadWork = {
  fill: (words, seed) => {
    const count = words.length
    for (let at = 0, first = seed; at < count; at += CHUNK_WORDS, first++) {
      const { words: from } = windowOf(first)
      words.set(count - at < CHUNK_WORDS ? from.subarray(0, count - at) : from, at)
      words[at] = first
    }
  },
  read: (memory, begin, end) => {
    const seed = wordAt(memory, begin)
    for (let at = begin, first = seed; at < end; at += CHUNK_BYTES, first = (first + 1) | 0) {
      const bytes = Math.min(CHUNK_BYTES, end - at)
      const { bytes: expected } = windowOf(first)
      if (
        wordAt(memory, at) !== first ||
        compare.call(memory, expected, 4, bytes, at + 4, at + bytes) !== 0
      )
        return Number.NaN
    }
    return seed ^ BULK_DIGEST
  },
  expected: (_bytes, seed) => seed ^ BULK_DIGEST,
}

const handOver: PayloadWork = {
  fill: (words, seed) => {
    for (let i = 0; i < words.length; i += HAND_OVER_WORDS) words[i] = seed + i
  },
  read: (memory, begin, end) => {
    let sum = 0
    for (let i = begin; i + 4 <= end; i += 4 * HAND_OVER_WORDS) sum = (sum + wordAt(memory, i)) | 0
    return sum
  },
  expected: (bytes, seed) => {
    const count = Math.ceil((bytes >>> 2) / HAND_OVER_WORDS)
    return (Math.imul(count, seed) + HAND_OVER_WORDS * ((count * (count - 1)) / 2)) | 0
  },
}

function wordAt(payload: Uint8Array, at: number): number {
  return (
    (payload[at] as number) |
    ((payload[at + 1] as number) << 8) |
    ((payload[at + 2] as number) << 16) |
    ((payload[at + 3] as number) << 24)
  )
}

export function payloadWork(touch: Touch, bytes: number): PayloadWork {
  if (touch === 'hand-over') return handOver
  return bytes < BULK_BYTES ? small : bulk
}

/** Memory that a producer fills again and again. */
export class PayloadBuffer {
  readonly bytes: Uint8Array
  readonly #words: Int32Array
  readonly #work: PayloadWork

  constructor(bytes: number, touch: Touch = 'full') {
    this.#words = new Int32Array(bytes / 4)
    this.bytes = new Uint8Array(this.#words.buffer)
    this.#work = payloadWork(touch, bytes)
  }

  fill(seed: number): Uint8Array {
    this.#work.fill(this.#words, seed)
    return this.bytes
  }
}

/** Reads payloads that lie in memory which is used again and again: one view of its words is enough for all of them. */
class PlacedReader {
  readonly #work: PayloadWork
  /** What the last one lay in. */
  #memory: Uint8Array | undefined
  #words: Int32Array | undefined

  constructor(work: PayloadWork) {
    this.#work = work
  }

  /** As `PayloadWork.read`. */
  read(memory: Uint8Array, begin: number, end: number): number {
    if (memory !== this.#memory) {
      this.#memory = memory
      this.#words =
        this.#work === small && memory.byteOffset % 4 === 0
          ? new Int32Array(memory.buffer, memory.byteOffset, memory.byteLength >>> 2)
          : undefined
    }
    const words = this.#words
    if (words === undefined || begin % 4 !== 0) return this.#work.read(memory, begin, end)
    let sum = 0
    for (let i = begin >>> 2; i < end >>> 2; i++) sum = (sum + (words[i] as number)) | 0
    return sum
  }
}

/** A receiver that knows what must come. */
export class PayloadCheck {
  readonly #bytes: number
  readonly #work: PayloadWork
  readonly #placed: PlacedReader

  constructor(bytes: number, touch: Touch) {
    this.#bytes = bytes
    this.#work = payloadWork(touch, bytes)
    this.#placed = new PlacedReader(this.#work)
  }

  /** Of one in an array of its own. */
  right(payload: Uint8Array, seed: number): boolean {
    const { length } = payload
    const expected = this.#work.expected(this.#bytes, seed)
    return length === this.#bytes && this.#work.read(payload, 0, length) === expected
  }

  /** Of one that lies somewhere in memory which is used again. */
  rightAt(memory: Uint8Array, offset: number, length: number, seed: number): boolean {
    const bytes = this.#bytes
    if (length !== bytes) return false
    return this.#placed.read(memory, offset, offset + bytes) === this.#work.expected(bytes, seed)
  }
}

/** What an exchange moves each way. */
export interface ExchangeShape {
  readonly requestBytes: number
  readonly answerBytes: number
  readonly touch: Touch
}

/**
 * A client's half of a call: the request to send, and whether the answer is right. The server's answer
 * has the digest of the request as its seed, so a right answer proves that the request was read.
 */
export class Caller {
  readonly #requestBytes: number
  readonly #work: PayloadWork
  readonly #request: PayloadBuffer
  readonly #answer: PayloadCheck
  #seed: number
  wrong = 0

  constructor({ requestBytes, answerBytes, touch }: ExchangeShape, seed = 0) {
    this.#requestBytes = requestBytes
    this.#work = payloadWork(touch, requestBytes)
    this.#request = new PayloadBuffer(requestBytes, touch)
    this.#answer = new PayloadCheck(answerBytes, touch)
    this.#seed = seed
  }

  /** Overwritten by the next call. */
  nextRequest(): Uint8Array {
    this.#seed = (this.#seed + 1) | 0
    return this.#request.fill(this.#seed)
  }

  /** The next request written to memory of the caller's, in place of one to send. */
  writeRequest(words: Int32Array): void {
    this.#seed = (this.#seed + 1) | 0
    this.#work.fill(words, this.#seed)
  }

  checkAnswer(answer: Uint8Array): void {
    const seed = this.#work.expected(this.#requestBytes, this.#seed)
    if (!this.#answer.right(answer, seed)) this.wrong++
  }

  checkAnswerAt(memory: Uint8Array, offset: number, length: number): void {
    const seed = this.#work.expected(this.#requestBytes, this.#seed)
    if (!this.#answer.rightAt(memory, offset, length, seed)) this.wrong++
  }
}

/** A server's half. To what is no payload the answer is none either: zeros. */
export class Answerer {
  readonly #work: PayloadWork
  readonly #placed: PlacedReader
  readonly #answer: PayloadBuffer

  constructor({ requestBytes, answerBytes, touch }: ExchangeShape) {
    this.#work = payloadWork(touch, requestBytes)
    this.#placed = new PlacedReader(this.#work)
    this.#answer = new PayloadBuffer(answerBytes, touch)
  }

  /** Overwritten by the next call. */
  answer(request: Uint8Array): Uint8Array {
    return this.#answerTo(this.#work.read(request, 0, request.length))
  }

  answerAt(memory: Uint8Array, offset: number, length: number): Uint8Array {
    return this.#answerTo(this.#placed.read(memory, offset, offset + length))
  }

  #answerTo(digest: number): Uint8Array {
    return Number.isNaN(digest) ? this.#answer.bytes.fill(0) : this.#answer.fill(digest)
  }
}
