// Which rows a run measures. A bout is one question (a case with its numbers and its placement); every
// subject that does not refuse it takes part, so a new subject needs no line here.
import { KILLS } from './cases/server-death.js'
import type { Cpus } from '@coroipc/cli'
import { place } from './placement.js'
import type { Subject } from './subject.js'
import type { CallForm, CaseName, PlacementName, Row, Task, Touch, Variant, Wait } from './task.js'

/** `home`: this project's, and node:net; `rivals`: also those that the goals name; else all. */
type Who = 'home' | 'rivals' | 'everybody'

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
  /** The run would take too long with everybody everywhere. */
  readonly who: Who
  /** A goal is about it. */
  readonly goal: boolean
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
const BUDGET_MS = 880_000
/** Durations are shortened to fit, but not to less than this part of what they should be. */
const SHORTEST = 0.18

/**
 * How often a row is measured, in the order in which a run that would take too long gives it up: what the
 * goals compare, what else is ours, what else is a peer's.
 */
type Rank = 'compared' | 'ours' | 'others'
const REPETITIONS: readonly Readonly<Record<Rank, number>>[] = [
  { compared: 5, ours: 5, others: 5 },
  { compared: 5, ours: 3, others: 3 },
  { compared: 5, ours: 3, others: 1 },
  { compared: 5, ours: 2, others: 1 },
  { compared: 5, ours: 1, others: 1 },
  { compared: 4, ours: 1, others: 1 },
  { compared: 3, ours: 1, others: 1 },
]

const WARMUP_MS = 200
/** Opening so many takes longer than measuring them. */
const MANY = 500
const MANY_REPETITIONS = 2

/** For the estimate of how long a run takes. */
const START_PAIR_MS = 220
const START_PROGRAM_MS = 60
const START_CONNECTION_MS = 0.6
const START_SERVER_MS = 200

/**
 * Without the peers that a user installs on request; they take part where it says something about them. Of
 * the floors those that goals are measured by; the others explain these.
 */
export function atHome(subject: string): boolean {
  return /^(coroipc.*|floor-c|floor-napi|floor-js-(ring.*|slots|blocks)|node-net)$/.test(subject)
}

const RIVALS = /^(libqb|zeromq)/

function takesPart(who: Who, subject: string): boolean {
  return who === 'everybody' || atHome(subject) || (who === 'rivals' && RIVALS.test(subject))
}

/** At home, but beside the goals: they explain a row. */
const EXPLAINS = /^(coroipc-c-node|coroipc-typed|coroipc-traced|floor-js-(ring.*|slots|blocks))$/

function rankOf(bout: Bout, subject: string): Rank {
  if (EXPLAINS.test(subject)) return 'ours'
  if (atHome(subject)) return bout.goal ? 'compared' : 'ours'
  return bout.goal && RIVALS.test(subject) ? 'compared' : 'others'
}

/** Forms of each case; `all`: each is a row of its own, else a subject takes the first it can. */
function formsOf(bout: Bout): { readonly of: readonly CallForm[]; readonly all: boolean } {
  switch (bout.case) {
    case 'rtt-sync':
      return { of: ['sync', 'callback', 'promise'], all: false }
    case 'zero-copy':
      return { of: ['sync', 'callback'], all: false }
    case 'bandwidth':
      return { of: [bout.variant === 'owned' ? 'callback' : 'sync'], all: true }
    case 'pipelined':
      return { of: bout.variant === 'offset' ? ['callback'] : ['promise', 'callback'], all: true }
    case 'dispatch':
      return { of: [bout.variant === 'in-place' ? 'sync' : 'callback'], all: true }
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
    who: 'home',
    goal: false,
  } as const
  const rivals = { ...base, who: 'rivals' } as const
  const everybody = { ...base, who: 'everybody' } as const
  /** A quick run has no time for everybody. */
  const shown = quick ? base : everybody
  const bandwidths = (payloadBytes: number, touch: Touch): Bout[] =>
    (['owned', 'into', 'in-place'] as const).map((variant) => ({
      ...base,
      who: touch === 'full' && payloadBytes <= MIB ? 'everybody' : 'home',
      case: 'bandwidth',
      payloadBytes,
      touch,
      variant,
    }))
  const zeroCopies = (payloadBytes: number): Bout[] =>
    (['hand-over', 'full'] as const).map((touch) => ({
      ...shown,
      case: 'zero-copy',
      payloadBytes,
      touch,
    }))
  const many = (connections: number, active: number): Bout => ({
    ...base,
    case: 'many-connections',
    connections,
    active,
  })
  const asked: Bout[] = [
    { ...everybody, case: 'rtt-sync' },
    { ...(quick ? rivals : everybody), case: 'rtt-sync', awake: false },
    { ...(quick ? rivals : everybody), case: 'rtt-sync', placement: 'one-cpu' },
    { ...(quick ? rivals : everybody), case: 'rtt-sync', placement: 'one-cpu', awake: false },
    { ...rivals, case: 'rtt-sync', placement: 'free' },
    { ...(quick ? rivals : everybody), case: 'rtt-sync', variant: 'paced', durationMs: 1000 },
    { ...shown, case: 'rtt-async' },
    { ...everybody, case: 'pipelined', inFlight: 64 },
    { ...base, case: 'pipelined', variant: 'offset', inFlight: 64 },
    { ...everybody, case: 'dispatch' },
    { ...base, case: 'dispatch', variant: 'publish-each' },
    { ...base, case: 'dispatch', variant: 'offset' },
    { ...base, case: 'dispatch', variant: 'in-place' },
    ...bandwidths(64 * KIB, 'hand-over'),
    ...zeroCopies(MIB),
    { ...shown, case: 'connect' },
    { ...shown, case: 'connect', connections: 8 },
    { ...many(64, 64), who: shown.who },
    { ...shown, case: 'idle-cpu', connections: 100, durationMs: 4000 },
    { ...shown, case: 'server-death', connections: 4, inFlight: 16 },
  ]
  const compared = (some: readonly Bout[]): Bout[] => some.map((bout) => ({ ...bout, goal: true }))
  if (quick) return compared(asked)
  const sized = (
    bout: Omit<Bout, 'payloadBytes'>,
    sizes: readonly number[],
    everybodys: readonly number[] = [],
  ): Bout[] =>
    sizes.map((payloadBytes) => ({
      ...bout,
      payloadBytes,
      who: everybodys.includes(payloadBytes) ? 'everybody' : 'home',
    }))
  const sizes = [0, KIB, 16 * KIB, 64 * KIB, MIB]
  const elsewhere = (['one-cpu', 'free'] as const).flatMap((placement): Bout[] => [
    { ...base, case: 'rtt-async', placement },
    { ...base, case: 'pipelined', inFlight: 64, placement },
    { ...base, case: 'dispatch', placement },
  ])
  return [
    ...compared(asked),
    ...compared(sized({ ...base, case: 'rtt-sync' }, [KIB, 16 * KIB, 64 * KIB], [KIB, 64 * KIB])),
    ...sized({ ...base, case: 'rtt-sync' }, [0, MIB]),
    ...sized({ ...base, case: 'rtt-async' }, sizes),
    ...sized({ ...base, case: 'dispatch' }, sizes, [KIB, 64 * KIB]),
    ...compared(
      [16, 256].flatMap((inFlight): Bout[] => [
        { ...shown, case: 'pipelined', inFlight },
        { ...base, case: 'pipelined', variant: 'offset', inFlight },
      ]),
    ),
    ...sized({ ...base, case: 'pipelined', inFlight: 64 }, [0, KIB, 16 * KIB, 64 * KIB]),
    ...elsewhere,
    ...compared(bandwidths(64 * KIB, 'full')),
    ...[MIB, 16 * MIB].flatMap((bytes) => [
      ...bandwidths(bytes, 'hand-over'),
      ...bandwidths(bytes, 'full'),
    ]),
    ...compared(zeroCopies(16 * MIB)),
    ...compared([many(1, 1), many(10_000, 1)]),
    ...[1, 8].map((active) => many(64, active)),
    ...[1, 8, 64].map((active) => many(1000, active)),
    ...[8, 64].map((active) => many(10_000, active)),
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
  const wanted: Wanted[] = []
  const notes = new Set<string>()
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
      if (!selection.subjectsNamed && !takesPart(bout.who, subject.name)) continue
      const rank = selection.subjectsNamed ? 'compared' : rankOf(bout, subject.name)
      for (const task of tasksOf(bout, subject)) wanted.push({ task, subject, placement, rank })
    }
  }
  return { ...fit(wanted, selection), notes: [...notes] }
}

interface Wanted extends Pick<Row, 'task' | 'placement'> {
  readonly subject: Subject
  readonly rank: Rank
}

function cannotPlace(cpus: Cpus): string {
  return cpus.taskset ? `this process may use CPU ${cpus.usable.join(', ')} only` : 'no taskset'
}

function mostRepetitions(task: Task): number {
  if (task.case === 'server-death') return 1 // its kills are its repetitions
  if (task.case === 'idle-cpu') return 1 // an average over seconds
  return task.connections >= MANY ? MANY_REPETITIONS : Number.POSITIVE_INFINITY
}

/** Measures less often and shorter, until the run fits its time. */
function fit(wanted: readonly Wanted[], selection: Selection): Omit<Plan, 'notes'> {
  const { repetitions: asked, quick } = selection
  const budgetMs = asked === undefined ? (quick ? QUICK_BUDGET_MS : BUDGET_MS) : Infinity
  const levels =
    asked === undefined ? REPETITIONS : [{ compared: asked, ours: asked, others: asked }]
  const lasting = ({ task }: Wanted): boolean =>
    task.case === 'idle-cpu' || task.case === 'server-death'
  // A JavaScript engine that has not compiled yet is another one: warming up is never shortened.
  const fixedMs = ({ task, subject }: Wanted): number => {
    const pair = subject.kind !== 'program'
    const begunMs = (pair ? START_PAIR_MS : START_PROGRAM_MS) + task.warmupMs
    if (task.case === 'idle-cpu') return START_PAIR_MS + task.durationMs
    if (task.case === 'server-death')
      return KILLS * (pair ? START_SERVER_MS + 50 : START_PROGRAM_MS)
    return pair ? begunMs + task.connections * START_CONNECTION_MS : begunMs
  }
  const measuredMs = (row: Wanted): number => (lasting(row) ? 0 : row.task.durationMs)
  const planned = levels.map((level) => {
    const often = (row: Wanted): number => Math.min(level[row.rank], mostRepetitions(row.task))
    const sum = (of: (row: Wanted) => number): number =>
      wanted.reduce((all, row) => all + of(row) * often(row), 0)
    const scale = Math.min(1, (budgetMs - sum(fixedMs)) / Math.max(1, sum(measuredMs)))
    return { often, scale }
  })
  const chosen = planned.find(({ scale }) => scale >= SHORTEST) ?? planned.at(-1)
  const { often, scale } = chosen as (typeof planned)[number]
  const rows = wanted.map((row): Row => {
    const { task, subject, placement } = row
    const shortened = (ms: number): number => Math.round(ms * Math.max(SHORTEST, scale))
    const fitted = {
      ...task,
      durationMs: shortened(task.durationMs),
    }
    return {
      task: lasting(row) ? task : fitted,
      subject: subject.name,
      placement,
      repetitions: often(row),
    }
  })
  return { rows, budgetMs, repetitions: Math.max(0, ...rows.map((row) => row.repetitions)) }
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
      return (
        task.variant === undefined ||
        (subject.kind === 'sides' && (task.variant === 'paced' || task.variant === 'publish-each'))
      )
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
