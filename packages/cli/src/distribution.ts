/** Times and their distribution, by the histogram of node:perf_hooks. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { durationText } from './output.js'

/** Microseconds; all 0 while nothing was recorded. */
export interface Spread {
  readonly count: number
  readonly min: number
  readonly mean: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export class Distribution {
  // Nanoseconds up to ten minutes in three figures.
  readonly #histogram: RecordableHistogram = createHistogram({ highest: 600e9, figures: 3 })

  /** Both by performance.now(). */
  record(started: number, ended: number): void {
    const ns = Math.round((ended - started) * 1e6)
    this.#histogram.record(Math.min(Math.max(ns, 1), 600e9))
  }

  /** Adds all that another one has. */
  add(other: Distribution): void {
    if (other.#histogram.count > 0) this.#histogram.add(other.#histogram)
  }

  /** What was recorded since the last time, and nothing of it afterwards. */
  take(): Spread {
    const spread = this.read()
    this.#histogram.reset()
    return spread
  }

  read(): Spread {
    const { count, min, mean, max } = this.#histogram
    if (count === 0) return { count: 0, min: 0, mean: 0, p50: 0, p99: 0, max: 0 }
    const us = (ns: number): number => Math.round(ns) / 1000
    const at = (percentile: number): number => us(this.#histogram.percentile(percentile))
    return { count, min: us(min), mean: us(mean), p50: at(50), p99: at(99), max: us(max) }
  }
}

/** `p50 1.20 us, p99 17.0 us, longest 4.00 ms`. */
export function spreadText({ count, p50, p99, max }: Omit<Spread, 'mean' | 'min'>): string {
  if (count === 0) return 'p50 -, p99 -, longest -'
  return `p50 ${durationText(p50)}, p99 ${durationText(p99)}, longest ${durationText(max)}`
}
