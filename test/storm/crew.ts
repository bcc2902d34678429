// A server and its clients under load, in C and in Node.js, some of which are killed: who notices how soon, what the ledger
// says about every message, and what is still held afterwards. The tests of this folder and `npm run storm` use it.
import { join } from 'node:path'
import { isAlive } from '../support/alive.js'
import { differs, held, mapped, type Reading } from '../support/gauge.js'
import { built } from '../support/paths.js'
import { Program } from '../support/program.js'
import { freshName } from '../support/runtime.js'
import { sleep, until } from '../support/wait.js'
import { Ledger, type LaneWord, nowNs } from './ledger.js'

export type Runtime = 'c' | 'node'

export interface Role {
  readonly kind: string
  readonly runtime: Runtime
  readonly service?: number
}

/** What eight clients do that between them use everything. */
export const eight: readonly Role[] = [
  { kind: 'blocking', runtime: 'c' },
  { kind: 'pipelined', runtime: 'c' },
  { kind: 'large', runtime: 'c' },
  { kind: 'zero-copy', runtime: 'c', service: 2 },
  { kind: 'dispatch', runtime: 'c' },
  { kind: 'connects', runtime: 'c' },
  { kind: 'blocking', runtime: 'node' },
  { kind: 'reconnecting', runtime: 'node' },
]

/** README promises that a death is reported within this time. */
export const PROMISED_MS = 1000
/**
 * By how much a server's resident memory may grow beyond that of an empty one: Node.js takes tens of MiB of heap under load and keeps
 * them, and rings and segments that are in use count as well. What leaks slowly is the soak's to tell.
 */
const RSS_BYTES = 192 << 20
/** Of a crew: the server's socket and lock, and the ledger. */
const CREW_FILE = /^file (test-\d+-\d+)(?:\.lock|\.ledger)?$/
/** Far above what any call takes, and what a machine keeps from one of its processes. */
const STUCK_MS = 20_000
/** One page of control words and three rings: of the default sizes, and of a slow client's. No extra segment is so large. */
const CONNECTION_BYTES = [512 << 10, 4096].map(
  (dispatchRingBytes) => 4096 + (256 << 10) + (256 << 10) + dispatchRingBytes,
)

/** How long it took until somebody knew of a death, in ms: since SIGKILL, and since the process had ended. */
export interface Known {
  readonly ms: number
  /** What the promise is about: the kernel ends a process when it gets a CPU, which on a full machine takes its time. */
  readonly lateMs: number
}

export interface CrewOptions {
  /** A directory of the test's own, also the runtime directory. */
  readonly directory: string
  readonly roles: readonly Role[]
  readonly server?: Runtime
  /** A fault that the server is to commit: load-server.c. */
  readonly mutant?: string
  /** A mistake in the core of a server in C: mutants.json. */
  readonly coreMutant?: string
  /** The same of the clients in C: load-client.c. */
  readonly clientMutant?: string
  /** Descriptors that have nothing to do with connections are for others to judge: the soak has a verdict of its own. */
  readonly leavesFds?: boolean
  /** Of all that run in Node.js. */
  readonly nodeFlags?: readonly string[]
}

export class Crew implements AsyncDisposable {
  readonly ledger: Ledger
  readonly roles: readonly Role[]
  readonly name: string = freshName()
  readonly members: Program[] = []
  /** For how long the watcher was kept from looking, in the last wait. */
  keptMs = 0
  readonly #path: string
  readonly #mutant: readonly string[]
  readonly #coreMutant: string | undefined
  readonly #clientMutant: readonly string[]
  readonly #nodeFlags: readonly string[]
  readonly #directory: string
  readonly #leavesFds: boolean
  /** What a server holds that nobody has connected to. */
  readonly #empty = new Map<Runtime, Reading>()
  #server: Pick<Program, 'pid' | 'end' | 'kill'> | undefined
  #runtime: Runtime

  private constructor(options: CrewOptions) {
    const { directory, roles, server = 'c', mutant, clientMutant, nodeFlags = [] } = options
    this.#nodeFlags = nodeFlags
    this.#directory = directory
    this.#leavesFds = options.leavesFds ?? false
    this.roles = roles
    this.#path = join(directory, `${this.name}.ledger`)
    this.#coreMutant = options.coreMutant
    this.#mutant = mutant === undefined ? [] : [mutant]
    this.#clientMutant = clientMutant === undefined ? [] : [clientMutant]
    this.#runtime = server
    this.ledger = Ledger.create(this.#path, roles.length)
  }

  /** Starts all of them; every client has an answer when it is done. */
  static async start(options: CrewOptions): Promise<Crew> {
    const crew = new Crew(options)
    await crew.startServer()
    for (const lane of crew.roles.keys()) crew.startMember(lane)
    await crew.progress()
    return crew
  }

  /** Of the server. */
  get runtime(): Runtime {
    return this.#runtime
  }

  get server(): Pick<Program, 'pid' | 'end' | 'kill'> {
    if (this.#server === undefined) throw new Error('no server was started')
    return this.#server
  }

  #program(runtime: Runtime, what: string, ...args: string[]): Program {
    if (runtime === 'c') return Program.start(what, ...args)
    const script = built(`test/storm/${what}.js`)
    return Program.command(process.execPath, ...this.#nodeFlags, script, ...args)
  }

  async startServer(runtime: Runtime = this.#runtime): Promise<void> {
    this.#runtime = runtime
    const args = [this.name, this.#path, ...this.#mutant]
    const server =
      this.#coreMutant === undefined
        ? this.#program(runtime, 'load-server', ...args)
        : Program.command(built(`storm/mutants/${this.#coreMutant}/load-server`), ...args)
    this.#server = server
    await server.line('ready')
    if (!this.#empty.has(runtime) && this.members.length === 0)
      this.#empty.set(runtime, await this.#held())
  }

  /** A server in Node.js starts its successor and leaves; when it is done the one before has ended. */
  async handOver(): Promise<void> {
    const { pid } = this.server
    process.kill(pid, 'SIGUSR2')
    const next = (): number => this.ledger.server('pid')
    await until('a successor', () => next() !== pid, STUCK_MS)
    await until('the end of the server before', () => !isAlive(pid), STUCK_MS)
    const server = next()
    const end = async (): Promise<number> => {
      await until('the end of the server', () => !isAlive(server), STUCK_MS)
      return 0 // nobody but its parent, which has gone, could ask
    }
    this.#server = {
      pid: server,
      end,
      kill: async (signal) => {
        if (isAlive(server)) process.kill(server, signal ?? 'SIGKILL')
        await end()
      },
    }
  }

  startMember(lane: number): void {
    const { kind, runtime, service = 1 } = this.roles[lane] as Role
    const args = [this.name, this.#path, String(lane), kind, String(service), ...this.#clientMutant]
    this.members[lane] = this.#program(runtime, 'load-client', ...args)
  }

  /** What is written down in each lane. */
  column(word: LaneWord): number[] {
    return [...this.roles.keys()].map((lane) => this.ledger.get(lane, word))
  }
  total(word: LaneWord): number {
    return this.column(word).reduce((sum, count) => sum + count, 0)
  }

  /** Waits until every client has an answer again; throws, and says who has none. */
  async progress(): Promise<void> {
    const before = this.column('answers')
    const behind = (): number[] =>
      [...before.keys()].filter(
        (lane) => this.ledger.get(lane, 'answers') <= (before[lane] as number),
      )
    try {
      await until('answers', () => behind().length === 0, STUCK_MS)
    } catch {
      const who = behind().map((lane) => `${lane} (${this.roles[lane]?.kind})`)
      throw new Error(`no answer in ${STUCK_MS} ms for ${who.join(', ')}`)
    }
  }

  /** Ends the server: how soon each of the clients knew. It is not started again. */
  async endServer(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<Known[]> {
    const at = nowNs()
    await this.server.kill(signal)
    const ended = nowNs()
    await this.#watch('every client to know', () =>
      this.column('deathNs').every((seen) => seen > at),
    )
    return this.column('deathNs').map((seen) => known(at, ended, seen))
  }

  /** SIGKILL for a client: how soon the server knew; undefined if it had no connection then. */
  async killMember(lane: number): Promise<Known | undefined> {
    const at = nowNs()
    await (this.members[lane] as Program).kill()
    const ended = nowNs()
    const seen = (): number => this.ledger.get(lane, 'goneNs')
    const between = this.roles[lane]?.kind === 'connects'
    try {
      await this.#watch('the server to know', () => seen() > at, between ? 100 : STUCK_MS)
    } catch (error) {
      if (!between) throw error
    }
    return seen() > at ? known(at, ended, seen()) : undefined
  }

  /** Waits, and notes for how long this process itself was kept from looking: so much the machine is to blame for. */
  async #watch(what: string, condition: () => boolean, limitMs: number = STUCK_MS): Promise<void> {
    let looked = performance.now()
    this.keptMs = 0
    await until(
      what,
      () => {
        const now = performance.now()
        this.keptMs = Math.max(this.keptMs, now - looked)
        looked = now
        return condition()
      },
      limitMs,
    )
  }

  /**
   * Has the clients stop between two calls and waits until the server holds exactly what their connections need: '', or
   * what it holds beside that. Then they go on.
   */
  async quiet(limitMs: number = 5000, during: () => unknown = () => {}): Promise<string> {
    for (let again = 3; ; again--) {
      this.ledger.pause(0)
      let said = ''
      let missing = false
      try {
        await until('silence', async () => (said = await this.#beside()) === '', limitMs)
        await during()
      } catch (error) {
        if (said === '') throw error
        // Who stopped when its connection had just been ended, and did not know yet, is not there until it goes on.
        missing = (this.ledger.account().connections ?? 0) < this.#connections
      } finally {
        this.ledger.pause(undefined)
      }
      if (!missing || again === 0) return said
      await this.progress()
    }
  }

  /** So many are connected, but for moments; who makes one for each call is not counted. */
  get #connections(): number {
    return this.roles.filter(({ kind }) => kind !== 'connects').length
  }

  /** What is held differently than by an empty server, of that which does not come and go with connections. */
  #changed(empty: Reading, now: Reading): string[] {
    const steady = (reading: Reading): Reading =>
      Object.fromEntries(
        Object.entries(reading).filter(([kind]) => {
          if (/^mapp|^fd (socket|memfd|anon_inode:\[pidfd\])$/.test(kind)) return false
          if (this.#leavesFds && kind.startsWith('fd ')) return false
          const name = CREW_FILE.exec(kind)?.[1]
          return name === undefined || name === this.name // others may have the same directory
        }),
      )
    return differs(steady(empty), steady(now), RSS_BYTES)
  }

  /** All that the gauge sees of the server. */
  #held(): Promise<Reading> {
    return held({ pid: this.server.pid, directory: this.#directory, rssBytes: RSS_BYTES })
  }

  /**
   * Accounts, descriptors and mappings of the server that no connection explains; and threads, children, files, names in
   * /dev/shm and memory beyond what is allowed that an empty one had not.
   */
  async #beside(): Promise<string> {
    const { pid } = this.server
    const account = this.ledger.account()
    const connections = this.#connections
    const now = await this.#held()
    const empty = this.#empty.get(this.#runtime)
    const rings = mapped(pid).filter((bytes) => CONNECTION_BYTES.includes(bytes)).length
    const wanted: [what: string, is: number | undefined, due: number][] = [
      ['connections', account.connections, connections],
      ['handshakes', account.handshakesPending, 0],
      ['requests in flight', account.inFlight, 0],
      ['unsent answers', account.unsentResponses, 0],
      ['mapped connections', rings, connections],
      ['mapped segments', (now['mapping'] ?? 0) - rings, account.segments],
      ['memfds', now['fd memfd'] ?? 0, 0],
    ]
    if (empty !== undefined)
      for (const kind of ['fd socket', 'fd anon_inode:[pidfd]'])
        wanted.push([kind, now[kind] ?? 0, (empty[kind] ?? 0) + connections])
    const said = wanted
      .filter(([, is, due]) => is !== due)
      .map(([what, is, due]) => `${what}: ${is} instead of ${due}`)
    if (empty !== undefined) said.push(...this.#changed(empty, now))
    return said.join(', ')
  }

  /** All that must never be, lane by lane. */
  faults(): string[] {
    const never = ['wrong', 'failed', 'doubled', 'lost', 'torn'] as const
    return [...this.roles.entries()].flatMap(([lane, { kind, runtime }]) => {
      const entry = this.ledger.entry(lane)
      return never
        .filter((word) => entry[word] !== 0)
        .map((word) => `lane ${lane} (${runtime} ${kind}): ${word} ${entry[word]}`)
    })
  }

  /** Of a client that was never killed: each request is answered, unknown, or was never handed over. */
  unsettled(lane: number): string {
    const { sent, answers, unknown, never, executions } = this.ledger.entry(lane)
    if (sent !== answers + unknown + never)
      return `lane ${lane}: ${sent} sent, but ${answers} answered, ${unknown} unknown, ${never} never handed over`
    if (executions < answers || executions > answers + unknown)
      return `lane ${lane}: ${executions} executed, ${answers} answered, ${unknown} unknown`
    return ''
  }

  /** Ends all in order: clients, then the server, which then holds what it held when it was new. */
  async end(limitMs: number = 5000): Promise<string> {
    for (const member of this.members) process.kill(member.pid, 'SIGTERM')
    const ends = await Promise.all(this.members.map((member) => member.end()))
    const crashed = ends.flatMap((end, lane) => (end === 0 ? [] : [`lane ${lane} ended by ${end}`]))
    const empty = this.#empty.get(this.#runtime)
    let left = ''
    const { pid } = this.server
    try {
      await until(
        'an empty server',
        async () => {
          const now = await this.#held()
          const { connections, handshakesPending, inFlight, backlogBytes, segmentBytes } =
            this.ledger.account()
          const fds = ['fd socket', 'fd anon_inode:[pidfd]', 'fd memfd', 'mapping'].filter(
            (kind) => empty !== undefined && (now[kind] ?? 0) !== (empty[kind] ?? 0),
          )
          const accounts = { connections, handshakesPending, inFlight, backlogBytes, segmentBytes }
          const others = empty === undefined ? [] : this.#changed(empty, now)
          left = [
            ...fds,
            ...others,
            ...Object.entries(accounts).filter(([, value]) => value !== 0),
          ].join(', ')
          return left === ''
        },
        limitMs,
      )
    } catch {}
    process.kill(pid, 'SIGTERM')
    const end = await this.server.end()
    if (end !== 0) crashed.push(`the server ended by ${end}`)
    return [...crashed, ...(left === '' ? [] : [`the server still holds ${left}`])].join('; ')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const each of [...this.members, this.#server]) await each?.kill()
    this.ledger[Symbol.dispose]()
  }
}

const known = (at: number, ended: number, seen: number): Known => ({
  ms: (seen - at) / 1e6,
  lateMs: Math.max(0, seen - ended) / 1e6,
})

/** A number from 0 to below 1 for each call, the same row for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Of this run: COROIPC_SEED, or another one each time. */
export const seed: number = Number(
  process.env['COROIPC_SEED'] ?? Math.floor(Math.random() * 2 ** 32),
)

export interface Kills {
  readonly server: number
  readonly client: number
  readonly knowledge: Knowledge
  /** What was wrong, if something was. */
  readonly faults: string[]
}

/** How soon the survivors knew, and who was last. */
export class Knowledge {
  /** Since SIGKILL, in ms. */
  readonly all: number[] = []
  /** Since the process had ended, in ms. */
  readonly late: number[] = []
  slowest = 'nobody'
  #longest = 0

  add(crew: Crew, { ms, lateMs }: Known, who: string): void {
    this.all.push(ms)
    this.late.push(lateMs)
    if (ms <= this.#longest) return
    this.#longest = ms
    const times = `${lateMs.toFixed(1)} ms after the end; the watcher was kept from looking for ${crew.keptMs.toFixed(1)} ms`
    this.slowest = `${who}, ${times}`
  }

  addClients(crew: Crew, times: readonly Known[]): void {
    for (const [lane, time] of times.entries())
      this.add(
        crew,
        time,
        `client ${lane} (${crew.roles[lane]?.runtime} ${crew.roles[lane]?.kind})`,
      )
  }

  /** The longest time since a process had ended. */
  get lateMs(): number {
    return this.late.reduce((most, ms) => Math.max(most, ms), 0)
  }

  get text(): string {
    const times = `${spread(this.all)} ms since SIGKILL, ${spread(this.late)} ms since the end`
    return `${this.all.length} deaths are known: ${times}; slowest: ${this.slowest}`
  }
}

/** Kills a random side again and again, and looks after each time whether all is as it has to be. */
export async function killRandomly(
  crew: Crew,
  rounds: number,
  draw: () => number,
  over: () => boolean = () => false,
): Promise<Kills> {
  const knowledge = new Knowledge()
  const faults: string[] = []
  let server = 0
  let client = 0
  while (server + client < rounds && faults.length === 0 && !over()) {
    await sleep(2 + draw() * 20)
    if (draw() < 0.5) {
      server++
      knowledge.addClients(crew, await crew.endServer())
      await crew.startServer(draw() < 0.1 ? 'node' : 'c')
    } else {
      client++
      const lane = Math.floor(draw() * crew.roles.length)
      const time = await crew.killMember(lane)
      if (time !== undefined)
        knowledge.add(crew, time, `the server (${crew.runtime}), of ${crew.roles[lane]?.kind}`)
      crew.startMember(lane)
    }
    await crew.progress()
    const beside = await crew.quiet()
    if (beside !== '') faults.push(`after ${server + client} kills: ${beside}`)
    faults.push(...crew.faults())
  }
  return { server, client, knowledge, faults }
}

/** 'p50 0.1, p99 2.0, max 3.1' */
export function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (part: number): string =>
    (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0).toFixed(2)
  return `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`
}

/** Has the server go, in order or by SIGKILL, and come back, again and again. */
export async function restartOften(
  crew: Crew,
  rounds: number,
  draw: () => number,
  over: () => boolean = () => false,
): Promise<Omit<Kills, 'client'>> {
  const knowledge = new Knowledge()
  const faults: string[] = []
  let server = 0
  for (; server < rounds && faults.length === 0 && !over(); server++) {
    await sleep(draw() * 10)
    knowledge.addClients(crew, await crew.endServer(draw() < 0.5 ? 'SIGTERM' : 'SIGKILL'))
    await crew.startServer(draw() < 0.1 ? 'node' : 'c')
    await crew.progress()
    const beside = await crew.quiet()
    if (beside !== '') faults.push(`after ${server + 1} restarts: ${beside}`)
    faults.push(...crew.faults())
  }
  return { server, knowledge, faults }
}

/** Has the server start its successor and leave, again and again: what was wrong, if something was. */
export async function handOverOften(
  crew: Crew,
  rounds: number,
  over: () => boolean = () => false,
): Promise<string[]> {
  const faults: string[] = []
  for (let round = 0; round < rounds && faults.length === 0 && !over(); round++) {
    await crew.handOver()
    await crew.progress()
    faults.push(...crew.faults())
  }
  return faults
}
