/** Which CPUs this process may use, and which two of them a server and its client are best measured on. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

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

/** CPUs that sched_getaffinity(2) allows this process. */
export function usableCpus(): number[] {
  const status = readFileSync('/proc/self/status', 'utf8')
  return parseCpuList(/^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? '0')
}

export function findCpus(): Cpus {
  const usable = usableCpus()
  const server = usable[0] ?? 0
  const siblings = new Set(siblingsOf(server))
  const client = usable.find((cpu) => !siblings.has(cpu)) ?? usable[1] ?? server
  const probe = spawnSync('taskset', ['-c', String(server), 'true'], { stdio: 'ignore' })
  return { usable, client, server, taskset: probe.status === 0 }
}
