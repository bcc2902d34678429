// What the store and its clients have agreed on. Keys and values are text; where both travel, a zero byte is between.

export const STORE = 1

/** Key; the answer is the value. */
export const GET = 0
/** Key and value; the answer is empty. */
export const SET = 1
/** Key; the answer is empty. */
export const DELETE = 2
/** JSON of {@link Page}; the answer is JSON of keys in order, at most {@link PAGE_KEYS}. Fewer: that was all. */
export const LIST = 3
/** Prefix; changes of keys that begin with it are dispatched from now on. */
export const WATCH = 4

/** By dispatch: key and new value. */
export const CHANGED = 0
/** By dispatch: key. */
export const DELETED = 1

/** The application's own status of an answer. */
export const Status = { ok: 0, notFound: 1, badKey: 2, tooLarge: 3, full: 4 } as const

export interface Page {
  readonly prefix: string
  /** Only keys behind this one. */
  readonly after: string
}

export const PAGE_KEYS = 100
/** As in corosync's cmap. */
export const KEY = /^[a-zA-Z0-9._/:-]{3,255}$/
export const VALUE_BYTES = 64 << 10
