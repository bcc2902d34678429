/**
 * What the page of `coroipc inspect` is told: looks at the server at an interval while somebody watches, and not
 * otherwise; keeps the last minutes for who comes later; finds the server again when it was restarted.
 *
 * Messages are objects of plain data. They carry what strangers wrote (names, descriptions): the page shows it as text.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { InspectedService, ServiceDescription } from '@coroipc/ipcs'
import { Inspector } from '../inspector.js'
import { type Snapshot, Watch } from '../top/activity.js'

/** Microseconds: where the rows of the heat map end. */
export const HEAT_BOUNDS: readonly number[] = [
  5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7,
]
/** Looks that are kept. */
const HISTORY = 300
/** Connections in one message; the busiest ones. */
const CONNECTIONS_MAX = 200
/** Looks after which services and descriptions are asked for again. */
const CONTRACT_EVERY = 10

/** One moment in the charts. */
export interface Point {
  /** Milliseconds since 1970, of this machine. */
  readonly time: number
  readonly calls: number
  readonly dispatches: number
  readonly bytesReceived: number
  readonly bytesSent: number
  readonly doorbells: number
  readonly cpuPercent: number
  readonly rssBytes: number
  readonly inFlight: number
  readonly backlogMessages: number
  readonly unsentResponses: number
  readonly connections: number
  readonly mean_us?: number | undefined
  /** Calls of this interval in each row of the heat map, the last for those above all bounds. */
  readonly heat?: readonly number[] | undefined
}

export interface Contract {
  readonly service: InspectedService
  readonly description?: ServiceDescription | undefined
}

/** What a viewer is sent, by its name. */
export interface Messages {
  /** First of all. */
  readonly hello: {
    readonly name: string
    readonly intervalMs: number
    readonly bounds: readonly number[]
    readonly history: readonly Point[]
  }
  readonly look: {
    readonly point: Point
    readonly snapshot: Omit<Snapshot, 'connections'>
    readonly connections: Snapshot['connections']
    readonly connectionsLeftOut: number
  }
  readonly contracts: readonly Contract[]
  /** The server cannot be asked now; it is tried again. */
  readonly gone: { readonly message: string }
}

export type Viewer = <Name extends keyof Messages>(name: Name, message: Messages[Name]) => void

export interface FeedOptions {
  readonly name: string
  readonly service: number
  readonly timeoutMs: number
  readonly intervalMs: number
}

export class Feed {
  readonly #options: FeedOptions
  readonly #viewers = new Set<Viewer>()
  readonly #history: Point[] = []
  #contracts: readonly Contract[] = []
  #last: Messages['look'] | undefined
  #gone: string | undefined
  #running = false
  readonly #stop = new AbortController()

  constructor(options: FeedOptions) {
    this.#options = options
  }

  /** Sends to this viewer what there is and what comes. @returns how to end that */
  watch(viewer: Viewer): () => void {
    const { name, intervalMs } = this.#options
    viewer('hello', { name, intervalMs, bounds: HEAT_BOUNDS, history: this.#history })
    if (this.#contracts.length > 0) viewer('contracts', this.#contracts)
    if (this.#gone !== undefined) viewer('gone', { message: this.#gone })
    else if (this.#last !== undefined) viewer('look', this.#last)
    this.#viewers.add(viewer)
    if (!this.#running) void this.#run()
    return () => this.#viewers.delete(viewer)
  }

  get viewers(): number {
    return this.#viewers.size
  }

  stop(): void {
    this.#viewers.clear()
    this.#stop.abort()
  }

  #tell<Name extends keyof Messages>(name: Name, message: Messages[Name]): void {
    for (const viewer of this.#viewers) viewer(name, message)
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#viewers.size > 0) {
      try {
        await this.#follow()
      } catch (error) {
        this.#gone = error instanceof Error ? error.message : String(error)
        this.#tell('gone', { message: this.#gone })
      }
      await this.#pause()
    }
    this.#running = false
  }

  /** Until nobody watches, or the server goes. */
  async #follow(): Promise<void> {
    const { name, service, timeoutMs } = this.#options
    await using inspector = await Inspector.open(name, { service, timeoutMs })
    const watch = new Watch(inspector, HEAT_BOUNDS)
    // The first look tells of all the time before: it is where the second begins.
    let before = await watch.look()
    for (let looks = 0; this.#viewers.size > 0; looks++) {
      if (looks % CONTRACT_EVERY === 0) await this.#readContracts(inspector)
      await this.#pause()
      const snapshot = await watch.look()
      this.#gone = undefined
      const look = messageOf(snapshot, before)
      before = snapshot
      this.#history.push(look.point)
      if (this.#history.length > HISTORY) this.#history.shift()
      this.#last = look
      this.#tell('look', look)
    }
  }

  async #readContracts(inspector: Inspector): Promise<void> {
    const contracts: Contract[] = []
    for (const service of await inspector.services()) {
      const description = service.described
        ? // It may have been taken away meanwhile.
          await inspector.description(service.id).catch(() => undefined)
        : undefined
      contracts.push({ service, description })
    }
    this.#contracts = contracts
    this.#tell('contracts', contracts)
  }

  async #pause(): Promise<void> {
    await delay(this.#options.intervalMs, undefined, { signal: this.#stop.signal }).catch(() => {})
  }
}

function messageOf(snapshot: Snapshot, before: Snapshot): Messages['look'] {
  const { connections, ...rest } = snapshot
  const busiest = connections
    .toSorted((a, b) => b.rates.calls + b.rates.dispatches - a.rates.calls - a.rates.dispatches)
    .slice(0, CONNECTIONS_MAX)
  return {
    point: pointOf(snapshot, before),
    snapshot: rest,
    connections: busiest,
    connectionsLeftOut: connections.length - busiest.length,
  }
}

function pointOf(snapshot: Snapshot, before: Snapshot): Point {
  const { rates, server, latency } = snapshot
  return {
    time: Date.parse(snapshot.time),
    ...rates,
    cpuPercent: snapshot.cpuPercent,
    rssBytes: server.memory.rssBytes,
    inFlight: snapshot.inFlight,
    backlogMessages: snapshot.backlogMessages,
    unsentResponses: snapshot.unsentResponses,
    connections: snapshot.connections.length,
    mean_us: latency?.mean,
    heat: heatOf(server.latency, before.server.latency),
  }
}

interface Counted {
  readonly count: number
  readonly counts?: readonly number[]
}

/** Cumulative counts of two looks, as calls of the interval in each row. */
function heatOf(now: Counted | undefined, before: Counted | undefined): number[] | undefined {
  if (now?.counts === undefined) return undefined
  const upTo = [...now.counts, now.count]
  // Cleared meanwhile: all of them are new.
  const cleared = before?.counts === undefined || before.count > now.count
  const earlier = cleared ? upTo.map(() => 0) : [...(before.counts ?? []), before.count]
  const fresh = upTo.map((count, i) => Math.max(0, count - (earlier[i] ?? 0)))
  return fresh.map((count, i) => Math.max(0, count - (fresh[i - 1] ?? 0)))
}
