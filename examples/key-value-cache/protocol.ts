// What the cache and its clients have agreed on. Keys are text, values bytes.

export const CACHE = 1

/** Key; the answer is the value. From now on the client is told when the key is set anew or goes. */
export const GET = 0
/** A {@link packed} entry; the answer is empty. */
export const SET = 1
/** Key; the answer is empty. */
export const DELETE = 2
/** Nothing; the answer is JSON of {@link Figures}. */
export const FIGURES = 3

/** By dispatch: a key whose value, as it was got, is no longer right. */
export const STALE = 0

/** The application's own status of an answer. */
export const Status = { ok: 0, missing: 1, tooLarge: 2 } as const

export interface Figures {
  readonly entries: number
  readonly bytes: number
  readonly hits: number
  readonly misses: number
  readonly evicted: number
}

export interface Entry {
  readonly key: string
  readonly value: Uint8Array
  /** Milliseconds that it lives; 0: until there is no room. */
  readonly ttl_ms: number
}

/** An entry as it travels: time to live and length of the key, 32 bits each, then the key, then the value. */
export function packed({ key, value, ttl_ms }: Entry): Uint8Array[] {
  const name = Buffer.from(key)
  return [new Uint8Array(Uint32Array.of(ttl_ms, name.length).buffer), name, value]
}
export function unpacked(payload: Uint8Array): Entry {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const end = 8 + view.getUint32(4, true)
  return {
    key: Buffer.from(payload.subarray(8, end)).toString(),
    value: payload.subarray(end),
    ttl_ms: view.getUint32(0, true),
  }
}
