// What a run of the benchmarks measures, without measuring: a full run has the rows of every goal, a quick
// one those that its goals name, both in their time; and what is said of rows that are given.
import t from 'tap'
import { judge } from '../../bench/goals.js'
import { makePlan, type Plan } from '../../bench/plan.js'
import { NOT_MEASURED } from '../../bench/report.js'
import { type ResultRow, RowResults } from '../../bench/result.js'
import type { Subject } from '../../bench/subject.js'
import { findSubject, subjects } from '../../bench/subjects/index.js'
import type { Measurement } from '../../bench/task.js'
import { cases } from '../../bench/cases/index.js'

const cpus = { usable: [0, 1], client: 1, server: 0, taskset: true }
/** All of them, whatever is installed here. */
const installed: readonly Subject[] = subjects.map((subject) => ({
  ...subject,
  missing: () => undefined,
}))

function planOf(quick: boolean, subjectsNamed = false): Plan {
  const names = new Set(Object.keys(cases))
  const selection = { quick, cases: names, subjects: installed, repetitions: undefined }
  return makePlan({ ...selection, subjectsNamed }, cpus)
}

/** Rows as if each had been measured with these figures. */
function rowsOf(plan: Plan, figures: (subject: string) => Partial<Measurement>): ResultRow[] {
  const usual = { p50Us: 1, p99Us: 1, p999Us: 1, maxUs: 1, perSecond: 1e6, wrong: 0 }
  const cpu = { clientCpuPercent: 0, serverCpuPercent: 0 }
  const each = { clientFds: 2, serverFds: 2, bytesFresh: 1, bytesUsed: 1, bytesKernel: 1 }
  return plan.rows.map((row) => {
    const results = new RowResults(row, findSubject(row.subject))
    const many = { many: { open: row.task.connections, fairness: 1, ...each } }
    const its = row.task.case === 'many-connections' ? many : {}
    results.add({ ...usual, ...cpu, ...its, ...figures(row.subject) })
    return results.summary()
  })
}

t.test('a full run has the rows of every goal', async (t) => {
  const verdicts = judge(rowsOf(planOf(false), () => ({})))
  t.ok(verdicts.length > 60, `${verdicts.length} goals`)
  t.same(
    verdicts.filter(({ seen }) => seen === NOT_MEASURED).map(({ goal }) => goal),
    [],
  )
  const without = planOf(false)
  const rows = without.rows.filter(({ task }) => task.case !== 'dispatch')
  t.ok(
    judge(rowsOf({ ...without, rows }, () => ({}))).some(({ seen }) => seen === NOT_MEASURED),
    'and one without dispatches has not',
  )
})

t.test('what the goals compare is measured five times in a full run', async (t) => {
  const { rows, repetitions } = planOf(false)
  t.equal(repetitions, 5)
  const calls = rows.filter(
    ({ task, subject }) => task.case === 'rtt-sync' && /^(coroipc|floor-c|libqb)$/.test(subject),
  )
  const small = calls.filter(({ task }) => task.payloadBytes === 64)
  t.ok(small.length >= 10)
  t.same(
    small.filter((row) => row.repetitions !== 5),
    [],
  )
})

t.test('a quick run asks everybody something', async (t) => {
  const asked = new Set(planOf(true).rows.map(({ subject }) => subject))
  t.same(
    subjects.map(({ name }) => name).filter((name) => !asked.has(name)),
    [],
  )
})

t.test('a subject that is behind what Node.js has itself misses the last goal', async (t) => {
  const last = (slow: string): { met: boolean | null; seen: string } | undefined => {
    const rows = rowsOf(planOf(false), (subject) =>
      subject === slow ? { p50Us: 0.5, perSecond: 2e6 } : {},
    )
    return judge(rows).at(-1)
  }
  t.equal(last('nobody')?.met, true)
  for (const name of ['node-net', 'fork-json', 'fork-advanced', 'worker-port']) {
    const verdict = last(name)
    t.equal(verdict?.met, false, name)
    t.match(verdict?.seen, name)
  }
})

t.test('a comparison for information promises nothing', async (t) => {
  for (const { goal, kind, met } of judge(rowsOf(planOf(false), () => ({})))) {
    if (kind === 'information') t.equal(met, null, goal)
    else t.not(met, null, goal)
  }
})
