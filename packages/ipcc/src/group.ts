/**
 * The client group of this thread: one native loop, one batch for all its connections. Walks the rows and
 * hands each to its connection. Made by the first connect; nothing here is public.
 */
import type { FailedRow } from '@coroipc/native'
import {
  addon,
  In,
  ipcError,
  isTraced,
  isTransferred,
  Kind,
  MessageLoop,
  nativeError,
  Row,
  Status,
  Word,
} from '@coroipc/native'
import type { ClientConnection } from './client-connection.js'
import { dispatchTracing, logChannel } from './diagnostics.js'

/** A connect on its way. */
export interface Connecting {
  connected(number: number): void
  failed(error: Error): void
}

const EMPTY = new Uint8Array(0)

/** Runs user code whose exception must not stop a batch: it surfaces as any uncaught one does. */
export function isolated(call: () => void): void {
  try {
    call()
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

function log(level: number, message: string): void {
  if (logChannel.hasSubscribers) logChannel.publish({ level, message })
}

export class Group {
  readonly loop: MessageLoop
  /** By number; a number is used again only after `disconnect`. */
  readonly connections: (ClientConnection | undefined)[] = []
  readonly connecting: (Connecting | undefined)[] = []
  /** What the native side writes statistics into, of whichever connection. */
  readonly stats: BigUint64Array = new BigUint64Array(addon.statsNames.length)
  #refs = 0
  /** Disconnected while a batch is walked, which may still have rows of them. */
  readonly #leaving: number[] = []
  /** The row that is being walked, and the end of them; 0 while none are. */
  #at = 0
  #end = 0

  constructor() {
    this.loop = new MessageLoop(
      addon,
      (onBatch, onSent) => addon.groupCreate(onBatch, onSent, log),
      (count, blocks) => this.#batch(count, blocks),
      (rows) => this.#failed(rows),
      (status) => nativeError(-status, { subject: 'connect' }),
    )
    addon.attach(this.loop.handle)
    addon.unref(this.loop.handle)
  }

  /** One more reason to keep the process alive. */
  ref(): void {
    if (this.#refs++ === 0) addon.ref(this.loop.handle)
  }

  unref(): void {
    if (--this.#refs === 0) addon.unref(this.loop.handle)
  }

  /** Frees a connection's number. */
  disconnect(number: number): void {
    this.connections[number] = undefined
    this.connecting[number] = undefined
    if (this.#end > 0) this.#leaving.push(number)
    else addon.disconnect(this.loop.handle, number)
  }

  /** Whether a dispatch of this connection is among the rows that are still to be walked. */
  hasDispatch(number: number): boolean {
    const { table } = this.loop
    for (let at = this.#at + Row.length; at < this.#end; at += Row.length)
      if (table[at + Row.kind] === Kind.dispatch && table[at + Row.connection] === number)
        return true
    return false
  }

  #batch(count: number, blocks: ArrayBuffer[] | undefined): void {
    const { table, slab, large, words } = this.loop
    let block = 0
    // Payloads in the slab that somebody keeps; where the first one lies that nobody does.
    let kept = 0
    let lentFrom = -1
    const position = words[Word.slabPosition] as number
    const memory = this.loop.slabBytes(slab)
    // Who subscribes meanwhile sees the next batch.
    const traced = isTraced(dispatchTracing)
    const end = count * Row.length
    this.#end = end
    for (let at = 0; at < end; at += Row.length) {
      this.#at = at
      const number = table[at + Row.connection] as number
      const kind = table[at + Row.kind] as number
      const flags = table[at + Row.flags] as number
      const bytes = table[at + Row.bytes] as number
      let payload: Uint8Array = EMPTY
      let buffer = -1
      if (kind <= Kind.dispatch && flags === In.slab && memory.length > 0) {
        const connection = this.connections[number]
        const offset = table[at + Row.offset] as number
        if (kind === Kind.dispatch) {
          const transient = connection?.transient
          if (transient !== undefined && !traced && !(connection as ClientConnection).keeps) {
            if (lentFrom < 0 && bytes > 0) lentFrom = offset
            try {
              transient(
                memory,
                offset,
                bytes,
                table[at + Row.id] as number,
                (table[at + Row.sequence] as number) >>> 0,
              )
            } catch (error) {
              isolated(() => {
                throw error
              })
            }
            continue
          }
        } else if (
          connection !== undefined &&
          connection.lends &&
          connection.lend(
            table[at + Row.correlation] as number,
            table[at + Row.argument] as number,
            table[at + Row.status] as number,
            memory,
            offset,
            bytes,
          )
        ) {
          if (lentFrom < 0 && bytes > 0) lentFrom = offset
          continue
        }
      }
      if (kind <= Kind.dispatch && bytes > 0 && isTransferred(memory, large, flags)) {
        this.#lost(at, number, kind)
        continue
      }
      if (flags === In.block) {
        payload = new Uint8Array((blocks as ArrayBuffer[])[block++] as ArrayBuffer, 0, bytes)
      } else if (flags === In.large) {
        payload = new Uint8Array(large, table[at + Row.offset], bytes)
      } else if (kind <= Kind.dispatch && bytes > 0) {
        const offset = table[at + Row.offset] as number
        if (flags === In.slab) {
          payload = new Uint8Array(slab, offset, bytes)
          kept++
        } else if (this.connections[number] !== undefined) {
          buffer = addon.clientBufferGet(
            this.loop.handle,
            number,
            table[at + Row.segment] as number,
          )
          if (buffer >= 0) payload = new Uint8Array(addon.bufferArray(buffer), offset, bytes)
        }
      }
      try {
        this.#row(at, number, kind, payload, buffer)
      } catch (error) {
        isolated(() => {
          throw error
        })
      }
    }
    this.#end = 0
    if (lentFrom >= 0 && kept === 0) this.loop.turnBack(slab, position, lentFrom)
    if (this.#leaving.length > 0) {
      for (const number of this.#leaving.splice(0)) addon.disconnect(this.loop.handle, number)
    }
  }

  /** A payload that came, in memory which a callback of this batch has transferred to somebody else. */
  #lost(at: number, number: number, kind: number): void {
    const { table } = this.loop
    const connection = this.connections[number]
    if (kind === Kind.response) connection?.answerLost(table[at + Row.correlation] as number)
    else connection?.dispatchLost(table[at + Row.id] as number)
  }

  #row(at: number, number: number, kind: number, payload: Uint8Array, buffer: number): void {
    const { table } = this.loop
    const connection = this.connections[number]
    switch (kind) {
      case Kind.response:
        connection?.answered(
          table[at + Row.correlation] as number,
          table[at + Row.argument] as number,
          table[at + Row.status] as number,
          (table[at + Row.sequence] as number) >>> 0,
          payload,
          buffer,
        )
        return
      case Kind.dispatch:
        connection?.dispatched(
          table[at + Row.id] as number,
          (table[at + Row.sequence] as number) >>> 0,
          payload,
          buffer,
        )
        return
      case Kind.slotFree:
        connection?.slotFree(table[at + Row.correlation] as number)
        return
      case Kind.room:
        connection?.room()
        return
      case Kind.flowControl:
        connection?.flowControlChanged(table[at + Row.argument] !== 0)
        return
      case Kind.buffer:
        connection?.bufferCame(
          table[at + Row.correlation] as number,
          table[at + Row.argument] as number,
          table[at + Row.segment] as number,
        )
        return
      case Kind.connected: {
        const connecting = this.connecting[number]
        this.connecting[number] = undefined
        connecting?.connected(number)
        return
      }
      case Kind.connectFailed: {
        const connecting = this.connecting[number]
        const error = nativeError(-(table[at + Row.argument] as number), { subject: 'connect' })
        this.disconnect(number)
        connecting?.failed(error)
        return
      }
      case Kind.disconnected: {
        const why = table[at + Row.argument] as number
        const connecting = this.connecting[number]
        if (connecting !== undefined) {
          this.disconnect(number)
          connecting.failed(ipcError(why, { subject: 'connect' }))
        } else connection?.ended(why === Status.OK ? Status.DISCONNECTED : why)
        return
      }
      default:
    }
  }

  #failed(rows: readonly FailedRow[]): void {
    for (const row of rows) {
      const connection = this.connections[row.connection]
      if (connection !== undefined) isolated(() => connection.rowFailed(row))
    }
  }
}

let group: Group | undefined

/** The group of this thread. */
export function theGroup(): Group {
  group ??= new Group()
  return group
}
