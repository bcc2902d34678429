// Which CPU each of the two processes runs on. A wake-up costs 20 to 40 us across CPUs and 1 to 2 us on
// one, so what is compared is pinned. What the scheduler makes of a subject is a row of its own (`free`):
// it often puts two processes that wake each other on one CPU, where a side that looks keeps the other
// from running.
import type { Cpus } from '@coroipc/cli'
import type { Placement, PlacementName } from './task.js'

/**
 * What becomes of a wish; undefined: this machine cannot place two processes so. Without `taskset` what
 * should have two CPUs is left free.
 */
export function place(cpus: Cpus, wanted: PlacementName): Placement | undefined {
  const free: Placement = { name: 'free', clientCpu: null, serverCpu: null }
  if (wanted === 'one-cpu') {
    return cpus.taskset
      ? { name: wanted, clientCpu: cpus.server, serverCpu: cpus.server }
      : undefined
  }
  if (cpus.client === cpus.server) return undefined
  if (!cpus.taskset) return wanted === 'free' ? undefined : free
  return wanted === 'free' ? free : { name: wanted, clientCpu: cpus.client, serverCpu: cpus.server }
}
