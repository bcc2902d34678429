// What is measured: the words that cases, subjects, plan and report share. One `Row` is one line of
// the final table; it is measured once a repetition, and each time gives one `Measurement`.

export type CaseName = 'rtt-sync' | 'rtt-async' | 'pipelined' | 'dispatch' | 'idle-cpu'

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
  readonly form: CallForm
  readonly wait: Wait
  readonly payloadBytes: number
  /** Requests that wait for their answer at the same time, on one connection. */
  readonly inFlight: number
  readonly connections: number
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
  /** Share of one CPU; only `idle-cpu` has it. */
  readonly clientCpuPercent: number | null
  readonly serverCpuPercent: number | null
  /** Payloads whose checksum was not the expected one. Anything but 0 fails the row. */
  readonly wrong: number
}
