// What the queue, those who submit jobs and those who work on them have agreed on.

/** Whoever has jobs connects to this service. */
export const JOBS = 1
/** A job; the answer is its result, as soon as there is one. Status {@link Status.failed}: nobody managed it. */
export const SUBMIT = 0
/** Nothing; the answer is JSON of {@link Depth}. */
export const DEPTH = 1

/** Whoever works connects to this one. */
export const WORK = 2
/** Nothing; the answer is a {@link jobOf} as soon as there is one. */
export const TAKE = 0
/** The job's number and its result. */
export const DONE = 1
/** The job's number: it could not be done here. */
export const FAILED = 2

export const Status = { done: 0, failed: 1, notYours: 2 } as const
/** So many workers may fail at a job, or die of it. */
export const ATTEMPTS = 3

export interface Depth {
  readonly queued: number
  readonly taken: number
  readonly workers: number
}

/** A job as it travels: its number, 32 bits, and its bytes. */
export const numbered = (number: number, bytes: Uint8Array): Uint8Array[] => [
  new Uint8Array(Uint32Array.of(number).buffer),
  bytes,
]
export function jobOf(payload: Uint8Array): { number: number; bytes: Uint8Array } {
  const number = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
  return { number, bytes: payload.subarray(4) }
}
