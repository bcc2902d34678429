/**
 * The requests of a server that are traced, from their coming to their answer. Made when somebody subscribes
 * to the tracing channel; a request that is not traced has no entry and no property more.
 */
import { callIn, type ErrorCode, IpcError } from '@coroipc/native'
import { type RequestTrace, requestTracing } from './diagnostics.js'
import type { Request } from './request.js'

/** The client had gone before its answer. */
const GONE: ErrorCode = 'ERR_COROIPC_DISCONNECTED'

/** What of a request a trace may change. */
export interface Traceable extends Request {
  id: number
  payload: Uint8Array
}

interface Entry {
  readonly trace: RequestTrace
  /** Between `start` and `end`. */
  running: boolean
}

export class RequestTraces {
  readonly #entries = new WeakMap<object, Entry>()

  /** Handles a request between `start` and `end`, with the stores that are bound to `start`. */
  run<Result>(request: Traceable, handle: () => Result): Result {
    const { connection, service, id, payload } = request
    const trace: RequestTrace = { request, connection, service, id, payload }
    const entry = { trace, running: true }
    this.#entries.set(request, entry)
    try {
      return requestTracing.start.runStores(trace, () => {
        request.id = trace.id
        request.payload = trace.payload
        return callIn(trace, handle)
      })
    } finally {
      entry.running = false
      requestTracing.end.publish(trace)
    }
  }

  /** The handler threw, or its promise was rejected. */
  threw(request: object, error: unknown): void {
    const entry = this.#entries.get(request)
    if (entry !== undefined) entry.trace.error = error
  }

  /** @param code 'OK' or an `ERR_COROIPC_*`; empty: there was nobody to tell */
  finished(request: Request, code: string): void {
    const entry = this.#entries.get(request)
    if (entry === undefined) return
    this.#entries.delete(request)
    const { trace } = entry
    const nobody = request.oneWay ? 'OK' : GONE
    trace.code = code === '' ? nobody : code
    if (trace.code !== 'OK') {
      trace.error ??= new IpcError(trace.code as ErrorCode, `request ${trace.id}: ${trace.code}`)
      requestTracing.error.publish(trace)
    }
    if (entry.running) return
    requestTracing.asyncStart.publish(trace)
    requestTracing.asyncEnd.publish(trace)
  }
}
