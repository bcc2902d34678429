// One of the two processes of a measurement: `node side.js server|client JSON`. The harness (pair.ts)
// starts it pinned and talks to it over Node's own channel, which is silent while it is measured.
import { createServerWork } from './server-work.js'
import { cases } from './cases/index.js'
import { findSubject } from './subjects/index.js'
import type { Measurement, Task } from './task.js'

export interface SideArguments {
  readonly subject: string
  readonly task: Task
  /** The socket that both sides meet at. */
  readonly path: string
}

export type SideReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'measured'; readonly measurement: Measurement }
  | { readonly kind: 'idle' }
  /** CPU time of the whole process so far. */
  | { readonly kind: 'cpu'; readonly cpuUs: number }
  | { readonly kind: 'failed'; readonly message: string }

export type SideOrder = 'cpu' | 'close'

function report(message: SideReport): void {
  process.send?.(message)
}

async function serve({ subject: name, task, path }: SideArguments): Promise<() => Promise<void>> {
  const subject = findSubject(name)
  if (subject.kind !== 'sides') throw new Error(`${name} has no sides`)
  const serving = await subject.serve(task, path, createServerWork(task))
  report({ kind: 'ready' })
  return () => serving.close()
}

async function runClient({
  subject: name,
  task,
  path,
}: SideArguments): Promise<() => Promise<void>> {
  const subject = findSubject(name)
  if (subject.kind !== 'sides') throw new Error(`${name} has no sides`)
  const result = await cases[task.case].run(task, () => subject.connect(task, path))
  if ('idle' in result) {
    report({ kind: 'idle' })
    return result.close
  }
  report({ kind: 'measured', measurement: result })
  return () => Promise.resolve()
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
    if (order === 'cpu') {
      const { user, system } = process.cpuUsage()
      report({ kind: 'cpu', cpuUs: user + system })
    } else {
      close().then(() => process.exit(), fail)
    }
  })
} catch (error) {
  fail(error)
}
