// This library by its C API (bench/peers/coroipc, libcoroipc): C to C, and a C client of the very server
// that the subject `coroipc` has in Node.js. What is missing to the floor here, no JavaScript took.
import type { ProgramSubject } from '../subject.js'
import type { Measurement, Placement, Task } from '../task.js'
import { coroipc } from './coroipc.js'
import { measureProgram, takesPaced } from './program.js'

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/coroipc/rtt',
  pipelined: 'peers/coroipc/pipelined',
  dispatch: 'peers/coroipc/dispatch',
}

/** Records for one publication: about what the library's outbox of 4 KiB takes in Node.js. */
const DISPATCH_BATCH = 48
const PATIENCE_MS = 20_000

function batchOf(task: Task): number {
  return task.variant === 'publish-each' ? 1 : DISPATCH_BATCH
}

function takes(task: Task): boolean {
  return takesPaced(task) || (task.case === 'dispatch' && task.variant === 'publish-each')
}

function refuses(task: Task): string | undefined {
  if (programs[task.case] === undefined) return 'no such program'
  if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
  if (task.case === 'pipelined' && task.form !== 'callback') return 'no promises in C'
  return task.wait === 'own' ? 'it has words for its ways to wait' : undefined
}

function run(task: Task, placement: Placement, ...address: string[]): Promise<Measurement> {
  const batch = task.case === 'dispatch' ? batchOf(task) : task.inFlight
  return measureProgram(
    programs[task.case] as string,
    task,
    placement,
    '--batch',
    String(batch),
    task.wait,
    ...address,
  )
}

export const coroipcC: ProgramSubject = {
  kind: 'program',
  name: 'coroipc-c',
  about: 'libcoroipc of this repository, safe mode (private copies), defaults; both processes in C',
  refuses,
  takes,
  copies: (task) => (task.case === 'dispatch' ? 2 : 4),
  measure: run,
}

export const coroipcCNode: ProgramSubject = {
  kind: 'program',
  name: 'coroipc-c-node',
  about: 'a C client (libcoroipc) of a Node.js server (@coroipc/ipcs), safe mode, defaults',
  refuses: (task) => refuses(task) ?? coroipc.refuses(task),
  takes: takesPaced,
  // The server's half is that of `coroipc`: small answers and dispatches go through its outbox.
  copies: (task) => coroipcC.copies(task) + (coroipc.copies({ ...task, case: 'dispatch' }) - 2),
  measure: measureCToNode,
}

let servers = 0

async function measureCToNode(task: Task, placement: Placement): Promise<Measurement> {
  // Not above: it imports the list of subjects, which imports this file.
  const { Side } = await import('../pair.js')
  const path = `@coroipc-bench-${process.pid}-${++servers}` // abstract: nothing stays behind
  const { serverCpu } = placement
  const server = new Side(
    'server',
    placement,
    { subject: coroipc.name, task, path, serverPid: 0, serverCpu },
    PATIENCE_MS,
  )
  try {
    await server.next('ready')
    const measured = await Promise.race([run(task, placement, path), server.failure])
    return { ...measured, serverCpuPercent: null } // the program does not know its server
  } finally {
    await server.close()
  }
}
