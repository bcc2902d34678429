// What a process holds, as the kernel says: descriptors by kind, mappings of shared segments, threads, children. Two
// readings around an incident tell whether it left anything behind.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { until } from './wait.js'

export type Reading = Readonly<Record<string, number>>

/** Counts by kind, of this process or another. */
export function gauge(pid: number | 'self' = 'self'): Reading {
  const counts: Record<string, number> = {}
  const count = (what: string): void => {
    counts[what] = (counts[what] ?? 0) + 1
  }
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const target = readlinkSync(`/proc/${pid}/fd/${fd}`)
      // socket:[1234] -> socket; /memfd:coroipc (deleted) -> memfd
      count(`fd ${target.startsWith('/memfd:') ? 'memfd' : target.replace(/:\[\d+\]$/, '')}`)
    } catch {} // the directory itself, as it was read
  }
  for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n'))
    if (line.includes('/memfd:coroipc')) count('mapping')
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim()
      if (children !== '') for (const _ of children.split(' ')) count('child')
    } catch {} // ended meanwhile, or a kernel without it
  }
  return counts
}

/** The sizes of our memory that is mapped in this process or another. */
export function mapped(pid: number | 'self' = 'self'): number[] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes('/memfd:coroipc'))
    .map((line) => {
      const [start, end] = (line.split(' ')[0] as string).split('-')
      return Number.parseInt(end as string, 16) - Number.parseInt(start as string, 16)
    })
}

const kinds = /^(fd (socket|memfd|anon_inode|\/)|mapping|child)/

/** What differs, as text; '' if nothing of ours does. */
export function difference(before: Reading, after: Reading): string {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((kind) => kinds.test(kind) && (before[kind] ?? 0) !== (after[kind] ?? 0))
    .map((kind) => `${kind}: ${before[kind] ?? 0} -> ${after[kind] ?? 0}`)
    .join(', ')
}

/** Waits until the process holds exactly what it held before; says what it still holds if it does not. */
export async function settled(before: Reading, pid: number | 'self' = 'self'): Promise<string> {
  let said = ''
  try {
    await until('the gauge', () => (said = difference(before, gauge(pid))) === '', 5_000)
  } catch {}
  return said
}

/** CPU time of a process in milliseconds: user and system. */
export function cpuMs(pid: number | 'self' = 'self'): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
