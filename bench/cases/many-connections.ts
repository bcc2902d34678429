// Many connections of one client process to one server: some active with one request in flight each, by
// callback, the others idle beside them. What they do together, whether the slowest keeps up, and what
// each costs.
import { readdirSync, readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import type { ClientSide } from '../subject.js'
import { exchangeOf, type Measurement, type Task } from '../task.js'
import { type ClientCase, measurementOf, required, type Surroundings } from './client-case.js'

/** Opened at a time; a server bounds its handshakes. */
const AT_ONCE = 8
/** From here on the growth of a process is that of its connections. */
const TELLING_CONNECTIONS = 500
/** Descriptors that are left to a process for whatever else it opens. */
const SPARE_FDS = 64
/** Connections after which the descriptors of one are known. */
const PROBE = 8

export const manyConnections: ClientCase = {
  about: 'open connections, some of them active: rate, fairness, memory and descriptors of each',
  run: async (task, connect, surroundings) => {
    const sides: ClientSide[] = []
    try {
      return await measure(task, connect, surroundings, sides)
    } finally {
      await Promise.all(sides.map((side) => side.close()))
    }
  },
}

async function measure(
  task: Task,
  connect: () => Promise<ClientSide>,
  surroundings: Surroundings,
  sides: ClientSide[],
): Promise<Measurement> {
  const { serverPid, cpu } = surroundings
  const telling = task.connections >= TELLING_CONNECTIONS
  const look = async (): Promise<Memory | undefined> => {
    if (!telling) return undefined
    await surroundings.collectGarbage()
    return memoryOf(serverPid)
  }
  const openUpTo = async (count: number): Promise<void> => {
    while (sides.length < count) {
      const some = Array.from({ length: Math.min(AT_ONCE, count - sides.length) }, connect)
      sides.push(...(await Promise.all(some)))
    }
  }

  const caller = new Caller(exchangeOf(task))
  const useAll = async (): Promise<void> => {
    for (const side of sides)
      caller.checkAnswer(await required(side.request, 'request').call(side, caller.nextRequest()))
  }
  const fds = async (): Promise<readonly [number, number]> => {
    await useAll() // who has answered has accepted
    return [fdsOf(process.pid), fdsOf(serverPid)]
  }
  // The first connection pays for what there is once; what one costs is seen in those that follow.
  const none = await fds()
  await openUpTo(1)
  const one = await fds()
  await openUpTo(Math.min(PROBE, task.connections))
  const some = await fds()
  const more = sides.length - 1
  const fdsEach = (of: 0 | 1): number =>
    more === 0 ? one[of] - none[of] : (some[of] - one[of]) / more
  const [clientFds, serverFds] = [fdsEach(0), fdsEach(1)]
  const room = Math.min(roomFor(process.pid, clientFds), roomFor(serverPid, serverFds))
  const counted = sides.length
  const before = await look()
  await openUpTo(Math.min(task.connections, sides.length + room))
  const fresh = await look()
  await useAll()
  const used = await look()
  const each = (later: Memory | undefined, what: keyof Memory): number | null =>
    before === undefined || later === undefined
      ? null
      : (later[what] - before[what]) / (sides.length - counted)

  const run = new Run(task, cpu)
  const step = sides.length / task.active
  const active = Array.from(
    { length: task.active },
    (_, i) => sides[Math.floor(i * step)] as ClientSide,
  )
  await Promise.all(active.map((side, slot) => run.slot(side, slot)))
  const { counts, measurement } = run.result(caller.wrong)
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length
  return {
    ...measurement,
    many: {
      open: sides.length,
      fairness: Math.min(...counts) / mean,
      clientFds,
      serverFds,
      bytesFresh: each(fresh, 'touched'),
      bytesUsed: each(used, 'touched'),
      bytesKernel: each(used, 'kernel'),
    },
  }
}

/** As in `pipelined`, but the slots are on connections of their own and are counted apart. */
class Run {
  readonly #task: Task
  readonly #cpu: Surroundings['cpu']
  readonly #samples = new Samples()
  readonly #counts: number[]
  readonly #end: number
  #warm: number
  #begin = 0
  #last = 0
  #wrong = 0
  #use: ReturnType<Surroundings['cpu']['end']> | undefined
  /** What each slot had when the measurement ended. */
  #counted: number[] | undefined

  constructor(task: Task, cpu: Surroundings['cpu']) {
    this.#task = task
    this.#cpu = cpu
    this.#counts = Array.from({ length: task.active }, () => 0)
    this.#warm = performance.now() + task.warmupMs
    this.#end = this.#warm + task.durationMs
  }

  slot(side: ClientSide, slot: number): Promise<void> {
    const caller = new Caller(exchangeOf(this.#task), slot << 20)
    const counts = this.#counts
    return new Promise((resolve) => {
      let last = performance.now()
      const request = required(side.requestCallback, 'requestCallback').call(side, (answer) => {
        caller.checkAnswer(answer)
        ;(counts[slot] as number)++
        if (slot === 0) last = this.#tick(last)
        if (this.#counted === undefined) {
          request(caller.nextRequest())
        } else {
          this.#wrong += caller.wrong
          resolve()
        }
      })
      request(caller.nextRequest())
    })
  }

  result(wrong: number): { readonly counts: readonly number[]; readonly measurement: Measurement } {
    const counts = this.#counted ?? []
    const operations = counts.reduce((sum, count) => sum + count, 0)
    const elapsedMs = this.#last - this.#begin
    const total = this.#wrong + wrong
    const measurement = measurementOf(this.#samples, operations, elapsedMs, total, this.#use)
    return { counts, measurement }
  }

  #tick(last: number): number {
    const now = performance.now()
    this.#samples.add((now - last) * 1000)
    if (now >= this.#warm) {
      this.#warm = Number.POSITIVE_INFINITY
      this.#counts.fill(0)
      this.#samples.clear()
      this.#cpu.begin()
      this.#begin = performance.now()
      return this.#begin
    }
    if ((now >= this.#end || this.#samples.full) && this.#counted === undefined) {
      this.#last = now
      this.#counted = [...this.#counts]
      this.#use = this.#cpu.end()
    }
    return now
  }
}

/** 0: what serves is a thread of this process, which has its descriptors. */
function fdsOf(pid: number): number {
  if (pid === 0) return 0
  return readdirSync(`/proc/${pid}/fd`).length
}

/** How many more connections a process has descriptors for. */
function roomFor(pid: number, fdsEach: number): number {
  if (pid === 0) return Number.POSITIVE_INFINITY
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[1]
  const free = Number(limit ?? 1024) - fdsOf(pid) - SPARE_FDS
  return Math.max(0, Math.floor(free / Math.max(1, fdsEach)))
}

interface Memory {
  /** Bytes that both processes have touched; Pss counts a page that both map half for each. */
  readonly touched: number
  readonly kernel: number
}

function memoryOf(serverPid: number): Memory {
  const field = (text: string, name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024
  const touched = (pid: number): number =>
    field(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'), 'Pss')
  const machine = readFileSync('/proc/meminfo', 'utf8')
  return {
    touched: touched(process.pid) + (serverPid === 0 ? 0 : touched(serverPid)),
    kernel: field(machine, 'Slab') + field(machine, 'PageTables'),
  }
}
