/** How values become bytes and bytes values: the interface, and the codecs that need nothing but Node.js. */
import { deserialize, serialize } from 'node:v8'
import type { Encoder, Payload } from '@coroipc/native'

/**
 * Turns values into payloads and payloads into values.
 *
 * `decode` gets bytes of a stranger. It throws what it likes at bytes that are none of its own: the other side
 * gets a code. What it returns may keep `bytes`, which are the receiver's own.
 *
 * @example
 * const point: Codec<Point> = {
 *   name: 'point',
 *   encode({ x, y }, memory, at, end) {
 *     if (end - at < 16) return -16
 *     memory.writeDoubleLE(x, at)
 *     memory.writeDoubleLE(y, at + 8)
 *     return 16
 *   },
 *   decode(bytes) {
 *     const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
 *     return { x: view.getFloat64(0, true), y: view.getFloat64(8, true) }
 *   },
 * }
 */
export interface Codec<Sent, Received = Sent> extends Encoder<Sent> {
  /** What tools call it: `'json'`. */
  readonly name: string
  /** The value of a payload. It is called for every message: no more than the bytes deserve. */
  decode(bytes: Uint8Array): Received
}

/** Bytes as they are: the payload itself, not a copy. Sends whatever `request` takes. */
export const bytes: Codec<Payload, Uint8Array> = {
  name: 'bytes',
  encode: (value) => value,
  decode: (value) => value,
}

// Fatal: a replacement character would be a value that nobody has sent. A mark at the front is part of the text.
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text. Bytes that are no UTF-8 do not decode; a lone surrogate is sent as U+FFFD. */
export const utf8: Codec<string> = {
  name: 'utf8',
  encode(value) {
    if (typeof value !== 'string') throw new TypeError('utf8 encodes strings only')
    return value
  },
  decode: (value) => strict.decode(value),
}

const theJson: Codec<unknown> = {
  name: 'json',
  encode(value) {
    const text = JSON.stringify(value) as string | undefined
    if (text === undefined && value !== undefined)
      throw new TypeError(`JSON has no form of a ${typeof value}`)
    return text ?? ''
  },
  decode: (value) =>
    value.length === 0 ? undefined : (JSON.parse(strict.decode(value)) as unknown),
}

/**
 * JSON in UTF-8; `undefined` is an empty payload. `T` is believed: to have values checked, give the contract a schema
 * in place of the codec. As always with JSON, dates arrive as text, NaN as null, members that are undefined not at all,
 * and a member may be called `__proto__`: copy what came by spreading or `Object.assign`, never by a deep merge.
 */
export function json<T = unknown>(): Codec<T> {
  return theJson as Codec<T>
}

const theStructured: Codec<unknown> = {
  name: 'structured-clone',
  encode: (value) => serialize(value),
  decode: (value) => deserialize(value) as unknown,
}

/**
 * What `structuredClone` can copy (Map, Set, Date, BigInt, typed arrays, cycles), by `node:v8`. For both sides in
 * Node.js, of about the same age.
 *
 * V8 checks what it reads, but nobody promises that it withstands bytes which were made to harm. Do not
 * offer it to clients that you would not run code of.
 */
export function structured<T = unknown>(): Codec<T> {
  return theStructured as Codec<T>
}
