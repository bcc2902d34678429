// A real terminal, by tmux: what a program draws, which keys it understands, what Ctrl-C does to it. Each has a tmux
// server of its own, on a socket of its own, which ends with it.
//
//   await using terminal = await Terminal.open(['node', 'program.js'], { columns: 80 })
//   await terminal.shows('ready')
//   terminal.press('q')
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { until } from './wait.js'

export interface TerminalOptions {
  readonly columns?: number
  readonly rows?: number
  readonly env?: NodeJS.ProcessEnv
}

/** A start of Node.js on a machine that is busy takes seconds. */
const LIMIT_MS = 60_000

// tmux 3.3 now and then never learns the exit status of a short-lived command, so a shell tells it, as the title of the
// terminal: behind all that the command has written. Ctrl-C is for the command.
const ENDED = 'ended '
const TELLS_ITS_END = `trap : INT; "$@"; printf '\\033]2;${ENDED}%s\\033\\\\' "$?"`

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** Why there can be none here; undefined where tmux is. */
export const noTerminal: string | undefined =
  spawnSync('tmux', ['-V'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'no tmux (apt-get install tmux)'

export class Terminal implements AsyncDisposable {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'coroipc-terminal-'))
  readonly #env: NodeJS.ProcessEnv

  private constructor(env: NodeJS.ProcessEnv) {
    // What the surroundings say about colours and terminals is not what is tested.
    const { TMUX: _, NO_COLOR: __, FORCE_COLOR: ___, ...rest } = process.env
    this.#env = { ...rest, LC_ALL: 'C.UTF-8', ...env }
  }

  /** Runs a command in a terminal; the screen stays when it has ended. */
  static async open(
    command: readonly string[],
    { columns = 100, rows = 40, env = {} }: TerminalOptions = {},
  ): Promise<Terminal> {
    const terminal = new Terminal(env)
    // What tmux writes below a command that has ended would move its first line out of sight.
    const set = {
      'remain-on-exit': 'on',
      'remain-on-exit-format': '',
      'default-terminal': 'tmux-256color',
    }
    const options = Object.entries(set).flatMap(([name, value]) => [
      'set-option',
      '-g',
      name,
      value,
      ';',
    ])
    const size = ['-x', `${columns}`, '-y', `${rows}`]
    const run = [
      'new-session',
      '-d',
      ...size,
      ['sh', '-c', TELLS_ITS_END, 'sh', ...command].map(quoted).join(' '),
    ]
    terminal.#tmux('start-server', ';', ...options, ...run)
    return terminal
  }

  #tmux(...args: string[]): string {
    return execFileSync('tmux', ['-S', join(this.#folder, 'tmux'), '-f', '/dev/null', ...args], {
      encoding: 'utf8',
      env: this.#env,
    })
  }

  /** The lines on the screen, without the blank ones at its end; with `styled` colours are in them as escapes. */
  screen({ styled = false } = {}): string {
    return this.#tmux('capture-pane', '-p', ...(styled ? ['-e'] : [])).trimEnd()
  }

  /** Waits until the screen has this, and gives the screen. */
  async shows(what: string | RegExp, limitMs: number = LIMIT_MS): Promise<string> {
    let screen = ''
    const found = (): boolean => {
      screen = this.screen()
      return typeof what === 'string' ? screen.includes(what) : what.test(screen)
    }
    try {
      await until(`${what} on the screen`, found, limitMs)
    } catch (error) {
      throw new Error(`${(error as Error).message}; it has:\n${screen}`, { cause: error })
    }
    return screen
  }

  /** Keys by their names in tmux(1): `q`, `C-c`, `Tab`, `Enter`, `Space`, `Up`. */
  press(...keys: string[]): void {
    this.#tmux('send-keys', ...keys)
  }

  /** Text, as it would be typed. */
  type(text: string): void {
    this.#tmux('send-keys', '-l', text)
  }

  resize(columns: number, rows: number): void {
    this.#tmux('resize-window', '-x', `${columns}`, '-y', `${rows}`)
  }

  /** Waits until the command has ended and all that it wrote is on the screen: its exit code, 128 + N for signal N. */
  async end(): Promise<number> {
    let title = ''
    const ended = (): boolean => {
      title = this.#tmux('list-panes', '-F', '#{pane_title}').trimEnd()
      return title.startsWith(ENDED)
    }
    await until('the end of the command', ended, LIMIT_MS)
    return Number(title.slice(ENDED.length))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#tmux('kill-server')
    rmSync(this.#folder, { recursive: true })
  }
}
