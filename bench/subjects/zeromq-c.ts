// ZeroMQ on ipc://, both processes in C (bench/peers/zeromq).
import type { ProgramSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { isStream, measureProgram, programExists, takesMore, takesPaced } from './program.js'

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/zeromq/rtt',
  pipelined: 'peers/zeromq/pipelined',
  dispatch: 'peers/zeromq/dispatch',
  connect: 'peers/zeromq/connect',
  'many-connections': 'peers/zeromq/many',
  'server-death': 'peers/zeromq/death',
}

function programOf(task: Task): string | undefined {
  if (task.variant === 'into') return programs['rtt-sync']
  return isStream(task) ? programs.dispatch : programs[task.case]
}

/** Each is a socket on both sides and two more descriptors: more are beyond the usual limit of 1024. */
const CONNECTIONS_MAX = 400

/** Its encoder and decoder gather smaller messages in buffers of this size. */
const BATCH_BYTES = 8192

export const zeromqC: ProgramSubject = {
  kind: 'program',
  name: 'zeromq-c',
  about:
    'ZeroMQ (libzmq) on ipc://: REQ/REP, DEALER/ROUTER (pipelined), PUSH/PULL (dispatch); both in C',
  missing: () =>
    programExists('peers/zeromq/rtt')
      ? undefined
      : 'apt-get install libzmq3-dev, then npm run build:native',
  refuses: (task) => {
    if (programOf(task) === undefined) return 'no such program'
    if (task.connections > CONNECTIONS_MAX) return 'too many for its descriptors'
    if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
    if (task.case === 'pipelined' && task.form !== 'callback') return 'no promises in C'
    return task.wait === 'own' ? undefined : 'ZeroMQ sleeps, always'
  },
  takes: (task) => takesPaced(task) || task.variant === 'owned' || takesMore(task),
  // One way: into its message, into the encoder's batch (small ones), into the kernel, out of it,
  // out of its message.
  copies: (task) => (task.payloadBytes < BATCH_BYTES ? 5 : 4) * waysOf(task),
  measure: (task, placement) =>
    measureProgram(programOf(task) as string, task, placement, '--batch', String(task.inFlight)),
}
