// Honest clients beside a scribbler, and beside one that only burns as much CPU: what their calls take, in turns, so that
// a machine that is busy with something else is so for both.
//
//   role client: the scribbler is a client of the server that the honest ones use as well
//   role server: the scribbler is a server; its victim is a client that has an honest connection, too
import { strictEqual } from 'node:assert'
import { Gauge } from '../support/gauge.js'
import { built } from '../support/paths.js'
import { Peer, type Task } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName } from '../support/runtime.js'
import { Distribution } from './distribution.js'

export type Role = 'client' | 'server'
export type Manner = 'scribble' | 'burn'

/** What was seen in one slice of time. */
export interface Slice {
  readonly manner: Manner
  readonly seconds: number
  /** Of the honest calls, microseconds. */
  readonly latency: Distribution
  /** Honest calls that failed, or came back with other bytes than they should have, as text. */
  readonly faults: readonly string[]
  /** Connections of the scribbler, and how many of them were cut off. */
  readonly connections: number
  readonly cutOff: number
  /** Of role server: what became of the victim's calls to the scribbler, by code. */
  readonly outcomes: Readonly<Record<string, number>>
}

interface Calls {
  counts: [number, number][]
  faults: string[]
  outcomes: Record<string, number>
}

/** A fault of the honest server, to show that it would be told. */
export type Mutant = 'tears' | 'keeps' | 'slows'

/** Starts a server that echoes. */
const serves: Task<[string, string | undefined], void> = async (
  { ipcs, state, require },
  name,
  mutant,
) => {
  const server = new ipcs.Server()
  state.server = server
  let answers = 0
  server.addService({
    id: 1,
    handlers: {
      0: ({ payload }) => {
        if (mutant === 'tears' && ++answers % 100 === 0) payload[0] = ~(payload[0] as number)
        return payload
      },
    },
    onDisconnect: (_, { code }) => {
      if (code !== 'ERR_COROIPC_PROTOCOL') return
      if (mutant === 'keeps') require('node:fs').openSync('/dev/null')
      // Its thread is held up by whoever broke the protocol.
      if (mutant === 'slows') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
    },
  })
  await server.listen(name)
}

/** Echoes for `ms`; with `hostile`, connects to that server again and again meanwhile. */
const calls: Task<[string, number, boolean, string | undefined], Calls> = async (
  { ipcc, wait, state },
  name,
  ms,
  blocking,
  hostile,
) => {
  state.connection ??= await ipcc.connect(name, { service: 1 })
  const { connection } = state
  const end = performance.now() + ms
  const counts = new Map<number, number>()
  const faults: string[] = []
  const outcomes: Record<string, number> = {}
  let calls = 0
  const honest = async (): Promise<void> => {
    while (performance.now() < end && faults.length < 10) {
      const sent = wait.pattern(64 + (calls % 4) * 300, calls++)
      const started = performance.now()
      try {
        const got = blocking ? connection.requestSync(0, sent) : await connection.request(0, sent)
        if (Buffer.compare(sent, got) !== 0) faults.push(`another answer to call ${calls}`)
      } catch (error) {
        faults.push(String(error))
      }
      // A sixteenth of an octave: 4.4 %.
      const bucket = Math.round(16 * Math.log2(Math.max(0.1, (performance.now() - started) * 1000)))
      counts.set(bucket, (counts.get(bucket) ?? 0) + 1)
      if (!blocking && calls % 16 === 0) await new Promise(setImmediate)
    }
  }
  const attacked = async (): Promise<void> => {
    if (hostile === undefined) return
    while (performance.now() < end) {
      const count = (what: string): void => void (outcomes[what] = (outcomes[what] ?? 0) + 1)
      const victim = await ipcc.connect(hostile, { service: 1, timeoutMs: 200 }).catch((error) => {
        count(`connect ${error.code}`)
      })
      if (victim === undefined) {
        await wait.sleep(1)
        continue
      }
      victim.on('dispatch', () => {})
      for (let i = 0; i < 20 && !victim.closed; i++)
        count(await wait.outcome(victim.request(0, 'hello', { timeoutMs: 20 })))
      await victim.close({ timeoutMs: 0 })
    }
  }
  await Promise.all([honest(), attacked()])
  return { counts: [...counts], faults, outcomes }
}

export class Scene implements AsyncDisposable {
  readonly #role: Role
  readonly #name = `@${freshName()}` // the scribbler knows no runtime directory
  readonly #hostile: string
  readonly #server: Peer
  readonly #callers: readonly Peer[]
  #gauges: readonly Gauge[] = []

  private constructor(role: Role, server: Peer, callers: readonly Peer[]) {
    this.#role = role
    this.#server = server
    this.#callers = callers
    this.#hostile = role === 'server' ? `@${freshName()}` : this.#name
  }

  static async open(role: Role, mutant?: Mutant): Promise<Scene> {
    const server = await Peer.open()
    const callers = [await Peer.open()]
    if (role === 'client') callers.push(await Peer.open())
    const scene = new Scene(role, server, callers)
    await server.run(serves, scene.#name, mutant)
    await scene.#call(300) // warm, connected
    const stats = (): Promise<object> => server.run(({ state }) => state.server.stats())
    scene.#gauges = [
      await Gauge.read({ pid: server.pid, stats }),
      ...(await Promise.all(callers.map(({ pid }) => Gauge.read({ pid })))),
    ]
    return scene
  }

  async #call(ms: number): Promise<Calls[]> {
    const hostile = this.#role === 'server' ? this.#hostile : undefined
    return Promise.all(
      this.#callers.map((caller, i) =>
        caller.run(calls, this.#name, ms, i > 0, i === 0 ? hostile : undefined),
      ),
    )
  }

  async slice(manner: Manner, seconds: number, seed: number): Promise<Slice> {
    await using program = Program.command(
      built('test/scribble/scribbler'),
      manner,
      this.#role,
      this.#hostile,
      String(seed),
    )
    const seen = await this.#call(seconds * 1000)
    const last = program.line('') // its only one
    process.kill(program.pid, 'SIGTERM')
    const [connections = 0, cutOff = 0] = [...(await last).matchAll(/\d+/g)].map(Number)
    strictEqual(await program.end(), 0)
    const latency = new Distribution()
    for (const { counts } of seen) latency.add(counts)
    const outcomes: Record<string, number> = {}
    for (const each of seen)
      for (const [what, count] of Object.entries(each.outcomes))
        outcomes[what] = (outcomes[what] ?? 0) + count
    const faults = seen.flatMap(({ faults }) => faults)
    return { manner, seconds, latency, faults, connections, cutOff, outcomes }
  }

  /** What anybody of them holds more than before; '' if nothing. */
  async left(): Promise<string> {
    return (await Promise.all(this.#gauges.map((gauge) => gauge.settled()))).join('')
  }

  /** How many peers the server cut off. */
  protocolErrors(): Promise<number> {
    return this.#server.run(({ state }) => state.server.stats().protocolErrors as number)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#server, ...this.#callers].map((peer) => peer.end()))
  }
}
