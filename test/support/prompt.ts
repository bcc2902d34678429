// How soon a worker ends that is terminated inside a blocking call. This is the one duration that is a promise of the
// API (100 ms), hence the one whose maximum is asserted: by the median of several, since a busy machine may make any
// single one longer, and with a wide bound for each, since no machine is that busy.
import type { Test } from 'tap'

export const TERMINATED_MS = 100
const NEVER_MS = 3000

const text = (times: readonly number[]): string => times.map((ms) => ms.toFixed(0)).join(', ')

/** How long `end` takes, in milliseconds. */
export async function timed(end: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await end()
  return performance.now() - started
}

/** Asserts the promise about several ends of the same kind. */
export function endedPromptly(t: Test, what: string, times: readonly number[]): void {
  const sorted = [...times].sort((a, b) => a - b)
  const median = sorted[sorted.length >> 1] ?? Number.NaN
  t.comment(`${what}: ended after ${text(times)} ms`)
  t.ok(median < TERMINATED_MS, `${what}: the median is below ${TERMINATED_MS} ms: ${text(times)}`)
  t.ok(Math.max(...times) < NEVER_MS, `${what}: each is below ${NEVER_MS} ms: ${text(times)}`)
}
