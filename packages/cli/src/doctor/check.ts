/** One thing that was looked at, and what the machine says about itself in files. */
import { readFileSync } from 'node:fs'

export type Level = 'ok' | 'warn' | 'fail'

export interface Check {
  /** What was looked at. */
  readonly check: string
  readonly level: Level
  readonly found: string
  /** What to change and how; with 'warn' and 'fail'. */
  readonly advice?: string
}

export const ok = (check: string, found: string): Check => ({ check, level: 'ok', found })
export const warn = (check: string, found: string, advice: string): Check => ({
  check,
  level: 'warn',
  found,
  advice,
})
export const fail = (check: string, found: string, advice: string): Check => ({
  check,
  level: 'fail',
  found,
  advice,
})

/** The text of a file of /proc or /sys, trimmed; undefined where there is none to be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The number in such a file. */
export function readNumber(path: string): number | undefined {
  const text = readText(path)
  return text === undefined || !/^-?\d+$/.test(text) ? undefined : Number(text)
}
