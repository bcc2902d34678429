/** Payloads as arguments of public functions: checked, counted, copied. For both packages. */
import { isArrayBuffer } from 'node:util/types'
import type { Bytes } from './addon.js'
import { invalidArgument } from './errors.js'
import { isGone, partBytes, partsMax, payloadBytes } from './types.js'

const EXPECTED = 'a string, an ArrayBuffer, a view of one, or a list of these'
const THERE = 'memory that was not transferred away, nor resized to less than its view'
const EMPTY: Bytes = new Uint8Array(0)

/** The bytes of a payload: one array, or a list of several; undefined stands for an empty one. */
export function checkedPayload(name: string, payload: unknown): Bytes | Bytes[] {
  if (payload === undefined) return EMPTY
  const bytes = payloadBytes(payload)
  if (bytes === undefined) throw payloadError(name, payload)
  if (!Array.isArray(bytes)) return bytes
  return bytes.length === 0 ? EMPTY : bytes.length === 1 ? (bytes[0] as Bytes) : bytes
}

/** What is wrong with a payload that {@link payloadBytes} does not take. */
export function payloadError(name: string, payload: unknown): Error {
  if (!Array.isArray(payload)) return partError(name, payload)
  if (payload.length > partsMax)
    return invalidArgument(`${name}.length`, `at most ${partsMax} pieces`, payload.length)
  const index = payload.findIndex((part) => partBytes(part) === undefined)
  return partError(`${name}[${index}]`, payload[index])
}

function partError(name: string, part: unknown): Error {
  const gone = (ArrayBuffer.isView(part) || isArrayBuffer(part)) && isGone(part)
  return invalidArgument(name, gone ? THERE : EXPECTED, part, 'type')
}

/** One private copy of it all, `bytes` long. */
export function joined(payload: Bytes | readonly Bytes[], bytes: number): Bytes {
  if (payload instanceof Uint8Array) return new Uint8Array(payload)
  const copy = new Uint8Array(bytes)
  let at = 0
  for (const part of payload) {
    copy.set(part, at)
    at += part.length
  }
  return copy
}
