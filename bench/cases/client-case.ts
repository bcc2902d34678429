// What a case is: what the client's process does with one subject for one repetition.
import { type CpuMeter, type CpuUse, unknownCpuUse } from '../cpu-meter.js'
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import { DISTRIBUTION, type Samples } from '../statistics.js'

export interface ClientCase {
  readonly about: string
  /**
   * Runs in the client's process. `connect` opens one connection; the case closes what it opened,
   * unless it only opens them for the harness to watch (`idle: true`).
   */
  run(
    task: Task,
    connect: () => Promise<ClientSide>,
    surroundings: Surroundings,
  ): Promise<Measurement | Idle>
}

/** What a case can ask for beside the subject. */
export interface Surroundings {
  readonly cpu: CpuMeter
  /** Of the server that is running now. */
  readonly serverPid: number
  /** Both processes throw away what they do not need, so that their memory can be read. */
  collectGarbage(): Promise<void>
  /** Kills nobody: takes away what is left of the server, and starts another. `connect` goes there from now on. */
  renewServer(): Promise<void>
}

/** Everything is open and at rest: the harness watches both processes now. */
export interface Idle {
  readonly idle: true
  readonly close: () => Promise<void>
}

/** What the samples and the clock of one repetition say. */
export function measurementOf(
  samples: Samples,
  operations: number,
  elapsedMs: number,
  wrong: number,
  cpu: CpuUse = unknownCpuUse,
): Measurement {
  const [p50, p99, p999, max] = samples.quantiles([0.5, 0.99, 0.999, 1])
  return {
    p50Us: p50 ?? null,
    p99Us: p99 ?? null,
    p999Us: p999 ?? null,
    maxUs: max ?? null,
    distributionUs: samples.count === 0 ? undefined : samples.quantiles(DISTRIBUTION),
    perSecond: elapsedMs > 0 ? (operations * 1000) / elapsedMs : null,
    ...cpu,
    wrong,
  }
}

/** Opens a connection for as long as `use` takes. */
export async function withConnection<Result>(
  connect: () => Promise<ClientSide>,
  use: (side: ClientSide) => Result | Promise<Result>,
): Promise<Result> {
  const side = await connect()
  try {
    return await use(side)
  } finally {
    await side.close()
  }
}

/** A method that `refuses` should have kept us from needing. */
export function required<Method>(method: Method | undefined, name: string): Method {
  if (method === undefined) throw new Error(`the subject has no ${name}`)
  return method
}

/**
 * Calls `operation` until the time is up, blocking, and times each: from the end of the last one, or of
 * `pause` where there is one. It stands for `operationsEach`. The warm-up runs the very loop that is measured, samples included: a
 * branch of its own that V8 saw for the first time when the measurement begins would throw the
 * optimised code away.
 */
export function measureBlocking(
  task: Task,
  samples: Samples,
  cpu: CpuMeter,
  operation: () => void,
  {
    pause,
    operationsEach = 1,
  }: { readonly pause?: (() => void) | undefined; readonly operationsEach?: number } = {},
): { readonly elapsedMs: number; readonly use: CpuUse } {
  const until = (end: number): number => {
    samples.clear()
    let last = performance.now()
    while (last < end && !samples.full) {
      if (pause !== undefined) {
        pause()
        last = performance.now()
      }
      operation()
      const now = performance.now()
      samples.add(((now - last) * 1000) / operationsEach)
      last = now
    }
    return last
  }
  until(performance.now() + task.warmupMs)
  cpu.begin()
  const begin = performance.now()
  const last = until(begin + task.durationMs)
  const use = cpu.end()
  return { elapsedMs: last - begin, use }
}

/**
 * As `measureBlocking`, of an operation that says when it is over: `prepare` gets what to call then, and
 * gives what begins the next one.
 */
export function measureCalledBack(
  task: Task,
  samples: Samples,
  cpu: CpuMeter,
  prepare: (over: () => void) => () => void,
  { pauseMs }: { readonly pauseMs?: number | undefined } = {},
): Promise<{ readonly elapsedMs: number; readonly use: CpuUse }> {
  return new Promise((resolve) => {
    let last = performance.now()
    let begin = 0
    let warm = last + task.warmupMs
    const end = warm + task.durationMs
    const begins = prepare(() => {
      const now = performance.now()
      samples.add((now - last) * 1000)
      last = now
      if (now >= warm) {
        warm = Number.POSITIVE_INFINITY
        samples.clear()
        cpu.begin()
        begin = last = performance.now()
      }
      // One at the least, however long it takes.
      if ((now >= end || samples.full) && samples.count > 0)
        resolve({ elapsedMs: now - begin, use: cpu.end() })
      else if (pauseMs === undefined) begins()
      else setTimeout(afterPause, pauseMs)
    })
    const afterPause = (): void => {
      last = performance.now()
      begins()
    }
    begins()
  })
}
