/** The limits of a server: their defaults and their checks. Each one is in docs/reference/limits. */
import type { Checks } from '@coroipc/native'
import { integer, powerOfTwo } from '@coroipc/native'

/**
 * What a server gives away at most. Everything that one side can make the other keep is bounded by one
 * of these; whoever meets one is told by a code, never by silence.
 */
export interface Limits {
  /** Connections in all. Beyond: the client gets `ERR_COROIPC_LIMIT`. Default 4096. */
  readonly connections: number
  /** Connections of one uid. `ERR_COROIPC_LIMIT`. Default 1024. */
  readonly connectionsPerUid: number
  /** Peers that have not sent their setup message; the oldest of the uid that has most goes. Default 64. */
  readonly handshakes: number
  /** Of one uid. `ERR_COROIPC_LIMIT`. Default 16. */
  readonly handshakesPerUid: number
  /** Peers that wait for an asynchronous `authorize`. `ERR_COROIPC_LIMIT`. Default 256. */
  readonly authorizing: number
  /** Request ring of a client that asks for none. A power of two. Default 256 KiB. */
  readonly requestRingBytes: number
  /** Response ring of a client that asks for none. A power of two. Default 256 KiB. */
  readonly responseRingBytes: number
  /** Dispatch ring of a client that asks for none. A power of two. Default 512 KiB. */
  readonly dispatchRingBytes: number
  /** Smallest ring that a client gets, whatever it asks for. Default 4096. */
  readonly ringBytesMin: number
  /** Largest ring that a client gets. Default 16 MiB. */
  readonly ringBytesMax: number
  /** Largest payload, both ways: ceiling and default of what a client gets. Default 1 MiB. */
  readonly messageBytes: number
  /** Floor of it. Default 4096. */
  readonly messageBytesMin: number
  /** Unanswered requests of one connection. The client waits, then `ERR_COROIPC_LIMIT`. Default 256. */
  readonly requestsInFlight: number
  /** Unsent answers of one connection at which its requests are left unread. Default 4 MiB. */
  readonly unsentBytes: number
  /** Dispatches that wait for room in one connection's ring: see `backlogPolicy`. Default 4 MiB. */
  readonly backlogBytes: number
  /** Extra segments (large messages, zero-copy buffers) of one connection. Default 16. */
  readonly segments: number
  /** Bytes of these, rings included. `ERR_COROIPC_LIMIT`. Default 256 MiB. */
  readonly segmentBytes: number
  /** Rings, segments and backlogs of one uid. `ERR_COROIPC_LIMIT`. Default 4 GiB. */
  readonly bytesPerUid: number
}

const KIB = 1024
const MIB = 1024 * KIB
const RING_MAX = 1 << 30
const COUNT_MAX = 1 << 20

/** What holds where `limits` says nothing. */
export const defaultLimits: Limits = Object.freeze({
  connections: 4096,
  connectionsPerUid: 1024,
  handshakes: 64,
  handshakesPerUid: 16,
  authorizing: 256,
  requestRingBytes: 256 * KIB,
  responseRingBytes: 256 * KIB,
  dispatchRingBytes: 512 * KIB,
  ringBytesMin: 4 * KIB,
  ringBytesMax: 16 * MIB,
  messageBytes: MIB,
  messageBytesMin: 4 * KIB,
  requestsInFlight: 256,
  unsentBytes: 4 * MIB,
  backlogBytes: 4 * MIB,
  segments: 16,
  segmentBytes: 256 * MIB,
  bytesPerUid: 4096 * MIB,
})

/** The checks of `limits`. */
export const limitChecks: Checks = {
  connections: integer(1, COUNT_MAX),
  connectionsPerUid: integer(1, COUNT_MAX),
  handshakes: integer(1, COUNT_MAX),
  handshakesPerUid: integer(1, COUNT_MAX),
  authorizing: integer(1, COUNT_MAX),
  requestRingBytes: powerOfTwo(4096, RING_MAX),
  responseRingBytes: powerOfTwo(4096, RING_MAX),
  dispatchRingBytes: powerOfTwo(4096, RING_MAX),
  ringBytesMin: powerOfTwo(4096, RING_MAX),
  ringBytesMax: powerOfTwo(4096, RING_MAX),
  messageBytes: integer(1, RING_MAX),
  messageBytesMin: integer(1, RING_MAX),
  requestsInFlight: integer(1, 32768),
  unsentBytes: integer(1, 0xffffffff),
  backlogBytes: integer(1, 0xffffffff),
  segments: integer(1, 64),
  segmentBytes: integer(4096, Number.MAX_SAFE_INTEGER),
  bytesPerUid: integer(4096, Number.MAX_SAFE_INTEGER),
}
