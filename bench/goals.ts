// What the project promises itself about speed, each as one line of the verdict: the goal, what was
// seen, whether it is met. Speed never fails a run; the reader decides.
import { type Doubt, doubtsOf, type ResultRow } from './result.js'

export interface Verdict {
  readonly goal: string
  readonly seen: string
  /** null: this run did not measure it. */
  readonly met: boolean | null
  /** Of the rows that it rests on. */
  readonly doubts: readonly Doubt[]
}

const OURS = 'coroipc'
const FLOOR = 'floor-c'
const NET = 'node-net'

type Pick = Partial<ResultRow>

interface Goal {
  readonly goal: string
  judge(find: (pick: Pick) => ResultRow | undefined): Omit<Verdict, 'goal'> | undefined
}

const us = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)} us`
const rate = (value: number): string =>
  value >= 1e6 ? `${(value / 1e6).toFixed(2)} M/s` : `${(value / 1e3).toFixed(1)} k/s`

/** p50 of ours over p50 of the other, at most. */
function latencyRatio(goal: string, ours: Pick, other: Pick, atMost: number): Goal {
  return {
    goal: `${goal}: p50 <= ${atMost} x the C floor`,
    judge: (find) => {
      const [a, b] = [find({ subject: OURS, ...ours }), find({ subject: FLOOR, ...other })]
      if (a?.p50_us == null || b?.p50_us == null) return undefined
      const ratio = a.p50_us / b.p50_us
      return {
        seen: `${ratio.toFixed(2)} x (${us(a.p50_us)} / ${us(b.p50_us)})`,
        met: ratio <= atMost,
        doubts: [...new Set([a, b].flatMap(doubtsOf))],
      }
    },
  }
}

/** Ahead of node:net in the figure that the case is about. */
function aheadOfNet(goal: string, ours: Pick, net: Pick, figure: 'p50_us' | 'perSecond'): Goal {
  return {
    goal: `${goal}: ahead of node:net`,
    judge: (find) => {
      const [a, b] = [find({ subject: OURS, ...ours }), find({ subject: NET, ...net })]
      const [x, y] = [a?.[figure], b?.[figure]]
      if (a === undefined || b === undefined || x == null || y == null) return undefined
      const better = figure === 'p50_us' ? y / x : x / y
      const show = figure === 'p50_us' ? us : rate
      return {
        seen: `${better >= 1 ? `${better.toFixed(1)} x better` : `${(1 / better).toFixed(1)} x worse`} (${show(x)} / ${show(y)})`,
        met: better > 1,
        doubts: [...new Set([a, b].flatMap(doubtsOf))],
      }
    },
  }
}

function atLeast(goal: string, ours: Pick, perSecond: number): Goal {
  return {
    goal: `${goal}: >= ${rate(perSecond)}`,
    judge: (find) => {
      const row = find({ subject: OURS, ...ours })
      if (row?.perSecond == null) return undefined
      return {
        seen: rate(row.perSecond),
        met: row.perSecond >= perSecond,
        doubts: doubtsOf(row),
      }
    },
  }
}

function idleBelow(goal: string, ours: Pick, percent: number): Goal {
  return {
    goal: `${goal}: < ${percent} % of a CPU on each side`,
    judge: (find) => {
      const row = find({ subject: OURS, ...ours })
      if (row?.clientCpuPercent == null || row.serverCpuPercent == null) return undefined
      return {
        seen: `server ${row.serverCpuPercent.toFixed(3)} %, client ${row.clientCpuPercent.toFixed(3)} %`,
        met: Math.max(row.clientCpuPercent, row.serverCpuPercent) < percent,
        doubts: doubtsOf(row),
      }
    },
  }
}

const small = { payloadBytes: 64 } as const
const awake = { ...small, placement: 'two-cpus', wait: 'adaptive' } as const
const asleep = { ...small, case: 'rtt-sync', wait: 'sleep' } as const
const net = { ...small, placement: 'two-cpus' } as const

const goals: readonly Goal[] = [
  latencyRatio(
    'rtt-sync 64 B, both awake, two CPUs',
    { ...awake, case: 'rtt-sync' },
    { ...awake, case: 'rtt-sync', wait: 'spin' },
    2,
  ),
  latencyRatio(
    'rtt-sync 64 B, both asleep, two CPUs',
    { ...asleep, placement: 'two-cpus' },
    { ...asleep, placement: 'two-cpus' },
    1.3,
  ),
  latencyRatio(
    'rtt-sync 64 B, both asleep, one CPU',
    { ...asleep, placement: 'one-cpu' },
    { ...asleep, placement: 'one-cpu' },
    2.5,
  ),
  atLeast('dispatch 64 B, owned payloads', { ...awake, case: 'dispatch' }, 5e6),
  aheadOfNet(
    'rtt-sync 64 B',
    { ...awake, case: 'rtt-sync' },
    { ...net, case: 'rtt-sync' },
    'p50_us',
  ),
  aheadOfNet(
    'rtt-sync 64 B, one CPU',
    { ...awake, case: 'rtt-sync', placement: 'one-cpu' },
    { ...net, case: 'rtt-sync', placement: 'one-cpu' },
    'p50_us',
  ),
  aheadOfNet(
    'rtt-sync 64 B, nobody pinned',
    { ...awake, case: 'rtt-sync', placement: 'free' },
    { ...net, case: 'rtt-sync', placement: 'free' },
    'p50_us',
  ),
  aheadOfNet(
    'rtt-async 64 B',
    { ...awake, case: 'rtt-async' },
    { ...net, case: 'rtt-async' },
    'p50_us',
  ),
  ...(['promise', 'callback'] as const).map((form) =>
    aheadOfNet(
      `pipelined 64 B, 64 in flight, ${form}`,
      { ...awake, case: 'pipelined', inFlight: 64, form },
      { ...net, case: 'pipelined', inFlight: 64, form },
      'perSecond',
    ),
  ),
  aheadOfNet(
    'dispatch 64 B',
    { ...awake, case: 'dispatch' },
    { ...net, case: 'dispatch' },
    'perSecond',
  ),
  idleBelow('100 connections, idle', { case: 'idle-cpu', wait: 'adaptive', connections: 100 }, 0.1),
]

export function judge(rows: readonly ResultRow[]): Verdict[] {
  const find = (pick: Pick): ResultRow | undefined =>
    rows.find(
      (row) =>
        row.error === null &&
        (Object.keys(pick) as (keyof ResultRow)[]).every((key) => row[key] === pick[key]),
    )
  return goals.map((goal) => ({
    goal: goal.goal,
    ...(goal.judge(find) ?? { seen: 'not measured', met: null, doubts: [] }),
  }))
}
