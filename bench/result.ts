// What a row comes to after all repetitions, and the shape of `--out`.
import { DISTRIBUTION, DISTURBED_SPREAD, HELD_UP_MEAN, median, spread } from './statistics.js'
import type { Subject } from './subject.js'
import type {
  CallForm,
  CaseName,
  ManyConnections,
  Measurement,
  PlacementName,
  Row,
  Task,
  Touch,
  Variant,
  Wait,
} from './task.js'

/** One line of the table; medians over the repetitions. Documented in bench/README.md. */
export interface ResultRow {
  readonly case: CaseName
  /** null: the plain case. */
  readonly variant: Variant | null
  readonly touch: Touch
  readonly subject: string
  readonly form: CallForm
  readonly wait: Wait
  readonly placement: PlacementName
  readonly payloadBytes: number
  readonly inFlight: number
  readonly connections: number
  /** Of these with requests in flight. */
  readonly active: number
  readonly p50_us: number | null
  readonly p99_us: number | null
  readonly p999_us: number | null
  readonly max_us: number | null
  /** Medians at the fractions of `distribution` in the file; null where nothing is timed. */
  readonly distribution_us: readonly (number | null)[] | null
  readonly perSecond: number | null
  readonly megabytesPerSecond: number | null
  readonly clientCpuPercent: number | null
  readonly serverCpuPercent: number | null
  readonly copies: number
  readonly repetitions: number
  /** Largest over smallest figure of the repetitions (p50; messages a second for one-way rows). */
  readonly spread: number | null
  readonly disturbed: boolean
  /**
   * Mean over p50. Far above 1: the processes were held up for long, by others that ran on their CPUs
   * or by themselves; the rate suffers then, p50 hardly.
   */
  readonly meanOverP50: number | null
  /** Only `many-connections`: medians of each. */
  readonly many: ManyConnections | null
  /** Why it could not be measured; the figures are then of the repetitions that worked, or null. */
  readonly error: string | null
}

/** What a reader must know before trusting a row. */
export type Doubt = 'disturbed' | 'held up'

export function doubtsOf(row: ResultRow): Doubt[] {
  const doubts: Doubt[] = []
  if (row.disturbed) doubts.push('disturbed')
  if (row.meanOverP50 !== null && row.meanOverP50 > HELD_UP_MEAN) doubts.push('held up')
  return doubts
}

export class RowResults {
  readonly row: Row
  readonly #subject: Subject
  readonly #measurements: Measurement[] = []
  #error: string | null = null

  constructor(row: Row, subject: Subject) {
    this.row = row
    this.#subject = subject
  }

  get failed(): boolean {
    return this.#error !== null
  }

  add(measurement: Measurement): void {
    if (measurement.wrong > 0) this.fail(`${measurement.wrong} payloads with wrong bytes`)
    else this.#measurements.push(measurement)
  }

  fail(message: string): void {
    this.#error ??= message
  }

  summary(): ResultRow {
    const { task, subject, placement } = this.row
    const middle = (key: Figure): number | null => median(this.#figures(key))
    const perSecond = middle('perSecond')
    const p50 = middle('p50Us')
    const judged = this.#figures(judgedByRate(task) ? 'perSecond' : 'p50Us')
    const far = spread(judged)
    return {
      case: task.case,
      variant: task.variant ?? null,
      touch: task.touch,
      subject,
      form: task.form,
      wait: task.wait,
      placement: placement.name,
      payloadBytes: task.payloadBytes,
      inFlight: task.inFlight,
      connections: task.connections,
      active: task.active,
      p50_us: p50,
      p99_us: middle('p99Us'),
      p999_us: middle('p999Us'),
      max_us: middle('maxUs'),
      distribution_us: this.#distribution(),
      perSecond,
      megabytesPerSecond:
        perSecond === null || !movesPayload(task) ? null : (perSecond * task.payloadBytes) / 1e6,
      clientCpuPercent: middle('clientCpuPercent'),
      serverCpuPercent: middle('serverCpuPercent'),
      copies: this.#subject.copies(task),
      repetitions: this.#measurements.length,
      spread: far,
      disturbed: far !== null && far > DISTURBED_SPREAD,
      meanOverP50: meanOverP50(task, perSecond, p50),
      many: this.#many(),
      error: this.#error,
    }
  }

  #figures(key: Figure): number[] {
    return this.#measurements
      .map((measurement) => measurement[key])
      .filter((value) => value !== null)
  }

  /** Not the distribution of all samples: of each fraction the median over the repetitions, as of p50. */
  #distribution(): (number | null)[] | null {
    const all = this.#measurements.flatMap(({ distributionUs }) => distributionUs ?? [])
    const lines = this.#measurements.flatMap(({ distributionUs }) =>
      distributionUs === undefined ? [] : [distributionUs],
    )
    if (all.length === 0) return null
    return DISTRIBUTION.map((_, i) => median(lines.flatMap((line) => line[i] ?? [])))
  }

  #many(): ManyConnections | null {
    const seen = this.#measurements.flatMap(({ many }) => many ?? [])
    if (seen.length === 0) return null
    const middle = (key: keyof ManyConnections): number | null =>
      median(seen.flatMap((many) => many[key] ?? []))
    return {
      open: middle('open') ?? 0,
      fairness: middle('fairness') ?? 0,
      clientFds: middle('clientFds') ?? 0,
      serverFds: middle('serverFds') ?? 0,
      bytesFresh: middle('bytesFresh'),
      bytesUsed: middle('bytesUsed'),
      bytesKernel: middle('bytesKernel'),
    }
  }
}

type Figure =
  | 'p50Us'
  | 'p99Us'
  | 'p999Us'
  | 'maxUs'
  | 'perSecond'
  | 'clientCpuPercent'
  | 'serverCpuPercent'

function movesPayload(task: Task): boolean {
  return task.case !== 'connect' && task.case !== 'server-death'
}

function judgedByRate(task: Task): boolean {
  return (
    task.case === 'dispatch' ||
    task.case === 'bandwidth' ||
    task.case === 'many-connections' ||
    task.inFlight > 1
  )
}

/** null where between two operations there is something else than waiting: a pause, a closing. */
function meanOverP50(task: Task, perSecond: number | null, p50: number | null): number | null {
  if (perSecond === null || p50 === null || p50 === 0) return null
  if (task.case === 'connect' || task.case === 'server-death' || task.variant === 'paced')
    return null
  return (task.inFlight * task.active * 1e6) / perSecond / p50
}
