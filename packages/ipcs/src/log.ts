/** Where a server tells what it does: a logger that is shaped like pino's. */
import { invalidArgument } from '@coroipc/native'

/** One level of a {@link Log}: an object with what is known, then a sentence. */
export type LogWrite = (details: object, message: string) => void

/** A logger: pino's, console-like or your own. Only these four levels are written. */
export interface Log {
  readonly debug: LogWrite
  readonly info: LogWrite
  readonly warn: LogWrite
  readonly error: LogWrite
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const

/** The method of a native level: pino's numbers, 20 to 50. */
export function levelName(level: number): (typeof LEVELS)[number] {
  return LEVELS[Math.floor(level / 10) - 2] ?? 'error'
}

/** Checks the option `log`. */
export function checkLog(name: string, value: unknown): void {
  if (typeof value !== 'object' || value === null)
    throw invalidArgument(name, 'a logger with debug, info, warn and error', value)
  for (const level of LEVELS) {
    const member = (value as Record<string, unknown>)[level]
    if (typeof member !== 'function')
      throw invalidArgument(`${name}.${level}`, 'a function', member)
  }
}
