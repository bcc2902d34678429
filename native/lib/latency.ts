/** Latency histograms of both packages: perf_hooks' own, read as plain numbers. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'

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
}

/** Records durations and tells their distribution. */
export class Latency {
  // Nanoseconds up to a minute in two figures: 1 % exact, some tens of kilobytes.
  readonly #histogram: RecordableHistogram = createHistogram({ highest: 60e9, figures: 2 })

  /** @param started performance.now() at the start, @param ended at the end */
  record(started: number, ended: number): void {
    const ns = Math.round((ended - started) * 1e6)
    this.#histogram.record(ns < 1 ? 1 : ns > 60e9 ? 60e9 : ns)
  }

  read(clear: boolean): LatencyStats {
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
    if (clear) histogram.reset()
    return stats
  }
}
