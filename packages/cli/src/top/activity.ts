/**
 * What happens in a server between two looks at it: rates from the counters that its inspection tells, as one
 * snapshot for screens and machines. Counters that were cleared meanwhile (`stats({ clear: true })`) count from 0.
 */
import type {
  InspectedConnection,
  InspectedRing,
  InspectedServer,
  InspectedService,
  Stats,
} from '@coroipc/ipcs'
import type { Inspector } from '../inspector.js'
import { ClientProcesses } from './processes.js'

/** A second's worth. */
export interface Rates {
  /** Requests and sends. */
  readonly calls: number
  readonly dispatches: number
  readonly bytesReceived: number
  readonly bytesSent: number
  /** Wake-ups that were sent and received. */
  readonly doorbells: number
}

/** Receive to answer, microseconds; where the server has `latency: true`. */
export interface Times {
  /** Of the calls since the last look. */
  readonly mean: number | undefined
  /** Since the server began, or last cleared it. */
  readonly p50: number
  readonly p99: number
  /**
   * The times from receive to answer of all calls since the last look, in percent of the time between: a hundred times the
   * calls that were in work on average, and where handlers wait for nothing the most that these can have taken of a CPU.
   */
  readonly busyPercent: number
}

export interface Activity {
  readonly rates: Rates
  readonly latency: Times | undefined
  readonly inFlight: number
  readonly backlogMessages: number
  readonly backlogBytes: number
  readonly unsentResponses: number
  /** Connections whose dispatches wait for room. */
  readonly flowControl: number
}

export interface ServiceActivity extends Activity {
  readonly id: number
  readonly name: string | undefined
  readonly inspection: boolean
  readonly connections: number
}

export interface ConnectionActivity extends Activity {
  readonly id: string
  readonly number: number
  readonly service: number
  readonly inspection: boolean
  readonly pid: number
  readonly uid: number
  readonly program: string | undefined
  /** Of the process that connected, all of its threads and connections; of one CPU. Unknown in its first look. */
  readonly clientCpuPercent: number | undefined
  readonly ageMs: number
  readonly rings: InspectedConnection['rings']
}

export interface Snapshot extends Activity {
  /** When, ISO 8601. */
  readonly time: string
  /** Between the two looks. */
  readonly seconds: number
  readonly server: InspectedServer
  /** Of the server's process; of one CPU, in percent: more than 100 with several threads. */
  readonly cpuPercent: number
  readonly services: readonly ServiceActivity[]
  readonly connections: readonly ConnectionActivity[]
}

/** What rates are made of. */
interface Counted {
  readonly stats: Partial<Stats>
  readonly latency: { readonly count: number; readonly mean: number } | undefined
}

interface Look {
  readonly server: InspectedServer
  readonly services: readonly InspectedService[]
  readonly connections: readonly InspectedConnection[]
  readonly totals: ReadonlyMap<number, Partial<Stats>>
}

type Counter = keyof Stats

const value = (stats: Partial<Stats>, name: Counter): number => stats[name] ?? 0

function ratesOf(now: Partial<Stats>, before: Partial<Stats> | undefined, seconds: number): Rates {
  const rate = (...names: Counter[]): number => {
    let sum = 0
    for (const name of names) {
      const [to, from] = [value(now, name), before === undefined ? 0 : value(before, name)]
      sum += to >= from ? to - from : to
    }
    return seconds > 0 ? sum / seconds : 0
  }
  return {
    calls: rate('requests'),
    dispatches: rate('dispatches'),
    bytesReceived: rate('bytesReceived'),
    bytesSent: rate('bytesSent'),
    doorbells: rate('doorbellsSent', 'doorbellsReceived'),
  }
}

function timesOf(
  now: (Counted['latency'] & { readonly p50: number; readonly p99: number }) | undefined,
  before: Counted['latency'],
  seconds: number,
): Times | undefined {
  if (now === undefined) return undefined
  const from = before !== undefined && before.count <= now.count ? before : { count: 0, mean: 0 }
  const calls = now.count - from.count
  const all_us = now.mean * now.count - from.mean * from.count
  return {
    mean: calls === 0 ? undefined : all_us / calls,
    p50: now.p50,
    p99: now.p99,
    busyPercent: seconds > 0 ? Math.max(all_us, 0) / 1e4 / seconds : 0,
  }
}

const gauges = (stats: Partial<Stats>): Omit<Activity, 'rates' | 'latency'> => ({
  inFlight: value(stats, 'inFlight'),
  backlogMessages: value(stats, 'backlogMessages'),
  backlogBytes: value(stats, 'backlogBytes'),
  unsentResponses: value(stats, 'unsentResponses'),
  flowControl: value(stats, 'flowControl'),
})

/** Counters of each service: what ended connections had, and those that are there. */
function totalsOf(
  services: readonly InspectedService[],
  connections: readonly InspectedConnection[],
): Map<number, Partial<Stats>> {
  const totals = new Map<number, Partial<Record<Counter, number>>>(
    services.map(({ id, ended }) => [id, { ...ended }]),
  )
  for (const { service, stats } of connections) {
    const total = totals.get(service)
    if (total === undefined) continue
    for (const [name, count] of Object.entries(stats) as [Counter, number][])
      total[name] = (total[name] ?? 0) + count
  }
  return totals
}

/** How full a ring is, in percent. */
export const fillPercent = ({ bytes, used }: InspectedRing): number =>
  bytes === 0 ? 0 : Math.round((used / bytes) * 100)

/** Looks at a server again and again. */
export class Watch {
  readonly #inspector: Inspector
  readonly #processes = new ClientProcesses()
  #before: Look | undefined

  readonly #latencyBounds: readonly number[] | undefined

  /** @param latencyBounds what `server.latency.counts` of the looks is about */
  constructor(inspector: Inspector, latencyBounds?: readonly number[]) {
    this.#inspector = inspector
    this.#latencyBounds = latencyBounds
  }

  /** What happened since the last look; the first one tells rates since each connection began. */
  async look(): Promise<Snapshot> {
    const inspector = this.#inspector
    const [server, services, connections] = await Promise.all([
      inspector.server(this.#latencyBounds),
      inspector.services(),
      inspector.connections(),
    ])
    const now: Look = { server, services, connections, totals: totalsOf(services, connections) }
    const before = this.#before
    this.#before = now
    return this.#snapshot(now, before)
  }

  #snapshot(now: Look, before: Look | undefined): Snapshot {
    const { server } = now
    const seconds = (server.nowMs - (before?.server.nowMs ?? server.nowMs - server.uptimeMs)) / 1000
    const cpu = server.cpu.user + server.cpu.system
    const cpuBefore = before === undefined ? 0 : before.server.cpu.user + before.server.cpu.system
    // A server of another pid namespace, as in a container, tells pids that are other processes here.
    const samePids = this.#inspector.connection.server.pid === server.pid
    const processOf = this.#processes.look(samePids ? now.connections.map(({ pid }) => pid) : [])
    const earlier = new Map((before?.connections ?? []).map((each) => [each.id, each]))
    return {
      time: new Date().toISOString(),
      seconds,
      server,
      cpuPercent: seconds > 0 ? (cpu - cpuBefore) / 1e4 / seconds : 0,
      rates: ratesOf(server.stats, before?.server.stats, seconds),
      latency: timesOf(server.latency, before?.server.latency, seconds),
      ...gauges(server.stats),
      services: now.services.map(({ id, name, inspection, connections }) => {
        const total = now.totals.get(id) ?? {}
        return {
          id,
          name,
          inspection: inspection === true,
          connections,
          rates: ratesOf(total, before?.totals.get(id), seconds),
          latency: undefined,
          ...gauges(total),
        }
      }),
      connections: now.connections.map((each) => {
        const { id, number, service, pid, uid, ageMs, rings, stats, latency } = each
        const last = earlier.get(id)
        const elapsed = last === undefined ? ageMs / 1000 : seconds
        const { program, cpuPercent } = processOf(pid)
        return {
          id,
          number,
          service,
          inspection: each.inspection === true,
          pid,
          uid,
          program,
          clientCpuPercent: cpuPercent,
          ageMs,
          rings,
          rates: ratesOf(stats, last?.stats, elapsed),
          latency: timesOf(latency, last?.latency, elapsed),
          ...gauges(stats),
        }
      }),
    }
  }
}
