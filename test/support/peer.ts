// Another process (or worker) that does what a test tells it: `peer.run(task, ...)` runs a function of the test's own
// file over there. So both halves of a story stand in one place. The function travels as text: it sees its arguments
// and what `Scope` holds, nothing else of its file.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type * as ipcc from '@coroipc/ipcc'
import type * as ipcs from '@coroipc/ipcs'
import type * as wait from './wait.js'

/** What a task finds on the other side. */
export interface Scope {
  readonly ipcs: typeof ipcs
  readonly ipcc: typeof ipcc
  readonly wait: typeof wait
  readonly require: NodeJS.Require
  /** Survives from task to task. */
  // oxlint-disable-next-line typescript/no-explicit-any -- every test keeps something else here
  readonly state: any
}

export type Task<Args extends unknown[], Result> = (
  scope: Scope,
  ...args: Args
) => Result | PromiseLike<Result>

/** How tasks and results travel. */
export interface Order {
  readonly order: number
  readonly source: string
  readonly args: unknown[]
}
export interface Reply {
  readonly order: number
  readonly result?: unknown
  readonly error?: { message: string; code?: string | undefined; stack?: string | undefined }
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
}

const main = fileURLToPath(new URL('./peer-main.js', import.meta.url))

/** What both kinds of peers have in common. */
abstract class Tasks implements AsyncDisposable {
  readonly #waiting = new Map<number, Waiting>()
  #orders = 0

  /** Runs `task` there and gives what it returns (structured clone). Rejects when the peer ends before. */
  run<Args extends unknown[], Result>(task: Task<Args, Result>, ...args: Args): Promise<Result> {
    const order = this.#orders++
    const promise = new Promise<unknown>((resolve, reject) =>
      this.#waiting.set(order, { resolve, reject }),
    )
    this.post({ order, source: String(task), args })
    return promise as Promise<Result>
  }

  /** As `run`, for what ends with the peer: nobody waits for it. */
  start<Args extends unknown[]>(task: Task<Args, unknown>, ...args: Args): void {
    this.run(task, ...args).catch(() => {})
  }

  protected abstract post(order: Order): void
  /** Ends it, if nothing else did; resolves when it is gone. */
  abstract end(): Promise<void>

  protected received(reply: Reply): void {
    const waiting = this.#waiting.get(reply.order)
    this.#waiting.delete(reply.order)
    if (reply.error === undefined) waiting?.resolve(reply.result)
    else {
      const error = new Error(reply.error.message)
      waiting?.reject(Object.assign(error, { code: reply.error.code, stack: reply.error.stack }))
    }
  }

  protected ended(why: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(`the peer ended: ${why}`))
    this.#waiting.clear()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end()
  }
}

export interface PeerOptions {
  /** Put before `node`: `['unshare', '--user']`. */
  readonly through?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

/** A process. */
export class Peer extends Tasks {
  readonly #child: ChildProcess
  readonly #exit: Promise<unknown>

  private constructor(child: ChildProcess) {
    super()
    this.#child = child
    this.#exit = once(child, 'exit').then(([code, signal]) => this.ended(String(signal ?? code)))
    child.on('message', (reply: Reply) => this.received(reply))
    child.on('error', () => {}) // a message to one that has just ended
  }

  static async open({ through = [], env = {} }: PeerOptions = {}): Promise<Peer> {
    const [command, ...args] = [...through, process.execPath, '--enable-source-maps', main]
    const child = spawn(command, args, {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
      env: { ...process.env, ...env },
    })
    const peer = new Peer(child)
    await peer.run(() => undefined)
    return peer
  }

  get pid(): number {
    return this.#child.pid as number
  }

  protected post(order: Order): void {
    this.#child.send(order, () => {})
  }

  /** Sends a signal and waits for the end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal)
    await this.#exit
  }

  /** Sends a signal and does not wait. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  get exited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  async end(): Promise<void> {
    if (this.exited) return
    await this.kill()
  }
}

/** A worker thread of this process. */
export class PeerWorker extends Tasks {
  readonly worker: Worker
  readonly #exit: Promise<unknown>
  #gone = false

  private constructor(worker: Worker) {
    super()
    this.worker = worker
    this.#exit = new Promise((resolve) =>
      worker.once('exit', (code) => {
        this.#gone = true
        this.ended(`exit code ${code}`)
        resolve(code)
      }),
    )
    worker.on('message', (reply: Reply) => this.received(reply))
    worker.on('error', (error) => this.ended(String(error)))
  }

  static async open(): Promise<PeerWorker> {
    const peer = new PeerWorker(new Worker(main))
    await peer.run(() => undefined)
    return peer
  }

  protected post(order: Order): void {
    this.worker.postMessage(order)
  }

  async end(): Promise<void> {
    if (!this.#gone) await this.worker.terminate()
    await this.#exit
  }
}
