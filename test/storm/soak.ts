// A mixed load for as long as wanted, with kills, restarts and slow readers, and a ledger of every message; what is held is
// looked at all the time. Three servers, each with clients of its own:
//
//   steady    in C, never ends; some of its clients are killed all the time, others read 100 times too slowly
//   node      in Node.js, never ends, nor do its clients
//   mortal    ends and comes back all the time; its clients stay
import { held, rssBytes } from '../support/gauge.js'
import type { Program } from '../support/program.js'
import { sleep } from '../support/wait.js'
import { Crew, Knowledge, PROMISED_MS, type Role } from './crew.js'
import { latencyUs } from './ledger.js'

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
const watched = ['server, C', 'server, Node.js', 'client, C', 'client, Node.js'] as const
export type Watched = (typeof watched)[number]

/** Some time in seconds from the start, and a value. */
export type Point = readonly [seconds: number, value: number]

export interface Series {
  readonly rss: Record<Watched, Point[]>
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

export interface Soak {
  readonly seconds: number
  /** Answers and dispatches. */
  readonly messages: number
  readonly kills: number
  readonly restarts: number
  readonly series: Series
  readonly verdicts: readonly Verdict[]
}

/** Warm-up: a fifth of the run, at most ten minutes. */
const warmUp = (seconds: number): number => Math.min(seconds / 5, 600)
/** Runs that are shorter tell nothing about slopes: of C, of Node.js with its heap. */
const JUDGED_S: Readonly<Record<Watched, number>> = {
  'server, C': 1800,
  'client, C': 1800,
  'server, Node.js': 8 * 3600,
  'client, Node.js': 8 * 3600,
}
const SLOPE_MAX = 10 * 1024 // bytes an hour

/** By least squares, in units an hour. */
function slope(points: readonly Point[], from: number): number {
  const used = points.filter(([seconds]) => seconds >= from)
  const mean = (of: 0 | 1): number =>
    used.reduce((sum, point) => sum + point[of], 0) / Math.max(1, used.length)
  const [x, y] = [mean(0), mean(1)]
  const above = used.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  const below = used.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
  return below === 0 ? 0 : (above / below) * 3600
}

const forEach = <Value>(make: () => Value): Record<Watched, Value> =>
  Object.fromEntries(watched.map((who) => [who, make()])) as Record<Watched, Value>

export interface SoakOptions {
  readonly seconds: number
  readonly directory: string
  readonly draw: () => number
  /** Called each second. */
  readonly tick?: (seconds: number, messages: number) => void
}

export async function soak({ seconds, directory, draw, tick }: SoakOptions): Promise<Soak> {
  await using a = await Crew.start({ directory, roles: steady })
  await using b = await Crew.start({ directory, roles: ofNode, server: 'node' })
  await using m = await Crew.start({ directory, roles: mortal })
  const crews = [a, b, m]
  const series: Series = {
    rss: forEach(() => []),
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
  const began = performance.now()
  const now = (): number => (performance.now() - began) / 1000
  const faults: string[] = []
  const goesOn = (): boolean => now() < seconds && faults.length === 0
  let kills = 0
  let restarts = 0
  const knowledge = new Knowledge()
  let told = 0
  const count = async (who: Watched): Promise<void> => {
    const reading = await held({ pid: pids[who]() })
    const fds = Object.entries(reading).filter(([kind]) => kind.startsWith('fd '))
    series.fds[who].push([now(), fds.reduce((sum, [, each]) => sum + each, 0)])
    series.maps[who].push([now(), reading['mapping'] ?? 0])
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
      await sleep(draw() * 3000)
      knowledge.addClients(m, await m.endServer(draw() < 0.5 ? 'SIGTERM' : 'SIGKILL'))
      await m.startServer(draw() < 0.2 ? 'node' : 'c')
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
      for (const who of watched) series.rss[who].push([after.at, rssBytes(pids[who]())])
      await count('server, Node.js')
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
  const verdicts = judge(series, took, faults, knowledge)
  return { seconds: took, messages: messages(), kills, restarts, series, verdicts }
}

function judge(
  series: Series,
  seconds: number,
  faults: readonly string[],
  knowledge: Knowledge,
): Verdict[] {
  const from = warmUp(seconds)
  const values = (points: readonly Point[]): number[] =>
    points.filter(([at]) => at >= from).map(([, value]) => value)
  return [
    {
      what: 'each message once, whole, in order; each request with one outcome',
      seen: faults.length === 0 ? 'all of them' : [...new Set(faults)].slice(0, 10).join('; '),
      held: faults.length === 0,
    },
    {
      what: 'a death is known within 1 s',
      seen: knowledge.text,
      held: knowledge.lateMs < PROMISED_MS,
    },
    ...watched.flatMap((who): Verdict[] => {
      const fds = values(series.fds[who])
      const maps = values(series.maps[who])
      const half = maps.length >> 1
      const grows = slope(series.rss[who], from)
      return [
        {
          what: `${who}: descriptors constant`,
          seen: `${Math.min(...fds)} to ${Math.max(...fds)}, ${fds.length} times`,
          held: fds.length < 2 ? undefined : Math.min(...fds) === Math.max(...fds),
        },
        {
          what: `${who}: mappings do not grow`,
          seen: `${Math.min(...maps)} to ${Math.max(...maps)}, slope ${slope(series.maps[who], from).toFixed(2)} an hour`,
          held:
            maps.length < 4
              ? undefined
              : Math.min(...maps.slice(half)) <= Math.max(...maps.slice(0, half)),
        },
        {
          what: `${who}: RSS grows by 10 KiB an hour at most`,
          seen: `${(grows / 1024).toFixed(1)} KiB an hour`,
          held: seconds < JUDGED_S[who] ? undefined : grows <= SLOPE_MAX,
        },
      ]
    }),
  ]
}
