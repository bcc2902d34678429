// What the runs of `npm run storm` have come to, and the verdict over all of them: test/storm/main.ts adds and shows them.

/** Of one kind of storm. */
export interface Total {
  /** Sums over the runs, by name. */
  readonly sums: Record<string, number>
  /** The worst of all runs. */
  readonly worst: Record<string, number>
  /** Times in ms from SIGKILL to whoever is told, in tenths: how often each was seen. */
  readonly times: Record<string, number>
}

/** What a machine that does nothing else should see. */
export const KNOWN_MS = { p99: 50, max: 500 } as const
/** So many deaths have a p99. */
export const DEATHS = 1000
/** At most, whatever the storm was; `lost (%)`: of a rate. */
const WORST: Readonly<Record<string, number>> = {
  'ms after the end': 1000,
  'p99 (us)': 100_000,
  'KiB grown': 1024,
  'lost (%)': 10,
}

/** Adds a run to what there was. */
export function include(
  total: Total,
  sums: Readonly<Record<string, number>>,
  worst: Readonly<Record<string, number>>,
  times: readonly number[],
): void {
  for (const [name, value] of Object.entries({ runs: 1, ...sums }))
    total.sums[name] = (total.sums[name] ?? 0) + value
  for (const [name, value] of Object.entries(worst))
    total.worst[name] = Math.max(total.worst[name] ?? value, value)
  for (const ms of times) {
    const tenth = (Math.ceil(ms * 10) / 10).toFixed(1) // never less than it was
    total.times[tenth] = (total.times[tenth] ?? 0) + 1
  }
}

/** How many deaths there were, and the time in ms below or at which such a part of them was known. */
export function quantile(
  times: Total['times'],
  part: number,
): { readonly ms: number; readonly deaths: number } {
  const sorted = Object.entries(times)
    .map(([ms, seen]) => [Number(ms), seen] as const)
    .sort(([a], [b]) => a - b)
  const deaths = sorted.reduce((sum, [, seen]) => sum + seen, 0)
  let below = 0
  for (const [ms, seen] of sorted) if ((below += seen) >= part * deaths) return { ms, deaths }
  return { ms: 0, deaths }
}

/** What does not hold of all runs together. */
export function judgeTotal({ sums, worst, times }: Total): string[] {
  const wrong: string[] = []
  const must = (held: boolean, what: string): void => void (held || wrong.push(what))
  for (const name of ['faults', 'not held']) must((sums[name] ?? 0) === 0, `${sums[name]} ${name}`)
  for (const [every, each] of [
    ['rounds', 'fair'],
    ['planted', 'kept'],
  ] as const)
    if (sums[each] !== undefined)
      must(sums[each] === sums[every], `${each} ${sums[each]} of ${sums[every]} ${every}`)
  for (const [name, value] of Object.entries(worst)) {
    const most = WORST[name]
    must(most === undefined || value <= most, `${name} ${value} at worst, above ${most}`)
  }
  const { deaths, ms } = quantile(times, 0.99)
  must(deaths < DEATHS || ms <= KNOWN_MS.p99, `a death was known after ${ms} ms (p99)`)
  const max = quantile(times, 1).ms
  must(max <= KNOWN_MS.max, `a death was known after ${max} ms`)
  return wrong
}
