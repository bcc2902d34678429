// `npm run bench`: measures how fast this machine lets two processes talk, by this library and by what
// else one could use. Repetitions are interleaved (each round measures every row once), so that a
// disturbance of some seconds hits all rows a little and none alone.
//
// Exit code: 0, also when a goal is missed; 1 when a subject failed to run; 2 for wrong arguments.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SingleBar } from 'cli-progress'
import { judge } from './goals.js'
import { describeMachine } from './machine.js'
import { measurePair } from './pair.js'
import { findCpus } from '@coroipc/cli'
import { atHome, makePlan, type Plan } from './plan.js'
import {
  caseText,
  machineText,
  type Report,
  rowsText,
  subjectsText,
  verdictText,
} from './report.js'
import { fillMarkdown, hasPlaces } from './report-markdown.js'
import { RowResults } from './result.js'
import { DISTRIBUTION } from './statistics.js'
import { findSubject, subjects } from './subjects/index.js'
import { cases } from './cases/index.js'
import type { CaseName } from './task.js'

const caseNames = Object.keys(cases) as CaseName[]

/** From where the command was given, which is the root with `npm run`. */
const defaultHtml = relative(
  process.cwd(),
  fileURLToPath(new URL('../../bench/report.html', import.meta.url)),
)

const usage = `npm run bench -- [--quick] [--case NAME]... [--subject NAME]... [--repetitions N]
                 [--out FILE] [--html FILE] [--markdown FILE] [--from FILE]

  --quick          the rows of the goals only, under 3 minutes
  --case NAME      only this case: ${caseNames.join(', ')}
  --subject NAME   only this subject: ${subjects.map(({ name }) => name).join(', ')}
  --repetitions N  each row is measured N times, however long that takes (else 5 times what the goals
                   compare, the rest as time allows)
  --out FILE       the rows as JSON (fields: bench/README.md)
  --html FILE      where the report goes (bench/report.html)
  --markdown FILE  fills the tables of this page, such as docs/performance.md
  --from FILE      measures nothing: shows, and writes, what a run with --out has seen
  --list           what the cases and the subjects are`

/** Of a peer; each may have taken its whole patience. */
const FAILURES_MAX = 3

class UsageError extends Error {}

function readArguments() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      case: { type: 'string', multiple: true, default: [] },
      subject: { type: 'string', multiple: true, default: [] },
      repetitions: { type: 'string' },
      out: { type: 'string' },
      html: { type: 'string' },
      markdown: { type: 'string' },
      from: { type: 'string' },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const known = (option: string, wanted: string[], names: readonly string[]): readonly string[] => {
    for (const name of wanted) {
      if (!names.includes(name)) {
        throw new UsageError(`--${option}: expected one of ${names.join(', ')}, got ${name}`)
      }
    }
    return wanted.length === 0 ? names : wanted
  }
  const repetitions = values.repetitions === undefined ? undefined : Number(values.repetitions)
  if (repetitions !== undefined && !(Number.isInteger(repetitions) && repetitions > 0)) {
    throw new UsageError(`--repetitions: expected a number from 1, got ${values.repetitions}`)
  }
  const subjectNames = subjects.map(({ name }) => name)
  return {
    ...values,
    repetitions,
    cases: new Set(known('case', values.case, caseNames)),
    subjects: known('subject', values.subject, subjectNames).map(findSubject),
    subjectsNamed: values.subject.length > 0,
  }
}

async function main(): Promise<number> {
  const options = readArguments()
  if (options.help) {
    console.log(usage)
    return 0
  }
  if (options.list) {
    const width = Math.max(...caseNames.map((name) => name.length))
    console.log(caseNames.map((name) => `${name.padEnd(width)}  ${cases[name].about}`).join('\n'))
    console.log(`\n${subjectsText(subjects)}`)
    return 0
  }
  // Before anything is measured: a page without places should not cost a quarter of an hour.
  const page = options.markdown === undefined ? undefined : readFileSync(options.markdown, 'utf8')
  if (page !== undefined && !hasPlaces(page))
    throw new UsageError(`--markdown: ${options.markdown} has no place <!-- bench: ... -->`)
  const report =
    options.from === undefined
      ? await measured(options)
      : (JSON.parse(readFileSync(options.from, 'utf8')) as Report)
  show(report)
  if (options.out !== undefined) write(options.out, `${JSON.stringify(report, null, 2)}\n`)
  if (options.markdown !== undefined && page !== undefined)
    write(options.markdown, fillMarkdown(page, report))
  // Loaded late: measuring needs no charts.
  const { htmlReport } = await import('./report-html.js')
  write(options.html ?? defaultHtml, htmlReport(report, subjects))
  return report.rows.some((row) => row.error !== null) ? 1 : 0
}

async function measured(options: ReturnType<typeof readArguments>): Promise<Report> {
  const cpus = findCpus()
  const machine = describeMachine(cpus)
  const plan = makePlan(options, cpus)
  console.log(`${machineText(machine)}\n\n${subjectsText(options.subjects)}\n`)
  const results = plan.rows.map((row) => new RowResults(row, findSubject(row.subject)))
  const begin = performance.now()
  const repetitions = await measureAll(results, plan)
  const seconds = Math.round((performance.now() - begin) / 1000)
  console.log(`${results.length} rows in ${seconds} s\n`)
  const notes = [...plan.notes]
  if (repetitions < plan.repetitions)
    notes.push(`${repetitions} of ${plan.repetitions} repetitions: the time was up`)
  const rows = results.map((result) => result.summary())
  return { machine, notes, rows, goals: judge(rows), repetitions, distribution: DISTRIBUTION }
}

function show({ rows, goals, notes, repetitions }: Report): void {
  console.log(rowsText(rows, repetitions))
  for (const note of notes) console.log(`Note: ${note}`)
  for (const row of rows) {
    if (row.error !== null) console.log(`FAILED ${caseText(row)} ${row.subject}: ${row.error}`)
  }
  console.log(`\n${verdictText(goals)}`)
}

function write(path: string, text: string): void {
  writeFileSync(path, text)
  console.log(`Written to ${path}`)
}

/** How often it measured: no repetition begins that would not end in time. */
async function measureAll(results: readonly RowResults[], plan: Plan): Promise<number> {
  const { repetitions, budgetMs } = plan
  const begin = performance.now()
  let rowMs = 0
  const rowsOf = (nth: number): number =>
    results.filter(({ row, failed }) => row.repetitions >= nth && !failed).length
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-bench-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  // Drawn between measurements: a busy timer of the harness would run on a CPU that is measured.
  const bar = process.stderr.isTTY
    ? new ProgressLine(results.reduce((sum, { row }) => sum + row.repetitions, 0))
    : undefined
  const failures = new Map<string, number>()
  let repetition = 0
  while (repetition < repetitions) {
    const repetitionBegin = performance.now()
    const wantedMs = rowMs * rowsOf(repetition + 1)
    if (repetition > 0 && repetitionBegin - begin + wantedMs > budgetMs) break
    repetition++
    const rows = rowsOf(repetition)
    if (bar === undefined) process.stderr.write(`repetition ${repetition} of ${repetitions}\n`)
    for (const result of results) {
      const { row } = result
      const { task, placement } = row
      if (repetition > row.repetitions) continue
      bar?.step(`${task.case} ${row.subject} ${placement.name} ${task.wait}`)
      // What failed once is not asked again: it would only take the time of the others.
      if (result.failed) continue
      const before = failures.get(row.subject) ?? 0
      if (before >= FAILURES_MAX && !atHome(row.subject)) {
        result.fail(`not run: ${row.subject} had failed in ${before} rows`)
        continue
      }
      try {
        const subject = findSubject(row.subject)
        result.add(
          subject.kind === 'program'
            ? await subject.measure(task, placement)
            : await measurePair(row, folder),
        )
      } catch (error) {
        result.fail(error instanceof Error ? error.message : String(error))
        failures.set(row.subject, before + 1)
      }
    }
    rowMs = (performance.now() - repetitionBegin) / Math.max(1, rows)
  }
  bar?.stop()
  return repetition
}

class ProgressLine {
  readonly #bar = new SingleBar({
    format: '{bar} {percentage} % | {duration_formatted}, {eta_formatted} to go | {what}',
    clearOnComplete: true,
    hideCursor: true,
    etaBuffer: 40,
    fps: 0.2, // its timer; step() draws at once
  })

  constructor(total: number) {
    this.#bar.start(total, 0, { what: '' })
  }

  step(what: string): void {
    this.#bar.increment(1, { what })
    this.#bar.render()
  }

  stop(): void {
    this.#bar.stop()
  }
}

// The children see the channel close and end; 'exit' takes the folder away.
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))
try {
  process.exitCode = await main()
} catch (error) {
  const wrongArguments =
    error instanceof UsageError ||
    (error instanceof TypeError && String(Reflect.get(error, 'code')).startsWith('ERR_PARSE_ARGS'))
  if (!wrongArguments) throw error
  console.error(`${error.message}\n\n${usage}`)
  process.exitCode = 2
}
