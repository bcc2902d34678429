/**
 * Zero-copy buffers, of both packages: memory that both processes map, or a private array that is copied
 * when it is handed over where trust was not declared. One class, so that a program need not know which.
 */
import type { Addon } from './addon.js'
import { invalidArgument } from './errors.js'

const NOTHING = -1
const EMPTY = new Uint8Array(0)

/** Bytes that a buffer was allocated with, for those below that must know. */
let allocatedOf: (buffer: SharedBuffer) => number
let holdBy: (buffer: SharedBuffer, holds: number) => void

/** Keeps a buffer's memory and handle, also past `release`, for what waits to be sent, until `dropBuffer`. For the packages. */
export function holdBuffer(payload: SharedBuffer | BufferPart): void {
  holdBy(payload instanceof SharedBuffer ? payload : payload.buffer, 1)
}

/** Takes a {@link holdBuffer} back. */
export function dropBuffer(payload: SharedBuffer | BufferPart): void {
  holdBy(payload instanceof SharedBuffer ? payload : payload.buffer, -1)
}

/** Why a buffer or a part of one cannot be sent; undefined if it can. For the packages. */
export function bufferError(payload: SharedBuffer | BufferPart): Error | undefined {
  const buffer = payload instanceof SharedBuffer ? payload : payload.buffer
  if (buffer.disposed)
    return invalidArgument('payload', 'a buffer that is not disposed of', payload)
  if (buffer.bytes.length !== allocatedOf(buffer))
    return invalidArgument('payload', 'a buffer whose memory was not transferred away', payload)
  return undefined
}

/**
 * A payload buffer that is handed over without copying it.
 *
 * Made by `allocate`, filled through `bytes`, then sent in place of a payload. Between sides that
 * declared trust the memory is mapped by both, and `inPlace` is true; else it is private and copied when
 * it is handed over: same calls, same results.
 *
 * The memory is valid until it is disposed of, also after the peer's death and after the connection is
 * closed; then `bytes` has length 0. A buffer that is never disposed of counts against the connection's
 * segment limits.
 *
 * @example
 * using buffer = await connection.allocate(1 << 20)
 * buffer.bytes.fill(7)
 * await connection.request(2, buffer)
 */
export class SharedBuffer {
  /** True if both processes map this memory; false if it is private and will be copied. */
  readonly inPlace: boolean
  /** The number of its connection in its loop; for the packages. @internal */
  readonly owner: object
  readonly #addon: Addon | undefined
  readonly #allocated: number
  #handle: number
  #bytes: Uint8Array
  #holds = 0

  static {
    allocatedOf = (buffer) => buffer.#allocated
    holdBy = (buffer, holds) => {
      buffer.#holds += holds
      if (buffer.disposed) buffer.#giveBack()
    }
  }

  /** @internal Users get buffers from `allocate`. */
  constructor(owner: object, bytes: Uint8Array, addon?: Addon, handle: number = NOTHING) {
    this.owner = owner
    this.inPlace = handle !== NOTHING
    this.#addon = addon
    this.#handle = handle
    this.#bytes = bytes
    this.#allocated = bytes.length
  }

  /** The memory itself; of length 0 after disposal. */
  get bytes(): Uint8Array {
    return this.#bytes
  }

  /** Bytes of the buffer; 0 after disposal. */
  get byteLength(): number {
    return this.#bytes.length
  }

  /** True once it was disposed of, or handed over for good by a server. */
  get disposed(): boolean {
    return this.#bytes === EMPTY
  }

  /** The native handle, -1 if private, or disposed of and not held; for the packages. @internal */
  get handle(): number {
    return this.#handle
  }

  /**
   * Names a part of the buffer, to be sent in place of the whole.
   *
   * @param offset bytes from the start
   * @param bytes length of the part; to the end if left out
   * @throws RangeError `ERR_COROIPC_INVALID_ARGUMENT` if it does not lie inside the buffer
   */
  part(offset: number, bytes?: number): BufferPart {
    return new BufferPart(this, offset, bytes)
  }

  /** Gives the memory back: what leaving a `using` scope does. Calling it again does nothing. */
  release(): void {
    if (this.#bytes === EMPTY) return
    this.#bytes = EMPTY
    this.#giveBack()
  }

  #giveBack(): void {
    if (this.#holds > 0) return
    const handle = this.#handle
    this.#handle = NOTHING
    if (handle !== NOTHING) this.#addon?.bufferRelease(handle)
  }

  /** As `release()`. */
  [Symbol.dispose](): void {
    this.release()
  }
}

/** A part of a {@link SharedBuffer}, made by its `part`. */
export class BufferPart {
  /** The buffer that this is a part of. */
  readonly buffer: SharedBuffer
  /** Bytes from the start of the buffer. */
  readonly offset: number
  /** Bytes of the part. */
  readonly byteLength: number

  /** @internal Users call `buffer.part`. */
  constructor(buffer: SharedBuffer, offset: number, bytes?: number) {
    if (!Number.isInteger(offset) || offset < 0 || offset > buffer.byteLength)
      throw invalidArgument('offset', `an integer from 0 to ${buffer.byteLength}`, offset)
    if (bytes === undefined) bytes = buffer.byteLength - offset
    if (!Number.isInteger(bytes) || bytes < 0 || offset + bytes > buffer.byteLength)
      throw invalidArgument('bytes', `an integer from 0 to ${buffer.byteLength - offset}`, bytes)
    this.buffer = buffer
    this.offset = offset
    this.byteLength = bytes
  }

  /** The memory of the part; of length 0 after the buffer's disposal. */
  get bytes(): Uint8Array {
    return this.buffer.bytes.subarray(this.offset, this.offset + this.byteLength)
  }
}
