/**
 * What goes to the terminal, to a pipe or to a machine. Results go to stdout, everything said about them to stderr,
 * so that a pipe carries results only. With `--json`: one JSON value a line.
 */
import { isatty } from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import Table from 'cli-table3'

/** One column of a table. */
export interface Column {
  readonly title: string
  /** Numbers stand right. Default 'left'. */
  readonly align?: 'left' | 'right'
  /** Cut off with an ellipsis when the terminal is too narrow; the widest of these first. */
  readonly shrink?: boolean
}

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'

const escapes: Record<Style, readonly [number, number]> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
}

/** Narrowest that a column is cut to. */
const COLUMN_MIN = 8
const GAP = 2

/** A table without lines: columns stand apart by blanks. */
const bare: Record<string, string> = Object.fromEntries(
  'top top-mid top-left top-right bottom bottom-mid bottom-left bottom-right left left-mid mid mid-mid right right-mid middle'
    .split(' ')
    .map((name) => [name, '']),
)

const wide = (text: string): number =>
  Math.max(...text.split('\n').map((line) => stripVTControlCharacters(line).length))

// Control characters but tab and line end, and those that turn the direction of writing.
// oxlint-disable-next-line no-control-regex
const unprintable = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g

const escaped = (each: string): string => {
  const code = each.charCodeAt(0)
  return code < 0x100
    ? `\\x${code.toString(16).padStart(2, '0')}`
    : `\\u${code.toString(16).padStart(4, '0')}`
}

/** Text of strangers (names, payloads, messages) without what a terminal would obey. */
export function printable(text: string): string {
  return text.replace(unprintable, escaped)
}

/** JSON of strangers with such texts alone, names of members included. */
export function printableValue(value: unknown): unknown {
  if (typeof value === 'string') return printable(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(printableValue)
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [printable(name), printableValue(each)]),
  )
}

/** Whether a text can be shown as it is; the line ends of DOS are none that hurt. */
export function isPrintable(text: string): boolean {
  return text.replaceAll('\r\n', '\n').search(unprintable) < 0
}

/** JSON of strangers' values: what `JSON.stringify` leaves of such characters is written by digits. */
export function jsonText(value: unknown, indent: number = 0): string {
  const plain = (_: string, each: unknown): unknown =>
    typeof each === 'bigint' ? each.toString() : each
  return (JSON.stringify(value, plain, indent) ?? 'null').replace(
    unprintable,
    (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

export class Output {
  /** For a machine: one JSON value a line, no tables. */
  readonly json: boolean
  /** stdout is a terminal. */
  readonly terminal: boolean = isatty(1)
  readonly #colours: boolean

  constructor(json: boolean) {
    this.json = json
    // NO_COLOR and FORCE_COLOR are looked at by Node.js itself; without a terminal there are no colours but by force.
    const forced = process.env.FORCE_COLOR !== undefined && process.env.FORCE_COLOR !== '0'
    const refused = process.env.NO_COLOR !== undefined && process.env.NO_COLOR !== ''
    this.#colours = !refused && (forced || (this.terminal && process.stdout.hasColors()))
  }

  /** Columns of the terminal; Infinity where there is none: nothing is cut off in a pipe. */
  get width(): number {
    if (!this.terminal) return Infinity
    return process.stdout.columns > 0 ? process.stdout.columns : 80
  }

  /** The text in that style, if there are colours. */
  style(style: Style, text: string): string {
    if (!this.#colours || text === '') return text
    const [on, off] = escapes[style]
    return `\u001b[${on}m${text}\u001b[${off}m`
  }

  /** One line, or several, of the result. */
  line(text: string = ''): void {
    process.stdout.write(`${text}\n`)
  }

  /** Bytes of the result as they are. Fulfilled when the pipe has room again. */
  async bytes(bytes: Uint8Array): Promise<void> {
    await new Promise<void>((resolve) => process.stdout.write(bytes, () => resolve()))
  }

  /** One JSON value on a line of its own. Bigints become text. */
  record(value: unknown): void {
    this.line(jsonText(value))
  }

  /** Something about the result: stderr, so that pipes carry results only. */
  note(text: string): void {
    process.stderr.write(`${text}\n`)
  }

  /** The lines of a table, as wide as the terminal allows. */
  table(columns: readonly Column[], rows: readonly (readonly (string | number)[])[]): void {
    this.line(this.tableText(columns, rows))
  }

  /** The same as a text, for screens that are drawn again and again. */
  tableText(
    columns: readonly Column[],
    rows: readonly (readonly (string | number)[])[],
    width: number = this.width,
  ): string {
    const cells = rows.map((row) => row.map(String))
    const widths = columns.map(({ title }, index) =>
      Math.max(wide(title), ...cells.map((row) => wide(row[index] ?? ''))),
    )
    fit(widths, columns, width)
    const table = new Table({
      chars: bare,
      style: { 'padding-left': 0, 'padding-right': GAP, head: [], border: [] },
      colAligns: columns.map(({ align }) => align ?? 'left'),
      colWidths: widths.map((each) => each + GAP),
      head: columns.map(({ title }) => this.style('bold', title)),
    })
    table.push(...cells)
    return table
      .toString()
      .split('\n')
      .map((line) => line.trimEnd())
      .join('\n')
  }
}

/** Takes from the widest columns that may shrink until all of it fits, or nothing may shrink any more. */
function fit(widths: number[], columns: readonly Column[], width: number): void {
  const total = (): number => widths.reduce((sum, each) => sum + each + GAP, -GAP)
  while (total() > width) {
    let widest = -1
    widths.forEach((each, index) => {
      const may = columns[index]?.shrink === true && each > COLUMN_MIN
      if (may && (widest < 0 || each > (widths[widest] as number))) widest = index
    })
    if (widest < 0) return
    widths[widest] = (widths[widest] as number) - 1
  }
}

/** 1234567 -> `1,234,567`. */
export function count(number: number): string {
  return Math.round(number).toLocaleString('en-US')
}

/** Bytes with a unit: `64 KiB`, `1.5 MiB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 || value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** Microseconds with a unit that suits them: `0.85 us`, `12.3 us`, `4.56 ms`, `1.20 s`. */
export function durationText(us: number): string {
  const [value, unit] = us < 1000 ? [us, 'us'] : us < 1e6 ? [us / 1000, 'ms'] : [us / 1e6, 's']
  return `${value >= 100 ? Math.round(value) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ${unit}`
}
