// This library by its C API (bench/peers/coroipc, libcoroipc): C to C, and a C client of the very server
// that the subject `coroipc` has in Node.js. What is missing to the floor here, no JavaScript took.
import type { ProgramSubject } from '../subject.js'
import { type Measurement, type Placement, type Task, waysOf } from '../task.js'
import { coroipc } from './coroipc.js'
import { isStream, measureProgram, takesMore, takesPaced } from './program.js'

/** Two descriptors each, and the programs do not raise their limit. */
const CONNECTIONS_MAX = 400
/** Its default limit. */
const MESSAGE_BYTES_MAX = 1 << 20

function programOf(task: Task): string | undefined {
  if (task.variant === 'into') return programs['rtt-sync']
  return isStream(task) ? programs.dispatch : programs[task.case]
}

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/coroipc/rtt',
  pipelined: 'peers/coroipc/pipelined',
  dispatch: 'peers/coroipc/dispatch',
  connect: 'peers/coroipc/connect',
  'many-connections': 'peers/coroipc/many',
  'server-death': 'peers/coroipc/death',
}

/** Records for one publication: about what the library's outbox of 4 KiB takes in Node.js. */
const DISPATCH_BATCH = 48
const PATIENCE_MS = 20_000

function batchOf(task: Task): number {
  if (!isStream(task)) return task.inFlight
  // Large ones leave one by one: each is an eighth of the ring and more.
  return task.variant === 'publish-each' || task.payloadBytes >= 16384 ? 1 : DISPATCH_BATCH
}

function takes(task: Task): boolean {
  if (task.case === 'bandwidth') return task.variant === 'into' || task.variant === 'owned'
  return (
    takesPaced(task) ||
    takesMore(task) ||
    (task.case === 'dispatch' && task.variant === 'publish-each')
  )
}

function refuses(task: Task): string | undefined {
  if (programOf(task) === undefined) return 'no such program'
  if (task.payloadBytes > MESSAGE_BYTES_MAX) return 'more than its limit'
  if (task.connections > CONNECTIONS_MAX) return 'more than the usual limit of descriptors'
  if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
  if (task.case === 'pipelined' && task.form !== 'callback') return 'no promises in C'
  return task.wait === 'own' ? 'it has words for its ways to wait' : undefined
}

function run(task: Task, placement: Placement, ...address: string[]): Promise<Measurement> {
  return measureProgram(
    programOf(task) as string,
    task,
    placement,
    '--batch',
    String(batchOf(task)),
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
  copies: (task) => 2 * waysOf(task),
  measure: run,
}

export const coroipcCNode: ProgramSubject = {
  kind: 'program',
  name: 'coroipc-c-node',
  about: 'a C client (libcoroipc) of a Node.js server (@coroipc/ipcs), safe mode, defaults',
  refuses: (task) => {
    // Such programs bring their server.
    if (takesMore(task)) return 'C to C only'
    return refuses(task) ?? coroipc.refuses(task)
  },
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
