// What a tracing channel says, as one line an event: who subscribes, and takes it back at the end of the test.
import { tracingChannel, type TracingChannelSubscribers } from 'node:diagnostics_channel'

interface Teardown {
  teardown(run: () => unknown): void
}

export const stages = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const
export type Stage = (typeof stages)[number]

/** Collects `stage` with what `tell` makes of the message; only the given stages are subscribed to. */
// T is given by the test: what the channel carries, no argument tells.
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
export function traces<T extends object>(
  t: Teardown,
  name: string,
  tell: (message: T) => string = () => '',
  only: readonly Stage[] = stages,
): string[] {
  const seen: string[] = []
  const subscribers = Object.fromEntries(
    only.map((stage) => [stage, (message: T) => seen.push(`${stage} ${tell(message)}`.trim())]),
  ) as unknown as TracingChannelSubscribers<T>
  const channel = tracingChannel<unknown, T>(name)
  channel.subscribe(subscribers)
  t.teardown(() => channel.unsubscribe(subscribers))
  return seen
}
