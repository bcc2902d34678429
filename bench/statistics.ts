// Samples of one repetition, and what is made of several repetitions.

/** A single repetition more than this far from another: something else ran on the machine. */
export const DISTURBED_SPREAD = 2

/** A mean more than this many times the median: much of the time nobody ran who was measured. */
export const HELD_UP_MEAN = 2

/** Where a distribution is looked at; bench/floor/program.h has the same. */
export const DISTRIBUTION: readonly number[] = [
  0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1,
]

const CAPACITY = 1 << 21

/** Latencies in microseconds. The memory is touched before the first sample, and never grows. */
export class Samples {
  readonly #values: Float64Array
  #count = 0

  constructor(capacity: number = CAPACITY) {
    this.#values = new Float64Array(capacity).fill(1)
  }

  get count(): number {
    return this.#count
  }

  get full(): boolean {
    return this.#count === this.#values.length
  }

  add(us: number): void {
    if (this.#count < this.#values.length) this.#values[this.#count++] = us
  }

  clear(): void {
    this.#count = 0
  }

  /** The value of each fraction by nearest rank. Sorts: the order in time is lost. */
  quantiles(fractions: readonly number[]): (number | null)[] {
    if (this.#count === 0) return fractions.map(() => null)
    const sorted = this.#values.subarray(0, this.#count).sort()
    return fractions.map((fraction) => {
      const rank = Math.max(1, Math.ceil(fraction * sorted.length))
      return sorted[rank - 1] ?? null
    })
  }
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >>> 1
  const upper = sorted[middle] as number
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2
}

/** Largest over smallest. */
export function spread(values: readonly number[]): number | null {
  const smallest = Math.min(...values)
  return values.length === 0 || smallest <= 0 ? null : Math.max(...values) / smallest
}
