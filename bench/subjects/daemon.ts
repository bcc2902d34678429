// A daemon that a subject's server needs between itself and its clients: started by the server's process,
// so it shares that one's CPU, and ended with it however it ends.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'

const START_MS = 10_000

export class Daemon {
  readonly #child: ChildProcess
  #problem: Error | undefined

  /** setpriv (util-linux) has the kernel end it when this thread dies, also by SIGKILL. */
  constructor(command: string, ...args: string[]) {
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { stdio: 'ignore' })
    this.#child.on('error', (error) => {
      this.#problem = error
    })
    this.#child.on('exit', (code, signal) => {
      this.#problem = new Error(`${command} ended with ${signal ?? `code ${code}`}`)
    })
  }

  /** Asks until there is an answer. */
  async started<Answer>(
    ask: () => Answer | undefined | Promise<Answer | undefined>,
  ): Promise<Answer> {
    for (const end = performance.now() + START_MS; performance.now() < end; await delay(5)) {
      if (this.#problem !== undefined) throw this.#problem
      const answer = await ask()
      if (answer !== undefined) return answer
    }
    throw new Error('the daemon did not start')
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), 1000)
    await exited
    clearTimeout(kill)
  }
}
