// One repetition of one row: starts the server's and the client's process, each on its CPU, waits for
// what the client measured, and ends both.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { SideArguments, SideOrder, SideReport } from './side.js'
import { findSubject } from './subjects/index.js'
import type { Measurement, Placement, Row } from './task.js'

/** For starting two processes on a busy machine, beside what the task itself takes. */
const PATIENCE_MS = 20_000
/** How long an idle pair is left alone before it is watched: late garbage collections, compilations. */
const SETTLE_MS = 1500

/** Up to here the usual limit of file descriptors does. */
const FEW_CONNECTIONS = 250

/**
 * Where the memory of each connection is told. V8 lets its nursery grow from 1 MiB to 16 (and maps it twice) as soon as much
 * survives, as it does while thousands of connections are made: what a process has once would be counted for each of them.
 */
const NURSERY_MIB = 16
const NURSERY_FLAGS = [
  `--min-semi-space-size=${NURSERY_MIB}`,
  `--max-semi-space-size=${NURSERY_MIB}`,
]

/** Descriptors for 10 000 connections of a few each. */
const FDS_WANTED = 40_960

let pairs = 0

let prlimit: readonly string[] | undefined

/** `prlimit` where it is allowed; Node.js raises the soft limit to the hard one by itself. */
function raisedFileLimit(): readonly string[] {
  if (prlimit === undefined) {
    const words = ['prlimit', `--nofile=${FDS_WANTED}:${FDS_WANTED}`]
    const probe = spawnSync(words[0] as string, [...words.slice(1), 'true'], { stdio: 'ignore' })
    prlimit = probe.status === 0 ? words : []
  }
  return prlimit
}

/** `folder` is where the two meet; it is the caller's. */
export async function measurePair(row: Row, folder: string): Promise<Measurement> {
  const pair = new Pair(row, folder)
  try {
    return await pair.measure()
  } finally {
    await pair.close()
  }
}

class Pair {
  readonly #row: Row
  readonly #folder: string
  readonly #patienceMs: number
  readonly #sides: Side[] = []

  constructor(row: Row, folder: string) {
    this.#row = row
    this.#folder = folder
    this.#patienceMs = PATIENCE_MS + row.task.warmupMs + row.task.durationMs
  }

  async measure(): Promise<Measurement> {
    const { task, subject } = this.#row
    if (findSubject(subject).kind === 'hosted') {
      const client = this.#start('client', '', 0)
      const report = await client.next('measured', 'idle')
      return report.kind === 'measured'
        ? report.measurement
        : watchIdle(undefined, client, task.durationMs)
    }
    let { server, path } = await this.#startServer()
    const client = this.#start('client', path, server.pid)
    for (;;) {
      const report = await Promise.race([
        client.next('measured', 'idle', 'wants'),
        // Where the client kills it, the client says what came of it.
        ...(task.case === 'server-death' ? [] : [server.failure]),
      ])
      if (report.kind === 'measured') return report.measurement
      if (report.kind === 'idle') return watchIdle(server, client, task.durationMs)
      if (report.what === 'collect') {
        server.order({ kind: 'collect' })
        await server.next('collected')
        client.order({ kind: 'collected' })
      } else {
        await server.close()
        ;({ server, path } = await this.#startServer())
        client.order({ kind: 'server', pid: server.pid, path })
      }
    }
  }

  async close(): Promise<void> {
    // The client first: a server may wait for its connections to end.
    for (const side of this.#sides.reverse()) await side.close()
  }

  async #startServer(): Promise<{ server: Side; path: string }> {
    const path = join(this.#folder, `${++pairs}.sock`)
    const server = this.#start('server', path, 0)
    await server.next('ready')
    return { server, path }
  }

  #start(role: 'server' | 'client', path: string, serverPid: number): Side {
    const { subject, task, placement } = this.#row
    const args: SideArguments = {
      subject,
      task,
      path,
      serverPid,
      serverCpu: placement.serverCpu,
    }
    const side = new Side(role, placement, args, this.#patienceMs)
    this.#sides.push(side)
    return side
  }
}

/** No server: it is a thread of the client, whose CPU time has both. */
async function watchIdle(
  server: Side | undefined,
  client: Side,
  durationMs: number,
): Promise<Measurement> {
  await delay(SETTLE_MS)
  const begin = performance.now()
  const before = [await client.cpuUs(), await server?.cpuUs()] as const
  await delay(durationMs)
  const after = [await client.cpuUs(), await server?.cpuUs()] as const
  const elapsedUs = (performance.now() - begin) * 1000
  const serverUs =
    before[1] === undefined || after[1] === undefined ? undefined : after[1] - before[1]
  return {
    p50Us: null,
    p99Us: null,
    p999Us: null,
    maxUs: null,
    perSecond: null,
    clientCpuPercent: ((after[0] - before[0]) / elapsedUs) * 100,
    serverCpuPercent: serverUs === undefined ? null : (serverUs / elapsedUs) * 100,
    wrong: 0,
  }
}

/** A child process that reports. Whatever it says unexpectedly, or its end, fails who waits for it. */
export class Side {
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
    const many = args.task.connections > FEW_CONNECTIONS
    const flags = many ? NURSERY_FLAGS : []
    const node = [process.execPath, ...flags, script, role, JSON.stringify(args)]
    // Each execs the next: the child is node itself in the end.
    const [command, ...rest] = [
      ...(many ? raisedFileLimit() : []),
      ...(cpu === null ? [] : ['taskset', '-c', String(cpu)]),
      ...node,
    ]
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

  get pid(): number {
    return this.#child.pid ?? 0
  }

  order(order: SideOrder): void {
    this.#child.send(order, () => {}) // one that cannot be sent any more is one whose process failed
  }

  async cpuUs(): Promise<number> {
    this.order({ kind: 'cpu' })
    return (await this.next('cpu')).cpuUs
  }

  /** In order if it still listens, by SIGKILL if not. */
  async close(): Promise<void> {
    this.#closing = true
    if (this.#child.connected) this.order({ kind: 'close' })
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
