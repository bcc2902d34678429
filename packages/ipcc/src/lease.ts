/** An answer or a dispatch that is read where it lies, or from a private copy where trust was not declared. */

const EMPTY = new Uint8Array(0)

/**
 * A payload that is lent (coroipc's `in_buf_get` / `in_buf_put`, `dispatch_get` / `dispatch_put`).
 *
 * Dispose of it as soon as it was read: with `trustServer` it is the ring itself, reading goes on past it
 * but the space behind it is not given back to the server meanwhile. Each channel lends one at a time:
 * the next blocking call that asks for another throws `ERR_COROIPC_LEASE_HELD`, and so does one that
 * would need the space. After the server's death the memory stays readable until the lease is disposed
 * of, or the connection closed; then `payload` has length 0.
 *
 * @example
 * using lease = connection.requestSync(0, question, { inPlace: true })
 * const first = lease.payload[0]
 */
export class Lease {
  /** The application's own status of an answer; 0 of a dispatch. */
  readonly status: number
  /** Orders answers and dispatches of one connection against each other. Unsigned, 32 bits, wraps. */
  readonly sequence: number
  /** The id of a dispatch; of an answer, that of its request. */
  readonly id: number
  /** True if `payload` is memory that the server can still change; false if it is private. */
  readonly inPlace: boolean
  #payload: Uint8Array
  #release: (() => void) | undefined

  /** @internal */
  constructor(
    id: number,
    payload: Uint8Array,
    status: number,
    sequence: number,
    inPlace: boolean,
    release: (() => void) | undefined,
  ) {
    this.id = id
    this.#payload = payload
    this.status = status
    this.sequence = sequence
    this.inPlace = inPlace
    this.#release = release
  }

  /** The bytes; of length 0 after disposal. */
  get payload(): Uint8Array {
    return this.#payload
  }

  /** Gives the memory back: what leaving a `using` scope does. Calling it again does nothing. */
  release(): void {
    this.#payload = EMPTY
    const release = this.#release
    this.#release = undefined
    release?.()
  }

  /** As `release()`. */
  [Symbol.dispose](): void {
    this.release()
  }
}
