// Which CPU each of the two processes runs on. A wake-up costs 20 to 40 us across CPUs and 1 to 2 us on
// one, so what is compared is pinned. What the scheduler makes of a subject is a row of its own (`free`):
// it often puts two processes that wake each other on one CPU, where a side that looks keeps the other
// from running.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Placement, PlacementName } from './task.js'

export interface Cpus {
  readonly usable: readonly number[]
  /** Two CPUs of different cores, where there are two; the same one twice on a machine with one. */
  readonly client: number
  readonly server: number
  readonly taskset: boolean
}

/** "0-3,8" as in /proc and /sys (cpuset(7), list format). */
export function parseCpuList(text: string): number[] {
  return text
    .trim()
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first, last] = part.split('-').map(Number)
      const from = first as number
      return Array.from({ length: (last ?? from) - from + 1 }, (_, i) => from + i)
    })
}

function siblingsOf(cpu: number): number[] {
  try {
    const path = `/sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`
    return parseCpuList(readFileSync(path, 'utf8'))
  } catch {
    return [cpu] // no topology there (some containers): take each CPU for a core
  }
}

export function findCpus(): Cpus {
  const status = readFileSync('/proc/self/status', 'utf8')
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '0'
  const usable = parseCpuList(list)
  const server = usable[0] ?? 0
  const siblings = new Set(siblingsOf(server))
  const client = usable.find((cpu) => !siblings.has(cpu)) ?? usable[1] ?? server
  const probe = spawnSync('taskset', ['-c', String(server), 'true'], { stdio: 'ignore' })
  return { usable, client, server, taskset: probe.status === 0 }
}

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
