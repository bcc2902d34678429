/**
 * One service over several worker threads. This thread accepts and nothing else; each accepted socket goes to the worker with
 * the fewest connections, which does the rest as if it had accepted it itself. Threads of a process share their
 * descriptors: what travels is a number, in a slot of shared memory, so that whoever takes it out has it alone, also when a
 * worker ends at that moment.
 *
 *   this thread   accept -> slot of a worker := fd + 1 -> post its number
 *   worker        fd := exchange(slot, 0) - 1 -> adopt
 *   worker gone   exchange(slot, 0) of all of them -> another worker
 */
import { closeSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import {
  addon,
  type Checks,
  anything,
  checkOptions,
  integer,
  invalidArgument,
  IpcError,
  localServers,
  milliseconds,
  nameError,
  nativeError,
  waitCode,
} from '@coroipc/native'
import { EventEmitter } from 'eventemitter3'
import type { InheritedSocket } from './inherited.js'
import { listenNatively } from './listening.js'
import { defaultLimits } from './limits.js'
import { checkLog, levelName, type Log } from './log.js'
import { isolated, ServerLoop } from './server-loop.js'
import { KEY, type ShardData, Shared, SLOTS, type Told } from './shard-socket.js'
import { Service } from './service.js'
import { WaitingSockets } from './waiting-sockets.js'

const WORKERS_MAX = 1024
/** Sockets that wait for a worker, in all. */
const WAITING_MAX = 256
/** When workers are asked again that have not taken what they were given. */
const AGAIN_MS = 10

/** What `shard` takes beside the script. */
export interface ShardOptions {
  /** The name, as of `server.listen`; or an inherited socket. */
  readonly name: string | InheritedSocket
  /** How many workers. Default: as many as there are CPUs for this process. */
  readonly workers?: number | undefined
  /** Members of the workers' `workerData`. */
  readonly workerData?: Readonly<Record<string, unknown>> | undefined
  /** First pause before a worker that ended is started again, milliseconds; it doubles. Default 100. */
  readonly pauseMs?: number | undefined
  /** Longest pause; a worker that lived as long begins anew with the first. Default 10 000. */
  readonly pauseMsMax?: number | undefined
  readonly log?: Log | undefined
}

/** Events of {@link Shards}. */
export interface ShardsEvents {
  /** Worker `index` listens, for the first time or again. */
  listening: [index: number]
  /** Worker `index` ended although nobody closed it; `error` is what it threw. Another one follows. */
  exit: [index: number, code: number, error: unknown]
  close: []
}

const checks: Checks = {
  name: anything,
  workers: integer(1, WORKERS_MAX),
  workerData: anything,
  pauseMs: integer(1, 3_600_000),
  pauseMsMax: integer(1, 3_600_000),
  log: checkLog,
}
const closeChecks: Checks = { timeoutMs: milliseconds }

/** One place among the workers: the one that is there now, and what it was given. */
class Shard {
  readonly index: number
  /** Sockets that it was sent, ever. */
  sent = 0
  listening = false
  /** What ended it. */
  thrown: unknown
  readonly began: number = performance.now()
  readonly worker: Worker
  readonly listens: Promise<void>
  readonly exited: Promise<void>
  readonly #port: MessagePort
  readonly #shared = new Int32Array(new SharedArrayBuffer((Shared.slots + SLOTS) * 4))
  /** Whose socket is, or was, in each slot. */
  readonly #uids = new Uint32Array(SLOTS)

  constructor(
    index: number,
    script: string | URL,
    address: string,
    data: Readonly<Record<string, unknown>> | undefined,
    on: { listening(): void; exit(code: number, error: unknown): void },
  ) {
    this.index = index
    const { port1, port2 } = new MessageChannel()
    const mine: ShardData = { port: port2, shared: this.#shared, address, index }
    this.#port = port1
    this.worker = new Worker(script, {
      workerData: { ...data, [KEY]: mine },
      transferList: [port2],
    })
    this.worker.on('error', (error) => (this.thrown = error))
    this.exited = new Promise((resolve) =>
      this.worker.once('exit', (code) => {
        this.listening = false
        port1.close()
        on.exit(code, this.thrown)
        resolve()
      }),
    )
    this.listens = new Promise((resolve) =>
      port1.once('message', () => {
        this.listening = true
        on.listening()
        resolve()
      }),
    )
    port1.unref()
  }

  /** Connections that it has or may come to have. */
  get load(): number {
    const connections = Atomics.load(this.#shared, Shared.connections)
    return connections + this.sent - Atomics.load(this.#shared, Shared.taken)
  }

  /** Gives it a socket of that user; false: there is no free slot. */
  give(fd: number, uid: number): boolean {
    for (let slot = 0; slot < SLOTS; slot++) {
      if (Atomics.compareExchange(this.#shared, Shared.slots + slot, 0, fd + 1) !== 0) continue
      this.#uids[slot] = uid
      this.sent++
      this.tell(slot)
      return true
    }
    return false
  }

  /** What it was given and has not taken; it never will. */
  *untaken(): IterableIterator<[fd: number, uid: number]> {
    for (let slot = 0; slot < SLOTS; slot++) {
      const fd = Atomics.exchange(this.#shared, Shared.slots + slot, 0) - 1
      if (fd >= 0) yield [fd, this.#uids[slot] as number]
    }
  }

  tell(what: Told): void {
    this.#port.postMessage(what)
  }
}

/** The workers of one name: made by `shard`. */
export class Shards extends EventEmitter<ShardsEvents> implements AsyncDisposable {
  /** The path or `@name` that is listened on. */
  readonly address: string
  readonly #script: string | URL
  readonly #options: ShardOptions
  readonly #core: ServerLoop<unknown>
  readonly #shards: (Shard | undefined)[]
  /** All that have not ended, those that start and those that leave included. */
  readonly #alive = new Set<Shard>()
  readonly #pauses: number[]
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Accepted while no worker could take them. */
  readonly #waiting = new WaitingSockets(WAITING_MAX)
  #again: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  /** @internal Users call `shard`. */
  constructor(script: string | URL, options: ShardOptions) {
    super()
    if (typeof script !== 'string' && !(script instanceof URL))
      throw invalidArgument('script', 'a path or a URL', script, 'type')
    checkOptions('options', options, checks)
    const { name, log } = options
    this.#script = script
    this.#options = options
    const nothing = (): void => {}
    this.#core = new ServerLoop<unknown>(
      {
        authorize: () => false,
        select: undefined,
        anyService: new Service({ id: 0 }, undefined, true),
        latency: undefined,
        native: {
          ...defaultLimits,
          wait: waitCode('sleep') as number,
          anyService: false,
          allowUnmapped: false,
          prefault: false,
          lock: 0,
          hugePages: 0,
          acceptRows: true,
          authorizeTimeoutMs: 0,
          handshakeTimeoutMs: 0,
        },
        poll: undefined,
      },
      {
        connection: nothing,
        disconnect: nothing,
        denied: nothing,
        error: nothing,
        progress: nothing,
        accepted: (fd, uid) => this.#give(fd, uid),
        log: (level, text) => log?.[levelName(level)]({}, text),
      },
    )
    const { handle } = this.#core.loop
    try {
      const result = listenNatively(handle, name)
      if (result < 0) throw nameError(result, typeof name === 'string' ? name : name.fd, 'shard')
    } catch (error) {
      this.#core.destroy()
      throw error
    }
    this.address = addon.serverAddress(handle)
    const attached = addon.attach(handle)
    if (attached < 0) throw nativeError(attached, { subject: 'shard' })
    localServers.add(this.address)
    const count = options.workers ?? availableParallelism()
    this.#pauses = Array<number>(count).fill(options.pauseMs ?? 100)
    this.#shards = Array<undefined>(count).fill(undefined)
    for (let index = 0; index < count; index++) this.#start(index)
  }

  /** The workers that listen now, by their place. */
  get workers(): (Worker | undefined)[] {
    return this.#shards.map((shard) => (shard?.listening === true ? shard.worker : undefined))
  }

  /** A new worker, which takes its place when it listens. */
  #start(index: number): Shard {
    const { log, workerData: data } = this.#options
    const shard = new Shard(index, this.#script, this.address, data, {
      listening: () => {
        this.#shards[index] = shard
        log?.info({ worker: index }, 'worker listens')
        this.#serve()
        isolated(() => this.emit('listening', index))
      },
      exit: (code, error) => this.#ended(shard, code, error),
    })
    this.#alive.add(shard)
    return shard
  }

  #ended(shard: Shard, code: number, error: unknown): void {
    const { index } = shard
    const inPlace = this.#shards[index] === shard
    this.#alive.delete(shard)
    if (inPlace) this.#shards[index] = undefined
    for (const [fd, uid] of shard.untaken()) this.#give(fd, uid)
    // One that was replaced has ended in order, and one that was to replace another is told to who asked for it.
    if (this.#closing !== undefined || (!inPlace && this.#shards[index] !== undefined)) return
    const { log, pauseMs = 100, pauseMsMax = 10_000 } = this.#options
    const lived = performance.now() - shard.began
    const pause = lived >= pauseMsMax ? pauseMs : (this.#pauses[index] as number)
    this.#pauses[index] = Math.min(pause * 2, pauseMsMax)
    log?.error({ worker: index, code, err: error, pauseMs: pause }, 'worker ended')
    isolated(() => this.emit('exit', index, code, error))
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#start(index)
    }, pause)
    this.#timers.add(timer)
  }

  /** Behind what waits already, or a user that comes often would be served before one that waits. */
  #give(fd: number, uid: number): void {
    const gone = this.#waiting.push(fd, uid)
    if (gone !== undefined) closeSync(gone)
    this.#serve()
  }

  /** Each socket to the worker with the fewest connections, of these to the one that was given least; until there is no slot. */
  #serve(): void {
    const ready = this.#shards.filter((shard): shard is Shard => shard?.listening === true)
    for (;;) {
      const socket = this.#waiting.next
      if (socket === undefined) return
      ready.sort((a, b) => a.load - b.load || a.sent - b.sent)
      if (!ready.some((shard) => shard.give(...socket))) break
      this.#waiting.shift()
    }
    if (this.#closing !== undefined) this.#closeWaiting()
    else if (ready.length > 0) this.#serveAgain() // else a worker that comes to listen is given them
  }

  #serveAgain(): void {
    if (this.#again !== undefined) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#again = undefined
      this.#serve()
    }, AGAIN_MS)
    this.#again = timer
    this.#timers.add(timer)
  }

  #closeWaiting(): void {
    for (let socket = this.#waiting.shift(); socket !== undefined; socket = this.#waiting.shift())
      closeSync(socket[0])
  }

  /** @internal Resolves when every worker listens for the first time; rejects with what one of them threw before. */
  async started(): Promise<void> {
    const all = [...this.#alive]
    await Promise.race([
      Promise.all(all.map((each) => each.listens)),
      ...all.map(async (each) => {
        await each.exited
        throw new IpcError(
          'ERR_COROIPC_PEER_DEAD',
          `shard: worker ${each.index} ended before it listened`,
          { cause: each.thrown },
        )
      }),
    ])
  }

  /**
   * Starts new workers, one after the other, each in place of an old one, which leaves in order
   * (`close({ handOver: true })`) when the new one listens: new code without a refused connect or a lost call.
   *
   * @param options.timeoutMs time that each old one has. Default 30 000
   * @throws (rejects) `ERR_COROIPC_PEER_DEAD`: a new one ended before it listened; the old ones that are left go on
   */
  async reload(options?: { readonly timeoutMs?: number | undefined }): Promise<void> {
    checkOptions('options', options, closeChecks)
    const timeoutMs = options?.timeoutMs ?? 30_000
    for (const [index, old] of this.#shards.entries()) {
      if (this.#closing !== undefined) return
      if (old === undefined) continue // one is on its way already
      const next = this.#start(index)
      await Promise.race([next.listens, next.exited])
      if (!next.listening)
        throw new IpcError(
          'ERR_COROIPC_PEER_DEAD',
          `reload: worker ${index} ended before it listened; the old one goes on`,
        )
      await this.#leave(old, timeoutMs, true)
    }
  }

  async #leave(shard: Shard, timeoutMs: number, handOver: boolean): Promise<void> {
    shard.tell({ timeoutMs, handOver })
    const timer = setTimeout(() => void shard.worker.terminate(), timeoutMs + 1000)
    await shard.exited
    clearTimeout(timer)
  }

  /**
   * Stops accepting, and has each worker close its server and end. What is not done after `timeoutMs` (default 5000), and a
   * second for the worker itself, is terminated. Never rejects.
   */
  close(options?: { readonly timeoutMs?: number | undefined }): Promise<void> {
    checkOptions('options', options, closeChecks)
    this.#closing ??= this.#close(options?.timeoutMs ?? 5000)
    return this.#closing
  }

  async #close(timeoutMs: number): Promise<void> {
    localServers.delete(this.address)
    const { handle } = this.#core.loop
    addon.serverListenStop(handle)
    for (const timer of this.#timers) clearTimeout(timer)
    this.#closeWaiting()
    await Promise.all([...this.#alive].map((shard) => this.#leave(shard, timeoutMs, false)))
    addon.detach(handle)
    this.#core.destroy()
    isolated(() => this.emit('close'))
  }

  /** As `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/**
 * Serves one name by several worker threads, each of which runs `script`: it makes a server, adds its services and listens
 * on `shardSocket()`. A worker that ends ends its own connections (`ERR_COROIPC_DISCONNECTED`) and nobody else's, and is
 * started again; a crash of native code ends the process, as everywhere.
 *
 * This thread has to stay responsive: who connects waits for it. Connections do not move from worker to worker.
 *
 * @returns when every worker listens
 * @throws (rejects) `ERR_COROIPC_PEER_DEAD` a worker ended before it listened, `cause` is what it threw;
 *   `_ADDRESS_IN_USE`, `_SYSTEM`, `_INVALID_ARGUMENT`
 * @example
 * const shards = await shard(new URL('./worker.js', import.meta.url), { name: 'demo', workers: 4 })
 */
export async function shard(script: string | URL, options: ShardOptions): Promise<Shards> {
  const shards = new Shards(script, options)
  try {
    await shards.started()
  } catch (error) {
    await shards.close({ timeoutMs: 0 })
    throw error
  }
  return shards
}
