// What the project promises itself about speed, each as one line of the verdict: the goal, what was
// seen, whether it is met. All are ratios within the run, or rates of it. Speed never fails a run; the
// reader decides.
import { cpuText, NOT_MEASURED } from './report.js'
import { type Doubt, doubtsOf, type ResultRow } from './result.js'

export interface Verdict {
  readonly goal: string
  readonly seen: string
  /** null: this run did not measure it, or there is nothing to meet (`kind`). */
  readonly met: boolean | null
  /** `information`: a comparison that says something about a goal, and is none. */
  readonly kind: 'goal' | 'information'
  /** Of the rows that it rests on. */
  readonly doubts: readonly Doubt[]
}

const OURS = 'coroipc'
const OURS_IN_C = 'coroipc-c'
const FLOOR = 'floor-c'
const FLOOR_NAPI = 'floor-napi'
const FLOOR_JS_RING = 'floor-js-ring'
const FLOOR_JS_RING_IN_PLACE = 'floor-js-ring-in-place'
const FLOOR_JS_SLOTS = 'floor-js-slots'
const FLOOR_JS_BLOCKS = 'floor-js-blocks'
const NET = 'node-net'
const LIBQB = 'libqb'
const ZEROMQ_C = 'zeromq-c'
const ZEROMQ_JS = 'zeromq-js'
/** What Node.js itself has: nobody should need this library to be as slow. */
const BUILT_IN = /^(node-net|fork-.*|worker-port)$/

type Pick = Partial<ResultRow>
type Find = (pick: Pick) => ResultRow[]

interface Seen {
  readonly seen: string
  readonly met: boolean
  readonly doubts: readonly Doubt[]
}

interface Goal {
  readonly goal: string
  readonly kind?: 'information'
  judge(find: Find): Seen | undefined
}

/** The same, without a promise. */
function information(goal: Goal): Goal {
  return { ...goal, kind: 'information' }
}

const us = (value: number): string =>
  value >= 1000 ? `${(value / 1000).toFixed(2)} ms` : `${value.toFixed(value < 10 ? 2 : 1)} us`
const rate = (value: number): string =>
  value >= 1e6 ? `${(value / 1e6).toFixed(2)} M/s` : `${(value / 1e3).toFixed(1)} k/s`
const gigabytes = (megabytes: number): string => `${(megabytes / 1000).toFixed(1)} GB/s`

type Figure = 'p50_us' | 'p99_us' | 'perSecond' | 'megabytesPerSecond'
const shows: Readonly<Record<Figure, (value: number) => string>> = {
  p50_us: us,
  p99_us: us,
  perSecond: rate,
  megabytesPerSecond: gigabytes,
}
const isTime = (figure: Figure): boolean => figure.endsWith('_us')

const doubtsOfAll = (...rows: readonly ResultRow[]): Doubt[] => [...new Set(rows.flatMap(doubtsOf))]

/** The row whose figure is best: what is compared with may run as it likes best. */
function best(rows: readonly ResultRow[], figure: Figure): ResultRow | undefined {
  const better = (a: number, b: number): boolean => (isTime(figure) ? a < b : a > b)
  let found: ResultRow | undefined
  for (const row of rows) {
    const value = row[figure]
    if (value === null) continue
    if (found === undefined || better(value, found[figure] as number)) found = row
  }
  return found
}

interface Comparison {
  readonly goal: string
  readonly figure: Figure
  readonly ours: Pick
  readonly other: readonly Pick[]
  /** Of a time at most so many times the other's; of a rate at least. */
  readonly factor: number
  /** Says what both took of a CPU, client and server. */
  readonly withCpu?: boolean
}

/** Ours against the best of the others that were measured. */
function compared({ goal, figure, ours, other, factor, withCpu }: Comparison): Goal {
  return {
    goal,
    judge: (find) => {
      const mine = best(find({ subject: OURS, ...ours }), figure)
      const theirs = best(other.flatMap(find), figure)
      const [a, b] = [mine?.[figure], theirs?.[figure]]
      if (mine === undefined || theirs === undefined || a == null || b == null || b === 0)
        return undefined
      const ratio = a / b
      const show = shows[figure]
      const cpu = withCpu === true ? `; CPU % ${cpuText(mine)}, ${cpuText(theirs)}` : ''
      return {
        seen: `${ratio.toFixed(2)} x ${theirs.subject} (${show(a)} / ${show(b)}${cpu})`,
        met: isTime(figure) ? ratio <= factor : ratio >= factor,
        doubts: doubtsOfAll(mine, theirs),
      }
    },
  }
}

function atMostFloor(goal: string, ours: Pick, floor: Pick, factor: number): Goal {
  const other = [{ subject: FLOOR, ...floor }]
  return compared({
    goal: `${goal}: p50 <= ${factor} x the C floor`,
    figure: 'p50_us',
    ours,
    other,
    factor,
  })
}

/** One line for each, so that one that was not measured hides none that was. */
function aheadOf(
  goal: string,
  figure: Figure,
  ours: Pick,
  others: readonly string[],
  how: { readonly withCpu?: boolean } = {},
): Goal[] {
  // Whoever has no choice of waiting or asking is asked in its own way.
  const { wait: _wait, form, ...same } = ours
  const forms: Pick = same.case === 'pipelined' && form !== undefined ? { form } : {}
  return others.map((subject) =>
    compared({
      goal: `${goal}: ahead of ${subject}`,
      figure,
      ours,
      other: [{ ...same, ...forms, subject }],
      factor: 1,
      ...how,
    }),
  )
}

function atLeast(
  goal: string,
  figure: 'perSecond' | 'megabytesPerSecond',
  ours: Pick,
  least: number,
): Goal {
  return {
    goal: `${goal}: >= ${shows[figure](least)}`,
    judge: (find) => {
      const row = best(find({ subject: OURS, ...ours }), figure)
      const value = row?.[figure]
      if (row === undefined || value == null) return undefined
      return { seen: shows[figure](value), met: value >= least, doubts: doubtsOf(row) }
    },
  }
}

/** What nobody who enters native code on both sides, with payloads written and read in JavaScript, gets below. */
function besideNodeApi(goal: string, row: Pick): Goal {
  return information(
    compared({
      goal: `${goal}: p50 <= 1.5 x the floor of Node-API`,
      figure: 'p50_us',
      ours: row,
      other: [{ ...row, ...spinning, subject: FLOOR_NAPI }],
      factor: 1.5,
    }),
  )
}

/** What JavaScript alone reaches with the same messages: nobody gets far beyond it. */
function besideJavaScript(
  goal: string,
  row: Pick,
  floors: readonly string[],
  figure: Figure = 'perSecond',
): Goal[] {
  return floors.map((subject) =>
    information(
      compared({
        goal: `${goal}: beside ${subject}`,
        figure,
        ours: row,
        other: [{ ...row, ...spinning, subject }],
        factor: 1,
      }),
    ),
  )
}

/** Any figure of one row. */
function rowGoal(
  goal: string,
  ours: Pick,
  look: (row: ResultRow) => { seen: string; met: boolean } | undefined,
): Goal {
  return {
    goal,
    judge: (find) => {
      const row = find({ subject: OURS, ...ours })[0]
      const found = row === undefined ? undefined : look(row)
      return row === undefined || found === undefined
        ? undefined
        : { ...found, doubts: doubtsOf(row) }
    },
  }
}

const plain = { variant: null, touch: 'full' } as const
const small = { ...plain, payloadBytes: 64 } as const
const awake = { ...small, placement: 'two-cpus', wait: 'adaptive' } as const
const spinning = { placement: 'two-cpus', wait: 'spin' } as const
const rtt = { ...awake, case: 'rtt-sync' } as const
const asleep = { ...small, case: 'rtt-sync', wait: 'sleep' } as const
const paced = { ...rtt, variant: 'paced' } as const
const KIB = 1024
const MIB = 1 << 20
const sizeName = (bytes: number): string =>
  bytes >= MIB ? `${bytes / MIB} MiB` : `${bytes / KIB} KiB`

const roundTrips: readonly Goal[] = [
  atMostFloor('rtt-sync 64 B, both awake, two CPUs', rtt, { ...rtt, ...spinning }, 1.5),
  besideNodeApi('rtt-sync 64 B, both awake, two CPUs', rtt),
  rowGoal('rtt-sync 64 B, both awake, two CPUs: p99 <= 10 x its p50', rtt, (row) =>
    row.p50_us === null || row.p99_us === null
      ? undefined
      : {
          seen: `${(row.p99_us / row.p50_us).toFixed(1)} x (${us(row.p99_us)} / ${us(row.p50_us)})`,
          met: row.p99_us <= 10 * row.p50_us,
        },
  ),
  compared({
    goal: 'rtt-sync 64 B: >= 3 x the calls of libqb, placed as it likes best',
    figure: 'perSecond',
    ours: rtt,
    other: [{ ...small, case: 'rtt-sync', subject: LIBQB }],
    factor: 3,
  }),
  compared({
    goal: 'rtt-sync 64 B: >= 50 x the calls of node-net, two CPUs too',
    figure: 'perSecond',
    ours: rtt,
    other: [{ ...small, case: 'rtt-sync', placement: 'two-cpus', subject: NET }],
    factor: 50,
  }),
  information(
    compared({
      goal: 'rtt-sync 64 B: calls of node-net, placed as it likes best',
      figure: 'perSecond',
      ours: rtt,
      other: [{ ...small, case: 'rtt-sync', subject: NET }],
      factor: 50,
    }),
  ),
  ...[KIB, 16 * KIB, 64 * KIB].flatMap((payloadBytes) => {
    const goal = `rtt-sync ${sizeName(payloadBytes)}, both awake, two CPUs`
    const row = { ...rtt, payloadBytes }
    return [atMostFloor(goal, row, { ...row, ...spinning }, 1.5), besideNodeApi(goal, row)]
  }),
  compared({
    goal: 'rtt-sync 64 B, both asleep, two CPUs: p50 <= 1.15 x the best of floor, libqb, node:net',
    figure: 'p50_us',
    ours: { ...asleep, placement: 'two-cpus' },
    other: [
      { ...asleep, placement: 'two-cpus', subject: FLOOR },
      ...[LIBQB, NET].map((subject) => ({
        ...small,
        case: 'rtt-sync' as const,
        placement: 'two-cpus' as const,
        subject,
      })),
    ],
    factor: 1.15,
  }),
  atMostFloor(
    'rtt-sync 64 B, both asleep, one CPU',
    { ...asleep, placement: 'one-cpu' },
    { ...asleep, placement: 'one-cpu' },
    2.2,
  ),
  ...aheadOf('rtt-sync 64 B, both asleep, one CPU', 'p50_us', { ...asleep, placement: 'one-cpu' }, [
    NET,
    ZEROMQ_C,
    ZEROMQ_JS,
  ]),
  compared({
    goal: 'the C API, rtt-sync 64 B, both asleep, one CPU: ahead of libqb',
    figure: 'p50_us',
    ours: { ...asleep, placement: 'one-cpu', subject: OURS_IN_C },
    other: [{ ...small, case: 'rtt-sync', placement: 'one-cpu', subject: LIBQB }],
    factor: 1,
  }),
  ...aheadOf('a request each ms, adaptive', 'p50_us', paced, [LIBQB, ZEROMQ_C, ZEROMQ_JS, NET], {
    withCpu: true,
  }),
  atLeast('rtt-async 64 B, one in flight', 'perSecond', { ...awake, case: 'rtt-async' }, 0.5e6),
]

const throughput: readonly Goal[] = [
  ...(
    [
      ['promise', 16, 2e6],
      ['promise', 64, 3.5e6],
      ['promise', 256, 3.5e6],
      ['callback', 16, 6e6],
      ['callback', 64, 10e6],
      ['callback', 256, 14e6],
    ] as const
  ).flatMap(([form, inFlight, least]) =>
    // Of two ways to be called back: with a payload that is the caller's own, and with one that is lent.
    (form === 'promise' ? [undefined] : ([undefined, 'offset'] as const)).flatMap((variant) => {
      const goal = `pipelined 64 B, ${inFlight} in flight, ${form}${variant === undefined ? '' : ' by offset'}`
      const plain = { ...awake, case: 'pipelined', inFlight, form } as const
      const row = variant === undefined ? plain : { ...plain, variant }
      return [
        atLeast(goal, 'perSecond', row, least),
        ...besideJavaScript(goal, row, [FLOOR_JS_RING, FLOOR_JS_RING_IN_PLACE]),
      ]
    }),
  ),
  atLeast(
    'dispatch 64 B, by offset',
    'perSecond',
    { ...awake, case: 'dispatch', variant: 'offset' },
    25e6,
  ),
  ...besideJavaScript(
    'dispatch 64 B, by offset',
    { ...awake, case: 'dispatch', variant: 'offset' },
    [FLOOR_JS_RING, FLOOR_JS_RING_IN_PLACE],
  ),
  atLeast('dispatch 64 B, owned payloads', 'perSecond', { ...awake, case: 'dispatch' }, 18e6),
  ...besideJavaScript('dispatch 64 B, owned payloads', { ...awake, case: 'dispatch' }, [
    FLOOR_JS_RING,
  ]),
  atLeast(
    'dispatch 64 B, one publication a message',
    'perSecond',
    { ...awake, case: 'dispatch', variant: 'publish-each' },
    5e6,
  ),
  ...aheadOf('dispatch 64 B', 'perSecond', { ...awake, case: 'dispatch' }, [ZEROMQ_C, LIBQB]),
  ...(
    [
      ['into', 13e3],
      ['owned', 6e3],
      ['in-place', 24e3],
    ] as const
  ).flatMap(([variant, least]) => {
    const full = { ...awake, case: 'bandwidth', payloadBytes: 64 * KIB, variant } as const
    const handOver = { ...full, touch: 'hand-over' } as const
    const toFloor = (goal: string, row: Pick): Goal =>
      compared({
        goal: `bandwidth 64 KiB ${variant}, ${goal}: >= 0.85 x the floor with as many copies`,
        figure: 'megabytesPerSecond',
        ours: row,
        other: [{ ...row, ...spinning, subject: FLOOR }],
        factor: 0.85,
      })
    return [
      atLeast(`bandwidth 64 KiB ${variant}, hand-over`, 'megabytesPerSecond', handOver, least),
      toFloor('hand-over', handOver),
      information(toFloor('written and read in full', full)),
      ...(variant === 'into'
        ? []
        : besideJavaScript(
            `bandwidth 64 KiB ${variant}, hand-over`,
            handOver,
            [FLOOR_JS_BLOCKS],
            'megabytesPerSecond',
          )),
    ]
  }),
  ...[MIB, 16 * MIB].flatMap((payloadBytes) => {
    const row = { ...awake, case: 'zero-copy', payloadBytes } as const
    const handOver = { ...row, touch: 'hand-over' } as const
    const size = sizeName(payloadBytes)
    return [
      compared({
        goal: `zero-copy ${size}, hand-over alone: p50 <= 2 x that of rtt-sync 64 B`,
        figure: 'p50_us',
        ours: handOver,
        other: [{ ...rtt, subject: OURS }],
        factor: 2,
      }),
      information(
        atMostFloor(
          `zero-copy ${size}, hand-over alone`,
          handOver,
          { ...handOver, ...spinning },
          1.5,
        ),
      ),
      atMostFloor(`zero-copy ${size}, written and read in full`, row, { ...row, ...spinning }, 1.1),
    ]
  }),
]

const manyOf = (connections: number, active: number): Pick => ({
  ...awake,
  case: 'many-connections',
  connections,
  active,
})

const connections: readonly Goal[] = [
  compared({
    goal: 'connect, one after the other: p50 <= 2 x a C floor with the same system calls',
    figure: 'p50_us',
    ours: { ...awake, case: 'connect', connections: 1 },
    other: [{ ...small, case: 'connect', connections: 1, subject: FLOOR }],
    factor: 2,
  }),
  atLeast(
    'connect, 8 at once (and closed)',
    'perSecond',
    { ...awake, case: 'connect', connections: 8 },
    8e3,
  ),
  rowGoal('many-connections: 10 000 open in one server', manyOf(10_000, 1), ({ many }) =>
    many === null
      ? undefined
      : {
          seen: `${many.open} open${many.open < 10_000 ? ' (all that RLIMIT_NOFILE allows)' : ''}`,
          met: many.open >= 10_000,
        },
  ),
  rowGoal(
    'many-connections: <= 12 KiB of touched memory each, both sides',
    manyOf(10_000, 1),
    ({ many }) =>
      many?.bytesFresh == null
        ? undefined
        : {
            seen: `${(many.bytesFresh / KIB).toFixed(1)} KiB, ${((many.bytesUsed ?? 0) / KIB).toFixed(1)} KiB when used`,
            met: many.bytesFresh <= 12 * KIB,
          },
  ),
  rowGoal('many-connections: 2 fds each', manyOf(10_000, 1), ({ many }) =>
    many === null
      ? undefined
      : {
          seen: `client ${many.clientFds}, server ${many.serverFds}`,
          met: many.clientFds <= 2 && many.serverFds <= 2,
        },
  ),
  compared({
    goal: 'one active connection beside 10 000 idle: p50 <= 1.2 x alone',
    figure: 'p50_us',
    ours: manyOf(10_000, 1),
    other: [{ ...manyOf(1, 1), subject: OURS }],
    factor: 1.2,
  }),
  atLeast('64 connections, one in flight each', 'perSecond', manyOf(64, 64), 3e6),
  ...besideJavaScript('64 connections, one in flight each', manyOf(64, 64), [FLOOR_JS_SLOTS]),
  rowGoal('64 connections: the slowest >= 0.9 x the mean', manyOf(64, 64), ({ many }) =>
    many === null
      ? undefined
      : { seen: `${many.fairness.toFixed(2)} x`, met: many.fairness >= 0.9 },
  ),
  rowGoal(
    '100 connections, idle: < 0.1 % of a CPU on each side',
    { case: 'idle-cpu', wait: 'adaptive', connections: 100 },
    ({ clientCpuPercent: client, serverCpuPercent: server }) =>
      client === null || server === null
        ? undefined
        : {
            seen: `server ${server.toFixed(3)} %, client ${client.toFixed(3)} %`,
            met: Math.max(client, server) < 0.1,
          },
  ),
  rowGoal(
    'server-death: every waiting call told, p99 <= 50 ms',
    { case: 'server-death' },
    ({ p50_us: p50, p99_us: p99, max_us: max }) =>
      p50 === null || p99 === null || max === null
        ? undefined
        : { seen: `p50 ${us(p50)}, p99 ${us(p99)}, max ${us(max)}`, met: p99 <= 50_000 },
  ),
]

const largeInto = {
  ...plain,
  case: 'bandwidth',
  variant: 'into',
  payloadBytes: 64 * KIB,
} as const

/** Of the C API the best row: it may spin, as the floors do, or be adaptive. */
const inC: readonly Goal[] = [
  ...[KIB, 16 * KIB, 64 * KIB].map((payloadBytes) =>
    compared({
      goal: `the C API, rtt-sync ${sizeName(payloadBytes)}: p50 <= 1.2 x the C floor`,
      figure: 'p50_us',
      ours: { ...plain, case: 'rtt-sync', placement: 'two-cpus', payloadBytes, subject: OURS_IN_C },
      other: [{ ...plain, case: 'rtt-sync', ...spinning, payloadBytes, subject: FLOOR }],
      factor: 1.2,
    }),
  ),
  ...([spinning, { placement: 'two-cpus', wait: 'sleep' }] as const).map((how) =>
    compared({
      goal: `the C API, rtt-sync 64 B, ${how.wait}: p50 <= 1.2 x the C floor`,
      figure: 'p50_us',
      ours: {
        ...small,
        case: 'rtt-sync',
        placement: how.placement,
        subject: OURS_IN_C,
        ...(how.wait === 'sleep' ? { wait: how.wait } : {}),
      },
      other: [{ ...small, case: 'rtt-sync', ...how, subject: FLOOR }],
      factor: 1.2,
    }),
  ),
  ...([null, 'publish-each'] as const).map((variant) =>
    compared({
      goal: `the C API, dispatch 64 B${variant === null ? '' : ', one publication a message'}: >= 1 / 1.2 x the C floor`,
      figure: 'perSecond',
      ours: {
        ...small,
        case: 'dispatch',
        variant,
        placement: 'two-cpus',
        subject: OURS_IN_C,
      },
      other: [{ ...small, case: 'dispatch', variant, ...spinning, subject: FLOOR }],
      factor: 1 / 1.2,
    }),
  ),
  compared({
    goal: 'the C API, bandwidth 64 KiB into, written and read in full: p50 <= 1.2 x the C floor',
    figure: 'p50_us',
    ours: { ...largeInto, subject: OURS_IN_C },
    other: [{ ...largeInto, ...spinning, subject: FLOOR }],
    factor: 1.2,
  }),
  compared({
    goal: 'the C API, connect: p50 <= 1.2 x a C floor with the same system calls',
    figure: 'p50_us',
    ours: { ...small, case: 'connect', connections: 1, subject: OURS_IN_C },
    other: [{ ...small, case: 'connect', connections: 1, subject: FLOOR }],
    factor: 1.2,
  }),
]

/** Every adaptive row of ours against every row of the same question by what Node.js has itself. */
const everyAdaptiveRow: Goal = {
  goal: 'every adaptive row: ahead of node:net, fork and MessagePort',
  judge: (find) => {
    const behind: string[] = []
    const rows: ResultRow[] = []
    let compares = 0
    for (const mine of find({ subject: OURS, wait: 'adaptive' })) {
      const {
        case: name,
        variant,
        touch,
        placement,
        payloadBytes,
        inFlight,
        connections: open,
      } = mine
      const figure = mine.inFlight > 1 || open > 1 || name === 'dispatch' || name === 'bandwidth'
      const what: Figure = figure && name !== 'server-death' ? 'perSecond' : 'p50_us'
      const question = { case: name, variant, touch, placement, payloadBytes, inFlight }
      for (const theirs of find({ ...question, connections: open, active: mine.active })) {
        const [a, b] = [mine[what], theirs[what]]
        if (!BUILT_IN.test(theirs.subject) || a === null || b === null) continue
        if (name === 'pipelined' && theirs.form !== mine.form) continue
        compares++
        rows.push(mine, theirs)
        if (isTime(what) ? a > b : a < b)
          behind.push(`${name} ${placement} ${payloadBytes} B (${theirs.subject})`)
      }
    }
    if (compares === 0) return undefined
    const list = behind.length === 0 ? '' : `; behind in ${[...new Set(behind)].join(', ')}`
    return {
      seen: `${compares - behind.length} of ${compares}${list}`,
      met: behind.length === 0,
      doubts: doubtsOfAll(...rows),
    }
  },
}

const goals: readonly Goal[] = [
  ...roundTrips,
  ...throughput,
  ...connections,
  ...inC,
  everyAdaptiveRow,
]

export function judge(rows: readonly ResultRow[]): Verdict[] {
  const find = (pick: Pick): ResultRow[] =>
    rows.filter(
      (row) =>
        row.error === null &&
        (Object.keys(pick) as (keyof ResultRow)[]).every((key) => row[key] === pick[key]),
    )
  return goals.map(({ goal, kind = 'goal' as const, judge: look }): Verdict => {
    const { seen, met, doubts } = look(find) ?? { seen: NOT_MEASURED, met: null, doubts: [] }
    return { goal, kind, seen, met: kind === 'goal' ? met : null, doubts }
  })
}
