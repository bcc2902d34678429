// What the digest server and its clients have agreed on. A protocol of one's own needs no more than this: numbers for
// services and requests, and what the bytes of each mean. examples/c-digest/client.c says the same in C.

/** Service of the clients that want digests. */
export const DIGEST = 1
/** Service of those who want to see how it is going; it has no requests, only dispatches. */
export const WATCH = 2

/** The name of the client; the answer is empty. First request of a connection. */
export const HELLO = 0
/** A whole file; the answer is its SHA-256, 32 bytes. */
export const WHOLE = 1
/** A part of a file that is too large for one message, behind a head; the answer is empty. */
export const UPDATE = 2
/** The last part of such a file, behind a head; the answer is the SHA-256 of all parts. */
export const FINAL = 3
/** One way: where the client's time went so far, as JSON of {@link Times}. */
export const TIMES = 4

/** In front of the parts of a file: a number that is the file's own within its connection, then zeros. */
export const HEAD_BYTES = 8

/** Where the time of a client went, milliseconds. */
export interface Times {
  /** Reading files. */
  readonly read: number
  /** Computing digests of its own, to compare with. */
  readonly check: number
  /** Waiting for the server. */
  readonly wait: number
}

/** What the server knows of one client. It dispatches a list of these to each watcher, as JSON. */
export interface Progress {
  readonly name: string
  readonly files: number
  readonly bytes: number
  /** Milliseconds that the server spent on hashing for it. */
  readonly hash: number
  readonly times: Times
}
