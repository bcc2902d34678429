/** Types that both packages show to their users, and the conversions that go with them. */
import { statsNames, waitCodes } from './abi.generated.js'

/** Who the peer was when it connected, as the kernel says; never what the peer says of itself. */
export interface Credentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** Supplementary groups. */
  readonly groups: readonly number[]
  /** Names the process even after its pid was used again; belongs to the connection. -1: kernel has none. */
  readonly pidfd: number
}

/**
 * How long a side looks at its rings before it sleeps: as long as has paid off lately, always (one CPU
 * is busy all the time), or not at all.
 */
export type Wait = 'adaptive' | 'spin' | 'sleep'

/** The number of a {@link Wait}; undefined when it is none. */
export function waitCode(wait: unknown): number | undefined {
  return typeof wait === 'string' && Object.hasOwn(waitCodes, wait)
    ? waitCodes[wait as Wait]
    : undefined
}

/** Name of one counter. */
export type StatsName = (typeof statsNames)[number]

/** Counters since the beginning or since they were last cleared, and gauges, which are never cleared. */
export type Stats = Readonly<Record<StatsName, number>>

/** Counters as native code writes them, with names. Above 2^53 they lose their last digits. */
export function statsFrom(words: BigUint64Array): Stats {
  const stats: Partial<Record<StatsName, number>> = {}
  statsNames.forEach((name, index) => {
    stats[name] = Number(words[index])
  })
  return stats as Stats
}
