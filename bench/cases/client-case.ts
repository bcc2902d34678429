// What a case is: what the client's process does with one subject for one repetition.
import type { ClientSide } from '../subject.js'
import type { Measurement, Task } from '../task.js'
import type { Samples } from '../statistics.js'

export interface ClientCase {
  readonly about: string
  /**
   * Runs in the client's process. `connect` opens one connection; the case closes what it opened,
   * unless it only opens them for the harness to watch (`measured: false`).
   */
  run(task: Task, connect: () => Promise<ClientSide>): Promise<Measurement | Idle>
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
): Measurement {
  const [p50, p99, p999, max] = samples.quantiles([0.5, 0.99, 0.999, 1])
  return {
    p50Us: p50 ?? null,
    p99Us: p99 ?? null,
    p999Us: p999 ?? null,
    maxUs: max ?? null,
    perSecond: elapsedMs > 0 ? (operations * 1000) / elapsedMs : null,
    clientCpuPercent: null,
    serverCpuPercent: null,
    wrong,
  }
}

/** A method that `refuses` should have kept us from needing. */
export function required<Method>(method: Method | undefined, name: string): Method {
  if (method === undefined) throw new Error(`the subject has no ${name}`)
  return method
}
