// The floor: the project's own C programs in bench/floor, two processes over the library's layout with
// nothing in their way. What JavaScript takes beyond it is what this project can still win.
import type { ProgramSubject } from '../subject.js'
import { exchangeOf, type Measurement, type Placement, type Task, waysOf } from '../task.js'
import { ringFor, runProgram } from './program.js'

/** The library's default ring sizes: a smaller ring costs throughput, so both get the same. */
const REQUEST_RING_BYTES = 256 << 10
const DISPATCH_RING_BYTES = 512 << 10
/** Small records for one publication: what the library's outbox of 4 KiB takes. */
const OUTBOX_BYTES = 4096
const OUTBOX_PAYLOAD_BYTES = 2048
/** Larger ones go directly, and are published when so much was written. */
const PUBLISH_BYTES = 16384
const RECORD_BYTES = 24

function programOf(task: Task): string | undefined {
  if (task.case === 'bandwidth') return task.variant === 'into' ? 'rtt' : 'dispatch'
  const programs: Partial<Record<Task['case'], string>> = {
    'rtt-sync': 'rtt',
    dispatch: 'dispatch',
    'zero-copy': 'handover',
    connect: 'connect',
    'server-death': 'death',
  }
  return programs[task.case]
}

/** Programs that sleep in the kernel between messages, as what they are compared with does. */
const SLEEPERS: readonly (string | undefined)[] = ['connect', 'death']

export const floorC: ProgramSubject = {
  kind: 'program',
  name: 'floor-c',
  about: 'C floor: two C processes, same layout and copies; spins or sleeps on the same doorbell',
  refuses: (task) => {
    const program = programOf(task)
    if (program === undefined) return 'no such floor'
    if (task.wait === 'adaptive') return 'a floor spins or sleeps'
    if (task.wait !== 'sleep' && SLEEPERS.includes(program)) return 'it sleeps'
    if (task.wait === 'own') return 'a floor spins or sleeps'
    return task.form === 'sync' || program === 'dispatch' ? undefined : 'a floor blocks'
  },
  takes: () => true,
  copies: (task) => {
    if (task.case === 'zero-copy') return 0
    return (task.variant === 'in-place' ? 1 : 2) * waysOf(task)
  },
  measure,
}

function measure(task: Task, placement: Placement): Promise<Measurement> {
  const program = programOf(task) as string
  const { requestBytes, answerBytes } = exchangeOf(task)
  const ring = program === 'dispatch' ? DISPATCH_RING_BYTES : REQUEST_RING_BYTES
  const ringed = task.case === 'zero-copy' ? 0 : task.payloadBytes
  const numbers: [string, number | null][] = [
    ['--payload', program === 'rtt' ? requestBytes : task.payloadBytes],
    ['--ring', Math.max(ring, ringFor(ringed))],
    ['--batch', task.variant === 'publish-each' ? 1 : batchFor(task.payloadBytes)],
    ['--copies', task.variant === 'in-place' ? 1 : 2],
    ['--pace-us', task.variant === 'paced' ? 1000 : 0],
    ['--at-once', task.case === 'connect' ? task.connections : 1],
    ['--warmup-ms', task.warmupMs],
    ['--duration-ms', task.durationMs],
    ['--client-cpu', placement.clientCpu],
    ['--server-cpu', placement.serverCpu],
    ...(program === 'rtt' ? [['--answer', answerBytes] as [string, number]] : []),
  ]
  const words = numbers.flatMap(([name, value]) => (value === null ? [] : [name, String(value)]))
  const options = ['--wait', task.wait === 'sleep' ? 'sleep' : 'spin', '--touch', task.touch]
  return runProgram(`floor/${program}`, [...options, ...words], task)
}

function batchFor(payloadBytes: number): number {
  const bytes = payloadBytes <= OUTBOX_PAYLOAD_BYTES ? OUTBOX_BYTES : PUBLISH_BYTES
  return Math.max(1, Math.floor(bytes / (payloadBytes + RECORD_BYTES)))
}
