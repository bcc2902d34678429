// What a row comes to after all repetitions, and the shape of `--out`.
import { DISTURBED_SPREAD, HELD_UP_MEAN, median, spread } from './statistics.js'
import type { Subject } from './subject.js'
import type { CallForm, CaseName, Measurement, PlacementName, Row, Wait } from './task.js'

/** One line of the table; medians over the repetitions. Documented in bench/README.md. */
export interface ResultRow {
  readonly case: CaseName
  readonly subject: string
  readonly form: CallForm
  readonly wait: Wait
  readonly placement: PlacementName
  readonly payloadBytes: number
  readonly inFlight: number
  readonly connections: number
  readonly p50_us: number | null
  readonly p99_us: number | null
  readonly p999_us: number | null
  readonly max_us: number | null
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
    if (measurement.wrong > 0) this.fail(`${measurement.wrong} payloads with a wrong checksum`)
    else this.#measurements.push(measurement)
  }

  fail(message: string): void {
    this.#error ??= message
  }

  summary(): ResultRow {
    const { task, subject, placement } = this.row
    const middle = (key: keyof Measurement): number | null => median(this.#figures(key))
    const perSecond = middle('perSecond')
    const p50 = middle('p50Us')
    const meanUs = perSecond === null ? null : (task.inFlight * 1e6) / perSecond
    const judged = this.#figures(
      task.case === 'dispatch' || task.inFlight > 1 ? 'perSecond' : 'p50Us',
    )
    const far = spread(judged)
    return {
      case: task.case,
      subject,
      form: task.form,
      wait: task.wait,
      placement: placement.name,
      payloadBytes: task.payloadBytes,
      inFlight: task.inFlight,
      connections: task.connections,
      p50_us: p50,
      p99_us: middle('p99Us'),
      p999_us: middle('p999Us'),
      max_us: middle('maxUs'),
      perSecond,
      megabytesPerSecond: perSecond === null ? null : (perSecond * task.payloadBytes) / 1e6,
      clientCpuPercent: middle('clientCpuPercent'),
      serverCpuPercent: middle('serverCpuPercent'),
      copies: this.#subject.copies(task),
      repetitions: this.#measurements.length,
      spread: far,
      disturbed: far !== null && far > DISTURBED_SPREAD,
      meanOverP50: meanUs === null || p50 === null ? null : meanUs / p50,
      error: this.#error,
    }
  }

  #figures(key: keyof Measurement): number[] {
    return this.#measurements
      .map((measurement) => measurement[key])
      .filter((value) => value !== null)
  }
}
