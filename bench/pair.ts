// One repetition of one row: starts the server's and the client's process, each on its CPU, waits for
// what the client measured, and ends both.
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { SideArguments, SideOrder, SideReport } from './side.js'
import type { Measurement, Placement, Row } from './task.js'

/** For starting two processes on a busy machine, beside what the task itself takes. */
const PATIENCE_MS = 20_000
/** How long an idle pair is left alone before it is watched: late garbage collections, compilations. */
const SETTLE_MS = 1500

let pairs = 0

/** `folder` is where the two meet; it is the caller's. */
export async function measurePair(row: Row, folder: string): Promise<Measurement> {
  const { task, placement } = row
  const path = join(folder, `${++pairs}.sock`)
  const sideArguments: SideArguments = { subject: row.subject, task, path }
  const patienceMs = PATIENCE_MS + task.warmupMs + task.durationMs
  const sides: Side[] = []
  const start = (role: 'server' | 'client'): Side => {
    const side = new Side(role, placement, sideArguments, patienceMs)
    sides.push(side)
    return side
  }
  try {
    const server = start('server')
    await server.next('ready')
    const client = start('client')
    const report = await Promise.race([client.next('measured', 'idle'), server.failure])
    return report.kind === 'idle'
      ? await watchIdle(server, client, task.durationMs)
      : report.measurement
  } finally {
    // The client first: a server may wait for its connections to end.
    for (const side of sides.reverse()) await side.close()
  }
}

async function watchIdle(server: Side, client: Side, durationMs: number): Promise<Measurement> {
  await delay(SETTLE_MS)
  const begin = performance.now()
  const before = [await client.cpuUs(), await server.cpuUs()] as const
  await delay(durationMs)
  const after = [await client.cpuUs(), await server.cpuUs()] as const
  const elapsedUs = (performance.now() - begin) * 1000
  return {
    p50Us: null,
    p99Us: null,
    p999Us: null,
    maxUs: null,
    perSecond: null,
    clientCpuPercent: ((after[0] - before[0]) / elapsedUs) * 100,
    serverCpuPercent: ((after[1] - before[1]) / elapsedUs) * 100,
    wrong: 0,
  }
}

/** A child process that reports. Whatever it says unexpectedly, or its end, fails who waits for it. */
class Side {
  readonly #role: string
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  readonly #patienceMs: number
  readonly #reports: SideReport[] = []
  #problem: Error | undefined
  #closing = false
  #wake: () => void = () => {}
  /** Rejects when the process fails; never resolves. */
  readonly failure: Promise<never>

  constructor(
    role: 'server' | 'client',
    placement: Placement,
    args: SideArguments,
    patienceMs: number,
  ) {
    this.#role = role
    this.#patienceMs = patienceMs
    const cpu = role === 'server' ? placement.serverCpu : placement.clientCpu
    const script = fileURLToPath(new URL('./side.js', import.meta.url))
    const node = [process.execPath, script, role, JSON.stringify(args)]
    const [command, ...rest] = cpu === null ? node : ['taskset', '-c', String(cpu), ...node]
    this.#child = spawn(command as string, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    let reject: (error: Error) => void
    this.failure = new Promise((_, rejectFailure) => {
      reject = rejectFailure
    })
    this.failure.catch(() => {}) // whoever waits gets it too; alone it must not end the harness
    const fail = (message: string): void => {
      if (this.#closing || this.#problem !== undefined) return
      this.#problem = new Error(`${role}: ${message}`)
      reject(this.#problem)
      this.#wake()
    }
    this.#child.on('message', (report: SideReport) => {
      if (report.kind === 'failed') {
        fail(report.message)
      } else {
        this.#reports.push(report)
        this.#wake()
      }
    })
    this.#child.on('error', (error) => fail(error.message))
    this.#exited = new Promise((resolve) => {
      this.#child.on('exit', (code, signal) => {
        fail(`ended with ${signal ?? `code ${code}`}`)
        resolve()
      })
      this.#child.on('error', () => resolve())
    })
  }

  async next<Kind extends SideReport['kind']>(
    ...kinds: Kind[]
  ): Promise<SideReport & { kind: Kind }> {
    const deadline = performance.now() + this.#patienceMs
    for (;;) {
      if (this.#problem !== undefined) throw this.#problem
      const report = this.#reports.shift()
      if (report !== undefined) {
        if ((kinds as string[]).includes(report.kind)) return report as SideReport & { kind: Kind }
        throw new Error(`${this.#role}: reported ${report.kind}, expected ${kinds.join(' or ')}`)
      }
      const leftMs = deadline - performance.now()
      if (leftMs <= 0) {
        throw new Error(`${this.#role}: no ${kinds.join(' or ')} within ${this.#patienceMs} ms`)
      }
      await this.#changed(leftMs)
    }
  }

  async cpuUs(): Promise<number> {
    this.#child.send('cpu' satisfies SideOrder)
    return (await this.next('cpu')).cpuUs
  }

  /** In order if it still listens, by SIGKILL if not. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#child.connected) this.#child.send('close' satisfies SideOrder, () => {})
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), 2000)
    await this.#exited
    clearTimeout(kill)
  }

  #changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
