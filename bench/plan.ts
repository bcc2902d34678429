// Which rows a run measures. A bout is one question (a case with its numbers and its placement); every
// subject that does not refuse it takes part, so a new subject needs no line here.
import { type Cpus, place } from './placement.js'
import type { Subject } from './subject.js'
import type { CallForm, CaseName, PlacementName, Row, Task, Wait } from './task.js'

interface Bout {
  readonly case: CaseName
  readonly placement: PlacementName
  /** Both sides awake: looking before they sleep. Else `wait: 'sleep'`. */
  readonly awake: boolean
  readonly payloadBytes: number
  readonly inFlight: number
  readonly connections: number
  readonly durationMs: number
}

/** Averages over seconds, which more repetitions would not make better, only the run longer. */
const IDLE_REPETITIONS = 2

export interface Plan {
  readonly rows: readonly Row[]
  /** The most that a row has. */
  readonly repetitions: number
  /** What this machine cannot do, for the report. */
  readonly notes: readonly string[]
}

/** Forms of each case; `all`: each is a row of its own, else a subject takes the first it can. */
const forms: Readonly<
  Record<CaseName, { readonly of: readonly CallForm[]; readonly all: boolean }>
> = {
  'rtt-sync': { of: ['sync', 'callback'], all: false },
  'rtt-async': { of: ['promise'], all: true },
  pipelined: { of: ['promise', 'callback'], all: true },
  dispatch: { of: ['callback'], all: true },
  'idle-cpu': { of: ['promise'], all: true },
}

const base = {
  placement: 'two-cpus',
  awake: true,
  payloadBytes: 64,
  inFlight: 1,
  connections: 1,
} as const

function bouts(quick: boolean): Bout[] {
  const durationMs = quick ? 600 : 1500
  const usual = { ...base, durationMs }
  const quickBouts: Bout[] = [
    { ...usual, case: 'rtt-sync' },
    { ...usual, case: 'rtt-sync', awake: false },
    { ...usual, case: 'rtt-sync', placement: 'one-cpu' },
    { ...usual, case: 'rtt-sync', placement: 'one-cpu', awake: false },
    { ...usual, case: 'rtt-sync', placement: 'free' },
    { ...usual, case: 'rtt-async' },
    { ...usual, case: 'pipelined', inFlight: 64 },
    { ...usual, case: 'dispatch' },
    { ...usual, case: 'idle-cpu', connections: 100, durationMs: 5000 },
  ]
  if (quick) return quickBouts
  return [
    ...quickBouts,
    ...[0, 1024, 16384].map((payloadBytes): Bout => ({ ...usual, case: 'rtt-sync', payloadBytes })),
    ...[16, 256].map((inFlight): Bout => ({ ...usual, case: 'pipelined', inFlight })),
    ...[1024, 65536].map((payloadBytes): Bout => ({ ...usual, case: 'dispatch', payloadBytes })),
  ]
}

export interface Selection {
  readonly quick: boolean
  readonly cases: ReadonlySet<string>
  readonly subjects: readonly Subject[]
  readonly repetitions: number | undefined
}

export const caseNames: readonly CaseName[] = Object.keys(forms) as CaseName[]

export function makePlan(selection: Selection, cpus: Cpus): Plan {
  const rows: Row[] = []
  const notes = new Set<string>()
  const repetitions = selection.repetitions ?? (selection.quick ? 5 : 7)
  if (!cpus.taskset)
    notes.add('nobody is pinned: taskset (package util-linux) is missing or not allowed')
  for (const bout of bouts(selection.quick)) {
    if (!selection.cases.has(bout.case)) continue
    const placement = place(cpus, bout.placement)
    if (placement === undefined) {
      if (cpus.taskset || bout.placement === 'one-cpu')
        notes.add(`no rows ${bout.placement}: ${cannotPlace(cpus)}`)
      continue
    }
    for (const subject of selection.subjects) {
      for (const task of tasksOf(bout, subject)) {
        rows.push({
          task,
          subject: subject.name,
          placement,
          repetitions:
            task.case === 'idle-cpu' ? Math.min(repetitions, IDLE_REPETITIONS) : repetitions,
        })
      }
    }
  }
  return { rows, repetitions, notes: [...notes] }
}

function cannotPlace(cpus: Cpus): string {
  return cpus.taskset ? `this process may use CPU ${cpus.usable.join(', ')} only` : 'no taskset'
}

function tasksOf(bout: Bout, subject: Subject): Task[] {
  const { of, all } = forms[bout.case]
  const tasks = waitsOf(bout).flatMap((wait) =>
    of
      .map(
        (form): Task => ({
          case: bout.case,
          form,
          wait,
          payloadBytes: bout.payloadBytes,
          inFlight: bout.inFlight,
          connections: bout.connections,
          warmupMs: 250,
          durationMs: bout.durationMs,
        }),
      )
      .filter((task) => subject.refuses(task) === undefined)
      .slice(0, all ? of.length : 1),
  )
  return tasks
}

function waitsOf(bout: Bout): readonly Wait[] {
  if (!bout.awake) return ['sleep']
  // Two spinning sides that may share a CPU only wait for the end of each other's slice.
  return bout.placement === 'two-cpus' ? ['spin', 'adaptive', 'own'] : ['adaptive', 'own']
}
