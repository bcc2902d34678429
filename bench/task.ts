// What is measured: the words that cases, subjects, plan and report share. One `Row` is one line of
// the final table; it is measured once a repetition, and each time gives one `Measurement`.

export type CaseName =
  | 'rtt-sync'
  | 'rtt-async'
  | 'pipelined'
  | 'dispatch'
  | 'bandwidth'
  | 'zero-copy'
  | 'connect'
  | 'many-connections'
  | 'idle-cpu'
  | 'server-death'

/**
 * What makes a row other than the plain one of its case, which has none:
 *  - `paced` (rtt-sync): a request each millisecond, not one after the other;
 *  - `publish-each` (dispatch): each message is published by itself, no two leave together;
 *  - `offset` (dispatch, pipelined): a payload is an offset into memory that is used for the next;
 *  - `owned`, `into`, `in-place` (bandwidth): the payload becomes the receiver's own; lands in memory that
 *    the caller brought; is read where the sender put it, by a receiver that trusts it. `in-place` also
 *    of dispatch, which is `owned` else.
 */
export type Variant = 'paced' | 'publish-each' | 'offset' | 'owned' | 'into' | 'in-place'

/**
 * `full`: every byte of a payload is written and read. `hand-over`: one word a page, so that what is
 * measured is the way and not the reading.
 */
export type Touch = 'full' | 'hand-over'

/** How the client asks: blocks its thread, awaits a promise, or is called back. */
export type CallForm = 'sync' | 'promise' | 'callback'

/**
 * What a side does while nothing comes: `wait` of the library, `--wait` of the floors; `own` for a
 * subject that has one way only and no word for it.
 */
export type Wait = 'adaptive' | 'spin' | 'sleep' | 'own'

/** Where the two processes run; `free`: wherever the scheduler puts them, as a user's processes do. */
export type PlacementName = 'two-cpus' | 'one-cpu' | 'free'

export interface Placement {
  readonly name: PlacementName
  readonly clientCpu: number | null
  readonly serverCpu: number | null
}

export interface Task {
  readonly case: CaseName
  /** undefined: the plain case. */
  readonly variant: Variant | undefined
  readonly touch: Touch
  readonly form: CallForm
  readonly wait: Wait
  readonly payloadBytes: number
  /** Requests that wait for their answer at the same time, on one connection. */
  readonly inFlight: number
  readonly connections: number
  /** Of these, those that have requests in flight; the others are idle beside them. */
  readonly active: number
  readonly warmupMs: number
  readonly durationMs: number
}

export interface Row {
  readonly task: Task
  readonly subject: string
  readonly placement: Placement
  readonly repetitions: number
}

/**
 * What one repetition of one row saw. Latencies are of one operation (of a block of messages, divided,
 * where a single one is too short to be timed: `dispatch`); null: this case has none.
 */
export interface Measurement {
  readonly p50Us: number | null
  readonly p99Us: number | null
  readonly p999Us: number | null
  readonly maxUs: number | null
  readonly perSecond: number | null
  /** Latencies at the fractions of `DISTRIBUTION` (statistics.ts), for the report's curves. */
  readonly distributionUs?: readonly (number | null)[] | undefined
  /** Share of one CPU, over the measured part; null: not known. */
  readonly clientCpuPercent: number | null
  readonly serverCpuPercent: number | null
  /** Payloads that were not what had been written. Anything but 0 fails the row. */
  readonly wrong: number
  /** Only `many-connections`. */
  readonly many?: ManyConnections
}

export interface ManyConnections {
  /** Fewer than asked for where file descriptors ran out. */
  readonly open: number
  /** Answers of the slowest active connection over the mean of all. */
  readonly fairness: number
  readonly clientFds: number
  readonly serverFds: number
  /**
   * Touched memory for each connection that is open and was never used, both processes, shared pages
   * counted once; null: too few connections to tell.
   */
  readonly bytesFresh: number | null
  /** The same when each has made a request. */
  readonly bytesUsed: number | null
  /** What the kernel took for each (slab, page tables), from the figures of the whole machine. */
  readonly bytesKernel: number | null
}

/** How often a payload travels: there and back, or only here. Nothing worth a copy is a case without calls. */
export function waysOf(task: Task): 0 | 1 | 2 {
  if (task.case === 'connect' || task.case === 'server-death') return 0
  const oneWay = task.case === 'dispatch' || task.case === 'bandwidth' || task.case === 'zero-copy'
  return oneWay ? 1 : 2
}

/** What a call of this task moves each way: a large payload goes one way, and a word comes back. */
export function exchangeOf(task: Task): {
  readonly requestBytes: number
  readonly answerBytes: number
  readonly touch: Touch
} {
  const { payloadBytes, touch } = task
  if (task.case === 'bandwidth') return { requestBytes: 8, answerBytes: payloadBytes, touch }
  if (task.case === 'zero-copy') return { requestBytes: payloadBytes, answerBytes: 8, touch }
  return { requestBytes: payloadBytes, answerBytes: payloadBytes, touch }
}
