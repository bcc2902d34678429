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
  /** The most that a row has. */
  readonly repetitions: number
  /** Fractions of `distribution_us`. */
  readonly distribution: readonly number[]
}

/** `seen` of a goal whose rows a run does not have. */
export const NOT_MEASURED = 'not measured'

/** No lines: the table is wide enough as it is. */
const noLines = ['top', 'bottom', 'left', 'right', 'mid', 'middle'].flatMap((side) => [
  [side, ''],
  ...['mid', 'left', 'right'].map((end) => [`${side}-${end}`, '']),
])
const layout = {
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
  chars: Object.fromEntries(noLines) as Record<string, string>,
}

export function figure(value: number | null, digits = 3): string {
  if (value === null) return '-'
  if (value >= 1000) return Math.round(value).toLocaleString('en-US')
  return value.toPrecision(digits)
}

export function payload(bytes: number): string {
  if (bytes >= 1 << 20) return `${bytes / (1 << 20)} MiB`
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`
}

/** The case, and what makes this row other than the plain one. */
export function caseText(row: ResultRow): string {
  const words = [row.variant, row.touch === 'full' ? null : row.touch]
  return [row.case, ...words.filter((word) => word !== null)].join(' ')
}

export function load(row: ResultRow): string {
  switch (row.case) {
    case 'many-connections':
      return `${row.active} of ${row.many?.open ?? row.connections} conn.`
    case 'connect':
      return `${row.connections} at once`
    case 'server-death':
      return `${row.inFlight * row.connections} calls`
    case 'idle-cpu':
      return `${row.connections} conn.`
    default:
      return isStream(row) ? '-' : `${row.inFlight} in flight`
  }
}

/** One way: nobody waits for an answer. */
function isStream({ case: name, variant }: ResultRow): boolean {
  return name === 'dispatch' || variant === 'owned' || variant === 'in-place'
}

function percent(value: number | null): string {
  if (value === null) return '-'
  return value >= 1 ? value.toFixed(0) : value.toPrecision(2)
}

/** Client's and server's. */
export function cpuText(row: ResultRow): string {
  const { clientCpuPercent: client, serverCpuPercent: server } = row
  return client === null && server === null ? '-' : `${percent(client)} / ${percent(server)}`
}

export function perSecond(value: number | null): string {
  if (value === null) return '-'
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`
  return value >= 1e3 ? `${(value / 1e3).toFixed(1)} k` : value.toPrecision(3)
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

/** Name, side on which figures stand, and what is shown of a row. */
export type Column = readonly [string, 'left' | 'right', (row: ResultRow) => string]

const right = 'right' as const
const left = 'left' as const
export const columns: readonly Column[] = [
  ['case', left, caseText],
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
  ['CPU % c/s', right, cpuText],
  ['copies', right, (row) => String(row.copies)],
  ['reps', right, (row) => String(row.repetitions)],
  ['spread', right, (row) => (row.spread === null ? '-' : `${row.spread.toFixed(2)} x`)],
  ['', left, remark],
]

export function rowsText(rows: readonly ResultRow[], repetitions: number): string {
  const table = new Table({
    head: columns.map(([name]) => name),
    colAligns: columns.map(([, align]) => align),
    ...layout,
  })
  for (const row of rows) table.push(columns.map(([, , show]) => show(row)))
  return `${table.toString()}\n${legend(repetitions)}`
}

export function legend(repetitions: number): string {
  return (
    `Medians of up to ${repetitions} interleaved repetitions (reps; server-death: over all kills). spread: largest over ` +
    'smallest repetition. CPU: of one CPU, client and server. copies: of the bytes of a message, request and ' +
    'answer together. Payloads are written and read in full, except in rows hand-over: one word a page.'
  )
}

export function remark(row: ResultRow): string {
  const parts: string[] = []
  if (row.error !== null) parts.push('FAILED')
  for (const doubt of doubtsOf(row)) {
    const mean = `mean ${row.meanOverP50?.toFixed(1)} x p50`
    parts.push(doubt === 'held up' ? `held up (${mean})` : doubt)
  }
  const { many } = row
  if (many !== null) {
    if (many.open < row.connections)
      parts.push(`${row.connections} wanted, descriptors for ${many.open}`)
    if (row.active > 1) parts.push(`slowest ${many.fairness.toFixed(2)} x mean`)
    if (many.open > 1) parts.push(`fds ${many.clientFds.toFixed(0)}+${many.serverFds.toFixed(0)}`)
    const kib = (bytes: number | null): string => ((bytes ?? 0) / 1024).toFixed(1)
    if (many.bytesFresh !== null)
      parts.push(
        `each ${kib(many.bytesFresh)} KiB, ${kib(many.bytesUsed)} used, ${kib(many.bytesKernel)} in the kernel`,
      )
  }
  return parts.join(', ')
}

export function metText({ met, kind, doubts }: Verdict): string {
  const word = met === null ? '-' : met ? 'yes' : 'no'
  const remarks = [...(kind === 'information' ? ['for information'] : []), ...doubts]
  return remarks.length === 0 ? word : `${word} (${remarks.join(', ')})`
}

/** What this run measured; the others are in the report and in --out, and would hide these here. */
export function verdictText(verdicts: readonly Verdict[]): string {
  const measured = verdicts.filter(({ seen }) => seen !== NOT_MEASURED)
  const table = new Table({
    head: ['goal', 'seen', 'met'],
    ...layout,
  })
  for (const verdict of measured) table.push([verdict.goal, verdict.seen, metText(verdict)])
  return `${table.toString()}\n${verdicts.length - measured.length} goals were not measured by this run`
}

export function subjectsText(subjects: readonly Subject[]): string {
  const width = Math.max(...subjects.map(({ name }) => name.length))
  return subjects.map(({ name, about }) => `${name.padEnd(width)}  ${about}`).join('\n')
}
