/**
 * Checks of options objects: every option once, before anything happens, and no name that is not known,
 * since a misspelt limit is a limit that is not there.
 */
import { invalidArgument } from './errors.js'

/** Throws if `value` is not what the option `name` wants. Not called for undefined. */
export type Check = (name: string, value: unknown) => void

/** The options of an object, by name. */
export type Checks = Readonly<Record<string, Check>>

/** An integer in [min, max]. */
export function integer(min: number, max: number): Check {
  return (name, value) => {
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max)
      throw invalidArgument(name, `an integer from ${min} to ${max}`, value)
  }
}

/** Bytes of a ring: a power of two in [min, max]. */
export function powerOfTwo(min: number, max: number): Check {
  return (name, value) => {
    const bytes = value as number
    if (
      !Number.isInteger(bytes) ||
      bytes < min ||
      bytes > max ||
      !Number.isInteger(Math.log2(bytes))
    )
      throw invalidArgument(name, `a power of two from ${min} to ${max}`, value)
  }
}

/** Longest time that can be asked for: what a timer can hold (2^31 - 1 ms, 24.8 days). */
export const TIMEOUT_MS_MAX = 0x7fffffff

/** Milliseconds in [0, 2^31), or Infinity. */
export const milliseconds: Check = (name, value) => {
  if (typeof value !== 'number' || !(value >= 0) || (value > TIMEOUT_MS_MAX && value !== Infinity))
    throw invalidArgument(name, `milliseconds from 0 to ${TIMEOUT_MS_MAX}, or Infinity`, value)
}

/**
 * Milliseconds in [1, 2^31), or Infinity: of what cannot be done without waiting, where 0 would be taken for
 * "at once" by one reader and for "no limit" by the next.
 */
export const timeout: Check = (name, value) => {
  if (typeof value !== 'number' || !(value >= 1) || (value > TIMEOUT_MS_MAX && value !== Infinity))
    throw invalidArgument(name, `milliseconds from 1 to ${TIMEOUT_MS_MAX}, or Infinity`, value)
}

export const boolean: Check = (name, value) => {
  if (typeof value !== 'boolean') throw invalidArgument(name, 'a boolean', value)
}

export const callable: Check = (name, value) => {
  if (typeof value !== 'function') throw invalidArgument(name, 'a function', value)
}

export const anything: Check = () => {}

/** One of these strings. */
export function oneOf(...values: readonly string[]): Check {
  return (name, value) => {
    if (!values.includes(value as string))
      throw invalidArgument(name, `one of ${values.map((each) => `'${each}'`).join(', ')}`, value)
  }
}

export const abortSignal: Check = (name, value) => {
  if (!(value instanceof AbortSignal)) throw invalidArgument(name, 'an AbortSignal', value)
}

/** An options object of its own. */
export function nested(checks: Checks): Check {
  return (name, value) => checkOptions(name, value, checks)
}

/** Checks an options object; undefined stands for an empty one. */
export function checkOptions(name: string, options: unknown, checks: Checks): void {
  if (options === undefined) return
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalidArgument(name, 'an object', options)
  for (const key of Object.keys(options)) {
    const value = (options as Record<string, unknown>)[key]
    const check = Object.hasOwn(checks, key) ? checks[key] : undefined
    const path = name === 'options' ? key : `${name}.${key}`
    if (check === undefined)
      throw invalidArgument(path, `an option among ${Object.keys(checks).join(', ')}`, value)
    if (value !== undefined) check(path, value)
  }
}
