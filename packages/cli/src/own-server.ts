/** A server in a process of its own, with which `doctor` tests this machine and `bench` measures it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { CommandError } from './errors.js'

/** The one service that it offers. */
export const ownService = 1

/** Its requests: back as it came; the length of what came; a volley of dispatches. */
export const ownRequests = { echo: 0, size: 1, volley: 2 } as const

/** Dispatches to send, as fast as they are taken. */
export interface Volley {
  readonly messages: number
  readonly bytes: number
}

/** It has to be there in this time; a machine under load takes seconds to start Node.js. */
const START_MS = 60_000

export class OwnServer implements AsyncDisposable {
  /** An abstract name: nothing is left behind, and no folder is needed. */
  readonly name: string
  readonly #child: ChildProcess

  private constructor(name: string, child: ChildProcess) {
    this.name = name
    this.#child = child
  }

  /** @param cpu the only one that it may use, if `taskset` is there */
  static async open(cpu?: number): Promise<OwnServer> {
    const name = `@coroipc-own-${process.pid}-${randomBytes(8).toString('hex')}`
    const script = fileURLToPath(new URL('./own-server-main.js', import.meta.url))
    const node = [process.execPath, script, name]
    const [command, args] =
      cpu === undefined
        ? [node[0] as string, node.slice(1)]
        : ['taskset', ['-c', `${cpu}`, ...node]]
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const server = new OwnServer(name, child)
    const ended = once(child, 'exit').then(([code, signal]) => `exit ${signal ?? code}`)
    const late = AbortSignal.timeout(START_MS)
    const came = await Promise.race([
      once(child, 'message', { signal: late }).then(
        () => undefined,
        () => `nothing in ${START_MS / 1000} s`,
      ),
      ended,
    ])
    if (came === undefined) return server
    await server[Symbol.asyncDispose]()
    throw new CommandError(`the server of the test did not start: ${came}`)
  }

  get pid(): number {
    return this.#child.pid as number
  }

  /** Ends it without a word, as a crash would. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.kill()
    await once(this.#child, 'exit')
  }
}
