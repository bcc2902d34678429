/**
 * Tracing channels: what both packages need of node:diagnostics_channel's TracingChannel beyond itself.
 *
 * Who calls asks `isTraced` first and makes nothing when it says no: five loads of what never changes are all
 * that a request pays for tracing that nobody does.
 */
import type { TracingChannel } from 'node:diagnostics_channel'

/** A tracing channel whose messages are `T`. */
export type Tracing<T extends object> = TracingChannel<unknown, T>

/** A message whose subscribers may say in what the program's own code is called. */
export interface Surrounded {
  /**
   * A subscriber of `start` may set it: the handler, callback or listener is called by it. For contexts that are kept
   * by somebody else, such as `(call) => context.with(mine, call)` of OpenTelemetry; stores of `bindStore` need it not.
   */
  around?: <Result>(call: () => Result) => Result
}

/** Calls the program's own code, in what was said. */
export function callIn<Result>(trace: Surrounded, call: () => Result): Result {
  return trace.around === undefined ? call() : trace.around(call)
}

type Stage = 'start' | 'end' | 'asyncStart' | 'asyncEnd' | 'error'

/** Whether anybody listens to one of its channels. (Node.js has this itself from 20.13 on.) */
export function isTraced(
  tracing: Readonly<Record<Stage, { readonly hasSubscribers: boolean }>>,
): boolean {
  return (
    tracing.start.hasSubscribers ||
    tracing.end.hasSubscribers ||
    tracing.asyncStart.hasSubscribers ||
    tracing.asyncEnd.hasSubscribers ||
    tracing.error.hasSubscribers
  )
}

/**
 * Calls `send` with what subscribers of `start` have left in the message. What they are told afterwards is about what
 * the caller asked for, so the message says that again.
 */
export function sendAsLeft<Payload, Result>(
  trace: { id: number; payload: Payload },
  id: number,
  payload: Payload,
  send: (id: number, payload: Payload) => Result,
): Result {
  const left = { id: trace.id, payload: trace.payload }
  trace.id = id
  trace.payload = payload
  return send(left.id, left.payload)
}
