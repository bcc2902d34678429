// A mixed load for as long as wanted, with kills, restarts and slow readers, and a ledger of every message; what is held is
// looked at all the time. Three servers, each with clients of its own:
//
//   steady    in C, never ends; some of its clients are killed all the time, others read 100 times too slowly
//   node      in Node.js, never ends, nor do its clients
//   mortal    ends and comes back all the time; its clients stay
import { held, rssBytes } from '../support/gauge.js'
import type { Program } from '../support/program.js'
import { sleep, until } from '../support/wait.js'
import { Crew, Knowledge, PROMISED_MS, type Role } from './crew.js'
import { latencyUs } from './ledger.js'
import { INTERPRETED_FLAGS, LIVE_FLAGS } from './live.js'

const c = (kind: string, service: number = 1): Role => ({ kind, service, runtime: 'c' })
const node = (kind: string): Role => ({ kind, runtime: 'node' })

const steady: readonly Role[] = [
  c('blocking'), // its calls are timed, so it is not killed
  c('slow', 3),
  c('slow', 4),
  c('slow', 5),
  c('pipelined'), // from here on they are killed
  c('large'),
  c('zero-copy', 2),
  c('dispatch'),
  c('connects'),
  node('blocking'),
]
const IMMORTAL = 4
const ofNode: readonly Role[] = [c('pipelined'), c('dispatch', 4), node('zero-copy'), node('large')]
const mortal: readonly Role[] = [
  c('pipelined'),
  c('blocking'),
  c('dispatch'),
  c('zero-copy', 2),
  c('slow', 6),
  node('reconnecting'),
]

/** Who is watched: they live from the first second to the last. */
export const watched = ['server, C', 'server, Node.js', 'client, C', 'client, Node.js'] as const
export type Watched = (typeof watched)[number]
export const collected = ['server, Node.js', 'client, Node.js'] as const
type Collected = (typeof collected)[number]

/** Some time in seconds from the start, and a value. */
export type Point = readonly [seconds: number, value: number]

export interface Series {
  readonly rss: Record<Watched, Point[]>
  /** Of it what is not shared: pages of rings come with each connection, and as it uses them. They end with its mapping. */
  readonly own: Record<Watched, Point[]>
  /** In use after a collection: live.ts. */
  readonly live: Record<Collected, Point[]>
  /** Resident then, without what is shared. */
  readonly leastRss: Record<Collected, Point[]>
  /** And without V8's heap. */
  readonly leastBeside: Record<Collected, Point[]>
  /** All descriptors, and mappings of our memory, at moments when as much as ever is connected. */
  readonly fds: Record<Watched, Point[]>
  readonly maps: Record<Watched, Point[]>
  /** Of the blocking calls of one client, in us. */
  readonly p50: Point[]
  readonly p99: Point[]
  /** Messages a second. */
  readonly rate: Point[]
  /** The longest time that a survivor took to know of a death, in ms. */
  readonly known: Point[]
}

export interface Verdict {
  readonly what: string
  readonly seen: string
  /** Undefined: the run was too short to tell. */
  readonly held: boolean | undefined
}

interface Range {
  readonly least: number
  readonly most: number
  readonly times: number
}

/** Least squares after the warm-up, as sums around the means: those of several runs add up to one slope. */
interface Line {
  /** From the first point to the last. */
  readonly seconds: number
  readonly points: number
  readonly xx: number
  readonly xy: number
  readonly yy: number
}

interface Kept {
  readonly fds: Range
  readonly maps: Range
  readonly rss: Line
  readonly own: Line
}

/** What is kept of a run for a verdict over several: one line of a ledger. */
export interface Piece {
  readonly seconds: number
  /** Node.js did not compile. */
  readonly interpreted: boolean
  /** Answers and dispatches. */
  readonly messages: number
  readonly kills: number
  readonly restarts: number
  readonly faults: readonly string[]
  readonly deaths: number
  /** The longest time since the end of a process until its survivor knew. */
  readonly lateMs: number
  readonly watched: Readonly<Record<Watched, Kept>>
  readonly live: Readonly<Record<Collected, Line>>
  readonly leastRss: Readonly<Record<Collected, readonly Point[]>>
  readonly leastBeside: Readonly<Record<Collected, readonly Point[]>>
}

export interface Soak {
  readonly piece: Piece
  readonly series: Series
  readonly verdicts: readonly Verdict[]
}

/** Warm-up: a third of the run, at most 20 minutes. What is resident of a process in Node.js is level no sooner. */
const warmUp = (seconds: number): number => Math.min(seconds / 3, 1200)
/** Less than this, warm-up not counted, tells nothing about slopes: of C, of Node.js with its heap. In runs of PIECE_S at least. */
const JUDGED_S: Readonly<Record<Watched, number>> = {
  'server, C': 1440,
  'client, C': 1440,
  'server, Node.js': 8 * 3600,
  'client, Node.js': 8 * 3600,
}
const PIECE_S = 900
const SLOPE_MAX = 10 * 1024 // bytes an hour
/**
 * What is in use after a collection grows for hours by itself, ever more slowly: code that is seldom run is compiled once it was run
 * often enough. A leak of a word for each message would be gigabytes an hour, of an object for each connection megabytes.
 */
const LIVE_SOON = { judgedS: 1440, bytesHourly: 256 * 1024 }
const LIVE_LATE = { judgedS: 8 * 3600, bytesHourly: SLOPE_MAX }
/** Where nothing is compiled. */
const INTERPRETED = { judgedS: 1440, bytesHourly: SLOPE_MAX }
const MESSAGES = 1e8
/** Between two reports of what is in use, at least: live.ts. */
const REPORT_S = 30

export function line(points: readonly Point[]): Line {
  const count = points.length
  const mean = (of: 0 | 1): number =>
    points.reduce((sum, point) => sum + point[of], 0) / Math.max(1, count)
  const [x, y] = [mean(0), mean(1)]
  const sum = (of: (point: Point) => number): number =>
    points.reduce((total, point) => total + of(point), 0)
  return {
    seconds: (points.at(-1)?.[0] ?? 0) - (points[0]?.[0] ?? 0),
    points: count,
    xx: sum((point) => (point[0] - x) ** 2),
    xy: sum((point) => (point[0] - x) * (point[1] - y)),
    yy: sum((point) => (point[1] - y) ** 2),
  }
}

/** One slope for all of them, whatever height each began at, and its standard error; in units an hour. */
function slope(lines: readonly Line[]): { readonly hourly: number; readonly error: number } {
  const sum = (of: 'points' | 'xx' | 'xy' | 'yy'): number =>
    lines.reduce((total, each) => total + each[of], 0)
  const [xx, xy] = [sum('xx'), sum('xy')]
  const free = sum('points') - lines.length - 1
  if (xx === 0 || free < 1) return { hourly: 0, error: Number.POSITIVE_INFINITY }
  const rest = Math.max(0, sum('yy') - xy ** 2 / xx)
  return { hourly: (xy / xx) * 3600, error: Math.sqrt(rest / free / xx) * 3600 }
}

/** As many points of a run as are kept for the slopes between any two of them. */
const POINTS = 400

/** Of each group of neighbours the one in the middle, so that POINTS are left at most. */
function thinned(points: readonly Point[]): readonly Point[] {
  const each = Math.ceil(points.length / POINTS)
  if (each <= 1) return points
  return Array.from({ length: Math.ceil(points.length / each) }, (_, i) => {
    const group = points.slice(i * each, (i + 1) * each).sort((a, b) => a[1] - b[1])
    return group[group.length >> 1] as Point
  })
}

/**
 * Theil and Sen: the median of the slopes between any two points of a run, an hour. What comes and goes, as a page of V8's heap
 * does, moves a line of least squares by more than the bound; it does not move this one unless it is there half of the time.
 */
function medianSlope(runs: readonly (readonly Point[])[]): number {
  const slopes: number[] = []
  for (const points of runs)
    for (const [i, [x, y]] of points.entries())
      for (const [laterX, laterY] of points.slice(i + 1))
        if (laterX > x) slopes.push((laterY - y) / (laterX - x))
  slopes.sort((a, b) => a - b)
  const [low, high] = [slopes[(slopes.length - 1) >> 1], slopes[slopes.length >> 1]]
  return low === undefined || high === undefined ? 0 : ((low + high) / 2) * 3600
}

const range = (values: readonly number[]): Range => ({
  least: values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY),
  most: values.reduce((most, value) => Math.max(most, value), 0),
  times: values.length,
})

/** What is kept of these series, warm-up left out. */
export function kept(
  series: Pick<Series, 'rss' | 'own' | 'fds' | 'maps'>,
  who: Watched,
  from: number,
): Kept {
  const used = (points: readonly Point[]): Point[] => points.filter(([at]) => at >= from)
  const values = (points: readonly Point[]): number[] => used(points).map(([, value]) => value)
  return {
    fds: range(values(series.fds[who])),
    maps: range(values(series.maps[who])),
    rss: line(used(series.rss[who])),
    own: line(used(series.own[who])),
  }
}

function reports<Kept>(
  series: Readonly<Record<Collected, Point[]>>,
  from: number,
  keep: (points: readonly Point[]) => Kept,
): Readonly<Record<Collected, Kept>> {
  const of = (who: Collected): Kept => keep(series[who].filter(([at]) => at >= from))
  return { 'server, Node.js': of('server, Node.js'), 'client, Node.js': of('client, Node.js') }
}

const forEach = <Value>(make: () => Value): Record<Watched, Value> =>
  Object.fromEntries(watched.map((who) => [who, make()])) as Record<Watched, Value>

export interface SoakOptions {
  readonly seconds: number
  readonly directory: string
  readonly draw: () => number
  /** Called each second. */
  readonly tick?: (seconds: number, messages: number) => void
  /** A fault that the steady server is to commit: load-server.c. */
  readonly mutant?: string
  /** Node.js does not compile: slower, and its heap can be told to a few KiB. */
  readonly interpreted?: boolean
}

export async function soak(options: SoakOptions): Promise<Soak> {
  const { seconds, directory, draw, tick, mutant, interpreted = false } = options
  await using a = await Crew.start({
    directory,
    roles: steady,
    leavesFds: true,
    ...(mutant === undefined ? {} : { mutant }),
  })
  const nodeFlags = interpreted ? INTERPRETED_FLAGS : LIVE_FLAGS
  await using b = await Crew.start({ directory, roles: ofNode, server: 'node', nodeFlags })
  await using m = await Crew.start({ directory, roles: mortal, nodeFlags })
  const crews = [a, b, m]
  const series: Series = {
    rss: forEach(() => []),
    own: forEach(() => []),
    live: { 'server, Node.js': [], 'client, Node.js': [] },
    leastRss: { 'server, Node.js': [], 'client, Node.js': [] },
    leastBeside: { 'server, Node.js': [], 'client, Node.js': [] },
    fds: forEach(() => []),
    maps: forEach(() => []),
    p50: [],
    p99: [],
    rate: [],
    known: [],
  }
  const pids: Record<Watched, () => number> = {
    'server, C': () => a.server.pid,
    'server, Node.js': () => b.server.pid,
    'client, C': () => (m.members[0] as Program).pid,
    'client, Node.js': () => (m.members[mortal.length - 1] as Program).pid,
  }
  const reported: Record<Collected, (word: 'liveBytes' | 'leastRss' | 'leastBeside') => number> = {
    'server, Node.js': (word) => b.ledger.server(word),
    'client, Node.js': (word) => m.ledger.get(mortal.length - 1, word),
  }
  const began = performance.now()
  const now = (): number => (performance.now() - began) / 1000
  const faults: string[] = []
  const goesOn = (): boolean => now() < seconds && faults.length === 0
  let kills = 0
  let restarts = 0
  const knowledge = new Knowledge()
  let told = 0
  const count = async (who: Watched): Promise<void> => {
    const look = async (): Promise<{ fds: number; maps: number }> => {
      const reading = await held({ pid: pids[who]() })
      const fds = Object.entries(reading).filter(([kind]) => kind.startsWith('fd '))
      return { fds: fds.reduce((sum, [, each]) => sum + each, 0), maps: reading['mapping'] ?? 0 }
    }
    let { fds, maps } = await look()
    const before = { fds: series.fds[who].at(-1)?.[1], maps: series.maps[who].at(-1)?.[1] }
    const more = (): boolean => fds > (before.fds ?? fds) || maps > (before.maps ?? maps)
    // What is on its way, as the memory of a large message is, is not held: it is gone at another look.
    for (let looks = 0; looks < 5 && more(); looks++) {
      await sleep(10)
      ;({ fds, maps } = await look())
    }
    series.fds[who].push([now(), fds])
    series.maps[who].push([now(), maps])
    series.rss[who].push([now(), rssBytes(pids[who]())])
    series.own[who].push([now(), rssBytes(pids[who](), true)])
  }
  const tickS = Math.max(1, seconds / 3600) // points enough for any picture

  const killing = async (): Promise<void> => {
    for (let counted = 0; goesOn(); kills++) {
      await sleep(draw() * 1000)
      const lane = IMMORTAL + Math.floor(draw() * (steady.length - IMMORTAL))
      const time = await a.killMember(lane)
      if (time !== undefined) knowledge.add(a, time, `the server, of ${steady[lane]?.kind}`)
      a.startMember(lane)
      await a.progress()
      if (now() - counted < tickS) continue
      counted = now()
      const beside = await a.quiet(5000, () => count('server, C'))
      if (beside !== '') faults.push(`server, C: ${beside}`)
    }
  }
  const restarting = async (): Promise<void> => {
    for (; goesOn(); restarts++) {
      // At first so often that whoever comes back has done everything often by the time that counts.
      await sleep(draw() * (now() < warmUp(seconds) ? 100 : 3000))
      const before = m.column('epoch')
      knowledge.addClients(m, await m.endServer(draw() < 0.5 ? 'SIGTERM' : 'SIGKILL'))
      await m.startServer(draw() < 0.2 ? 'node' : 'c')
      // An answer may be one of the server before, which a busy client takes late.
      await until('connections', () =>
        m.column('epoch').every((made, i) => made > (before[i] ?? 0)),
      )
      await m.progress()
      await count('client, C')
      await count('client, Node.js')
    }
  }
  const messages = (): number =>
    crews.reduce((sum, crew) => sum + crew.total('answers') + crew.total('dispatches'), 0)
  const watching = async (): Promise<void> => {
    let before = { at: now(), messages: messages(), latency: a.ledger.latency(0) }
    while (goesOn()) {
      await sleep(tickS * 1000)
      const after = { at: now(), messages: messages(), latency: a.ledger.latency(0) }
      const calls = after.latency.map((each, i) => each - (before.latency[i] ?? 0))
      series.p50.push([after.at, latencyUs(calls, 0.5)])
      series.p99.push([after.at, latencyUs(calls, 0.99)])
      series.rate.push([after.at, (after.messages - before.messages) / (after.at - before.at)])
      const known = knowledge.all.slice(told)
      if (known.length > 0) series.known.push([after.at, Math.max(...known)])
      told += known.length
      before = after
      await count('server, Node.js')
      for (const who of collected) {
        const bytes = reported[who]('liveBytes')
        // Reported by itself, every so often; one that does not change has been reported again by then.
        const last = series.live[who].at(-1)
        if (bytes > 0 && (bytes !== last?.[1] || after.at - last[0] >= REPORT_S)) {
          series.live[who].push([after.at, bytes])
          series.leastRss[who].push([after.at, reported[who]('leastRss')])
          series.leastBeside[who].push([after.at, reported[who]('leastBeside')])
        }
      }
      for (const crew of crews) faults.push(...crew.faults())
      tick?.(after.at, after.messages)
    }
  }
  const noted = (run: () => Promise<void>): Promise<void> =>
    run().catch((error: unknown) => void faults.push(String(error)))
  await Promise.all([noted(killing), noted(restarting), noted(watching)])

  const took = now()
  for (const crew of crews) {
    const said = await crew.end()
    if (said !== '') faults.push(said)
    faults.push(...crew.faults())
  }
  const stayed: [Crew, number[]][] = [
    [a, [...steady.keys()].slice(0, IMMORTAL)],
    [b, [...ofNode.keys()]],
    [m, [...mortal.keys()]],
  ]
  for (const [crew, lanes] of stayed)
    faults.push(...lanes.map((lane) => crew.unsettled(lane)).filter((said) => said !== ''))
  const from = warmUp(took)
  const piece: Piece = {
    seconds: took,
    interpreted,
    messages: messages(),
    kills,
    restarts,
    faults: [...new Set(faults)].slice(0, 10),
    deaths: knowledge.all.length,
    lateMs: knowledge.lateMs,
    watched: Object.fromEntries(
      watched.map((who) => [who, kept(series, who, from)]),
    ) as unknown as Piece['watched'],
    live: reports(series.live, from, line),
    leastRss: reports(series.leastRss, from, thinned),
    leastBeside: reports(series.leastBeside, from, thinned),
  }
  return { piece, series, verdicts: judge([piece]) }
}

/** What holds of some runs together. */
export function judge(pieces: readonly Piece[]): Verdict[] {
  const sum = (of: 'seconds' | 'messages' | 'deaths'): number =>
    pieces.reduce((total, piece) => total + piece[of], 0)
  const faults = pieces.flatMap((piece) => piece.faults)
  const lateMs = pieces.reduce((most, piece) => Math.max(most, piece.lateMs), 0)
  return [
    {
      what: 'each message once, whole, in order; each request with one outcome',
      seen: faults.length === 0 ? 'all of them' : faults.join('; '),
      held: faults.length === 0,
    },
    {
      what: `${MESSAGES.toExponential()} messages`,
      seen: `${sum('messages').toExponential(2)} in ${sum('seconds').toFixed(0)} s`,
      held: sum('messages') >= MESSAGES || undefined,
    },
    {
      what: 'a death is known within 1 s',
      seen: `${sum('deaths')} deaths, the slowest ${lateMs.toFixed(1)} ms after the end`,
      held: lateMs < PROMISED_MS,
    },
    ...watched.flatMap((who): Verdict[] => {
      const all = pieces.map((piece) => piece.watched[who])
      const constant = (of: 'fds' | 'maps', name: string): Verdict => {
        const ranges = all.map((kept) => kept[of])
        return {
          what: `${who}: ${name} constant`,
          seen: ranges
            .map(({ least, most, times }) => `${least} to ${most}, ${times} times`)
            .join('; '),
          held: ranges.some(({ times }) => times < 2)
            ? undefined
            : ranges.every(({ least, most }) => least === most),
        }
      }
      const own = judgeGrowth(
        pieces,
        { judgedS: JUDGED_S[who], bytesHourly: SLOPE_MAX },
        (piece) => piece.watched[who].own,
      )
      const rss = slope(own.used.map((piece) => piece.watched[who].rss))
      return [
        constant('fds', 'descriptors'),
        constant('maps', 'mappings'),
        {
          what: `${who}: RSS, rings apart, grows by 10 KiB an hour at most`,
          seen: `${own.seen}; with pages of rings ${kib(rss.hourly)}, ${kib(rss.error)}`,
          held: own.held,
        },
      ]
    }),
    ...collected.flatMap((who) => judgeLive(pieces, who)),
  ]
}

/** Of runs that compiled and of such that did not, each by what it can tell. */
function judgeLive(pieces: readonly Piece[], who: Collected): Verdict[] {
  const of = (piece: Piece): Line => piece.live[who]
  const what = `${who}: in use after a collection, ${kib(SLOPE_MAX)} KiB an hour more at most`
  const verdicts: Verdict[] = []
  const interpreted = pieces.filter((piece) => piece.interpreted)
  if (interpreted.length > 0) {
    for (const [which, of] of [
      ['rings apart', (piece) => piece.leastRss[who]],
      ["rings and V8's heap apart", (piece) => piece.leastBeside[who]],
    ] as const satisfies readonly (readonly [string, (piece: Piece) => readonly Point[]])[]) {
      const { seen, used, enough } = judgeGrowth(interpreted, INTERPRETED, (piece) =>
        line(of(piece)),
      )
      const hourly = medianSlope(used.map(of))
      const bound = 'grows by 10 KiB an hour at most, interpreted'
      verdicts.push({
        what: `${who}: RSS after a collection, ${which}, ${bound}`,
        seen: `${kib(hourly)} KiB an hour, the median of the slopes between any two looks; by least squares ${seen}`,
        held: enough ? hourly <= INTERPRETED.bytesHourly : undefined,
      })
    }
  }
  const compiled = pieces.filter((piece) => !piece.interpreted)
  if (interpreted.length > 0) {
    const { seen, held } = judgeGrowth(interpreted, INTERPRETED, of)
    verdicts.push({ what: `${what}, interpreted`, seen, held })
  }
  if (compiled.length > 0) {
    const late = judgeGrowth(compiled, LIVE_LATE, of)
    // A short run can tell that much leaks. That little does, it cannot: that is left open.
    const soon = judgeGrowth(compiled, LIVE_SOON, of)
    const early = soon.held === false ? false : undefined
    verdicts.push({
      what,
      seen: (late.held === undefined ? soon : late).seen,
      held: late.held ?? early,
    })
  }
  return verdicts
}

const kib = (bytes: number): string => (bytes / 1024).toFixed(1)

/** By the runs that are long enough, if they are long enough together. */
function judgeGrowth(
  pieces: readonly Piece[],
  { judgedS, bytesHourly }: { readonly judgedS: number; readonly bytesHourly: number },
  of: (piece: Piece) => Line,
): Omit<Verdict, 'what'> & { readonly used: readonly Piece[]; readonly enough: boolean } {
  const long = pieces.filter(({ seconds }) => seconds >= PIECE_S)
  const seconds = long.reduce((total, piece) => total + of(piece).seconds, 0)
  const enough = seconds >= judgedS
  const used = enough ? long : pieces
  const { hourly, error } = slope(used.map(of))
  return {
    seen: `${kib(hourly)} KiB an hour, standard error ${kib(error)}; ${seconds.toFixed(0)} s of ${judgedS} s in runs of ${PIECE_S} s and more`,
    held: enough ? hourly <= bytesHourly : undefined,
    used,
    enough,
  }
}
