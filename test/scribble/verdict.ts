// What turns beside a scribbler and beside a burner add up to.
import { Distribution } from './distribution.js'
import type { Manner, Role, Slice } from './scene.js'

/** The 99th percentile of honest calls, and of the time in them, beside the scribbler is at most so many times that beside the burner. */
export const RATIO = 2

/** One turn, as it is written down. */
export interface Turn {
  readonly role: Role
  readonly manner: Manner
  readonly seconds: number
  readonly seed: number
  readonly counts: [number, number][]
  readonly faults: number
  readonly left: string
  readonly connections: number
  readonly cutOff: number
}

export const turnOf = (role: Role, seed: number, seen: Slice, left: string): Turn => ({
  role,
  manner: seen.manner,
  seconds: seen.seconds,
  seed,
  counts: seen.latency.toJSON(),
  faults: seen.faults.length,
  left,
  connections: seen.connections,
  cutOff: seen.cutOff,
})

export interface Verdict {
  readonly well: boolean
  /** Of the 99th percentiles: of calls, of time. */
  readonly ratio: number
  readonly ratioOfTime: number
  readonly lines: readonly string[]
}

/** Adds up what there is of one role: no fault, nothing left, and the ratio. */
export function verdict(role: Role, turns: readonly Turn[]): Verdict {
  const p99: Record<Manner, number> = { burn: 0, scribble: 0 }
  const p99OfTime: Record<Manner, number> = { burn: 0, scribble: 0 }
  const lines: string[] = []
  let well = true
  for (const manner of ['burn', 'scribble'] as const) {
    const own = turns.filter((turn) => turn.role === role && turn.manner === manner)
    const all = new Distribution()
    for (const { counts } of own) all.add(counts)
    const sum = (of: 'seconds' | 'faults' | 'connections' | 'cutOff'): number =>
      own.reduce((total, turn) => total + turn[of], 0)
    const left = own.map((turn) => turn.left).filter((text) => text !== '')
    p99[manner] = all.quantile(0.99)
    p99OfTime[manner] = all.quantileOfTime(0.99)
    const us = (part: number): string => all.quantile(part).toFixed(0)
    lines.push(
      `${role}, ${manner}: ${sum('seconds')} s, ${all.count} honest calls, p50 ${us(0.5)} us, p99 ${us(0.99)} us, p99.9 ${us(0.999)} us, of time p99 ${p99OfTime[manner].toFixed(0)} us; ` +
        `${sum('connections')} connections, ${sum('cutOff')} ended early; ${sum('faults')} faults; ${left.length === 0 ? 'nothing left' : `left: ${left.join('; ')}`}`,
    )
    well &&= sum('faults') === 0 && left.length === 0 && all.count > 0
    well &&= manner === 'burn' || sum('connections') > 0 // or nobody has scribbled
  }
  const ratio = p99.scribble / p99.burn
  const ratioOfTime = p99OfTime.scribble / p99OfTime.burn
  lines.push(
    `${role}: p99 beside the scribbler is ${ratio.toFixed(2)} x that beside the burner, of time ${ratioOfTime.toFixed(2)} x`,
  )
  return { well: well && ratio <= RATIO && ratioOfTime <= RATIO, ratio, ratioOfTime, lines }
}
