// Storms that the tests and `npm run storm` have in common: how many of what, and what came of it.
import { Program } from '../support/program.js'
import { sleep } from '../support/wait.js'
import type { Crew, Role } from './crew.js'

/** Users that nobody is, for storms of several. */
export const users = [64_001, 64_002] as const

/** The numbers of the line that test/programs/storm ends with, by the words before them. */
function figures(line: string): Record<string, number> {
  const found = [...line.matchAll(/([a-z][a-z0-9 -]*?) (\d+)/g)]
  return Object.fromEntries(found.map(([, word, value]) => [word as string, Number(value)]))
}

export class Storm {
  readonly #program: Program
  readonly #what: string

  /** Whether it has done as many as it was to. */
  get ended(): boolean {
    return this.#program.exited
  }

  private constructor(program: Program, what: string) {
    this.#program = program
    this.#what = what
  }

  /** Begins one that ends when it is stopped, or after so many. */
  static async begin(what: string, name: string, uid?: number, count: number = 0): Promise<Storm> {
    const args = [what, name, String(count), ...(uid === undefined ? [] : [String(uid)])]
    const storm = new Storm(Program.start('storm', ...args), what)
    await storm.#program.line('ready')
    return storm
  }

  async stop(): Promise<Record<string, number>> {
    if (!this.ended) process.kill(this.#program.pid, 'SIGTERM')
    await this.#program.end()
    return figures(await this.#program.line(this.#what))
  }

  /** One of so many, to its end. */
  static async of(
    what: string,
    name: string,
    count: number,
    uid?: number,
  ): Promise<Record<string, number>> {
    const args = [what, name, String(count), ...(uid === undefined ? [] : [String(uid)])]
    const program = Program.start('storm', ...args)
    await program.end()
    return figures(await program.line(what))
  }
}

export interface HalfOpen {
  readonly opened: number
  /** The most that the server kept waiting for at a time. */
  readonly kept: number
  /** Connects of the other user that failed, and how long they took in us, the worst of several rows. */
  readonly failed: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** So many half-open sockets of one user, while another user connects, to the last of them. */
export async function halfOpen(crew: Crew, connects: number, sockets: number): Promise<HalfOpen> {
  const [a, b] = users
  const storm = await Storm.begin('half-open', crew.name, a, sockets)
  const worst = { failed: 0, p50: 0, p99: 0, max: 0 }
  let kept = 0
  const look = setInterval(() => {
    kept = Math.max(kept, crew.ledger.server('handshakesPending'))
  }, 5)
  do {
    const row = await Storm.of('sequential', crew.name, connects, b)
    for (const figure of ['failed', 'p50', 'p99', 'max'] as const)
      worst[figure] = Math.max(worst[figure], row[figure] ?? 0)
  } while (!storm.ended)
  clearInterval(look)
  const opened = (await storm.stop())['half-open'] ?? 0
  return { opened, kept, ...worst }
}

/** Until all are silent, or all go on again. */
const SETTLED_MS = 150

/** Two moments next to each other. */
export interface Window {
  /** Answers a second of those that go on, while the others are merely idle, and while they are stopped. */
  readonly idle: number
  readonly stopped: number
}

/** Half of so many clients are stopped in the middle of what they do: what becomes of the other half's rate. */
export async function stopHalf(
  crew: Crew,
  windows: number,
  stoppedMs: number,
  idleMs: number = stoppedMs,
): Promise<Window[]> {
  const half = crew.roles.length / 2
  const others = crew.members.slice(half)
  const signal = (name: NodeJS.Signals): void =>
    others.forEach(({ pid }) => process.kill(pid, name))
  const rate = async (windowMs: number): Promise<number> => {
    const answers = (): number =>
      crew
        .column('answers')
        .slice(0, half)
        .reduce((sum, count) => sum + count, 0)
    const before = answers()
    const began = performance.now()
    await sleep(windowMs)
    return ((answers() - before) / (performance.now() - began)) * 1000
  }
  const whileIdle = async (): Promise<number> => {
    crew.ledger.pause(half)
    await sleep(SETTLED_MS)
    const idle = await rate(idleMs)
    crew.ledger.pause(undefined)
    return idle
  }
  const whileStopped = async (): Promise<number> => {
    await sleep(SETTLED_MS)
    signal('SIGSTOP')
    await sleep(20)
    const stopped = await rate(stoppedMs)
    signal('SIGCONT')
    return stopped
  }
  const seen: Window[] = []
  for (let i = 0; i < windows; i++) {
    // By turns, so that a machine that gets slower all the time counts for neither.
    if (i % 2 === 0) {
      const idle = await whileIdle()
      seen.push({ idle, stopped: await whileStopped() })
    } else {
      const stopped = await whileStopped()
      seen.push({ stopped, idle: await whileIdle() })
    }
  }
  return seen
}

export const median = (values: readonly number[]): number =>
  [...values].sort((x, y) => x - y)[values.length >> 1] ?? 0

/** What is left of the rate, by the median over windows: each is compared with the moment next to it alone. */
export const keptPercent = (windows: readonly Window[]): number =>
  median(windows.map(({ idle, stopped }) => (100 * stopped) / idle))

/** Clients of every kind, half of which only `stopHalf` leaves alone. */
export const halves = (total: number): Role[] => {
  const kinds = ['pipelined', 'blocking', 'dispatch', 'large']
  return Array.from({ length: total }, (_, i) => ({
    kind: kinds[i % kinds.length] as string,
    runtime: 'c',
  }))
}
