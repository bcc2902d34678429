// `--markdown FILE`: writes the figures of a run into a page that has places for them, so that no figure
// of the page is copied by hand and none is older than its neighbour:
//
//   <!-- bench: rtt-sync, rtt-async -->      the rows of these cases
//   <!-- bench: machine -->                  also: goals, rows (all)
//   ... replaced ...
//   <!-- /bench -->
import {
  caseText,
  cpuText,
  figure,
  load,
  machineText,
  metText,
  payload,
  perSecond,
  type Report,
  remark,
} from './report.js'
import type { ResultRow } from './result.js'

const PLACE = /^(<!-- bench: ([^>]+?) -->\n)[^]*?^(<!-- \/bench -->)$/gm

export function hasPlaces(page: string): boolean {
  return page.match(PLACE) !== null
}

/** The page with its places filled. */
export function fillMarkdown(page: string, report: Report): string {
  return page.replace(
    PLACE,
    (_, begin: string, what: string, end: string) =>
      `${begin}\n${contentOf(what, report)}\n\n${end}`,
  )
}

function contentOf(what: string, report: Report): string {
  if (what === 'machine') return machineMarkdown(report)
  if (what === 'goals') return goalsMarkdown(report)
  if (what === 'rows') return rowsMarkdown(report.rows)
  const names = what.split(/,\s*/)
  const known = new Set<string>(report.rows.map((row) => row.case))
  if (!names.some((name) => known.has(name))) return `Not measured in this run: ${what}.`
  return rowsMarkdown(report.rows.filter((row) => names.includes(row.case)))
}

function machineMarkdown({ machine, notes }: Report): string {
  const lines = [`Measured on ${machine.date.slice(0, 10)}:`, ...machineText(machine).split('\n')]
  return [...lines, ...notes.map((note) => `Note: ${note}.`)].join('  \n')
}

function goalsMarkdown({ goals }: Report): string {
  return table(
    ['goal', 'seen', 'met'],
    goals.map((verdict) => [verdict.goal, verdict.seen, metText(verdict)]),
  )
}

function rowsMarkdown(rows: readonly ResultRow[]): string {
  const head =
    'case|placement|subject|form|wait|payload|load|p50 us|p99|p99.9|per second|MB/s|CPU %|copies|'
  return table(
    head.split('|'),
    rows.map((row) => [
      caseText(row),
      row.placement,
      row.subject,
      row.form,
      row.wait,
      payload(row.payloadBytes),
      load(row),
      figure(row.p50_us),
      figure(row.p99_us),
      figure(row.p999_us),
      perSecond(row.perSecond),
      figure(row.megabytesPerSecond),
      cpuText(row),
      String(row.copies),
      remark(row),
    ]),
  )
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}
