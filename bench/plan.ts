// Which rows a run measures. A bout is one question (a case with its numbers and its placement); every
// subject that does not refuse it takes part, so a new subject needs no line here.
import { KILLS } from './cases/server-death.js'
import { type Cpus, place } from './placement.js'
import type { Subject } from './subject.js'
import type { CallForm, CaseName, PlacementName, Row, Task, Touch, Variant, Wait } from './task.js'

interface Bout {
  readonly case: CaseName
  readonly variant: Variant | undefined
  readonly touch: Touch
  readonly placement: PlacementName
  /** Both sides awake: looking before they sleep. Else `wait: 'sleep'`. */
  readonly awake: boolean
  readonly payloadBytes: number
  readonly inFlight: number
  readonly connections: number
  readonly active: number
  readonly durationMs: number
  /** Everybody: also the subjects that are not `atHome`. Else the run would take too long. */
  readonly everybody: boolean
}

export interface Plan {
  readonly rows: readonly Row[]
  /** The most that a row has. */
  readonly repetitions: number
  /** No repetition is begun later than this, if each row has one by then. */
  readonly budgetMs: number
  /** What this machine cannot do, for the report. */
  readonly notes: readonly string[]
}

/** What a run may take: under 3 minutes, under 15, with something to spare for a machine that is busy. */
const QUICK_BUDGET_MS = 160_000
const BUDGET_MS = 780_000
/** Durations are shortened to fit, but not to less than this part of what they should be. */
const SHORTEST = 0.35
const FEWEST_REPETITIONS = 3

const WARMUP_MS = 250
/** Opening so many takes longer than measuring them. */
const MANY = 500
const MANY_REPETITIONS = 2

/** For the estimate of how long a run takes. */
const START_PAIR_MS = 450
const START_PROGRAM_MS = 60
const START_CONNECTION_MS = 0.6
const START_SERVER_MS = 250

/** Without the peers that a user installs on request; they take part where it says something about them. */
function atHome(subject: Subject): boolean {
  return /^(coroipc|floor|node-net)/.test(subject.name)
}

/** Forms of each case; `all`: each is a row of its own, else a subject takes the first it can. */
function formsOf(bout: Bout): { readonly of: readonly CallForm[]; readonly all: boolean } {
  switch (bout.case) {
    case 'rtt-sync':
      return { of: ['sync', 'callback', 'promise'], all: false }
    case 'zero-copy':
      return { of: ['sync'], all: true }
    case 'bandwidth':
      return { of: [bout.variant === 'owned' ? 'callback' : 'sync'], all: true }
    case 'pipelined':
      return { of: ['promise', 'callback'], all: true }
    case 'dispatch':
    case 'many-connections':
      return { of: ['callback'], all: true }
    case 'connect':
    case 'server-death':
      return { of: ['promise', 'sync'], all: false }
    default:
      return { of: ['promise'], all: true }
  }
}

const KIB = 1024
const MIB = 1 << 20

function bouts(quick: boolean): Bout[] {
  const base = {
    variant: undefined,
    touch: 'full',
    placement: 'two-cpus',
    awake: true,
    payloadBytes: 64,
    inFlight: 1,
    connections: 1,
    active: 1,
    durationMs: quick ? 600 : 1200,
    everybody: true,
  } as const
  const home = { ...base, everybody: false } as const
  const bandwidths = (payloadBytes: number, touch: Touch): Bout[] =>
    (['owned', 'into', 'in-place'] as const).map((variant) => ({
      ...home,
      case: 'bandwidth',
      payloadBytes,
      touch,
      variant,
    }))
  const zeroCopies = (payloadBytes: number): Bout[] =>
    (['hand-over', 'full'] as const).map((touch) => ({
      ...home,
      case: 'zero-copy',
      payloadBytes,
      touch,
    }))
  const many = (connections: number, active: number): Bout => ({
    ...home,
    case: 'many-connections',
    connections,
    active,
  })
  const goals: Bout[] = [
    { ...base, case: 'rtt-sync' },
    { ...base, case: 'rtt-sync', awake: false },
    { ...base, case: 'rtt-sync', placement: 'one-cpu' },
    { ...base, case: 'rtt-sync', placement: 'one-cpu', awake: false },
    { ...base, case: 'rtt-sync', placement: 'free' },
    { ...base, case: 'rtt-sync', variant: 'paced', durationMs: 1000 },
    { ...base, case: 'rtt-async' },
    { ...base, case: 'pipelined', inFlight: 64 },
    { ...base, case: 'dispatch' },
    { ...home, case: 'dispatch', variant: 'publish-each' },
    ...bandwidths(64 * KIB, 'hand-over'),
    ...zeroCopies(MIB),
    { ...home, case: 'connect' },
    { ...home, case: 'connect', connections: 8 },
    many(64, 64),
    { ...base, case: 'idle-cpu', connections: 100, durationMs: quick ? 4000 : 8000 },
    { ...home, case: 'server-death', connections: 4, inFlight: 16 },
  ]
  if (quick) return goals
  const sized = (
    bout: Omit<Bout, 'payloadBytes'>,
    sizes: readonly number[],
    everybody: readonly number[],
  ): Bout[] =>
    sizes.map((payloadBytes) => ({
      ...bout,
      payloadBytes,
      everybody: everybody.includes(payloadBytes),
    }))
  const sizes = [0, KIB, 16 * KIB, 64 * KIB, MIB]
  const shown = [KIB, 64 * KIB]
  return [
    ...goals,
    ...sized({ ...home, case: 'rtt-sync' }, sizes, shown),
    ...sized({ ...home, case: 'rtt-async' }, sizes, []),
    ...sized({ ...home, case: 'dispatch' }, sizes.slice(1), shown),
    ...[16, 256].map((inFlight): Bout => ({ ...base, case: 'pipelined', inFlight })),
    ...sized({ ...home, case: 'pipelined', inFlight: 64 }, [KIB, 16 * KIB], []),
    ...bandwidths(64 * KIB, 'full'),
    ...[MIB, 16 * MIB].flatMap((bytes) => [
      ...bandwidths(bytes, 'hand-over'),
      ...bandwidths(bytes, 'full'),
    ]),
    ...zeroCopies(16 * MIB),
    many(1, 1),
    ...[1, 8].map((active) => many(64, active)),
    ...[1000, 10_000].flatMap((open) => [1, 8, 64].map((active) => many(open, active))),
  ]
}

export interface Selection {
  readonly quick: boolean
  readonly cases: ReadonlySet<string>
  readonly subjects: readonly Subject[]
  /** They were asked for by name. */
  readonly subjectsNamed: boolean
  readonly repetitions: number | undefined
}

export function makePlan(selection: Selection, cpus: Cpus): Plan {
  const rows: Row[] = []
  const notes = new Set<string>()
  const repetitions = selection.repetitions ?? 5
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
      const missing = subject.missing?.()
      if (missing !== undefined) {
        notes.add(`no rows ${subject.name}: ${missing}`)
        continue
      }
      if (!bout.everybody && !selection.subjectsNamed && !atHome(subject)) continue
      for (const task of tasksOf(bout, subject)) {
        const repeated = Math.min(repetitions, mostRepetitions(task))
        rows.push({ task, subject: subject.name, placement, repetitions: repeated })
      }
    }
  }
  const kinds = new Map(selection.subjects.map(({ name, kind }) => [name, kind]))
  const budgetMs = selection.quick ? QUICK_BUDGET_MS : BUDGET_MS
  return fit({ rows, repetitions, budgetMs, notes: [...notes] }, kinds, selection)
}

function cannotPlace(cpus: Cpus): string {
  return cpus.taskset ? `this process may use CPU ${cpus.usable.join(', ')} only` : 'no taskset'
}

function mostRepetitions(task: Task): number {
  if (task.case === 'server-death') return 1 // its kills are its repetitions
  if (task.case === 'idle-cpu') return 1 // an average over seconds
  return task.connections >= MANY ? MANY_REPETITIONS : Number.POSITIVE_INFINITY
}

/** Shortens what is measured until the run fits its time; then measures less often. */
function fit(plan: Plan, kinds: ReadonlyMap<string, string>, selection: Selection): Plan {
  const { rows, budgetMs } = plan
  if (selection.repetitions !== undefined) return { ...plan, budgetMs: Number.POSITIVE_INFINITY }
  const fixedMs = ({ task, subject }: Row): number => {
    const pair = kinds.get(subject) === 'sides'
    if (task.case === 'idle-cpu') return START_PAIR_MS + task.durationMs
    if (task.case === 'server-death')
      return KILLS * (pair ? START_SERVER_MS + 50 : START_PROGRAM_MS)
    return pair ? START_PAIR_MS + task.connections * START_CONNECTION_MS : START_PROGRAM_MS
  }
  const lasting = (row: Row): boolean =>
    row.task.case === 'idle-cpu' || row.task.case === 'server-death'
  const sum = (of: (row: Row) => number, repetitions: number): number =>
    rows.reduce((all, row) => all + of(row) * Math.min(row.repetitions, repetitions), 0)
  const measuredMs = (row: Row): number =>
    lasting(row) ? 0 : row.task.warmupMs + row.task.durationMs
  let { repetitions } = plan
  const scaleFor = (): number =>
    (budgetMs - sum(fixedMs, repetitions)) / Math.max(1, sum(measuredMs, repetitions))
  while (scaleFor() < SHORTEST && repetitions > FEWEST_REPETITIONS) repetitions--
  const scale = Math.min(1, Math.max(SHORTEST, scaleFor()))
  return {
    ...plan,
    repetitions,
    rows: rows.map((row) => ({
      ...row,
      repetitions: Math.min(row.repetitions, repetitions),
      task: lasting(row)
        ? row.task
        : {
            ...row.task,
            warmupMs: Math.round(row.task.warmupMs * scale),
            durationMs: Math.round(row.task.durationMs * scale),
          },
    })),
  }
}

/**
 * What every subject can be asked without knowing more than request, answer and dispatch. The harness
 * itself paces and publishes one by one, for subjects that it drives.
 */
function isUsual(task: Task, subject: Subject): boolean {
  switch (task.case) {
    case 'rtt-sync':
    case 'rtt-async':
    case 'pipelined':
    case 'dispatch':
    case 'idle-cpu':
      return task.variant === undefined || subject.kind === 'sides'
    default:
      return false
  }
}

function tasksOf(bout: Bout, subject: Subject): Task[] {
  const { of, all } = formsOf(bout)
  const waits = waitsOf(bout)
  const tasks = waits.of.flatMap((wait) =>
    of
      .map(
        (form): Task => ({
          case: bout.case,
          variant: bout.variant,
          touch: bout.touch,
          form,
          wait,
          payloadBytes: bout.payloadBytes,
          inFlight: bout.inFlight,
          connections: bout.connections,
          active: bout.active,
          warmupMs: WARMUP_MS,
          durationMs: bout.durationMs,
        }),
      )
      .filter(
        (task) =>
          (isUsual(task, subject) || subject.takes?.(task) === true) &&
          subject.refuses(task) === undefined,
      )
      .slice(0, all ? of.length : 1),
  )
  return waits.all ? tasks : tasks.slice(0, 1)
}

/** As `formsOf`. */
function waitsOf(bout: Bout): { readonly of: readonly Wait[]; readonly all: boolean } {
  if (!bout.awake) return { of: ['sleep'], all: true }
  // Both sides of these sleep in between, whatever they do when something comes.
  if (bout.case === 'connect' || bout.case === 'server-death')
    return { of: ['adaptive', 'own', 'sleep'], all: false }
  if (bout.variant === 'paced') return { of: ['spin', 'adaptive', 'own', 'sleep'], all: true }
  // Two spinning sides that may share a CPU only wait for the end of each other's slice.
  return bout.placement === 'two-cpus'
    ? { of: ['spin', 'adaptive', 'own'], all: true }
    : { of: ['adaptive', 'own'], all: true }
}
