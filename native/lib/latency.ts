/** Latency histograms of both packages: perf_hooks' own, read as plain numbers. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { invalidArgument } from './errors.js'
import { boolean, type Check, type Checks } from './options.js'

/** A latency distribution, in microseconds; all 0 while nothing was recorded. */
export interface LatencyStats {
  /** Calls recorded. */
  readonly count: number
  readonly min: number
  readonly mean: number
  readonly p50: number
  readonly p90: number
  readonly p99: number
  readonly p999: number
  readonly max: number
  /** For each of `latencyBounds`, if they were asked for: calls that took at most so long. */
  readonly counts?: readonly number[]
}

/** What `stats` takes, on both sides. */
export interface StatsOptions {
  /** Begins the counters and the latency anew, after they were read. Default false. */
  readonly clear?: boolean | undefined
  /**
   * Where latency is recorded: count the calls up to each of these, microseconds, ascending, at most 64. A histogram
   * for who draws or adds up, to the 1 % that latency is exact to. Each bound costs some microseconds.
   */
  readonly latencyBounds?: readonly number[] | undefined
}

const BOUNDS_MAX = 64

const ascending: Check = (name, value) => {
  const valid =
    Array.isArray(value) &&
    value.length <= BOUNDS_MAX &&
    value.every((each, i) => Number.isFinite(each) && each > (i === 0 ? 0 : value[i - 1]))
  if (!valid)
    throw invalidArgument(name, `at most ${BOUNDS_MAX} ascending numbers above 0`, value, 'type')
}

/** The checks of {@link StatsOptions}. */
export const statsChecks: Checks = { clear: boolean, latencyBounds: ascending }

/** Records durations and tells their distribution. */
export class Latency {
  // Nanoseconds up to a minute in two figures: 1 % exact, some tens of kilobytes.
  readonly #histogram: RecordableHistogram = createHistogram({ highest: 60e9, figures: 2 })

  /** @param started performance.now() at the start, @param ended at the end */
  record(started: number, ended: number): void {
    const ns = Math.round((ended - started) * 1e6)
    this.#histogram.record(ns < 1 ? 1 : ns > 60e9 ? 60e9 : ns)
  }

  read({ clear = false, latencyBounds }: StatsOptions = {}): LatencyStats {
    const histogram = this.#histogram
    const { count } = histogram
    const us = (percentile: number) => histogram.percentile(percentile) / 1000
    const stats: LatencyStats =
      count === 0
        ? { count: 0, min: 0, mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 }
        : {
            count,
            min: histogram.min / 1000,
            mean: histogram.mean / 1000,
            p50: us(50),
            p90: us(90),
            p99: us(99),
            p999: us(99.9),
            max: histogram.max / 1000,
          }
    const counts = latencyBounds?.map((bound) => this.#upTo(bound * 1000, count))
    if (clear) histogram.reset()
    return counts === undefined ? stats : { ...stats, counts }
  }

  /** Calls of at most `ns`. perf_hooks tells the value at a percentile, not the other way: so it is searched for. */
  #upTo(ns: number, count: number): number {
    const histogram = this.#histogram
    let low = 0
    let high = count
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (histogram.percentile((100 * middle) / count) <= ns) low = middle
      else high = middle - 1
    }
    return low
  }
}
