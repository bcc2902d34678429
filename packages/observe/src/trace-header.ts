/**
 * How a W3C trace context travels: a record of the ring has no room for it, so it stands before the payload of a
 * message whose id has its highest bit set. Such a message is one of the id without that bit.
 *
 *    0        version: 0, as in traceparent
 *    1 - 16   trace-id
 *   17 - 24   parent-id: the sender's span
 *   25        trace-flags
 *   26 - 31   zero; what follows is aligned as it was
 *
 * Who does not expect it has no handler for that id, and says so: nobody takes these bytes for a payload.
 * `tracestate` and baggage do not travel.
 */
import type { Payload } from '@coroipc/native'
import { partsMax } from '@coroipc/native'
import { isSpanContextValid, type SpanContext } from '@opentelemetry/api'

export const HEADER_BYTES = 32
/** Set in the id of a message with a header. Ids of services that are traced so are below it. */
export const TRACED = 0x8000

export function encodeHeader({ traceId, spanId, traceFlags }: SpanContext): Uint8Array {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write(traceId, 1, 16, 'hex')
  header.write(spanId, 17, 8, 'hex')
  header[25] = traceFlags
  return header
}

/** Undefined: it is none. What a stranger wrote is checked by its form; it can name any trace it likes. */
export function decodeHeader(payload: Uint8Array): SpanContext | undefined {
  if (payload.length < HEADER_BYTES || payload[0] !== 0) return undefined
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, HEADER_BYTES)
  const context: SpanContext = {
    traceId: bytes.toString('hex', 1, 17),
    spanId: bytes.toString('hex', 17, 25),
    traceFlags: (bytes[25] as number) & 1,
    isRemote: true,
  }
  return isSpanContextValid(context) ? context : undefined
}

/** The payload behind a header; undefined if it cannot have one: a shared buffer, or too many pieces or bytes. */
export function withHeader(
  payload: unknown,
  header: Uint8Array,
  bytesMax: number,
): Payload | undefined {
  const parts = payload === undefined ? [] : Array.isArray(payload) ? payload : [payload]
  if (parts.length >= partsMax) return undefined
  let bytes = HEADER_BYTES
  for (const part of parts) {
    if (typeof part === 'string') bytes += Buffer.byteLength(part)
    else if (ArrayBuffer.isView(part) || part instanceof ArrayBuffer) bytes += part.byteLength
    else return undefined
  }
  return bytes > bytesMax ? undefined : [header, ...parts]
}
