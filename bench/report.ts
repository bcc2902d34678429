// What a run shows: the machine, a line for each row, the verdict; and the file of --out.
import Table from 'cli-table3'
import type { Verdict } from './goals.js'
import type { Machine } from './machine.js'
import { doubtsOf, type ResultRow } from './result.js'
import type { Subject } from './subject.js'

export interface Report {
  readonly machine: Machine
  readonly notes: readonly string[]
  readonly rows: readonly ResultRow[]
  readonly goals: readonly Verdict[]
}

/** No lines: the table is wide enough as it is. */
const noLines = ['top', 'bottom', 'left', 'right', 'mid', 'middle'].flatMap((side) => [
  [side, ''],
  ...['mid', 'left', 'right'].map((end) => [`${side}-${end}`, '']),
])
const layout = {
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
  chars: Object.fromEntries(noLines) as Record<string, string>,
}

function figure(value: number | null, digits = 3): string {
  if (value === null) return '-'
  if (value >= 1000) return Math.round(value).toLocaleString('en-US')
  return value.toPrecision(digits)
}

function payload(bytes: number): string {
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`
}

function load(row: ResultRow): string {
  if (row.connections > 1) return `${row.connections} conn.`
  return row.case === 'dispatch' ? '-' : `${row.inFlight} in flight`
}

function perSecond(value: number | null): string {
  if (value === null) return '-'
  return value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : `${(value / 1e3).toFixed(1)} k`
}

export function machineText(machine: Machine): string {
  const pinned =
    machine.clientCpu === null
      ? 'not pinned'
      : `server on CPU ${machine.serverCpu}, client on CPU ${machine.clientCpu} (one-cpu: both on ${machine.serverCpu})`
  return [
    `${machine.cpu}${machine.virtual ? ', virtual' : ''}, ${machine.cpus} CPUs, governor ${machine.governor}`,
    `${machine.kernel}, ${machine.distribution}; clock ${machine.clocksource}; load before ${machine.loadBefore}`,
    `Node.js ${machine.node} (V8 ${machine.v8}), ${machine.compiler}; ${pinned}`,
  ].join('\n')
}

export function rowsText(rows: readonly ResultRow[], repetitions: number): string {
  const right = 'right' as const
  const left = 'left' as const
  const columns: [string, 'left' | 'right', (row: ResultRow) => string][] = [
    ['case', left, (row) => row.case],
    ['placement', left, (row) => row.placement],
    ['subject', left, (row) => row.subject],
    ['form', left, (row) => row.form],
    ['wait', left, (row) => row.wait],
    ['payload', right, (row) => payload(row.payloadBytes)],
    ['load', right, load],
    ['p50 us', right, (row) => figure(row.p50_us)],
    ['p99', right, (row) => figure(row.p99_us)],
    ['p99.9', right, (row) => figure(row.p999_us)],
    ['max', right, (row) => figure(row.max_us)],
    ['per second', right, (row) => perSecond(row.perSecond)],
    ['MB/s', right, (row) => figure(row.megabytesPerSecond)],
    ['copies', right, (row) => String(row.copies)],
    ['spread', right, (row) => (row.spread === null ? '-' : `${row.spread.toFixed(2)} x`)],
    ['', left, remark],
  ]
  const table = new Table({
    head: columns.map(([name]) => name),
    colAligns: columns.map(([, align]) => align),
    ...layout,
  })
  for (const row of rows) table.push(columns.map(([, , show]) => show(row)))
  const legend = `Medians of ${repetitions} interleaved repetitions. spread: largest over smallest repetition. copies: of the bytes of a message, request and answer together.`
  return `${table.toString()}\n${legend}`
}

function remark(row: ResultRow): string {
  const parts: string[] = []
  if (row.error !== null) parts.push('FAILED')
  for (const doubt of doubtsOf(row)) {
    const mean = `mean ${row.meanOverP50?.toFixed(1)} x p50`
    parts.push(doubt === 'held up' ? `held up (${mean})` : doubt)
  }
  if (row.serverCpuPercent !== null && row.clientCpuPercent !== null) {
    const [server, client] = [row.serverCpuPercent.toFixed(3), row.clientCpuPercent.toFixed(3)]
    parts.push(`CPU: server ${server} %, client ${client} %`)
  }
  return parts.join(', ')
}

export function verdictText(verdicts: readonly Verdict[]): string {
  const table = new Table({
    head: ['goal', 'seen', 'met'],
    ...layout,
  })
  for (const { goal, seen, met, doubts } of verdicts) {
    const word = met === null ? '-' : met ? 'yes' : 'no'
    table.push([goal, seen, doubts.length === 0 ? word : `${word} (${doubts.join(', ')})`])
  }
  return table.toString()
}

export function subjectsText(subjects: readonly Subject[]): string {
  const width = Math.max(...subjects.map(({ name }) => name.length))
  return subjects.map(({ name, about }) => `${name.padEnd(width)}  ${about}`).join('\n')
}
