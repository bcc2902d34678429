// The picture of a soak: one file that needs nothing else. ECharts draws without a browser; colours are CSS variables, so
// that one drawing serves light and dark.
import * as charts from 'echarts/charts'
import * as components from 'echarts/components'
import * as echarts from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'
import type { Point, Soak } from './soak.js'

echarts.use([
  charts.LineChart,
  components.GridComponent,
  components.LegendComponent,
  components.TitleComponent,
  SVGRenderer,
])

const WIDTH = 900
const HEIGHT = 320

interface Chart {
  readonly title: string
  readonly unit: string
  readonly log?: boolean
  readonly lines: Readonly<Record<string, readonly Point[]>>
}

export function soakHtml(soak: Soak, about: string): string {
  const { series } = soak
  const mebibytes = (points: readonly Point[]): Point[] =>
    points.map(([at, bytes]) => [at, bytes / 2 ** 20])
  const drawn: Chart[] = [
    {
      title: 'Resident memory',
      unit: 'MiB',
      lines: Object.fromEntries(
        Object.entries(series.rss).map(([who, points]) => [who, mebibytes(points)]),
      ),
    },
    {
      title: 'In use after a collection',
      unit: 'MiB',
      lines: Object.fromEntries(
        Object.entries(series.live).map(([who, points]) => [who, mebibytes(points)]),
      ),
    },
    {
      title: 'Resident after a collection, rings apart',
      unit: 'MiB',
      lines: Object.fromEntries(
        Object.entries(series.leastRss).map(([who, points]) => [who, mebibytes(points)]),
      ),
    },
    {
      title: "Resident after a collection, rings and V8's heap apart",
      unit: 'MiB',
      lines: Object.fromEntries(
        Object.entries(series.leastBeside).map(([who, points]) => [who, mebibytes(points)]),
      ),
    },
    { title: 'Descriptors, when as much as ever is connected', unit: '', lines: series.fds },
    { title: 'Mappings of shared memory', unit: '', lines: series.maps },
    {
      title: 'Latency of a blocking call of 64 B',
      unit: 'us',
      log: true,
      lines: { p50: series.p50, p99: series.p99 },
    },
    { title: 'Messages a second', unit: '', lines: { 'answers and dispatches': series.rate } },
    {
      title: 'Longest time until a survivor knew of a death',
      unit: 'ms',
      log: true,
      lines: { 'kill to knowledge': series.known },
    },
  ]
  const rows = soak.verdicts.map(({ what, seen, held }) => {
    const word = held === undefined ? 'too short to tell' : held ? 'yes' : 'no'
    return `<tr><td>${escape(what)}</td><td>${escape(seen)}</td><td class="${word.slice(0, 3)}">${word}</td></tr>`
  })
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>coroipc soak</title>
<style>${style}</style>
</head>
<body>
<h1>coroipc soak</h1>
<pre>${escape(about)}</pre>
<table><thead><tr><th>what</th><th>seen</th><th>held</th></tr></thead><tbody>
${rows.join('\n')}
</tbody></table>
${drawn.map(draw).join('\n')}
</body>
</html>
`
}

function draw({ title, unit, log = false, lines }: Chart): string {
  const instance = echarts.init(null, null, {
    renderer: 'svg',
    ssr: true,
    width: WIDTH,
    height: HEIGHT,
  })
  const text = { color: 'var(--text)', fontFamily: 'system-ui, sans-serif' } as const
  const axis = {
    nameTextStyle: text,
    axisLabel: { ...text, hideOverlap: true },
    axisLine: { lineStyle: { color: 'var(--line)' } },
    splitLine: { lineStyle: { color: 'var(--faint)' } },
  } as const
  const last = Math.max(1, ...Object.values(lines).map((points) => points.at(-1)?.[0] ?? 0))
  const [divisor, name] = last > 7200 ? [3600, 'hours'] : last > 300 ? [60, 'minutes'] : [1, 's']
  instance.setOption({
    animation: false,
    textStyle: text,
    title: { text: title, left: 8, top: 4, textStyle: { ...text, fontSize: 14 } },
    legend: { left: 8, top: 28, textStyle: { ...text, fontSize: 12 }, itemGap: 24 },
    grid: { left: 80, right: 32, top: 64, bottom: 48 },
    xAxis: {
      ...axis,
      type: 'value',
      name,
      nameLocation: 'middle',
      nameGap: 28,
      min: 0,
      max: Number((last / divisor).toFixed(2)),
    },
    yAxis: {
      ...axis,
      type: log ? 'log' : 'value',
      name: unit,
      nameLocation: 'middle',
      nameGap: 56,
      ...(log ? {} : { min: 0 }),
    },
    series: Object.entries(lines).map(([line, points], i) => ({
      type: 'line',
      name: line,
      data: points
        .filter(([, value]) => !log || value > 0)
        .map(([at, value]) => [at / divisor, value]),
      showSymbol: points.length < 80,
      symbolSize: 4,
      lineStyle: { color: `var(--c${i})`, width: 1.5 },
      itemStyle: { color: `var(--c${i})` },
      emphasis: { disabled: true },
    })),
  })
  const svg = instance.renderToSVGString()
  instance.dispose()
  return `<figure>${svg}</figure>`
}

const style = `
:root{color-scheme:light dark;--text:#1f2937;--line:#9ca3af;--faint:#e5e7eb;--back:#ffffff;--panel:#f9fafb;--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#db2777}
@media (prefers-color-scheme:dark){:root{--text:#e5e7eb;--line:#6b7280;--faint:#374151;--back:#111827;--panel:#1f2937;--c0:#60a5fa;--c1:#fbbf24;--c2:#34d399;--c3:#f472b6}}
body{margin:2rem auto;max-width:960px;padding:0 1rem;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
pre{background:var(--panel);padding:.8rem;overflow-x:auto;font-size:13px}
figure{margin:1rem 0;padding:.6rem;background:var(--panel);border-radius:6px}
svg{display:block;width:100%;height:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--faint);text-align:left}
.yes{color:var(--c2)}.no{color:var(--c3)}
`

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
