/** Types that both packages show to their users, and the conversions that go with them. */
import { isArrayBuffer, isDataView } from 'node:util/types'
import { statsNames, waitCodes } from './abi.generated.js'

/** Who the peer was when it connected, as the kernel says; never what the peer says of itself. */
export interface Credentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** Supplementary groups. */
  readonly groups: readonly number[]
  /** Names the process even after its pid was used again; belongs to the connection. -1: kernel has none. */
  readonly pidfd: number
}

/** One piece of a payload. A string is sent as UTF-8. */
export type PayloadPart = ArrayBufferView | ArrayBuffer | string

/**
 * What can be sent: one piece, or a gather list of at most 1024 pieces that arrive as one payload. The
 * bytes are copied before the call that takes them returns: the memory is the caller's own again at once.
 */
export type Payload = PayloadPart | readonly PayloadPart[]

/** The longest gather list (IOV_MAX). */
export const partsMax = 1024

const noBytes = new Uint8Array(0)

/** What arrays say of themselves, whatever else one of them or its class has in its place. */
const typedArrays = Object.getPrototypeOf(Uint8Array.prototype) as Uint8Array
const trueLength = getterOf(typedArrays, 'length')
const viewBytes = getterOf(DataView.prototype, 'byteLength')

function getterOf(prototype: object, name: string): () => number {
  return (Object.getOwnPropertyDescriptor(prototype, name) as { get: () => number }).get
}

/**
 * Whether the memory was transferred to somebody else, or resized to less than the view needs. It is as empty then as one of
 * no bytes: only what the language does with it tells them apart.
 */
export function isGone(memory: ArrayBufferView | ArrayBuffer): boolean {
  try {
    if (isArrayBuffer(memory)) ArrayBuffer.prototype.slice.call(memory, 0, 0)
    else if (isDataView(memory)) viewBytes.call(memory)
    else typedArrays.at.call(memory, 0)
    return false
  } catch {
    return true
  }
}

/**
 * Whether `value` is bytes as they are, and its memory there. A Proxy of an array is an instance of its class as well, but has
 * neither memory nor a length that could be asked for.
 */
export function isBytes(value: unknown): value is Uint8Array {
  return (
    value instanceof Uint8Array &&
    ArrayBuffer.isView(value) &&
    (value.length !== 0 || !isGone(value))
  )
}

/**
 * How many bytes an array has, which may say anything in `length`: by its class, or by itself. One that says more would send what
 * lies behind its bytes in the outbox.
 */
export function ownLength(bytes: Uint8Array): number {
  const { length } = bytes
  // Its last byte is there: asked so, since the getter of their class is no code that V8 inlines.
  if (length >>> 0 === length && (length === 0 || bytes[length - 1] !== undefined)) return length
  return trueLength.call(bytes)
}

/** The bytes of one piece: the same memory, except for strings; undefined when it is not a piece. */
export function partBytes(part: unknown): Uint8Array | undefined {
  if (isBytes(part)) return part
  if (typeof part === 'string') return part === '' ? noBytes : Buffer.from(part, 'utf8')
  if (ArrayBuffer.isView(part)) {
    if (part instanceof Uint8Array || isGone(part)) return undefined
    return new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
  }
  return isArrayBuffer(part) && !isGone(part) ? new Uint8Array(part) : undefined
}

/** What natives take for a payload; undefined when it is none, or a list that is too long. */
export function payloadBytes(payload: unknown): Uint8Array | Uint8Array[] | undefined {
  if (payload === undefined) return noBytes
  if (!Array.isArray(payload)) return partBytes(payload)
  const { length } = payload
  if (length > partsMax) return undefined
  const parts: Uint8Array[] = []
  // By index: an iterator of its own may yield more than was counted.
  for (let index = 0; index < length; index++) {
    const bytes = partBytes(payload[index])
    if (bytes === undefined) return undefined
    if (bytes.length > 0) parts.push(bytes)
  }
  return parts.length > 1 ? parts : (parts[0] ?? noBytes)
}

/** Total of {@link payloadBytes}. */
export function payloadLength(payload: Uint8Array | readonly Uint8Array[]): number {
  if (payload instanceof Uint8Array) return payload.length
  let length = 0
  for (const part of payload) length += part.length
  return length
}

/**
 * How long a side looks at its rings before it sleeps: as long as has paid off lately, always (one CPU
 * is busy all the time), or not at all.
 */
export type Wait = 'adaptive' | 'spin' | 'sleep'

/** The number of a {@link Wait}; undefined when it is none. */
export function waitCode(wait: unknown): number | undefined {
  return typeof wait === 'string' && Object.hasOwn(waitCodes, wait)
    ? waitCodes[wait as Wait]
    : undefined
}

/** Name of one counter. */
export type StatsName = (typeof statsNames)[number]

/** Counters since the beginning or since they were last cleared, and gauges, which are never cleared. */
export type Stats = Readonly<Record<StatsName, number>>

/** Counters as native code writes them, with names. Above 2^53 they lose their last digits. */
export function statsFrom(words: BigUint64Array): Stats {
  const stats: Partial<Record<StatsName, number>> = {}
  statsNames.forEach((name, index) => {
    stats[name] = Number(words[index])
  })
  return stats as Stats
}
