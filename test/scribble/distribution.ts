// A distribution of durations that can be written down and added up: counts in sixteenths of an octave of microseconds.

export class Distribution {
  readonly #counts = new Map<number, number>()

  add(counts: Iterable<readonly [bucket: number, count: number]>): void {
    for (const [bucket, count] of counts)
      this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count)
  }

  get count(): number {
    let total = 0
    for (const count of this.#counts.values()) total += count
    return total
  }

  /** The duration that the given part of all stays below, in microseconds. */
  quantile(part: number): number {
    return this.#quantile(part, () => 1)
  }

  /**
   * The same of time: what somebody meets who comes at any moment. Calls that are made one after the other do not come while one of
   * them is held up, so that a second of standing still is one call of many thousands.
   */
  quantileOfTime(part: number): number {
    return this.#quantile(part, (bucket) => 2 ** (bucket / 16))
  }

  #quantile(part: number, weight: (bucket: number) => number): number {
    let wanted = 0
    for (const [each, count] of this) wanted += part * count * weight(each)
    let bucket = Number.NEGATIVE_INFINITY
    for (const [each, count] of this) {
      bucket = each
      wanted -= count * weight(each)
      if (wanted <= 0) break
    }
    return 2 ** (bucket / 16)
  }

  *[Symbol.iterator](): Generator<[number, number]> {
    yield* [...this.#counts].sort(([a], [b]) => a - b)
  }

  toJSON(): [number, number][] {
    return [...this]
  }
}
