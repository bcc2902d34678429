/**
 * Metrics for prom-client. `ServerMetrics` and `ConnectionMetrics` read `stats()` when somebody scrapes and cost nothing
 * between; `RequestMetrics` times each request by the tracing channels, and costs what they cost.
 *
 * Labels are bounded: those of the first two are names that the program gives; those of the third are ids that have
 * a handler, at most `seriesMax` of them. No client can make series.
 */
import type { LatencyStats, Stats, StatsName, StatsOptions } from '@coroipc/native'
import { integer, invalidArgument } from '@coroipc/native'
import { Counter, Gauge, Histogram, register as theRegister, type Registry } from 'prom-client'
import { exposed } from './stats-names.js'
import { type Side, Subscriptions } from './subscriptions.js'

/** What has counters: a server, or a connection of either side. */
export interface StatsSource {
  stats(options?: StatsOptions): Stats & { readonly latency?: LatencyStats }
}

/** What the collectors take. */
export interface MetricsOptions {
  /** Where the metrics are registered. Default: prom-client's own `register`. */
  readonly register?: Registry | undefined
  /** Begins every name. Default: `coroipc_server_`, `coroipc_client_`. */
  readonly prefix?: string | undefined
  /** Bounds of the latency histogram, seconds, ascending, at most 64. Default: 5 us to 10 s. */
  readonly buckets?: readonly number[] | undefined
}

const BUCKETS: readonly number[] = [
  5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25,
  0.5, 1, 2.5, 5, 10,
]

type Numbers = Map<StatsName, number>

/** What one name adds up to. */
interface Total {
  readonly stats: Numbers
  counts: number[] | undefined
  count: number
  sum_s: number
}

/** A histogram whose counts are somebody else's. */
class ReadHistogram extends Histogram {
  readonly #read: () => Iterable<readonly [labels: Record<string, string>, total: Total]>
  readonly #bounds: readonly number[]
  readonly #name: string
  readonly #help: string

  constructor(
    name: string,
    help: string,
    labelNames: string[],
    bounds: readonly number[],
    read: () => Iterable<readonly [labels: Record<string, string>, total: Total]>,
  ) {
    super({ name, help, labelNames, buckets: [...bounds], registers: [] })
    this.#read = read
    this.#bounds = bounds
    this.#name = name
    this.#help = help
  }

  /** What a registry asks for. */
  override async get(): ReturnType<Histogram['get']> {
    const values = []
    for (const [labels, { counts, count, sum_s }] of this.#read()) {
      if (counts === undefined) continue
      const row = (suffix: string, value: number, le?: number | string) => ({
        metricName: `${this.#name}_${suffix}`,
        value,
        labels: le === undefined ? labels : { le, ...labels },
        exemplar: null,
      })
      for (const [i, bound] of this.#bounds.entries())
        values.push(row('bucket', counts[i] ?? 0, bound))
      values.push(row('bucket', count, '+Inf'), row('sum', sum_s), row('count', count))
    }
    // The types say more than a metric of prom-client's own returns: an enumeration, and a function that could not
    // travel to the registry of a cluster.
    const metric: unknown = {
      name: this.#name,
      help: this.#help,
      type: 'histogram',
      aggregator: 'sum',
      values,
    }
    return metric as Awaited<ReturnType<Histogram['get']>>
  }

  /** The same for the text format; prom-client asks for it by this name. */
  getForPromString(): ReturnType<Histogram['get']> {
    return this.get()
  }
}

/** Sources by the name that stands in their label. Several of one name are added up. */
class StatsMetrics {
  readonly #sources = new Map<StatsSource, string>()
  /** What was last read of each: what it had counted is not lost when it ends. */
  readonly #last = new Map<StatsSource, Total>()
  readonly #ended = new Map<string, Total>()
  readonly #label: string
  readonly #register: Registry
  readonly #names: string[] = []
  readonly #buckets: readonly number[]
  #totals: Map<string, Total> | undefined

  constructor(side: 'server' | 'client', label: string, options: MetricsOptions) {
    const { register = theRegister, prefix = `coroipc_${side}_`, buckets = BUCKETS } = options
    this.#label = label
    this.#register = register
    this.#buckets = buckets
    const labelNames = [label]
    const registers = [register]
    for (const [key, { kind, name, help, side: only }] of Object.entries(exposed)) {
      if (only !== undefined && only !== side) continue
      const fill = (add: (labels: Record<string, string>, value: number) => void): void => {
        for (const [labels, { stats }] of this.#read())
          add(labels, stats.get(key as StatsName) ?? 0)
      }
      if (kind === 'gauge') {
        const gauge: Gauge = new Gauge({
          name: `${prefix}${name}`,
          help,
          labelNames,
          registers,
          collect: () => {
            gauge.reset()
            fill((labels, value) => gauge.set(labels, value))
          },
        })
        this.#names.push(`${prefix}${name}`)
      } else {
        const counter: Counter = new Counter({
          name: `${prefix}${name}_total`,
          help,
          labelNames,
          registers,
          collect: () => {
            counter.reset()
            fill((labels, value) => counter.inc(labels, value))
          },
        })
        this.#names.push(`${prefix}${name}_total`)
      }
    }
    const name = `${prefix}latency_seconds`
    const help =
      side === 'server'
        ? 'Receive to answer; of servers with the option latency'
        : 'Call to outcome; of connections with the option latency'
    register.registerMetric(new ReadHistogram(name, help, labelNames, buckets, () => this.#read()))
    this.#names.push(name)
  }

  add(source: StatsSource, name: string): void {
    if (typeof name !== 'string' || name === '') throw invalidArgument('name', 'a text', name)
    // Before a scrape takes what it throws for the end of the source.
    if (typeof (source as { stats?: unknown } | null | undefined)?.stats !== 'function')
      throw invalidArgument('source', 'a server or a connection (something with stats())', source)
    this.#sources.set(source, name)
  }

  remove(source: StatsSource): void {
    this.#retire(source)
  }

  stop(): void {
    this.#sources.clear()
    for (const name of this.#names) this.#register.removeSingleMetric(name)
  }

  *#read(): Iterable<readonly [labels: Record<string, string>, total: Total]> {
    // A registry asks all its metrics in one go: they tell of the same moment.
    if (this.#totals === undefined) {
      this.#totals = this.#total()
      queueMicrotask(() => {
        this.#totals = undefined
      })
    }
    for (const [name, total] of this.#totals) yield [{ [this.#label]: name }, total]
  }

  #total(): Map<string, Total> {
    const latencyBounds = this.#buckets.map((seconds) => seconds * 1e6)
    for (const source of this.#sources.keys()) {
      try {
        this.#last.set(source, totalOf(source.stats({ latencyBounds })))
      } catch {
        this.#retire(source) // it is closed
      }
    }
    const totals = new Map<string, Total>()
    for (const [name, total] of this.#ended) addTo(totals, name, total, false)
    for (const [source, name] of this.#sources) {
      const total = this.#last.get(source)
      if (total !== undefined) addTo(totals, name, total, true)
    }
    return totals
  }

  #retire(source: StatsSource): void {
    const name = this.#sources.get(source)
    const last = this.#last.get(source)
    this.#sources.delete(source)
    this.#last.delete(source)
    if (name !== undefined && last !== undefined) addTo(this.#ended, name, last, false)
  }
}

function totalOf(stats: Stats & { readonly latency?: LatencyStats }): Total {
  const numbers: Numbers = new Map()
  for (const name of Object.keys(exposed) as StatsName[]) numbers.set(name, stats[name])
  const { latency } = stats
  return {
    stats: numbers,
    counts: latency?.counts?.slice(),
    count: latency?.count ?? 0,
    sum_s: latency === undefined ? 0 : (latency.mean * latency.count) / 1e6,
  }
}

/** @param gauges whether those count: of what has ended they say nothing */
function addTo(totals: Map<string, Total>, name: string, more: Total, gauges: boolean): void {
  let total = totals.get(name)
  if (total === undefined) {
    total = { stats: new Map(), counts: undefined, count: 0, sum_s: 0 }
    totals.set(name, total)
  }
  for (const [key, value] of more.stats) {
    const counted = gauges || exposed[key].kind === 'counter' ? value : 0
    total.stats.set(key, (total.stats.get(key) ?? 0) + counted)
  }
  if (more.counts === undefined) return
  const before = total.counts
  total.counts = more.counts.map((count, i) => count + (before?.[i] ?? 0))
  total.count += more.count
  total.sum_s += more.sum_s
}

/**
 * Servers of this process: their counters, gauges and (with the option `latency`) latencies, read when somebody
 * scrapes. Do not clear their statistics elsewhere: counters would go back.
 *
 * @example
 * const metrics = new ServerMetrics()
 * metrics.add(server, 'demo')
 * response.end(await register.metrics())
 */
export class ServerMetrics {
  readonly #metrics: StatsMetrics

  /** @throws Error of prom-client: the register has metrics of these names already */
  constructor(options: MetricsOptions = {}) {
    this.#metrics = new StatsMetrics('server', 'server', options)
  }

  /** @param name the label `server`; of a few: what it is for, not who it is */
  add(server: StatsSource, name: string): this {
    this.#metrics.add(server, name)
    return this
  }

  /** What it had counted at the last scrape stays. One that is closed goes by itself. */
  remove(server: StatsSource): void {
    this.#metrics.remove(server)
  }

  /** Takes the metrics out of the register. */
  stop(): void {
    this.#metrics.stop()
  }
}

/**
 * Connections of this process as a client, as {@link ServerMetrics}. Several may have one name: they are added up, and
 * what those that end had counted at the last scrape stays.
 *
 * @example
 * const metrics = new ConnectionMetrics()
 * metrics.add(await connect('demo', { service: 7, latency: true }), 'demo')
 */
export class ConnectionMetrics {
  readonly #metrics: StatsMetrics

  /** @throws Error of prom-client: the register has metrics of these names already */
  constructor(options: MetricsOptions = {}) {
    this.#metrics = new StatsMetrics('client', 'connection', options)
  }

  /** @param name the label `connection`; of a few: what it is for, never its random id */
  add(connection: StatsSource, name: string): this {
    this.#metrics.add(connection, name)
    return this
  }

  /** What it had counted at the last scrape stays. One that is closed goes by itself. */
  remove(connection: StatsSource): void {
    this.#metrics.remove(connection)
  }

  /** Takes the metrics out of the register. */
  stop(): void {
    this.#metrics.stop()
  }
}

/** What {@link RequestMetrics} takes. */
export interface RequestMetricsOptions {
  /** Where the metrics are registered. Default: prom-client's own `register`. */
  readonly register?: Registry | undefined
  /** Begins both names. Default `coroipc_`. */
  readonly prefix?: string | undefined
  /** Seconds, ascending. Default: 5 us to 10 s. */
  readonly buckets?: readonly number[] | undefined
  /** Services and requests by name: as in a service's `description`. Default: numbers. */
  readonly names?: ((service: number, id: number) => string | undefined) | undefined
  /** Series at most, of each side; what comes later is counted as request `other`. Default 500. */
  readonly seriesMax?: number | undefined
}

const LABELS = ['service', 'request', 'code'] as const
/** Outcomes of ids that nobody has heard of. */
const strange: ReadonlySet<string> = new Set([
  'ERR_COROIPC_NO_HANDLER',
  'ERR_COROIPC_INVALID_ARGUMENT',
])
const checkSeries = integer(1, 1_000_000)

/**
 * Times each request of this process, of servers and of clients, by the tracing channels: the histograms
 * `coroipc_server_request_seconds` and `coroipc_client_request_seconds` with labels service, request and code. What
 * has no handler is request `other`: no client can make series. Costs about a microsecond a request.
 *
 * @example
 * const metrics = new RequestMetrics()
 */
export class RequestMetrics {
  readonly #register: Registry
  readonly #subscriptions = new Subscriptions()
  readonly #metrics: string[] = []
  readonly #names: (service: number, id: number) => string | undefined
  readonly #seriesMax: number

  /**
   * @throws RangeError or TypeError `ERR_COROIPC_INVALID_ARGUMENT`; Error of prom-client: the register has metrics of
   *   these names already
   */
  constructor(options: RequestMetricsOptions = {}) {
    const { register = theRegister, prefix = 'coroipc_', buckets = BUCKETS } = options
    this.#register = register
    this.#names = options.names ?? (() => undefined)
    this.#seriesMax = options.seriesMax ?? 500
    checkSeries('seriesMax', this.#seriesMax)
    for (const side of ['server', 'client'] as const) this.#observe(side, prefix, buckets)
  }

  /** Ends it, and takes the metrics out of the register. */
  stop(): void {
    this.#subscriptions.end()
    for (const name of this.#metrics) this.#register.removeSingleMetric(name)
  }

  #observe(side: Side, prefix: string, buckets: readonly number[]): void {
    const name = `${prefix}${side}_request_seconds`
    const histogram = new Histogram({
      name,
      help: side === 'server' ? 'From its coming to its answer' : 'From the call to its outcome',
      labelNames: LABELS,
      buckets: [...buckets],
      registers: [this.#register],
    })
    this.#metrics.push(name)
    const started = new WeakMap<object, number>()
    const series = new Set<string>()
    const room = (key: string): boolean => {
      if (!series.has(key) && series.size >= this.#seriesMax) return false
      series.add(key)
      return true
    }
    const label = (number: number, id: number, code: string) => {
      const service = String(number)
      const request = this.#names(number, id) ?? String(id)
      if (!strange.has(code) && room(`${service} ${request} ${code}`))
        return { service, request, code }
      return { service: room(`${service} ${code}`) ? service : 'other', request: 'other', code }
    }
    this.#subscriptions.on(`coroipc:${side}:request`, 'start', (trace: object) => {
      started.set(trace, performance.now())
    })
    this.#subscriptions.requestsOver(side, (trace, { service, id, code }) => {
      const start = started.get(trace)
      if (start === undefined || !started.delete(trace)) return
      histogram.observe(label(service, id, code), (performance.now() - start) / 1000)
    })
  }
}
