/** Whether a server is there and answers: a connect that asks for nothing. */
import {
  abortSignal,
  checkName,
  type Checks,
  checkOptions,
  type ErrorCode,
  integer,
  IpcError,
  timeout,
} from '@coroipc/native'
import { connect } from './connect.js'

/** What `probe` takes; all of it may be left out. */
export interface ProbeOptions {
  /** A service that has to let this process in. Default: none, any answer of the server will do. */
  readonly service?: number | undefined
  /** Time for the answer. Default 1000. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** What came of it. */
export interface Probe {
  /** It answered in time, and, where a service was named, let this process in. */
  readonly healthy: boolean
  /** How long it took, milliseconds. */
  readonly ms: number
  /** Why it is not healthy, or what the server answered instead of letting us in. */
  readonly code?: ErrorCode | undefined
}

const checks: Checks = { service: integer(0, 65535), timeoutMs: timeout, signal: abortSignal }
/** The service that servers offer to tools, if they do: a server without it says so, which is an answer as well. */
const INSPECTION = 65535
/** What only a server says, whose thread runs. */
const answers: readonly ErrorCode[] = [
  'ERR_COROIPC_NO_SERVICE',
  'ERR_COROIPC_DENIED',
  'ERR_COROIPC_LIMIT',
  'ERR_COROIPC_RETRY',
  'ERR_COROIPC_REFUSED',
  'ERR_COROIPC_VERSION',
]

/**
 * Asks a server from outside whether it is well: it accepts, and its thread answers the handshake in time. Costs the server
 * one handshake. A server that is closing does not listen, and is not healthy: `ERR_COROIPC_CONNECT_REFUSED`.
 *
 * @throws (rejects) TypeError or RangeError `ERR_COROIPC_INVALID_ARGUMENT`; nothing else
 * @example
 * const { healthy, ms, code } = await probe('demo', { timeoutMs: 500 })
 */
export async function probe(name: string, options: ProbeOptions = {}): Promise<Probe> {
  checkName(name)
  checkOptions('options', options, checks)
  const { service, timeoutMs = 1000, signal } = options
  const began = performance.now()
  let code: ErrorCode | undefined
  try {
    const connection = await connect(name, { service: service ?? INSPECTION, timeoutMs, signal })
    await connection.close()
  } catch (error) {
    if (!IpcError.is(error)) throw error
    code = error.code
  }
  const healthy = code === undefined || (service === undefined && answers.includes(code))
  return { healthy, ms: performance.now() - began, code }
}
