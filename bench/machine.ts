// What a figure is worth nothing without: where, on what and with what it was seen.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import type { Cpus } from '@coroipc/cli'

export interface Machine {
  readonly date: string
  readonly cpu: string
  readonly cpus: number
  /** CPUs that this process may use. */
  readonly usableCpus: readonly number[]
  readonly clientCpu: number | null
  readonly serverCpu: number | null
  readonly virtual: boolean
  readonly governor: string
  readonly clocksource: string
  readonly memoryBytes: number
  readonly kernel: string
  readonly distribution: string
  readonly node: string
  readonly v8: string
  readonly compiler: string
  /** Load of one minute before the first measurement: what else was running. */
  readonly loadBefore: number
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

export function describeMachine(cpus: Cpus): Machine {
  const compiler = spawnSync(process.env['CC'] ?? 'cc', ['--version'], { encoding: 'utf8' })
  const release = read('/etc/os-release') ?? ''
  return {
    date: new Date().toISOString(),
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cpus: os.cpus().length,
    usableCpus: cpus.usable,
    clientCpu: cpus.taskset ? cpus.client : null,
    serverCpu: cpus.taskset ? cpus.server : null,
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(read('/proc/cpuinfo') ?? ''),
    governor:
      read(`/sys/devices/system/cpu/cpu${cpus.server}/cpufreq/scaling_governor`) ?? 'not visible',
    clocksource:
      read('/sys/devices/system/clocksource/clocksource0/current_clocksource') ?? 'not visible',
    memoryBytes: os.totalmem(),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    distribution: /^PRETTY_NAME="?([^"\n]*)/m.exec(release)?.[1] ?? 'unknown',
    node: process.versions.node,
    v8: process.versions.v8,
    compiler: compiler.stdout?.split('\n')[0] ?? 'not found',
    loadBefore: os.loadavg()[0] ?? 0,
  }
}
