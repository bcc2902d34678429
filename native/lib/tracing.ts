/**
 * Tracing channels: what both packages need of node:diagnostics_channel's TracingChannel beyond itself.
 *
 * Who calls asks `isTraced` first and makes nothing when it says no: five loads of what never changes are all
 * that a request pays for tracing that nobody does.
 */
import type { TracingChannel } from 'node:diagnostics_channel'

/** A tracing channel whose messages are `T`. */
export type Tracing<T extends object> = TracingChannel<unknown, T>

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
