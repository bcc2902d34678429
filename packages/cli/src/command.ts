/** What a command is: its words for the help, its options, and the function behind it. */
import type { Output } from './output.js'

/** One option of a command. Nothing else is taken: an unknown one is wrong usage. */
export interface Option {
  readonly type: 'boolean' | 'string'
  /** One letter. */
  readonly short?: string
  /** What stands for the value in the help: `MS`. With type 'string' only. */
  readonly value?: string
  readonly help: string
  /** May be given more than once: the value is a list. */
  readonly multiple?: boolean
  /** Words that the value can be; for completion and the check. */
  readonly choices?: readonly string[]
}

export type Options = Readonly<Record<string, Option>>

/** The values as they were given: a text, true, or a list of either. */
export type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>

/** What a positional argument is, for the help and for completion. */
export interface Argument {
  /** In capitals: `NAME`. */
  readonly name: string
  readonly help: string
  readonly optional?: boolean
  /** The last one only: takes all that follow. */
  readonly many?: boolean
  /**
   * What completes it: names of servers of this machine, names of the services of the server before it, of the requests
   * of the service before it, files, or these words.
   */
  readonly complete?: 'server' | 'service' | 'request' | 'file' | readonly string[]
}

/** What a command is run with. */
export interface Invocation {
  readonly values: Values
  readonly positionals: readonly string[]
  readonly output: Output
}

export interface Command {
  /** One line, without a full stop: in the list of commands. */
  readonly summary: string
  readonly arguments?: readonly Argument[]
  /** Beside `--help` and `--json`, which every command has; one of its own name replaces them. */
  readonly options?: Options
  /** More lines of help: what has to be known, an example for each use. */
  readonly details?: string
  /** Does it. The exit code, 0 if it says nothing; what it throws is shown with its code and advice. */
  run(invocation: Invocation): Promise<number | void>
}

/** Services, request ids and dispatch ids are 16 bits each. */
export const ID_MAX = 65535

/** What most commands begin with. */
export const serverArgument: Argument = { name: 'NAME', help: 'the server', complete: 'server' }
export const serviceArgument: Argument = {
  name: 'SERVICE',
  help: `its service: a number from 0 to ${ID_MAX}, or its name`,
  complete: 'service',
}

/** Exit codes. Documented in docs/reference/cli.md. */
export const Exit = {
  ok: 0,
  /** The operation failed: the server said no, a check of `doctor` failed. */
  failed: 1,
  /** Wrong usage: nothing was done. */
  usage: 2,
  /** No connection came about: nobody listens, denied, no such service, another version. */
  noConnection: 3,
  /** Nothing came in time. */
  timedOut: 4,
  /** The connection ended while something was on its way. */
  lost: 5,
} as const

/** Wrong usage: shown with a pointer to the help of the command. */
export class UsageError extends Error {
  static {
    this.prototype.name = 'UsageError'
  }
}

/** The text of an option; undefined if it was not given. */
export function textOption(values: Values, name: string): string | undefined {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

/** Whether a switch was given. */
export function flag(values: Values, name: string): boolean {
  return values[name] === true
}

/** The number that an argument must be. @throws UsageError */
export function integerArgument(name: string, text: string, min: number, max: number): number {
  const number = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(number >= min && number <= max))
    throw new UsageError(`${name}: expected an integer from ${min} to ${max}, got '${text}'`)
  return number
}

/** The number of an option; undefined if it was not given. @throws UsageError */
export function integerOption(
  values: Values,
  name: string,
  min: number,
  max: number,
): number | undefined {
  const text = textOption(values, name)
  return text === undefined ? undefined : integerArgument(`--${name}`, text, min, max)
}

/** Milliseconds of an option, as the libraries take them: from 1, or `infinity`. @throws UsageError */
export function timeoutOption(values: Values, name: string): number | undefined {
  const text = textOption(values, name)
  if (text !== undefined && /^inf(inity)?$/i.test(text)) return Infinity
  return integerOption(values, name, 1, 0x7fffffff)
}
