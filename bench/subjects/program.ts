// How a subject that is a C program of this repository is run: one process that forks its server, pins
// both and prints one JSON object (bench/floor/program.h, bench/peers/peer.h).
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  exchangeOf,
  type ManyConnections,
  type Measurement,
  type Placement,
  type Task,
} from '../task.js'

const run = promisify(execFile)

/** What each program prints. */
interface ProgramReport {
  readonly p50Ns: number
  readonly p99Ns: number
  readonly p999Ns: number
  readonly maxNs: number
  readonly distributionNs: readonly number[]
  readonly perSecond: number
  readonly clientCpuPercent?: number
  readonly serverCpuPercent?: number
  readonly wrong: number
  readonly many?: Pick<ManyConnections, 'open' | 'fairness' | 'clientFds' | 'serverFds'>
}

/** Beside what the task itself takes, for a busy machine. */
const PATIENCE_MS = 20_000

/** The library's default ring sizes: a smaller ring costs throughput, so all get the same. */
const REQUEST_RING_BYTES = 256 << 10
const DISPATCH_RING_BYTES = 512 << 10

/** `name` under build/bench, such as `floor/rtt`. */
function programPath(name: string): string {
  return fileURLToPath(new URL(`../${name}`, import.meta.url))
}

export function programExists(name: string): boolean {
  return existsSync(programPath(name))
}

/** One way, by the program that a subject has for dispatches. */
export function isStream(task: Task): boolean {
  return task.case === 'dispatch' || task.variant === 'owned'
}

function ringBytes(task: Task): number {
  const ring = isStream(task) ? DISPATCH_RING_BYTES : REQUEST_RING_BYTES
  return Math.max(ring, ringFor(task.payloadBytes))
}

/** The least ring that takes a record of this payload: a record is at most half a ring. */
export function ringFor(payloadBytes: number): number {
  return 2 ** Math.ceil(Math.log2((payloadBytes + 24) * 2))
}

/** One repetition by the program `name` of build/bench. */
export async function runProgram(
  name: string,
  words: readonly string[],
  task: Task,
): Promise<Measurement> {
  const path = programPath(name)
  if (!existsSync(path)) throw new Error(`${path} is missing: npm run build:native`)
  const timeout = PATIENCE_MS + task.warmupMs + task.durationMs
  const { stdout } = await run(path, words, { timeout, killSignal: 'SIGKILL' })
  const report = JSON.parse(stdout) as ProgramReport
  return {
    p50Us: report.p50Ns / 1000,
    p99Us: report.p99Ns / 1000,
    p999Us: report.p999Ns / 1000,
    maxUs: report.maxNs / 1000,
    distributionUs: report.distributionNs.map((ns) => ns / 1000),
    perSecond: report.perSecond,
    clientCpuPercent: report.clientCpuPercent ?? null,
    serverCpuPercent: report.serverCpuPercent ?? null,
    wrong: report.wrong,
    ...(report.many === undefined
      ? {}
      : { many: { ...report.many, bytesFresh: null, bytesUsed: null, bytesKernel: null } }),
  }
}

/** Of a peer. `more`: what it wants beside what all of them take. */
export function measureProgram(
  name: string,
  task: Task,
  placement: Placement,
  ...more: string[]
): Promise<Measurement> {
  const { requestBytes, answerBytes } = exchangeOf(task)
  const numbers: [string, number | null][] = [
    ['--payload', isStream(task) ? task.payloadBytes : requestBytes],
    ['--answer', answerBytes],
    ['--ring', ringBytes(task)],
    ['--at-once', task.case === 'connect' ? task.connections : 1],
    ['--connections', task.connections],
    ['--active', task.active],
    ['--pace-us', task.variant === 'paced' ? 1000 : 0],
    ['--warmup-ms', task.warmupMs],
    ['--duration-ms', task.durationMs],
    ['--client-cpu', placement.clientCpu],
    ['--server-cpu', placement.serverCpu],
  ]
  const words = numbers.flatMap(([option, value]) =>
    value === null ? [] : [option, String(value)],
  )
  return runProgram(name, ['--touch', task.touch, ...words, ...more], task)
}

/** What both libqb and ZeroMQ have programs for beside the usual. */
export function takesMore(task: Task): boolean {
  return (
    task.variant === 'into' ||
    task.case === 'connect' ||
    task.case === 'many-connections' ||
    task.case === 'server-death'
  )
}

/** What a peer's programs take of the tasks that are not usual. */
export function takesPaced(task: Task): boolean {
  return task.case === 'rtt-sync' && task.variant === 'paced'
}
