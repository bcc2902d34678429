/**
 * What both packages need of a loop: the slab that received payloads are copied to, and the outbox by
 * which many small messages leave with one native call. For `@coroipc/ipcs` and `@coroipc/ipcc` only.
 *
 * Sending, in order, whatever the size:
 *  - a small message (at most `SMALL_BYTES`) is copied to the outbox at once and gets a row;
 *  - the outbox is flushed by one microtask that the first message outside a batch queues, by native
 *    code after onBatch, when `FLUSH_BYTES` are pending or the table is full, and by whoever is about
 *    to make a direct or blocking native call (`flush` first: that is what keeps a channel in order);
 *  - anything else goes directly, gathered by the native side.
 *
 * Receiving: a payload is a view of the slab and the receiver's own for ever. The slab is filled by
 * bumping and replaced, never reused, when less than `SLAB_RESERVE` bytes are left after a batch. What was
 * only lent, by offset, to listeners and handlers that said so is turned back: `turnBack`.
 * Payloads of 8 KiB and more have a slab of their own, made when the first ones have come as blocks: an ArrayBuffer
 * over a block lives until V8 collects all of its memory, and they would be most of what it collects. It has room for
 * `LARGE_MESSAGES` or `LARGEST_MESSAGES` of what came lately. What has no place in it comes as a block.
 */
import { markAsUntransferable } from 'node:worker_threads'
import type { Addon, Bytes, Loop, OnBatch, OnSent } from './addon.js'
import { In, Row, Word } from './addon.js'
import { type Encoded, ownBytes } from './encoded.js'
import { checkedPayload } from './payload.js'
import { ownLength } from './types.js'

/** Payloads up to this size are copied to the outbox; larger ones go directly. */
export const SMALL_BYTES = 2048
/** Pending bytes at which the outbox is flushed at once. */
export const FLUSH_BYTES = 4096
/** Bytes of a slab. */
export const SLAB_BYTES = 65536
/** Of which this much is left for the next batch. */
export const SLAB_RESERVE = 16384
/** Messages that a large slab is made for, */
const LARGE_MESSAGES = 32
/** as long as it is not larger than this; */
const LARGE_BYTES: number = 2 << 20
/** of the largest messages there are so many in one, and the room of one is left when it is replaced. */
const LARGEST_MESSAGES = 4
const LARGEST_BYTES: number = 8 << 20
/** Bytes in blocks before there is a large slab at all. */
const LARGE_FROM = 65536

/** Rows of the table and of the out table. */
const ROWS = 256
const EMPTY: Bytes = new Uint8Array(0)
/** Strings up to this length are encoded straight into the outbox. */
export const SMALL_TEXT: number = Math.floor(SMALL_BYTES / 3)
/** Looked up once: in `outbox.set` V8 does so for every message. */
const setBytes = Uint8Array.prototype.set
const settled: Promise<void> = Promise.resolve()

/**
 * Unzeroed, as Node's own pool is: only what was copied there is ever handed out. And like that pool never
 * transferred: `postMessage(payload, [payload.buffer])` of one message would empty all others in it.
 */
function newSlab(bytes: number): ArrayBuffer {
  const slab = Buffer.allocUnsafeSlow(bytes).buffer
  markAsUntransferable(slab)
  return slab
}

/** What is told of a payload that was in such a slab. */
export const TRANSFERRED =
  'the memory that the payload lay in was transferred by whoever had another payload of it: transfer a copy'

/**
 * Whether the slab of a row is somebody else's now: V8's `ArrayBuffer.prototype.transfer` (Node.js 22) asks for no mark. Then
 * what lies in it is lost for those who come after, and they are told.
 */
export function isTransferred(slab: Bytes, large: ArrayBuffer, flags: number): boolean {
  return flags === In.large ? large.byteLength === 0 : flags === In.slab && slab.length === 0
}

/** Bytes of the next large slab, where messages lately had so many, a power of two. So is this. */
function largeBytesFor(message: number): number {
  const many = Math.min(message * LARGE_MESSAGES, LARGE_BYTES)
  return Math.min(Math.max(many, message * LARGEST_MESSAGES), LARGEST_BYTES)
}

/** Loops of this thread, whose outboxes are flushed at its end: process.exit runs no cleanup of the addon. */
const loops = new Set<MessageLoop>()

function flushAtExit(): void {
  for (const loop of loops) loop.flush()
}

/** A row that the native side did not take: what it was, and why. `payload` is a copy. */
export interface FailedRow {
  readonly connection: number
  readonly kind: number
  readonly id: number
  readonly correlation: number
  /** The status code that came back. */
  readonly code: number
  readonly payload: Bytes
}

/** One receiving loop of this thread. */
export class MessageLoop {
  readonly handle: number
  readonly table: Int32Array
  readonly words: Int32Array
  /** What payloads of the batch being walked lie in; read it once before the walk. */
  slab: ArrayBuffer
  /** The large slab, likewise. */
  large: ArrayBuffer = new ArrayBuffer(0)
  /** Used bytes of the large slab from which on there is a new one: the next message would probably not fit. */
  #largeFull = 0
  /** Missed bytes of it after which another size is thought of. */
  #largeMissed = LARGE_FROM

  readonly #addon: Addon
  readonly #outTable: Int32Array
  readonly #outbox: Uint8Array
  readonly #text: Buffer
  readonly #onFailed: (rows: readonly FailedRow[]) => void
  readonly #flushTask: () => void
  #flushQueued = false
  #destroyed = false
  /** What encoders write into; nobody has it while one does. */
  #encoding: Buffer | undefined
  #view: Bytes = EMPTY
  #viewOf: Buffer | undefined
  #slabBytes: Bytes = EMPTY
  #slabBytesOf: ArrayBuffer | undefined

  /**
   * @param create makes the native loop; a negative result is thrown by `fail`.
   * @param onBatch walks the table; nothing that it throws may escape.
   * @param onFailed is told of rows that were not taken, after the flush, in their order.
   */
  constructor(
    addon: Addon,
    create: (onBatch: OnBatch, onSent: OnSent) => Loop | number,
    onBatch: OnBatch,
    onFailed: (rows: readonly FailedRow[]) => void,
    fail: (status: number) => Error,
  ) {
    const loop = create(
      (count, blocks) => {
        onBatch(count, blocks)
        this.renew()
      },
      (rows) => this.#failed(rows),
    )
    if (typeof loop === 'number') throw fail(-loop)
    this.#addon = addon
    this.handle = loop.handle
    this.table = loop.table
    this.words = loop.words
    this.#outTable = loop.outTable
    this.#outbox = loop.outbox
    this.#text = Buffer.from(loop.outbox.buffer, loop.outbox.byteOffset, loop.outbox.byteLength)
    this.#onFailed = onFailed
    this.#flushTask = () => {
      this.#flushQueued = false
      this.flush()
    }
    this.slab = newSlab(SLAB_BYTES)
    addon.setSlab(this.handle, this.slab)
    if (loops.size === 0) process.on('exit', flushAtExit)
    loops.add(this)
  }

  /** True while native code is calling onBatch. */
  get inBatch(): boolean {
    return this.words[Word.inBatch] !== 0
  }

  /** Replaces the slabs of which too little is left; after a batch, a blocking call, a receive. */
  renew(): void {
    const { words } = this
    if ((words[Word.largePosition] as number) > this.#largeFull) this.#renewLarge()
    else if ((words[Word.largeMissed] as number) > this.#largeMissed) this.#adaptLarge()
    if ((words[Word.slabPosition] as number) <= SLAB_BYTES - SLAB_RESERVE || this.#destroyed) return
    this.slab = newSlab(SLAB_BYTES)
    this.#addon.setSlab(this.handle, this.slab)
  }

  #renewLarge(): void {
    if (this.#destroyed) return
    const bytes = largeBytesFor(this.#addon.largeSize(this.handle))
    this.large = newSlab(bytes)
    this.#largeFull = bytes - bytes / LARGEST_MESSAGES
    this.#largeMissed = LARGE_FROM
    this.#addon.setLargeSlab(this.handle, this.large)
  }

  /** Much came that had no place in the large slab: another one, if there would be a place in it and it pays. */
  #adaptLarge(): void {
    const bytes = largeBytesFor(this.#addon.largeSize(this.handle))
    if (bytes === this.large.byteLength) this.words[Word.largeMissed] = 0
    else if ((this.words[Word.largeMissed] as number) * 4 < bytes) this.#largeMissed = bytes / 4
    else this.#renewLarge()
  }

  /** All of a slab: one view for as long as it is the one that is filled. */
  slabBytes(slab: ArrayBuffer): Bytes {
    if (this.#slabBytesOf !== slab) {
      this.#slabBytesOf = slab
      this.#slabBytes = new Uint8Array(slab)
    }
    return this.#slabBytes
  }

  /**
   * The slab's memory from `offset` on again, while it is in the cache: nobody has a view of it, since all of a batch was lent
   * from there on. An empty payload lies nowhere, and is not what it begins with. `position` is where the slab was filled to
   * when the batch came. Whoever was called may have made blocking calls, which fill it as
   * well, or have brought another slab, whose position could be the same by chance: then it is not ours to turn back.
   */
  turnBack(slab: ArrayBuffer, position: number, offset: number): void {
    if (this.slab === slab && this.words[Word.slabPosition] === position)
      this.words[Word.slabPosition] = offset
  }

  /**
   * Queues a small message: `payload` is copied now. The caller has checked that it is at most
   * SMALL_BYTES.
   */
  post(
    connection: number,
    kind: number,
    id: number,
    correlation: number,
    status: number,
    argument: number,
    payload: Bytes,
  ): void {
    const bytes = ownLength(payload)
    if (bytes > 0) setBytes.call(this.#outbox, payload, this.words[Word.outBytes])
    this.#row(connection, kind, id, correlation, status, argument, bytes)
  }

  /** As post, for a gather list of at most SMALL_BYTES in all. */
  postParts(
    connection: number,
    kind: number,
    id: number,
    correlation: number,
    status: number,
    argument: number,
    parts: readonly Bytes[],
  ): void {
    const start = this.words[Word.outBytes] as number
    let end = start
    for (const part of parts) {
      setBytes.call(this.#outbox, part, end)
      end += ownLength(part)
    }
    this.#row(connection, kind, id, correlation, status, argument, end - start)
  }

  /** As post, for a string of at most SMALL_BYTES / 3 UTF-16 units: encoded in place. */
  postText(
    connection: number,
    kind: number,
    id: number,
    correlation: number,
    status: number,
    argument: number,
    text: string,
  ): void {
    const bytes = this.#text.write(text, this.words[Word.outBytes] as number, 'utf8')
    this.#row(connection, kind, id, correlation, status, argument, bytes)
  }

  /**
   * The payload of an encoder. A small one is written into memory for this alone, where it stays until the next is: to be
   * sent at once, before anything else is. An encoder is foreign code: of what waits in the outbox it sees nothing, and can
   * take nothing away. One that sends something itself has other memory for that.
   */
  encode({ encoder, value }: Encoded): Bytes | Bytes[] {
    const memory = this.#encoding ?? Buffer.allocUnsafeSlow(SMALL_BYTES)
    this.#encoding = undefined
    try {
      let found = encoder.encode(value, memory, 0, SMALL_BYTES)
      if (typeof found === 'number') {
        const fits = found >>> 0 === found && found <= SMALL_BYTES
        // No room is left in memory that it has transferred.
        if (fits && found <= memory.length) return this.#encoded(memory, found)
        found = ownBytes(encoder, value, fits ? -found : found)
      } else if (typeof found === 'string' && found.length <= SMALL_TEXT && memory.length > 0)
        return this.#encoded(memory, memory.write(found, 'utf8'))
      return checkedPayload('payload', found)
    } finally {
      if (memory.length > 0) this.#encoding = memory
    }
  }

  /** A view of what was encoded. The last one again where it fits, as it does from call to call. */
  #encoded(memory: Buffer, bytes: number): Bytes {
    if (bytes === 0) return EMPTY
    if (this.#viewOf !== memory || bytes !== this.#view.length) {
      this.#view = new Uint8Array(memory.buffer as ArrayBuffer, memory.byteOffset, bytes)
      this.#viewOf = memory
    }
    return this.#view
  }

  #row(
    connection: number,
    kind: number,
    id: number,
    correlation: number,
    status: number,
    argument: number,
    bytes: number,
  ): void {
    const words = this.words
    const row = words[Word.outRows] as number
    const offset = words[Word.outBytes] as number
    const table = this.#outTable
    const at = row * Row.length
    table[at + Row.connection] = connection
    table[at + Row.kind] = kind
    table[at + Row.id] = id
    table[at + Row.correlation] = correlation
    table[at + Row.status] = status
    table[at + Row.argument] = argument
    table[at + Row.flags] = In.slab
    table[at + Row.offset] = offset
    table[at + Row.bytes] = bytes
    words[Word.outRows] = row + 1
    words[Word.outBytes] = (offset + bytes + 7) & ~7
    if (offset + bytes >= FLUSH_BYTES || row + 1 === ROWS) this.flush()
    else if (!this.#flushQueued && words[Word.inBatch] === 0) {
      this.#flushQueued = true
      // Not queueMicrotask: Node makes an AsyncResource for each of those, which costs more than the message.
      void settled.then(this.#flushTask)
    }
  }

  /** Sends what is in the outbox. Before every direct or blocking native call of this loop. */
  flush(): void {
    const rows = this.words[Word.outRows] as number
    if (rows === 0 || this.#destroyed) return
    if (this.#addon.flush(this.handle) !== 0) this.#failed(rows)
  }

  #failed(rows: number): void {
    // Copied first: whoever is told may send again, which writes the same table.
    const failed: FailedRow[] = []
    const table = this.#outTable
    for (let at = 0; at < rows * Row.length; at += Row.length) {
      const code = table[at + Row.argument] as number
      if (code === 0) continue
      const offset = table[at + Row.offset] as number
      const bytes = table[at + Row.bytes] as number
      failed.push({
        connection: table[at + Row.connection] as number,
        kind: table[at + Row.kind] as number,
        id: table[at + Row.id] as number,
        correlation: table[at + Row.correlation] as number,
        code,
        payload: bytes === 0 ? EMPTY : this.#outbox.slice(offset, offset + bytes),
      })
    }
    if (failed.length > 0) this.#onFailed(failed)
  }

  /** Nothing is sent or received any more; the native loop itself is destroyed by its owner. */
  destroyed(): void {
    this.#destroyed = true
    loops.delete(this)
    if (loops.size === 0) process.off('exit', flushAtExit)
  }
}
