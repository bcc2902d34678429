// What every subject writes into a payload and reads out of it again: little-endian u32 words,
// word[i] = seed + i, and the wrapping sum of all words as checksum. Whoever knows the seed knows the
// sum, so nothing is compared byte by byte. bench/floor/payload.h is the same in C.
//
// In rows of `hand-over` only the first word of each 4 KiB is written and read.
import type { Touch } from './task.js'

/** From here on, making an Int32Array view pays for itself (about 50 ns, then half the time a word). */
const VIEW_BYTES = 512
const HAND_OVER_WORDS = 1024

/** How much of a payload is written and read. */
export interface PayloadWork {
  fill(words: Int32Array, seed: number): void
  /** The payload may lie anywhere: nothing is assumed about its alignment. */
  sum(payload: Uint8Array): number
  /** The sum of a payload of this size and seed. */
  expected(bytes: number, seed: number): number
}

const full: PayloadWork = {
  fill: (words, seed) => {
    const count = words.length
    // Two words a turn: payloads are a multiple of 8 bytes.
    for (let i = 0; i < count; i += 2) {
      words[i] = seed + i
      words[i + 1] = seed + i + 1
    }
  },
  sum: (payload) => {
    const bytes = payload.length
    let sum = 0
    if (bytes >= VIEW_BYTES && payload.byteOffset % 4 === 0) {
      const words = new Int32Array(payload.buffer, payload.byteOffset, bytes >>> 2)
      for (let i = 0; i < words.length; i++) sum = (sum + (words[i] as number)) | 0
      return sum
    }
    for (let i = 0; i + 4 <= bytes; i += 4) sum = (sum + wordAt(payload, i)) | 0
    return sum
  },
  expected: (bytes, seed) => {
    const count = bytes >>> 2
    return (Math.imul(count, seed) + (count * (count - 1)) / 2) | 0
  },
}

const handOver: PayloadWork = {
  fill: (words, seed) => {
    for (let i = 0; i < words.length; i += HAND_OVER_WORDS) words[i] = seed + i
  },
  sum: (payload) => {
    let sum = 0
    for (let i = 0; i + 4 <= payload.length; i += 4 * HAND_OVER_WORDS)
      sum = (sum + wordAt(payload, i)) | 0
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

export function payloadWork(touch: Touch): PayloadWork {
  return touch === 'full' ? full : handOver
}

/** Memory that a producer fills again and again. */
export class PayloadBuffer {
  readonly bytes: Uint8Array
  readonly #words: Int32Array
  readonly #work: PayloadWork

  constructor(bytes: number, touch: Touch = 'full') {
    this.#words = new Int32Array(bytes / 4)
    this.bytes = new Uint8Array(this.#words.buffer)
    this.#work = payloadWork(touch)
  }

  fill(seed: number): Uint8Array {
    this.#work.fill(this.#words, seed)
    return this.bytes
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
 * has the sum of the request as its seed, so a right answer proves that the request was read.
 */
export class Caller {
  readonly #shape: ExchangeShape
  readonly #work: PayloadWork
  readonly #request: PayloadBuffer
  #seed: number
  wrong = 0

  constructor(shape: ExchangeShape, seed = 0) {
    this.#shape = shape
    this.#work = payloadWork(shape.touch)
    this.#request = new PayloadBuffer(shape.requestBytes, shape.touch)
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
    const { requestBytes, answerBytes } = this.#shape
    const work = this.#work
    const expected = work.expected(answerBytes, work.expected(requestBytes, this.#seed))
    if (answer.length !== answerBytes || work.sum(answer) !== expected) this.wrong++
  }
}

/** A server's half. */
export class Answerer {
  readonly #work: PayloadWork
  readonly #answer: PayloadBuffer

  constructor({ answerBytes, touch }: ExchangeShape) {
    this.#work = payloadWork(touch)
    this.#answer = new PayloadBuffer(answerBytes, touch)
  }

  /** Overwritten by the next call. */
  answer(request: Uint8Array): Uint8Array {
    return this.#answer.fill(this.#work.sum(request))
  }
}
