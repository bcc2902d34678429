/**
 * A whole terminal for a program that draws again and again: the alternate screen, keys as they are pressed, the
 * size. Whatever ends the process but SIGKILL leaves the terminal as it was.
 */
import { writeSync } from 'node:fs'
import { emitKeypressEvents, type Key } from 'node:readline'

// Alternate screen, cursor, wrapping of long lines: on the way in and out.
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l'
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l'
const HOME = '\u001b[H'
const END_OF_LINE = '\u001b[K'
const END_OF_SCREEN = '\u001b[J'

export interface ScreenEvents {
  /** A key: its letter as it was typed, or its name: `up`, `escape`. */
  key(name: string): void
  /** Has to be drawn anew: another size, or back from the shell. */
  redraw(): void
}

export class Screen implements Disposable {
  readonly #events: ScreenEvents
  #entered = false

  constructor(events: ScreenEvents) {
    this.#events = events
    emitKeypressEvents(process.stdin)
    process.stdin.on('keypress', this.#onKey)
    process.stdout.on('resize', this.#onResize)
    process.on('exit', this.#leave)
    process.on('SIGCONT', this.#onContinue)
    this.#enter()
    process.stdin.resume()
  }

  get columns(): number {
    return process.stdout.columns
  }

  get rows(): number {
    return process.stdout.rows
  }

  /** Shows these lines and nothing else; what does not fit is cut off. */
  draw(lines: readonly string[]): void {
    if (!this.#entered) return
    const shown = lines.slice(0, this.rows).map((line) => `${line}${END_OF_LINE}`)
    process.stdout.write(`${HOME}${shown.join('\r\n')}${END_OF_SCREEN}`)
  }

  #enter(): void {
    if (this.#entered) return
    this.#entered = true
    process.stdin.setRawMode(true)
    process.stdout.write(ENTER)
  }

  readonly #leave = (): void => {
    if (!this.#entered) return
    this.#entered = false
    process.stdin.setRawMode(false)
    // Not by the stream: at the end of the process nobody would wait for it.
    try {
      writeSync(1, LEAVE)
    } catch {} // the terminal is gone
  }

  readonly #onKey = (text: string | undefined, key: Key): void => {
    // Raw: the terminal makes no signals of these any more.
    if (key.ctrl === true && key.name === 'c') process.kill(process.pid, 'SIGINT')
    else if (key.ctrl === true && key.name === 'z') this.#suspend()
    else this.#events.key(text !== undefined && /^[!-~]$/.test(text) ? text : (key.name ?? ''))
  }

  readonly #onResize = (): void => this.#events.redraw()

  #suspend(): void {
    this.#leave()
    process.kill(process.pid, 'SIGTSTP')
  }

  readonly #onContinue = (): void => {
    this.#enter()
    this.#events.redraw()
  };

  [Symbol.dispose](): void {
    this.#leave()
    process.off('exit', this.#leave)
    process.off('SIGCONT', this.#onContinue)
    process.stdin.off('keypress', this.#onKey)
    process.stdout.off('resize', this.#onResize)
    process.stdin.pause()
  }
}
