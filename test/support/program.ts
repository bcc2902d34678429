// A C program of test/programs, or any other command: its lines, its end.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { built } from './paths.js'
import { until } from './wait.js'

export class Program implements AsyncDisposable {
  /** What it has written so far, line by line. */
  readonly lines: string[] = []
  readonly #child: ChildProcess
  readonly #exit: Promise<unknown>

  private constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#exit = once(this.#child, 'close')
    const { stdout } = this.#child
    if (stdout !== null)
      createInterface({ input: stdout }).on('line', (line) => this.lines.push(line))
  }

  /** Starts test/programs/`name`, or that of another build (test/packaging/prebuilds.test.ts). */
  static start(name: string, ...args: string[]): Program {
    const programs = process.env['COROIPC_TEST_PROGRAMS'] ?? built('test/programs')
    return new Program(join(programs, name), args)
  }

  static command(command: string, ...args: string[]): Program {
    return new Program(command, args)
  }

  get pid(): number {
    return this.#child.pid as number
  }

  get exited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** Waits for a line that begins so, and gives it. */
  async line(start: string): Promise<string> {
    const found = (): string | undefined => this.lines.find((line) => line.startsWith(start))
    await until(`a line '${start}...'`, () => found() !== undefined || this.exited)
    await until(`a line '${start}...'`, () => found() !== undefined, 1000)
    return found() as string
  }

  /** Waits for its end: the exit code, or the signal's name. */
  async end(): Promise<number | string | null> {
    await this.#exit
    return this.#child.signalCode ?? this.#child.exitCode
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.exited) this.#child.kill(signal)
    await this.#exit
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill()
  }
}
