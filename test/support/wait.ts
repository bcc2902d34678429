// Waiting for conditions, and names for what comes out of a call.

/** Pauses; only for what cannot be waited for as a condition. */
export const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms))

/** Waits until `condition` holds; after `limitMs` it throws and says what it waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  limitMs: number = 20_000,
): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms for: ${what}`)
    await sleep(2)
  }
}

/** 'OK', or the `code` of what the call throws or rejects with (its message if there is none). */
export async function outcome(call: (() => unknown) | PromiseLike<unknown>): Promise<string> {
  try {
    await (typeof call === 'function' ? call() : call)
    return 'OK'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

/** What a failure may tell beside its message. */
export interface Failure extends Error {
  readonly code?: string
  readonly syscall?: string
  readonly errno?: number
  readonly sent?: boolean
  readonly applicationStatus?: number
  readonly cause: Failure
}

/** The error that the call throws or rejects with. */
export async function failure(call: (() => unknown) | PromiseLike<unknown>): Promise<Failure> {
  try {
    await (typeof call === 'function' ? call() : call)
  } catch (error) {
    return error as Failure
  }
  throw new Error('expected a failure')
}

/** A payload's text. */
export const text = (payload: Uint8Array | undefined): string =>
  Buffer.from(payload ?? []).toString()

/** `bytes` bytes that differ from place to place and from seed to seed. */
export function pattern(bytes: number, seed: number = 0): Uint8Array {
  const payload = new Uint8Array(bytes)
  for (let i = 0; i < bytes; i++) payload[i] = (i * 7 + (i >>> 8) + seed * 13) & 0xff
  return payload
}
