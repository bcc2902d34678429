/**
 * Payloads that an encoder writes when they are sent: what a codec gives
 * `request`, `dispatch` or an answer instead of bytes.
 */
import { invalidArgument } from './errors.js'
import type { Payload } from './types.js'

/** Turns values into payloads. */
export interface Encoder<T> {
  /**
   * Writes `value` into `memory`, from `at` on and before `end`. It must not touch any other byte of it, nor keep it: the
   * next message is written there as well.
   *
   * @returns how many bytes it wrote. Negative: it needs so many (`-n`) and is called again with that much
   *   room. Or a payload: where there is one already, as a string or as bytes of its own
   */
  encode(value: T, memory: Buffer, at: number, end: number): number | Payload
}

/**
 * A value and its encoder, in place of a payload: a small message is written without memory of its own. What the encoder throws
 * is thrown by the call that sends, before anything is sent; of an answer it is the `cause` of `ERR_COROIPC_ANSWER_INVALID`.
 *
 * @example
 * await connection.request(0, new Encoded(json(), { a: 1, b: 2 }))
 */
export class Encoded<T = unknown> {
  readonly encoder: Encoder<T>
  readonly value: T

  constructor(encoder: Encoder<T>, value: T) {
    this.encoder = encoder
    this.value = value
  }

  /** Its payload, in memory of its own. */
  payload(): Payload {
    const { encoder, value } = this
    const found = encoder.encode(value, NOTHING, 0, 0)
    return typeof found === 'number' ? ownBytes(encoder, value, found) : found
  }
}

const NOTHING = Buffer.alloc(0)

/** What an encoder that has asked for room writes when it gets it; `asked` as it returned it. */
export function ownBytes<T>(encoder: Encoder<T>, value: T, asked: number): Payload {
  for (let tries = 0; tries < 4; tries++) {
    // It wrote nothing and is content: an empty payload.
    if (asked === 0) return NOTHING
    if (!Number.isInteger(asked) || asked > 0 || asked < -0x7fffffff) break
    const memory = Buffer.allocUnsafe(-asked)
    const found = encoder.encode(value, memory, 0, memory.length)
    if (typeof found !== 'number') return found
    if (found >= 0 && found <= memory.length) return memory.subarray(0, found)
    asked = found
  }
  throw invalidArgument('encode', 'bytes that were written, or minus those that are needed', asked)
}
