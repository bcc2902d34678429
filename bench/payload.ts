// What every subject writes into a payload and reads out of it again: little-endian u32 words,
// word[i] = seed + i, and the wrapping sum of all words as checksum. Whoever knows the seed knows the
// sum, so nothing is compared byte by byte. bench/floor/payload.h is the same in C.

/** From here on, making an Int32Array view pays for itself (about 50 ns, then half the time a word). */
const VIEW_BYTES = 512

/** Memory that a producer fills again and again. */
export class PayloadBuffer {
  readonly bytes: Uint8Array
  readonly #words: Int32Array

  constructor(bytes: number) {
    this.#words = new Int32Array(bytes / 4)
    this.bytes = new Uint8Array(this.#words.buffer)
  }

  fill(seed: number): Uint8Array {
    const words = this.#words
    const count = words.length
    // Two words a turn: payloads are a multiple of 8 bytes.
    for (let i = 0; i < count; i += 2) {
      words[i] = seed + i
      words[i + 1] = seed + i + 1
    }
    return this.bytes
  }
}

/** Reads every byte. The payload may lie anywhere: nothing is assumed about its alignment. */
export function payloadSum(payload: Uint8Array): number {
  const bytes = payload.length
  let sum = 0
  if (bytes >= VIEW_BYTES && payload.byteOffset % 4 === 0) {
    const words = new Int32Array(payload.buffer, payload.byteOffset, bytes >>> 2)
    for (let i = 0; i < words.length; i++) sum = (sum + (words[i] as number)) | 0
    return sum
  }
  for (let i = 0; i + 4 <= bytes; i += 4) {
    const word =
      (payload[i] as number) |
      ((payload[i + 1] as number) << 8) |
      ((payload[i + 2] as number) << 16) |
      ((payload[i + 3] as number) << 24)
    sum = (sum + word) | 0
  }
  return sum
}

/** The sum of a payload of this size and seed. */
export function payloadSumExpected(bytes: number, seed: number): number {
  const count = bytes >>> 2
  return (Math.imul(count, seed) + (count * (count - 1)) / 2) | 0
}

/**
 * A client's half of a call: the request to send, and whether the answer is right. The server's answer
 * has the sum of the request as its seed, so a right answer proves that the request was read whole.
 */
export class Caller {
  readonly #payloadBytes: number
  readonly #request: PayloadBuffer
  #seed: number
  wrong = 0

  constructor(payloadBytes: number, seed = 0) {
    this.#payloadBytes = payloadBytes
    this.#request = new PayloadBuffer(payloadBytes)
    this.#seed = seed
  }

  /** Overwritten by the next call. */
  nextRequest(): Uint8Array {
    this.#seed = (this.#seed + 1) | 0
    return this.#request.fill(this.#seed)
  }

  checkAnswer(answer: Uint8Array): void {
    const bytes = this.#payloadBytes
    const expected = payloadSumExpected(bytes, payloadSumExpected(bytes, this.#seed))
    if (answer.length !== bytes || payloadSum(answer) !== expected) this.wrong++
  }
}

/** A server's half. */
export class Answerer {
  readonly #answer: PayloadBuffer

  constructor(payloadBytes: number) {
    this.#answer = new PayloadBuffer(payloadBytes)
  }

  /** Overwritten by the next call. */
  answer(request: Uint8Array): Uint8Array {
    return this.#answer.fill(payloadSum(request))
  }
}
