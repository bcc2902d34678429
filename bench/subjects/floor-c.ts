// The floor: the project's own C programs in bench/floor, two processes over the library's layout with
// nothing in their way. What JavaScript takes beyond it is what this project can still win.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { ProgramSubject } from '../subject.js'
import type { Measurement, Placement, Task } from '../task.js'

const run = promisify(execFile)

/** The library's default ring sizes: a smaller ring costs throughput, so both get the same. */
const REQUEST_RING_BYTES = 256 << 10
const DISPATCH_RING_BYTES = 512 << 10
/** Records for one publication: about what the library's outbox of 4 KiB takes. */
const DISPATCH_BATCH = 48

/** What each program in bench/floor prints. */
interface FloorReport {
  readonly p50Ns: number
  readonly p99Ns: number
  readonly p999Ns: number
  readonly maxNs: number
  readonly perSecond: number
  readonly wrong: number
}

const programs: Partial<Record<Task['case'], string>> = { 'rtt-sync': 'rtt', dispatch: 'dispatch' }

export const floorC: ProgramSubject = {
  kind: 'program',
  name: 'floor-c',
  about: 'C floor: two C processes, same layout and copies; spins or sleeps on the same doorbell',
  refuses: (task) => {
    if (programs[task.case] === undefined) return 'no such floor'
    if (task.wait === 'adaptive' || task.wait === 'own') return 'a floor spins or sleeps'
    return task.form === 'sync' || task.case === 'dispatch' ? undefined : 'a floor blocks'
  },
  copies: (task) => (task.case === 'dispatch' ? 2 : 4),
  measure,
}

async function measure(task: Task, placement: Placement): Promise<Measurement> {
  const program = programs[task.case] as string
  const path = fileURLToPath(new URL(`../floor/${program}`, import.meta.url))
  if (!existsSync(path)) throw new Error(`${path} is missing: npm run build:native`)
  const ring = task.case === 'dispatch' ? DISPATCH_RING_BYTES : REQUEST_RING_BYTES
  const numbers: [string, number | null][] = [
    ['--payload', task.payloadBytes],
    ['--ring', Math.max(ring, ringFor(task.payloadBytes))],
    ['--batch', DISPATCH_BATCH],
    ['--warmup-ms', task.warmupMs],
    ['--duration-ms', task.durationMs],
    ['--client-cpu', placement.clientCpu],
    ['--server-cpu', placement.serverCpu],
  ]
  const words = numbers.flatMap(([name, value]) => (value === null ? [] : [name, String(value)]))
  const { stdout } = await run(path, ['--wait', task.wait, ...words])
  const report = JSON.parse(stdout) as FloorReport
  return {
    p50Us: report.p50Ns / 1000,
    p99Us: report.p99Ns / 1000,
    p999Us: report.p999Ns / 1000,
    maxUs: report.maxNs / 1000,
    perSecond: report.perSecond,
    clientCpuPercent: null,
    serverCpuPercent: null,
    wrong: report.wrong,
  }
}

/** The least ring that takes a record of this payload: a record is at most half a ring. */
function ringFor(payloadBytes: number): number {
  return 2 ** Math.ceil(Math.log2((payloadBytes + 24) * 2))
}
