/**
 * The traffic of a server as tools ask for it (`inspect: { record: true }`): every request, answer and dispatch of a
 * connection, of a service, or of all, as dispatches of the inspection service.
 *
 * While nobody records there is no recorder, and what is served costs one look at that. A tool that is too slow
 * loses messages and is told how many; the server never waits for it, and keeps no more for it than its backlog.
 *
 * A dispatch is a header of 32 bytes, little endian, and the payload, cut off at the bound:
 *
 *    0  f64  time       milliseconds since the recording began, monotonic
 *    8  u32  connection its number
 *   12  u32  request    names a request until its answer; 0 in dispatches
 *   16  u16  service
 *   18  u16  id         of the request or dispatch; in an answer that of its request
 *   20  i32  status     the application's own, in answers
 *   24  u32  bytes      of the whole payload, cut off or not; of `lost`: how many messages
 *   28  u32  flags      1 one-way, 2 cut off, 4 failed: the payload is the error code
 */
import { bufferError, BufferPart, isBytes, payloadBytes, SharedBuffer } from '@coroipc/native'
import type { Connection } from './connection.js'

/** Dispatch ids of a recording; docs/guide/inspecting.md has the form of the messages. */
export interface InspectionDispatches {
  readonly request: 1
  readonly answer: 2
  readonly dispatch: 3
  /** A connection is there, or came; the payload is JSON: `{ id, pid, uid }`. */
  readonly connected: 4
  readonly disconnected: 5
  /** Messages for which there was no room. */
  readonly lost: 6
}

export const Recorded: InspectionDispatches = Object.freeze({
  request: 1,
  answer: 2,
  dispatch: 3,
  connected: 4,
  disconnected: 5,
  lost: 6,
})

const ONE_WAY = 1
const CUT = 2
const FAILED = 4
/** What stands before each payload. */
export const HEADER_BYTES = 32
/** Tools that may record at the same time. */
const SESSIONS_MAX = 8

/** What is recorded of a request. */
interface RecordedRequest {
  readonly id: number
  readonly correlation: number
  readonly oneWay: boolean
  readonly payload: Uint8Array
}

/** A connection, and its number in the server. */
export interface RecordedConnection extends Connection {
  readonly number: number
}

/** Which traffic a tool wants. */
export interface Wanted {
  /** This one alone. */
  readonly connection: RecordedConnection | undefined
  /** Connections of this service alone. */
  readonly service: number | undefined
  /** Longest payload that is kept whole. */
  readonly payloadBytes: number
}

/** What a session comes to. */
export interface RecordingEnd {
  /** Messages that were recorded. */
  readonly recorded: number
  readonly lost: number
}

const nothing = new Uint8Array(0)

/** What is known of a message beside its payload. */
interface About {
  readonly id?: number
  readonly request?: number
  readonly status?: number
  readonly flags?: number
}

/** One tool that records. */
class Session {
  readonly #tool: Connection
  readonly #wanted: Wanted
  readonly #began = performance.now()
  readonly #header = new Uint8Array(HEADER_BYTES)
  readonly #view = new DataView(this.#header.buffer)
  #recorded = 0
  #lost = 0
  /** Lost, and not told yet. */
  #untold = 0
  readonly #onDrain = (): void => this.#tellLost()

  constructor(tool: Connection, wanted: Wanted) {
    this.#tool = tool
    this.#wanted = wanted
    tool.on('drain', this.#onDrain)
  }

  wants(connection: RecordedConnection): boolean {
    const { connection: one, service } = this.#wanted
    return (
      (one === undefined || one === connection) &&
      (service === undefined || service === connection.service)
    )
  }

  add(
    kind: number,
    connection: RecordedConnection,
    { id = 0, request = 0, status = 0, flags = 0 }: About,
    payload: Uint8Array | readonly Uint8Array[],
  ): void {
    // What was lost is told where it was, before anything else.
    this.#tellLost()
    if (this.#untold > 0) {
      this.#lose()
      return
    }
    let length = 0
    const kept: Uint8Array[] = [this.#header]
    const most = this.#wanted.payloadBytes
    for (const part of payload instanceof Uint8Array ? [payload] : payload) {
      if (length < most) kept.push(part.subarray(0, most - length))
      length += part.length
    }
    this.#write(connection, id, request, status, length, length > most ? flags | CUT : flags)
    if (this.#send(kept, kind)) this.#recorded++
    else this.#lose()
  }

  #write(
    { number, service }: { readonly number: number; readonly service: number },
    id: number,
    request: number,
    status: number,
    bytes: number,
    flags: number,
  ): void {
    const view = this.#view
    view.setFloat64(0, performance.now() - this.#began, true)
    view.setUint32(8, number, true)
    view.setUint32(12, request, true)
    view.setUint16(16, service, true)
    view.setUint16(18, id, true)
    view.setInt32(20, status, true)
    view.setUint32(24, bytes, true)
    view.setUint32(28, flags, true)
  }

  /** False also where no memory can be had for it: what is served must not notice. */
  #send(payload: Uint8Array | readonly Uint8Array[], kind: number): boolean {
    try {
      return this.#tool.dispatch(payload, { id: kind })
    } catch {
      return false
    }
  }

  #lose(): void {
    this.#lost++
    this.#untold++
  }

  /** As soon as there is room again. */
  #tellLost(): void {
    if (this.#untold === 0) return
    this.#write({ number: 0, service: 0 }, 0, 0, 0, this.#untold, 0)
    if (this.#send(this.#header, Recorded.lost)) this.#untold = 0
  }

  end(): RecordingEnd {
    this.#tellLost()
    this.#tool.off('drain', this.#onDrain)
    return { recorded: this.#recorded, lost: this.#lost }
  }
}

/** Tells the sessions what happens. The server has one only while there are sessions. */
export class Recorder {
  readonly #sessions = new Map<Connection, Session>()
  /** Connections of this service are tools' and are not recorded. */
  readonly #tools: number
  /** What is being sent as an answer, until it is known whether it was. */
  #answer: { payload: unknown; status: number } | undefined

  constructor(tools: number) {
    this.#tools = tools
  }

  get idle(): boolean {
    return this.#sessions.size === 0
  }

  /** False: there are as many as may be, or it records already. */
  begin(tool: Connection, wanted: Wanted): boolean {
    if (this.#sessions.size >= SESSIONS_MAX || this.#sessions.has(tool)) return false
    this.#sessions.set(tool, new Session(tool, wanted))
    return true
  }

  /** Undefined: it does not record. */
  end(tool: Connection): RecordingEnd | undefined {
    const session = this.#sessions.get(tool)
    this.#sessions.delete(tool)
    return session?.end()
  }

  /** A connection is there. `only`: told to the tool that begins to record it. */
  connected(connection: RecordedConnection, only?: Connection): void {
    const { id, credentials } = connection
    const { pid, uid } = credentials
    this.#tell(Recorded.connected, connection, {}, JSON.stringify({ id, pid, uid }), only)
  }

  disconnected(connection: RecordedConnection): void {
    this.#tell(Recorded.disconnected, connection, {}, nothing)
  }

  request(connection: RecordedConnection, request: RecordedRequest): void {
    const { id, correlation, oneWay, payload } = request
    const about = { id, request: correlation, flags: oneWay ? ONE_WAY : 0 }
    this.#tell(Recorded.request, connection, about, payload)
  }

  /** An answer is about to be sent: memory that is handed over cannot be read afterwards. */
  answering(payload: unknown, status: number): void {
    this.#answer = { payload: keptPayload(payload), status }
  }

  /** It was sent, or `code` in its place. */
  finished(connection: RecordedConnection, request: RecordedRequest, code: string): void {
    const answer = this.#answer
    this.#answer = undefined
    if (request.oneWay || code === '') return
    const about = { id: request.id, request: request.correlation }
    if (code === 'OK') {
      const status = answer?.status ?? 0
      this.#tell(Recorded.answer, connection, { ...about, status }, answer?.payload)
    } else this.#tell(Recorded.answer, connection, { ...about, flags: FAILED }, code)
  }

  dispatched(connection: RecordedConnection, id: number, payload: unknown): void {
    this.#tell(Recorded.dispatch, connection, { id }, payload)
  }

  #tell(
    kind: number,
    connection: RecordedConnection,
    about: About,
    payload: unknown,
    only?: Connection,
  ): void {
    if (connection.service === this.#tools) return
    let bytes: Uint8Array | readonly Uint8Array[] | undefined
    for (const [tool, session] of this.#sessions) {
      if ((only !== undefined && only !== tool) || !session.wants(connection)) continue
      bytes ??= isBytes(payload) ? payload : (payloadBytes(payload) ?? nothing)
      session.add(kind, connection, about, bytes)
    }
  }
}

/** What can still be read when it was sent: shared memory is the peer's then. */
export function keptPayload(payload: unknown): unknown {
  const shared = payload instanceof SharedBuffer || payload instanceof BufferPart
  return shared && bufferError(payload) === undefined ? payload.bytes.slice() : payload
}
