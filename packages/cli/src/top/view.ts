/** The tables of `coroipc top`: columns, order, and the lines of one screen or one print. */
import { bytesText, type Column, count, durationText, type Output, printable } from '../output.js'
import { userName } from '../servers.js'
import { type Activity, type ConnectionActivity, fillPercent, type Snapshot } from './activity.js'

/** What one may change while it runs. */
export interface Choice {
  readonly sort: SortName
  readonly reverse: boolean
  /** Tools as well, such as this one. */
  readonly all: boolean
}

interface Sorting {
  readonly title: string
  readonly by: (connection: ConnectionActivity) => number | string
}

const fullest = ({ rings }: ConnectionActivity): number =>
  Math.max(fillPercent(rings.request), fillPercent(rings.response), fillPercent(rings.dispatch))

/** What connections can be sorted by. */
export type SortName =
  | 'calls'
  | 'dispatches'
  | 'bytes'
  | 'mean'
  | 'p99'
  | 'busy'
  | 'flight'
  | 'backlog'
  | 'rings'
  | 'cpu'
  | 'service'
  | 'pid'

/** In the order in which the key goes through them. */
const sortings: Readonly<Record<SortName, Sorting>> = {
  calls: { title: 'CALLS/S', by: ({ rates }) => rates.calls },
  dispatches: { title: 'DISP/S', by: ({ rates }) => rates.dispatches },
  bytes: { title: 'IN+OUT/S', by: ({ rates }) => rates.bytesReceived + rates.bytesSent },
  mean: { title: 'MEAN', by: ({ latency }) => latency?.mean ?? 0 },
  p99: { title: 'P99', by: ({ latency }) => latency?.p99 ?? 0 },
  busy: { title: 'BUSY %', by: ({ latency }) => latency?.busyPercent ?? 0 },
  flight: { title: 'FLIGHT', by: ({ inFlight }) => inFlight },
  backlog: { title: 'BACKLOG', by: ({ backlogBytes }) => backlogBytes },
  rings: { title: 'RINGS %', by: fullest },
  cpu: { title: 'CPU %', by: ({ clientCpuPercent }) => clientCpuPercent ?? 0 },
  service: { title: 'SERVICE', by: ({ service }) => service },
  pid: { title: 'PID', by: ({ pid }) => pid },
}

export const sortNames: readonly SortName[] = Object.keys(sortings) as SortName[]

/** Most first; names and numbers that are none of an activity, least first. */
const ascending = new Set<SortName>(['service', 'pid'])

export function sorted(
  connections: readonly ConnectionActivity[],
  { sort, reverse, all }: Choice,
): ConnectionActivity[] {
  const { by } = sortings[sort]
  const direction = ascending.has(sort) === reverse ? -1 : 1
  return connections
    .filter(({ inspection }) => all || !inspection)
    .toSorted((a, b) => {
      const [x, y] = [by(a), by(b)]
      // Those that are equal stay where they are, else an idle screen would jump.
      return x === y ? a.number - b.number : x < y ? -direction : direction
    })
}

const right = (title: string): Column => ({ title, align: 'right' })

const us = (time: number | undefined): string => (time === undefined ? '-' : durationText(time))

const percentText = (percent: number | undefined): string =>
  percent === undefined ? '-' : percent.toFixed(percent < 10 ? 1 : 0)

const rateText = (rate: number): string => (rate > 0 && rate < 10 ? rate.toFixed(1) : count(rate))

const backlogText = ({ backlogMessages, backlogBytes }: Activity): string =>
  backlogMessages === 0 ? '-' : `${count(backlogMessages)} (${bytesText(backlogBytes)})`

/** A time for people: `45 s`, `3 min`, `2.5 h`, `4 d`. */
export function spanText(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`
  return `${Math.round(seconds / 86400)} d`
}

function headLines(name: string, snapshot: Snapshot, output: Output): string[] {
  const { server, rates, cpuPercent } = snapshot
  const { stats, latency, memory, versions, options } = server
  const by = [
    `pid ${server.pid}`,
    `user ${userName(server.uid)}`,
    `up ${spanText(server.uptimeMs)}`,
    `coroipc ${versions.coroipc}`,
    `node ${versions.node}`,
    `wait ${options.wait}`,
  ]
  const all = [
    `${rateText(rates.calls)} calls/s`,
    `${rateText(rates.dispatches)} dispatches/s`,
    `in ${bytesText(rates.bytesReceived)}/s`,
    `out ${bytesText(rates.bytesSent)}/s`,
    `wake-ups ${rateText(rates.doorbells)}/s`,
  ]
  const state = [
    `cpu ${percentText(cpuPercent)} %`,
    `memory ${bytesText(memory.rssBytes)}`,
    `connections ${count(stats.connections)} of ${count(server.limits.connections)}`,
    `refused ${count(stats.connectionsRefused)}`,
    latency === undefined
      ? 'no latencies: new Server({ latency: true })'
      : `p50 ${us(latency.p50)}, p99 ${us(latency.p99)}, max ${us(latency.max)}`,
  ]
  return [
    `${output.style('bold', printable(name))}  ${by.join(', ')}`,
    all.join(', '),
    state.join(', '),
  ]
}

function serviceLines(
  { services }: Snapshot,
  { all }: Choice,
  output: Output,
  width: number,
): string[] {
  const columns: Column[] = [
    { title: 'SERVICE', shrink: true },
    right('CONNECTIONS'),
    right('CALLS/S'),
    right('DISP/S'),
    right('IN/S'),
    right('OUT/S'),
    right('FLIGHT'),
    right('BACKLOG'),
    right('FLOW'),
  ]
  const rows = services
    .filter(({ inspection }) => all || !inspection)
    .map((service) => [
      printable(service.name === undefined ? `${service.id}` : `${service.id} ${service.name}`),
      count(service.connections),
      rateText(service.rates.calls),
      rateText(service.rates.dispatches),
      bytesText(service.rates.bytesReceived),
      bytesText(service.rates.bytesSent),
      count(service.inFlight),
      backlogText(service),
      service.flowControl === 0 ? '-' : count(service.flowControl),
    ])
  return output.tableText(columns, rows, width).split('\n')
}

function connectionLines(
  { connections }: Snapshot,
  choice: Choice,
  output: Output,
  width: number,
): string[] {
  const marked = (name: SortName): string =>
    `${sortings[name].title}${name === choice.sort ? (choice.reverse ? '^' : '*') : ''}`
  const columns: Column[] = [
    { title: 'CONNECTION' },
    right(marked('pid')),
    { title: 'PROGRAM', shrink: true },
    right(marked('service')),
    right(marked('calls')),
    right(marked('dispatches')),
    right(marked('bytes')),
    right(marked('mean')),
    right('P50'),
    right(marked('p99')),
    right(marked('busy')),
    right(marked('flight')),
    right(marked('backlog')),
    { title: 'FLOW' },
    right(marked('rings')),
    right(marked('cpu')),
    right('AGE'),
  ]
  const rows = sorted(connections, choice).map((each) => {
    const { rates, latency, rings } = each
    return [
      each.id.slice(0, 8),
      each.pid,
      printable(each.program ?? '-'),
      each.service,
      rateText(rates.calls),
      rateText(rates.dispatches),
      bytesText(rates.bytesReceived + rates.bytesSent),
      us(latency?.mean),
      us(latency?.p50),
      us(latency?.p99),
      percentText(latency?.busyPercent),
      count(each.inFlight),
      backlogText(each),
      each.flowControl === 0 ? '-' : output.style('yellow', 'on'),
      [rings.request, rings.response, rings.dispatch].map(fillPercent).join('/'),
      percentText(each.clientCpuPercent),
      spanText(each.ageMs),
    ]
  })
  return output.tableText(columns, rows, width).split('\n')
}

/** Everything, one line each: the connections are last, since there may be many. */
export function topLines(
  name: string,
  snapshot: Snapshot,
  choice: Choice,
  output: Output,
  width: number = Infinity,
): string[] {
  return [
    ...headLines(name, snapshot, output),
    '',
    ...serviceLines(snapshot, choice, output, width),
    '',
    ...connectionLines(snapshot, choice, output, width),
  ]
}
