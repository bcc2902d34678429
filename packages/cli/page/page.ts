/**
 * The page of `coroipc inspect`, in the browser: listens to the events of the page's server and draws them.
 *
 * Names, programs and descriptions were written by strangers. They become text nodes here, and text on a canvas in the
 * charts; nowhere markup.
 */
import type * as ECharts from 'echarts'
import type { Contract, Messages, Point } from '../src/inspect/feed.js'
import { type Column, SortedTable } from './table.js'
import { element, text } from './dom.js'
import { bytes, count, duration, memory, share } from './units.js'

declare const echarts: typeof ECharts

type Look = Messages['look']
type Connection = Look['connections'][number]

const POINTS = 300
/** Connections in the chart of the rings. */
const RINGS = 12

const byId = (id: string): HTMLElement => {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page has no ${id}`)
  return found
}

// -- theme --------------------------------------------------------------------------------------------

const root = document.documentElement
const darkSystem = matchMedia('(prefers-color-scheme: dark)')
let dark = darkSystem.matches

const colour = (name: string): string => getComputedStyle(root).getPropertyValue(`--${name}`).trim()

function applyTheme(): void {
  root.dataset['theme'] = dark ? 'dark' : 'light'
  byId('theme').textContent = dark ? 'Light' : 'Dark'
  for (const chart of charts) chart.draw()
}

// -- charts -------------------------------------------------------------------------------------------

const charts: Chart[] = []
const points: Point[] = []
let connections: readonly Connection[] = []
let bounds: readonly number[] = []

/** One chart: how it looks is made anew from what there is; echarts draws what has changed. */
class Chart {
  readonly #chart: ECharts.ECharts
  readonly #option: () => ECharts.EChartsOption

  constructor(id: string, option: () => ECharts.EChartsOption) {
    const place = byId(id)
    this.#chart = echarts.init(place)
    this.#option = option
    new ResizeObserver(() => this.#chart.resize()).observe(place)
  }

  draw(): void {
    this.#chart.setOption({
      animation: false,
      textStyle: { color: colour('soft'), fontFamily: 'system-ui, sans-serif' },
      ...this.#option(),
    })
  }
}

const frame = { left: 64, right: 20, top: 34, bottom: 26 }

/** A tooltip is drawn, not written as markup. */
const tooltip = (formatter: (index: number) => string): ECharts.TooltipComponentOption => ({
  trigger: 'axis',
  renderMode: 'richText',
  backgroundColor: colour('panel'),
  borderColor: colour('line'),
  textStyle: { color: colour('text'), fontSize: 12 },
  formatter: (params) => {
    const [first] = Array.isArray(params) ? params : [params]
    return formatter(first?.dataIndex ?? 0)
  },
})

const clock = (time: number): string => new Date(time).toLocaleTimeString()
const axisLine = () => ({ lineStyle: { color: colour('line') } })

const timeAxis = (): ECharts.XAXisComponentOption => ({
  type: 'category',
  data: points.map(({ time }) => clock(time)),
  boundaryGap: false,
  axisLine: axisLine(),
  axisTick: { show: false },
  axisLabel: { color: colour('soft'), hideOverlap: true },
})

const valueAxis = (
  format: (value: number) => string,
  more: object = {},
): ECharts.YAXisComponentOption => ({
  type: 'value',
  min: 0,
  splitLine: { lineStyle: { color: colour('line') } },
  axisLabel: { color: colour('soft'), formatter: format },
  ...more,
})

interface Line {
  readonly name: string
  readonly colour: string
  readonly of: (point: Point) => number
  readonly format: (value: number) => string
  readonly axis?: number
}

function lines(all: readonly Line[], axes: ECharts.YAXisComponentOption[]): ECharts.EChartsOption {
  return {
    grid: { ...frame, right: axes.length > 1 ? 74 : frame.right },
    legend: {
      top: 4,
      right: 8,
      icon: 'roundRect',
      itemHeight: 4,
      textStyle: { color: colour('soft') },
    },
    tooltip: tooltip((index) => {
      const point = points[index]
      if (point === undefined) return ''
      return [
        clock(point.time),
        ...all.map(({ name, of, format }) => `${name}  ${format(of(point))}`),
      ].join('\n')
    }),
    xAxis: timeAxis(),
    yAxis: axes,
    series: all.map((line) => ({
      type: 'line',
      name: line.name,
      yAxisIndex: line.axis ?? 0,
      showSymbol: points.length === 1,
      color: colour(line.colour),
      lineStyle: { width: 1.6 },
      areaStyle: { opacity: line.axis === undefined ? 0.08 : 0 },
      data: points.map(line.of),
    })),
  }
}

const perSecond = (value: number): string => `${count(value)}/s`
const bytesPerSecond = (value: number): string => `${bytes(value)}/s`

function heatOption(): ECharts.EChartsOption {
  const rows = [
    ...bounds.map((bound) => `≤ ${duration(bound)}`),
    `> ${duration(bounds.at(-1) ?? 0)}`,
  ]
  const cells: [number, number, number][] = []
  let most = 1
  for (const [x, { heat }] of points.entries())
    for (const [y, calls] of (heat ?? []).entries())
      if (calls > 0) {
        cells.push([x, y, calls])
        most = Math.max(most, calls)
      }
  return {
    grid: { ...frame, left: 76, right: 20, top: 12 },
    tooltip: {
      ...tooltip(() => ''),
      trigger: 'item',
      formatter: (params) => {
        const [first] = Array.isArray(params) ? params : [params]
        const [x = 0, y = 0, calls = 0] = (first?.value ?? []) as number[]
        return `${clock(points[x]?.time ?? 0)}\n${rows[y] ?? ''}  ${count(calls)} calls`
      },
    },
    xAxis: { ...timeAxis(), boundaryGap: true } as ECharts.XAXisComponentOption,
    yAxis: {
      type: 'category',
      data: rows,
      axisLine: axisLine(),
      axisTick: { show: false },
      axisLabel: { color: colour('soft') },
    },
    // Rare slow calls are what one looks for: the scale is logarithmic, so that one call is seen beside a million.
    visualMap: {
      show: false,
      min: 0,
      max: Math.log(most + 1),
      dimension: 3,
      inRange: { color: [colour('heat-low'), colour('heat-mid'), colour('heat-high')] },
    },
    series: [
      {
        type: 'heatmap',
        data: cells.map(([x, y, calls]) => [x, y, calls, Math.log(calls + 1)]),
        progressive: 0,
      },
    ],
  }
}

type Rings = Connection['rings']
const fill = ({ bytes: size, used }: Rings['request']): number =>
  size === 0 ? 0 : (100 * used) / size
const fills = ({ request, response, dispatch }: Rings): number[] =>
  [request, response, dispatch].map(fill)

function ringsOption(): ECharts.EChartsOption {
  const fullest = connections
    .toSorted((a, b) => Math.max(...fills(b.rings)) - Math.max(...fills(a.rings)))
    .slice(0, RINGS)
    .sort((a, b) => a.number - b.number)
  const labels = fullest.map(({ number, service }) => `#${number} service ${service}`)
  const names = ['request', 'response', 'dispatch'] as const
  const colours = ['one', 'two', 'three']
  return {
    grid: { ...frame, left: 50 },
    legend: {
      top: 4,
      right: 8,
      icon: 'roundRect',
      itemHeight: 8,
      textStyle: { color: colour('soft') },
    },
    tooltip: tooltip((index) => {
      const connection = fullest[index]
      if (connection === undefined) return ''
      const rows = names.map((name) => {
        const { bytes: size, used } = connection.rings[name]
        return `${name}  ${memory(used)} of ${memory(size)}`
      })
      return [labels[index] ?? '', connection.program ?? `pid ${connection.pid}`, ...rows].join(
        '\n',
      )
    }),
    xAxis: {
      type: 'category',
      data: labels,
      axisLine: axisLine(),
      axisTick: { show: false },
      axisLabel: { color: colour('soft'), hideOverlap: true },
    },
    yAxis: valueAxis(share, { max: 100 }),
    series: names.map((name, i) => ({
      type: 'bar',
      name,
      color: colour(colours[i] ?? 'one'),
      barMaxWidth: 22,
      // A ring that is all but empty is still seen to be there.
      barMinHeight: 1,
      data: fullest.map(({ rings }) => fill(rings[name])),
    })),
  }
}

function makeCharts(): void {
  const add = (id: string, option: () => ECharts.EChartsOption): void => {
    charts.push(new Chart(id, option))
  }
  add('rates', () =>
    lines(
      [
        { name: 'calls', colour: 'one', of: (point) => point.calls, format: perSecond },
        { name: 'dispatches', colour: 'two', of: (point) => point.dispatches, format: perSecond },
      ],
      [valueAxis(count)],
    ),
  )
  add('bytes', () =>
    lines(
      [
        {
          name: 'received',
          colour: 'one',
          of: (point) => point.bytesReceived,
          format: bytesPerSecond,
        },
        { name: 'sent', colour: 'two', of: (point) => point.bytesSent, format: bytesPerSecond },
      ],
      [valueAxis(bytes)],
    ),
  )
  add('waiting', () =>
    lines(
      [
        { name: 'in flight', colour: 'one', of: (point) => point.inFlight, format: count },
        { name: 'backlog', colour: 'two', of: (point) => point.backlogMessages, format: count },
        {
          name: 'unsent answers',
          colour: 'three',
          of: (point) => point.unsentResponses,
          format: count,
        },
      ],
      [valueAxis(count, { minInterval: 1 })],
    ),
  )
  add('process', () =>
    lines(
      [
        { name: 'CPU', colour: 'one', of: (point) => point.cpuPercent, format: share },
        { name: 'memory', colour: 'two', of: (point) => point.rssBytes, format: bytes, axis: 1 },
      ],
      [valueAxis(share), valueAxis(bytes, { splitLine: { show: false } })],
    ),
  )
  add('heat', heatOption)
  add('rings', ringsOption)
}

// -- figures and tables -------------------------------------------------------------------------------

const figures = new Map<string, HTMLElement>()

function figure(name: string, value: string): void {
  let place = figures.get(name)
  if (place === undefined) {
    place = element('dd')
    figures.set(name, place)
    byId('figures').append(element('dl', { class: 'figure' }, [element('dt', {}, [name]), place]))
  }
  if (place.textContent !== value) place.textContent = value
}

function showFigures({ point, snapshot }: Look): void {
  const { latency } = snapshot
  figure('calls', perSecond(point.calls))
  figure('dispatches', perSecond(point.dispatches))
  figure('received', bytesPerSecond(point.bytesReceived))
  figure('sent', bytesPerSecond(point.bytesSent))
  figure('wake-ups', perSecond(point.doorbells))
  figure('connections', count(point.connections))
  figure('in flight', count(point.inFlight))
  figure('backlog', count(point.backlogMessages))
  figure('CPU', share(point.cpuPercent))
  figure('memory', bytes(point.rssBytes))
  if (latency === undefined) return
  figure('latency, mean', latency.mean === undefined ? '–' : duration(latency.mean))
  figure('p99 since start', duration(latency.p99))
}

const latencyOf =
  (pick: (times: NonNullable<Connection['latency']>) => number | undefined) =>
  ({ latency }: Connection): number =>
    latency === undefined ? -1 : (pick(latency) ?? -1)
const known = (value: number): string => (value < 0 ? '–' : duration(value))

const shareOf = (value: number): string => (value < 0 ? '–' : share(value))

const columns: readonly Column<Connection>[] = [
  { title: '#', sort: ({ number }) => number, show: String },
  { title: 'service', sort: ({ service }) => service, show: String },
  { title: 'program', sort: ({ program }) => program ?? '', isText: true },
  { title: 'pid', sort: ({ pid }) => pid, show: String },
  { title: 'CPU', sort: ({ clientCpuPercent }) => clientCpuPercent ?? -1, show: shareOf },
  { title: 'uid', sort: ({ uid }) => uid, show: String },
  { title: 'age', sort: ({ ageMs }) => ageMs, show: (ms) => duration(ms * 1000) },
  { title: 'calls/s', sort: ({ rates }) => rates.calls },
  { title: 'dispatches/s', sort: ({ rates }) => rates.dispatches },
  { title: 'in/s', sort: ({ rates }) => rates.bytesReceived, show: bytes },
  { title: 'out/s', sort: ({ rates }) => rates.bytesSent, show: bytes },
  { title: 'mean', sort: latencyOf(({ mean }) => mean), show: known },
  { title: 'p99', sort: latencyOf(({ p99 }) => p99), show: known },
  { title: 'busy', sort: latencyOf(({ busyPercent }) => busyPercent), show: shareOf },
  { title: 'in flight', sort: ({ inFlight }) => inFlight },
  { title: 'backlog', sort: ({ backlogMessages }) => backlogMessages },
  {
    title: 'flow control',
    sort: ({ flowControl }) => flowControl,
    show: (on) => (on === 0 ? 'off' : 'on'),
    mark: ({ flowControl }) => flowControl !== 0,
  },
  { title: 'rings', sort: ({ rings }) => Math.max(...fills(rings)), show: share },
]

const table = new SortedTable<Connection>(
  byId('connections'),
  columns,
  'calls/s',
  ({ inspection }) => (inspection ? 'tool' : ''),
)

function showServer({ server }: Look['snapshot']): void {
  const { address = '', pid, uid, command, versions, uptimeMs, options } = server
  byId('about').textContent = [
    address,
    `pid ${pid}`,
    `uid ${uid}`,
    command.join(' '),
    `coroipc ${versions.coroipc}, Node.js ${versions.node}`,
    `up ${duration(uptimeMs * 1000)}`,
    `wait ${options.wait}, poll ${options.poll}`,
  ].join(' · ')
}

type Message = NonNullable<NonNullable<Contract['description']>['requests']>[number]

function schema(title: string, value: unknown): Node[] {
  if (value === undefined) return []
  const shown = element('pre', {}, [JSON.stringify(value, undefined, 2)])
  return [element('details', {}, [element('summary', {}, [title]), shown])]
}

function messageRows(
  kind: string,
  messages: Readonly<Record<number, Partial<Message> & { payload?: unknown }>> | undefined,
): HTMLElement[] {
  return Object.entries(messages ?? {}).map(([id, message]) =>
    element('tr', {}, [
      element('td', { class: 'text' }, [kind]),
      element('td', {}, [id]),
      element('td', { class: 'text' }, [text(message.name)]),
      element('td', { class: 'text' }, [text(message.codec)]),
      element('td', { class: 'text' }, [
        text(message.summary),
        message.oneWay === true ? ' (one way)' : '',
        ...schema('request', message.request),
        ...schema('response', message.response),
        ...schema('payload', message.payload),
      ]),
    ]),
  )
}

let shownContracts = ''

function showContracts(contracts: readonly Contract[]): void {
  // Counters change, which are not shown: what is open stays open until the contract itself does.
  const shown = JSON.stringify(
    contracts.map(({ service: { id, name, version, summary }, description }) => [
      [id, name, version, summary],
      description,
    ]),
  )
  if (shown === shownContracts) return
  shownContracts = shown
  const services = contracts.map(({ service, description }) => {
    const { id, name, version, summary, inspection } = service
    const rows = [
      ...messageRows('request', description?.requests),
      ...messageRows('dispatch', description?.dispatches),
    ]
    const head = ['kind', 'id', 'name', 'codec', 'summary'].map((title) =>
      element('th', title === 'id' ? {} : { class: 'text' }, [title]),
    )
    const title = `${id}${name === undefined ? '' : ` · ${name}`}${version === undefined ? '' : ` ${version}`}`
    return element('div', { class: 'service' }, [
      element('h3', {}, [title]),
      ...(summary === undefined ? [] : [element('p', {}, [text(summary)])]),
      ...(description === undefined && inspection !== true
        ? [element('p', {}, ['No description: addService({ description }) gives it names.'])]
        : []),
      ...(rows.length === 0 ? [] : [element('table', {}, [element('tr', {}, head), ...rows])]),
    ])
  })
  byId('services').replaceChildren(...services)
}

// -- events -------------------------------------------------------------------------------------------

let paused = false
let last: Look | undefined

function setState(state: 'live' | 'paused' | 'gone', words: string): void {
  const place = byId('state')
  place.className = `state ${state}`
  place.textContent = words
}

function show(look: Look): void {
  setState('live', 'live')
  connections = look.connections
  showServer(look.snapshot)
  showFigures(look)
  table.show(connections)
  const { connectionsLeftOut } = look
  byId('connections-count').textContent =
    connectionsLeftOut === 0
      ? count(connections.length)
      : `the busiest; ${count(connectionsLeftOut)} more`
  const heat = points.some((point) => point.heat !== undefined)
  byId('heat').hidden = !heat
  byId('no-heat').hidden = heat
  byId('rings').hidden = connections.length === 0
  byId('no-rings').hidden = connections.length > 0
  for (const chart of charts) chart.draw()
}

const on = <Name extends keyof Messages>(
  events: EventSource,
  name: Name,
  listener: (message: Messages[Name]) => void,
): void => {
  events.addEventListener(name, (event) => {
    listener(JSON.parse((event as MessageEvent<string>).data) as Messages[Name])
  })
}

function listen(): void {
  const events = new EventSource('events')
  on(events, 'hello', (hello) => {
    byId('name').textContent = hello.name
    document.title = `${hello.name} · coroipc inspect`
    bounds = hello.bounds
    points.splice(0, points.length, ...hello.history)
  })
  on(events, 'contracts', showContracts)
  on(events, 'look', (look) => {
    if (points.at(-1)?.time !== look.point.time) points.push(look.point)
    if (points.length > POINTS) points.shift()
    last = look
    if (!paused) show(look)
  })
  on(events, 'gone', ({ message }) => setState('gone', message))
  // It connects again by itself; a command that was ended does not come back under this address.
  events.addEventListener('error', () => setState('gone', 'coroipc inspect has ended'))
}

byId('pause').addEventListener('click', ({ currentTarget }) => {
  paused = !paused
  const button = currentTarget as HTMLElement
  button.textContent = paused ? 'Go on' : 'Pause'
  button.setAttribute('aria-pressed', String(paused))
  if (paused) setState('paused', 'paused')
  else if (last !== undefined) show(last)
})
byId('theme').addEventListener('click', () => {
  dark = !dark
  applyTheme()
})
darkSystem.addEventListener('change', ({ matches }) => {
  dark = matches
  applyTheme()
})

makeCharts()
applyTheme()
listen()
