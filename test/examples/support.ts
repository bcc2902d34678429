// Runs examples as a user would, each in a directory of its own for what it leaves behind: nothing may be left.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { built } from '../support/paths.js'

export interface Outcome {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A temporary directory, in which named servers listen; gone at the end of the scope. */
export class Place implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'coroipc-example-'))

  /** For children: names are looked up here and nowhere else, and so are temporary files. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, COROIPC_RUNTIME_DIR: this.path, TMPDIR: this.path }
  }

  /** Files that are there now. Lock files of names stay by design. */
  get left(): string[] {
    return readdirSync(this.path).filter((name) => !name.endsWith('.lock'))
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

export class Running implements AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams
  readonly outcome: Promise<Outcome>
  readonly lines: string[] = []
  #ended: Outcome | undefined
  #changed = (): void => {}

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child
    const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
    createInterface({ input: child.stdout }).on('line', (line) => {
      this.lines.push(line)
      this.#changed()
    })
    this.outcome = Promise.all([closed, text(child.stdout), text(child.stderr)]).then(
      ([[code, signal], stdout, stderr]) => {
        this.#ended = { code, signal, stdout, stderr }
        this.#changed()
        return this.#ended
      },
    )
  }

  /** The first line that matches; fails if it ends without one. */
  async line(pattern: RegExp): Promise<string> {
    for (;;) {
      const found = this.lines.find((line) => pattern.test(line))
      if (found !== undefined) return found
      if (this.#ended !== undefined)
        throw new Error(`no line ${pattern}: ${JSON.stringify(this.#ended)}`)
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Outcome> {
    this.child.kill(signal)
    return this.outcome
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGKILL')
  }
}

/** Starts a built example: `digest/main.js` by Node.js, anything else as a program. */
export function start(place: Place, example: string, ...args: string[]): Running {
  const path = built(join('examples', example))
  const [command, all] = path.endsWith('.js') ? [process.execPath, [path, ...args]] : [path, args]
  return new Running(spawn(command, all, { env: place.env, cwd: place.path }))
}

/** Runs one to its end. */
export function run(place: Place, example: string, ...args: string[]): Promise<Outcome> {
  const running = start(place, example, ...args)
  running.child.stdin.end()
  return running.outcome
}
