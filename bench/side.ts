// One of the two processes of a measurement: `node side.js server|client JSON`. The harness (pair.ts)
// starts it pinned and talks to it over Node's own channel, which is silent while it is measured.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Surroundings } from './cases/client-case.js'
import { CpuMeter } from './cpu-meter.js'
import { createServerWork } from './server-work.js'
import { cases } from './cases/index.js'
import { findSubject } from './subjects/index.js'
import type { Measurement, Task } from './task.js'

export interface SideArguments {
  readonly subject: string
  readonly task: Task
  /** The socket that both sides meet at. */
  readonly path: string
  /** The client's: whom it talks to. */
  readonly serverPid: number
  /** For a client that starts its server itself. */
  readonly serverCpu: number | null
}

export type SideReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'measured'; readonly measurement: Measurement }
  | { readonly kind: 'idle' }
  /** CPU time of the whole process so far. */
  | { readonly kind: 'cpu'; readonly cpuUs: number }
  /** What the client needs of the harness; an order follows when it is done. */
  | { readonly kind: 'wants'; readonly what: 'collect' | 'server' }
  | { readonly kind: 'collected' }
  | { readonly kind: 'failed'; readonly message: string }

export type SideOrder =
  | { readonly kind: 'cpu' }
  | { readonly kind: 'collect' }
  | { readonly kind: 'close' }
  /** Answers to `wants`. */
  | { readonly kind: 'collected' }
  | { readonly kind: 'server'; readonly pid: number; readonly path: string }

function report(message: SideReport): void {
  process.send?.(message)
}

/** More than a nursery holds: whose pages have been touched then, before as well as after what is measured. */
const NURSERY_BYTES = 64 << 20

function collectGarbage(): void {
  let garbage: number[] = []
  for (let bytes = 0; bytes < NURSERY_BYTES; bytes += 1024) garbage = Array<number>(128).fill(bytes)
  if (garbage.length === 0) throw new Error('nothing was made')
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect()
}

async function serve({ subject: name, task, path }: SideArguments): Promise<() => Promise<void>> {
  const subject = findSubject(name)
  if (subject.kind !== 'sides') throw new Error(`${name} has no sides`)
  const serving = await subject.serve(task, path, createServerWork(task))
  report({ kind: 'ready' })
  return () => serving.close()
}

async function runClient(args: SideArguments): Promise<() => Promise<void>> {
  const { subject: name, task, serverCpu } = args
  const subject = findSubject(name)
  if (subject.kind === 'program') throw new Error(`${name} has no sides`)
  const surroundings = new ClientSurroundings(args)
  const connect = () =>
    subject.kind === 'hosted'
      ? subject.connect(task, serverCpu)
      : subject.connect(task, surroundings.path)
  const result = await cases[task.case].run(task, connect, surroundings)
  if ('idle' in result) {
    report({ kind: 'idle' })
    return result.close
  }
  report({ kind: 'measured', measurement: result })
  return () => Promise.resolve()
}

class ClientSurroundings implements Surroundings {
  readonly cpu: CpuMeter
  serverPid: number
  path: string
  #answered: (order: SideOrder) => void = () => {}

  constructor({ serverPid, path }: SideArguments) {
    this.serverPid = serverPid
    this.path = path
    this.cpu = new CpuMeter(serverPid)
    process.on('message', (order: SideOrder) => {
      if (order.kind === 'collected' || order.kind === 'server') this.#answered(order)
    })
  }

  async collectGarbage(): Promise<void> {
    collectGarbage()
    if (this.serverPid !== 0) await this.#ask('collect') // 0: what serves is a thread of ours
  }

  async renewServer(): Promise<void> {
    const order = await this.#ask('server')
    if (order.kind !== 'server') throw new Error(`the harness answered ${order.kind}`)
    this.serverPid = order.pid
    this.path = order.path
  }

  #ask(what: 'collect' | 'server'): Promise<SideOrder> {
    return new Promise((resolve) => {
      this.#answered = resolve
      report({ kind: 'wants', what })
    })
  }
}

function fail(error: unknown): void {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.exitCode = 1
  if (process.send)
    process.send({ kind: 'failed', message } satisfies SideReport, () => process.exit())
  else process.stderr.write(`${message}\n`, () => process.exit())
}

process.on('uncaughtException', fail)
// The harness is gone: nobody wants the rest.
process.on('disconnect', () => process.exit())

const [role, json] = process.argv.slice(2)
const sideArguments = JSON.parse(json ?? '') as SideArguments
try {
  const close = role === 'server' ? await serve(sideArguments) : await runClient(sideArguments)
  process.on('message', (order: SideOrder) => {
    if (order.kind === 'cpu') {
      const { user, system } = process.cpuUsage()
      report({ kind: 'cpu', cpuUs: user + system })
    } else if (order.kind === 'collect') {
      collectGarbage()
      report({ kind: 'collected' })
    } else if (order.kind === 'close') {
      close().then(() => process.exit(), fail)
    }
  })
} catch (error) {
  fail(error)
}
