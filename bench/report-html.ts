// bench/report.html: one file that needs nothing else, to look at and to show. Curves are drawn by
// ECharts without a browser; their colours are CSS variables, so that one drawing serves light and dark.
import * as charts from 'echarts/charts'
import * as components from 'echarts/components'
import * as echarts from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'
import {
  caseText,
  columns,
  figure,
  legend,
  machineText,
  metText,
  NOT_MEASURED,
  payload,
  perSecond,
  type Report,
  subjectsText,
} from './report.js'
import type { ResultRow } from './result.js'
import type { Subject } from './subject.js'

echarts.use([
  charts.BarChart,
  charts.LineChart,
  components.GridComponent,
  components.LegendComponent,
  components.TitleComponent,
  SVGRenderer,
])

const WIDTH = 720
const HEIGHT = 400
/** Beside a chart: what fits there at the size of a legend. */
const LEGEND_WIDTH = 215
/** Of a chart of bars: each bar, and title and axis. */
const BAR_HEIGHT = 21
const BARS_HEIGHT = 92

/** Curves of these only: with all, no curve could be told from another. The bars have everybody. */
const CURVES = /^(floor-c|coroipc.*|node-net|libqb|zeromq-.*|worker-port|fork-advanced)$/

interface Line {
  readonly name: string
  readonly subject: string
  readonly points: readonly (readonly [number | string, number])[]
}

interface Chart {
  readonly title: string
  /** Names of the places of the x axis; undefined: a logarithmic one. */
  readonly places?: readonly string[]
  readonly x: string
  readonly xText?: (value: number) => string
  /** Of the x axis; 2 if nothing is said. */
  readonly logBase?: number
  readonly y: string
  readonly yText?: (value: number) => string
  readonly lines: readonly Line[]
}

/** One figure of each subject, the best first. */
interface Bars {
  readonly title: string
  readonly x: string
  readonly better: 'less' | 'more'
  readonly text: (value: number) => string
  readonly bars: readonly {
    readonly name: string
    readonly subject: string
    readonly value: number
  }[]
}

export function htmlReport(report: Report, subjects: readonly Subject[]): string {
  const names = [...new Set(report.rows.map((row) => row.subject))]
  const compared = barsOf(report).filter(({ bars }) => bars.length > 1)
  const drawn = chartsOf(report).filter(({ lines }) =>
    lines.some(({ points }) => new Set(points.map(([x]) => x)).size > 1),
  )
  const told = subjects.filter(({ name }) => names.includes(name))
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>coroipc benchmarks, ${escape(report.machine.date.slice(0, 10))}</title>
<style>${style}</style>
</head>
<body>
<h1>coroipc benchmarks</h1>
<p>${escape(report.machine.date)}</p>
<pre>${escape(machineText(report.machine))}</pre>
${compared.length === 0 ? '' : section('At a glance', `<div class="charts">${compared.map(drawBars).join('\n')}</div>`)}
${section('Goals', goalsTable(report))}
${section('Curves', `<div class="charts">${drawn.map((chart) => draw(chart, names)).join('\n')}</div>`)}
${section('Rows', `<p>${escape(legend(report.repetitions))}</p>${rowsTable(report.rows)}`)}
${section('Subjects', `<pre>${escape(subjectsText(told))}</pre>`)}
${notes(report)}
</body>
</html>
`
}

// -- what is drawn ---------------------------------------------------------------------------------

const isTime = (key: 'p50_us' | 'perSecond' | 'megabytesPerSecond'): boolean => key === 'p50_us'

/** What each subject does best with the same question. */
function barsOf({ rows }: Report): Bars[] {
  const microseconds = (value: number): string =>
    value >= 1000 ? `${figure(value / 1000)} ms` : `${figure(value)} us`
  const question = (
    title: string,
    key: 'p50_us' | 'perSecond' | 'megabytesPerSecond',
    of: (row: ResultRow) => boolean,
  ): Bars => {
    const better = (a: number, b: number): boolean => (isTime(key) ? a < b : a > b)
    const found = new Map<string, number>()
    for (const row of rows) {
      const value = row[key]
      if (row.error !== null || value === null || value <= 0 || !of(row)) continue
      const before = found.get(row.subject)
      if (before === undefined || better(value, before)) found.set(row.subject, value)
    }
    const bars = [...found].map(([subject, value]) => ({ name: subject, subject, value }))
    return {
      title,
      x: isTime(key) ? 'p50' : key === 'perSecond' ? 'per second' : 'MB/s',
      better: isTime(key) ? 'less' : 'more',
      text: isTime(key) ? microseconds : key === 'perSecond' ? perSecond : (value) => figure(value),
      bars: bars.sort((a, b) => (better(a.value, b.value) ? -1 : 1)),
    }
  }
  const call = (row: ResultRow, variant: ResultRow['variant'], ...placed: string[]): boolean =>
    row.case === 'rtt-sync' &&
    row.payloadBytes === 64 &&
    row.variant === variant &&
    placed.includes(row.placement)
  const large = (row: ResultRow): boolean =>
    row.case === 'bandwidth' && row.payloadBytes === 65536 && row.touch === 'full'
  return [
    question('A call of 64 B, two CPUs, one after the other', 'p50_us', (row) =>
      call(row, null, 'two-cpus'),
    ),
    question('A call of 64 B, one CPU', 'p50_us', (row) => call(row, null, 'one-cpu')),
    question('A call of 64 B each millisecond, nobody spins', 'p50_us', (row) =>
      row.wait === 'spin' ? false : call(row, 'paced', 'two-cpus'),
    ),
    question(
      'Calls of 64 B, 64 in flight',
      'perSecond',
      (row) =>
        row.case === 'pipelined' &&
        row.payloadBytes === 64 &&
        row.inFlight === 64 &&
        row.placement === 'two-cpus',
    ),
    question(
      'Messages of 64 B, server to client',
      'perSecond',
      (row) =>
        row.case === 'dispatch' &&
        row.payloadBytes === 64 &&
        row.variant === null &&
        row.placement === 'two-cpus',
    ),
    question(
      '64 KiB, written and read in full, owned by the receiver',
      'megabytesPerSecond',
      (row) => large(row) && row.variant === 'owned',
    ),
    question(
      'Making a connection, one after the other',
      'p50_us',
      (row) => row.case === 'connect' && row.connections === 1,
    ),
    question(
      'Until a waiting call is told that its server was killed',
      'p50_us',
      (row) => row.case === 'server-death',
    ),
  ]
}

function chartsOf(report: Report): Chart[] {
  const { rows } = report
  const good = rows.filter(({ error, subject }) => error === null && CURVES.test(subject))
  return [
    ...distributions(report, good),
    ...overSize(good),
    ...overDepth(good),
    ...overConnections(good),
  ]
}

/** Latency at each percentile, of the questions that several subjects were asked. */
function distributions({ distribution }: Report, rows: readonly ResultRow[]): Chart[] {
  const shown = distribution
    .map((fraction, i) => ({ fraction, i }))
    .filter(({ fraction }) => fraction >= 0.01)
  const places = shown.map(({ fraction }) =>
    fraction === 1 ? 'max' : `p${Number((fraction * 100).toFixed(2))}`,
  )
  const cases: readonly string[] = ['rtt-sync', 'rtt-async', 'connect', 'server-death']
  const questions = new Map<string, ResultRow[]>()
  for (const row of rows) {
    if (!cases.includes(row.case) || row.distribution_us === null) continue
    // Of the sizes one: what is said of others is said by the curve over size.
    if (row.payloadBytes !== 64) continue
    const asleep = row.wait === 'sleep' && row.case === 'rtt-sync' && row.variant === null
    const open = row.connections > 1 && row.case === 'connect' ? `, ${row.connections} at once` : ''
    const waiting =
      row.case !== 'rtt-sync' || row.variant !== null ? '' : asleep ? ', asleep' : ', awake'
    const key = `${caseText(row)} ${payload(row.payloadBytes)}, ${row.placement}${waiting}${open}`
    questions.set(key, [...(questions.get(key) ?? []), row])
  }
  // A subject that always sleeps belongs beside those that were told to.
  for (const [key, asked] of questions) {
    const awake = questions.get(key.replace(', asleep', ', awake'))
    if (key.endsWith(', asleep') && awake !== undefined)
      asked.push(...awake.filter((row) => row.wait === 'own'))
  }
  return [...questions].map(([title, asked]) => ({
    title: `Latency: ${title}`,
    places,
    x: 'percentile of the calls',
    y: 'us',
    lines: asked.map((row) => ({
      name: nameOf(row),
      subject: row.subject,
      points: shown.flatMap(({ i }, place) => {
        const value = row.distribution_us?.[i]
        return value == null || value <= 0 ? [] : [[places[place] as string, value] as const]
      }),
    })),
  }))
}

const mebibytes = (value: number): string => payload(value)
const short = (value: number): string =>
  value >= 1e6 ? `${value / 1e6} M` : value >= 1e3 ? `${value / 1e3} k` : String(value)

function overSize(rows: readonly ResultRow[]): Chart[] {
  const sized = rows.filter(
    (row) => row.payloadBytes > 0 && row.placement === 'two-cpus' && row.wait !== 'sleep',
  )
  const axis = { x: 'payload', xText: mebibytes } as const
  const lines = (
    of: (row: ResultRow) => boolean,
    value: (row: ResultRow) => number | null,
    name: (row: ResultRow) => string,
  ): Line[] => grouped(sized.filter(of), name, ({ payloadBytes }) => payloadBytes, value)
  const megabytes = (row: ResultRow): number | null => row.megabytesPerSecond
  return [
    {
      title: 'Round trip over payload: rtt-sync, both awake',
      ...axis,
      y: 'p50, us',
      lines: lines(
        (row) => row.case === 'rtt-sync' && row.variant === null,
        (row) => row.p50_us,
        nameOf,
      ),
    },
    {
      title: 'Throughput over payload: dispatch, one way',
      ...axis,
      y: 'MB/s',
      yText: short,
      lines: lines((row) => row.case === 'dispatch' && row.variant === null, megabytes, nameOf),
    },
    ...(['full', 'hand-over'] as const).map((touch) => ({
      title: `Bandwidth, ${touch === 'full' ? 'written and read in full' : 'hand-over: one word a page touched'}`,
      ...axis,
      y: 'MB/s',
      yText: short,
      lines: lines(
        (row) => row.case === 'bandwidth' && row.touch === touch,
        megabytes,
        (row) => `${row.subject} ${row.variant} (${row.copies} copies)`,
      ),
    })),
  ]
}

function overDepth(rows: readonly ResultRow[]): Chart[] {
  const asked = rows.filter((row) => row.case === 'pipelined' && row.payloadBytes === 64)
  return [
    {
      title: 'Requests in flight: pipelined 64 B',
      x: 'in flight',
      y: 'requests a second',
      yText: short,
      lines: grouped(
        asked,
        (row) => `${row.subject} ${row.form}`,
        (row) => row.inFlight,
        (row) => row.perSecond,
      ),
    },
  ]
}

function overConnections(rows: readonly ResultRow[]): Chart[] {
  const asked = rows.filter((row) => row.case === 'many-connections')
  const open = (row: ResultRow): number => row.many?.open ?? row.connections
  const active = (row: ResultRow): string => `${row.subject}, ${row.active} active`
  const axis = { x: 'open connections', xText: short, logBase: 10 } as const
  return [
    {
      title: 'Rate over open connections',
      ...axis,
      y: 'requests a second, all together',
      yText: short,
      lines: grouped(asked, active, open, (row) => row.perSecond),
    },
    {
      title: 'p50 over open connections',
      ...axis,
      y: 'us',
      lines: grouped(asked, active, open, (row) => row.p50_us),
    },
    {
      title: 'Cost of a connection that was never used',
      ...axis,
      y: 'KiB of touched memory, both sides',
      lines: grouped(
        asked.filter((row) => row.active === 1),
        (row) => row.subject,
        open,
        (row) => (row.many?.bytesFresh == null ? null : row.many.bytesFresh / 1024),
      ),
    },
  ]
}

function nameOf(row: ResultRow): string {
  const form = row.form === 'callback' && row.case === 'rtt-sync' ? ', callback' : ''
  return `${row.subject} (${row.wait}${form})`
}

function grouped(
  rows: readonly ResultRow[],
  name: (row: ResultRow) => string,
  x: (row: ResultRow) => number,
  y: (row: ResultRow) => number | null,
): Line[] {
  const lines = new Map<string, { subject: string; points: [number, number][] }>()
  for (const row of rows) {
    const value = y(row)
    if (value === null || value <= 0) continue
    const line = lines.get(name(row)) ?? { subject: row.subject, points: [] }
    line.points.push([x(row), value])
    lines.set(name(row), line)
  }
  return [...lines].map(([line, { subject, points }]) => ({
    name: line,
    subject,
    points: points.sort(([a], [b]) => a - b),
  }))
}

// -- how -------------------------------------------------------------------------------------------

/** Lines of one subject have its colour and differ in dashes. */
const DASHES = ['solid', 'dashed', 'dotted', [8, 3, 2, 3]] as const

const text = { color: 'var(--text)', fontFamily: 'system-ui, sans-serif' } as const
const axis = {
  nameLocation: 'middle',
  nameTextStyle: text,
  axisLabel: { ...text, hideOverlap: true },
  axisLine: { lineStyle: { color: 'var(--line)' } },
  splitLine: { lineStyle: { color: 'var(--faint)' } },
} as const

function newChart(height: number): echarts.ECharts {
  return echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height })
}

function svgOf(instance: echarts.ECharts): string {
  const svg = instance.renderToSVGString()
  instance.dispose()
  return `<figure>${svg}</figure>`
}

/** Ours stand out; the floor is what there is to reach. */
function colourOf(subject: string): string {
  if (subject.startsWith('coroipc')) return 'var(--c1)'
  return subject.startsWith('floor') ? 'var(--c3)' : 'var(--c0)'
}

function drawBars({ title, x, better, text: show, bars }: Bars): string {
  const instance = newChart(BARS_HEIGHT + BAR_HEIGHT * bars.length)
  // A bar needs a beginning, which a logarithmic axis has not: a decade below the smallest.
  const smallest = Math.min(...bars.map(({ value }) => value))
  const beginning = 10 ** (Math.floor(Math.log10(smallest)) - 1)
  instance.setOption({
    animation: false,
    textStyle: text,
    title: { text: title, left: 8, top: 4, textStyle: { ...text, fontSize: 14 } },
    grid: { left: 118, right: 90, top: 34, bottom: 50 },
    yAxis: {
      ...axis,
      type: 'category',
      inverse: true,
      data: bars.map(({ name }) => name),
      axisTick: { show: false },
      axisLabel: { ...text, interval: 0 },
    },
    xAxis: {
      ...axis,
      type: 'log',
      name: `${x}, ${better} is better (logarithmic)`,
      nameGap: 28,
      min: beginning,
      startValue: beginning,
      axisLabel: { ...axis.axisLabel, formatter: show },
    },
    series: [
      {
        type: 'bar',
        barWidth: 12,
        label: {
          show: true,
          position: 'right',
          ...text,
          fontSize: 11,
          formatter: ({ value }: { value: unknown }) => show(value as number),
        },
        data: bars.map(({ subject, value }) => ({
          value,
          itemStyle: { color: colourOf(subject) },
        })),
      },
    ],
  })
  return svgOf(instance)
}

function draw(chart: Chart, subjects: readonly string[]): string {
  const { title, places, x, xText, logBase = 2, y, yText, lines } = chart
  const instance = newChart(Math.max(HEIGHT, 60 + 20 * lines.length))
  const seen = new Map<string, number>()
  instance.setOption({
    animation: false,
    textStyle: text,
    title: { text: title, left: 8, top: 4, textStyle: { ...text, fontSize: 14 } },
    legend: {
      orient: 'vertical',
      left: WIDTH - LEGEND_WIDTH + 8,
      top: 36,
      textStyle: { ...text, fontSize: 11 },
      itemWidth: 24,
      itemHeight: 8,
      itemGap: 6,
      inactiveColor: 'var(--faint)',
      data: lines.map(({ name }) => name),
    },
    grid: { left: 76, right: LEGEND_WIDTH + 8, top: 40, bottom: 48 },
    xAxis: {
      ...axis,
      name: x,
      nameGap: 28,
      ...(places === undefined
        ? {
            type: 'log',
            logBase,
            min: 'dataMin',
            max: 'dataMax',
            ...(xText === undefined ? {} : { axisLabel: { ...axis.axisLabel, formatter: xText } }),
          }
        : { type: 'category', data: places }),
    },
    yAxis: {
      ...axis,
      type: 'log',
      name: y,
      nameGap: 50,
      ...(yText === undefined ? {} : { axisLabel: { ...axis.axisLabel, formatter: yText } }),
    },
    series: lines.map(({ name, subject, points }) => {
      const nth = seen.get(subject) ?? 0
      seen.set(subject, nth + 1)
      const color = `var(--c${subjects.indexOf(subject) % COLOURS.length})`
      return {
        type: 'line',
        name,
        data: points.map((point) => [...point]),
        symbol: 'circle',
        symbolSize: points.length > 8 ? 4 : 6,
        lineStyle: { color, width: 2, type: DASHES[nth % DASHES.length] },
        itemStyle: { color },
        emphasis: { disabled: true },
      }
    }),
  })
  return svgOf(instance)
}

const COLOURS = [
  ['#6b7280', '#9ca3af'],
  ['#2563eb', '#60a5fa'],
  ['#dc2626', '#f87171'],
  ['#059669', '#34d399'],
  ['#d97706', '#fbbf24'],
  ['#7c3aed', '#a78bfa'],
  ['#db2777', '#f472b6'],
  ['#0891b2', '#22d3ee'],
  ['#65a30d', '#a3e635'],
  ['#92400e', '#d6a77a'],
  ['#0f766e', '#5eead4'],
  ['#4338ca', '#818cf8'],
] as const

const colours = (dark: 0 | 1): string => COLOURS.map((pair, i) => `--c${i}:${pair[dark]}`).join(';')

const style = `
:root{color-scheme:light dark;--text:#1f2937;--line:#9ca3af;--faint:#e5e7eb;--back:#ffffff;--panel:#f9fafb;${colours(0)}}
@media (prefers-color-scheme:dark){:root{--text:#e5e7eb;--line:#6b7280;--faint:#374151;--back:#111827;--panel:#1f2937;${colours(1)}}}
body{margin:2rem auto;max-width:1360px;padding:0 1rem;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
pre{background:var(--panel);padding:.8rem;overflow-x:auto;font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(600px,100%),1fr));gap:1rem;align-items:start}
figure{margin:0;padding:.6rem;background:var(--panel);border-radius:6px}
svg{display:block;width:100%;height:auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--faint);text-align:left;white-space:nowrap}
td.right,th.right{text-align:right}
td.goal{white-space:normal}
.yes{color:var(--c3)}.no{color:var(--c2)}
`

function rowsTable(rows: readonly ResultRow[]): string {
  const head = columns.map(([name, side]) => `<th class="${side}">${escape(name)}</th>`).join('')
  const body = rows.map(
    (row) =>
      `<tr>${columns.map(([, side, show]) => `<td class="${side}">${escape(show(row))}</td>`).join('')}</tr>`,
  )
  return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>`
}

function goalsTable({ goals }: Report): string {
  const measured = goals.filter(({ seen }) => seen !== NOT_MEASURED)
  const body = measured.map((verdict) => {
    const { goal, seen, met } = verdict
    const colour = met === null ? 'open' : met ? 'yes' : 'no'
    return `<tr><td class="goal">${escape(goal)}</td><td class="goal">${escape(seen)}</td><td class="${colour}">${metText(verdict)}</td></tr>`
  })
  const others = goals.filter(({ seen }) => seen === NOT_MEASURED)
  const left =
    others.length === 0
      ? ''
      : `<details><summary>${others.length} were not measured by this run</summary><ul>${others.map(({ goal }) => `<li>${escape(goal)}</li>`).join('')}</ul></details>`
  return `<div class="wide"><table><thead><tr><th>goal</th><th>seen</th><th>met</th></tr></thead><tbody>${body.join('\n')}</tbody></table></div>${left}`
}

function notes({ notes: told, rows }: Report): string {
  const failed = rows.flatMap((row) =>
    row.error === null ? [] : [`failed: ${caseText(row)} ${row.subject}: ${row.error}`],
  )
  const all = [...told, ...failed]
  if (all.length === 0) return ''
  return section('Notes', `<ul>${all.map((note) => `<li>${escape(note)}</li>`).join('')}</ul>`)
}

function section(title: string, content: string): string {
  return `<h2>${title}</h2>\n${content}`
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
