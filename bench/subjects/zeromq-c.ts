// ZeroMQ on ipc://, both processes in C (bench/peers/zeromq).
import type { ProgramSubject } from '../subject.js'
import type { Task } from '../task.js'
import { measureProgram, programExists, takesPaced } from './program.js'

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/zeromq/rtt',
  pipelined: 'peers/zeromq/pipelined',
  dispatch: 'peers/zeromq/dispatch',
}

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
    if (programs[task.case] === undefined) return 'no such program'
    if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
    if (task.case === 'pipelined' && task.form !== 'callback') return 'no promises in C'
    return task.wait === 'own' ? undefined : 'ZeroMQ sleeps, always'
  },
  takes: takesPaced,
  // One way: into its message, into the encoder's batch (small ones), into the kernel, out of it,
  // out of its message.
  copies: (task) => (task.payloadBytes < BATCH_BYTES ? 5 : 4) * (task.case === 'dispatch' ? 1 : 2),
  measure: (task, placement) =>
    measureProgram(
      programs[task.case] as string,
      task,
      placement,
      '--batch',
      String(task.inFlight),
    ),
}
