/**
 * The inspection service: what tools ask a running server. An ordinary service, offered where the option
 * `inspect` asks for it; who may connect to it is `authorize`'s decision, as with any other.
 *
 * Questions are a JSON object or nothing, answers are JSON. Nothing is counted for it: a question reads the
 * counters that are kept anyway, and costs the server nothing before and after. The only thing that is kept is
 * a line for each connection (since when) and for each service (what its ended connections had counted).
 *
 * What cannot be answered (no JSON, a wrong member, nothing of that name, an answer that is larger than the
 * connection's messages) is `ERR_COROIPC_REFUSED`, and nobody is told: a stranger's question is no error of
 * the server.
 */
import { readFileSync } from 'node:fs'
import type { Check, Checks, LatencyStats, Stats, StatsOptions, Wait } from '@coroipc/native'
import {
  boolean,
  checkOptions,
  integer,
  invalidArgument,
  ipcError,
  statsChecks,
  Status,
} from '@coroipc/native'
import type { Connection, ConnectionStats, ServerConnection } from './connection.js'
import type { Limits } from './limits.js'
import {
  HEADER_BYTES,
  type InspectionDispatches,
  Recorded,
  Recorder,
  type RecordingEnd,
} from './recorder.js'
import type { Request } from './request.js'
import {
  type Handler,
  ID_MAX,
  type Service,
  type ServiceDescription,
  type ServiceOptions,
} from './service.js'

/** Ids of the inspection service's questions. */
export interface InspectionRequests {
  /** Nothing, or {@link InspectedTimes}; answers {@link InspectedServer}. */
  readonly server: 0
  /** {@link InspectedPage}; answers {@link InspectedServices}. */
  readonly services: 1
  /** {@link InspectedPage}; answers {@link InspectedConnections}. */
  readonly connections: 2
  /** `{ service }`; answers {@link InspectedDescription}. */
  readonly describe: 3
  /** {@link RecordQuestion}; answers {@link RecordingBegun}, and messages follow as dispatches. */
  readonly record: 4
  /** Nothing; ends the recording and answers {@link RecordingEnd}. */
  readonly stop: 5
}

/** What the inspection service speaks: for tools. */
export const inspection: {
  /** Of the questions and answers; in every answer of `server`. */
  readonly version: 1
  /** The service, where `inspect` names no other. */
  readonly service: 65535
  readonly requests: InspectionRequests
  readonly dispatches: InspectionDispatches
} = Object.freeze({
  version: 1,
  service: 65535,
  requests: Object.freeze({
    server: 0,
    services: 1,
    connections: 2,
    describe: 3,
    record: 4,
    stop: 5,
  }),
  dispatches: Recorded,
})

/** What may be asked beside the server's counters. */
export interface InspectedTimes {
  /** As `stats({ latencyBounds })`: the answer's `latency` has `counts`. */
  readonly latencyBounds?: readonly number[] | undefined
}

/** A part of a long list. */
export interface InspectedPage {
  /** Begin behind this one: `next` of the answer before. Default: at the beginning. */
  readonly after?: number | undefined
  /** Entries at most, 1 to 1024. Default 64. An answer may hold fewer: it has to fit a message. */
  readonly limit?: number | undefined
  /** Connections of this service only. */
  readonly service?: number | undefined
}

/** The server as a whole. */
export interface InspectedServer {
  /** `inspection.version` */
  readonly inspection: number
  readonly address: string | undefined
  readonly pid: number
  readonly uid: number
  /** What runs it: the program and its script. */
  readonly command: readonly string[]
  readonly versions: { readonly coroipc: string; readonly node: string }
  /** Since `listen`, milliseconds. */
  readonly uptimeMs: number
  /** The server's monotonic clock, milliseconds: two answers and their difference make a rate. */
  readonly nowMs: number
  /** CPU time of the process, microseconds. */
  readonly cpu: { readonly user: number; readonly system: number }
  readonly memory: { readonly rssBytes: number; readonly heapUsedBytes: number }
  readonly options: {
    readonly wait: Wait
    readonly poll: 'uv' | 'blocking' | 'custom'
    readonly serialize: boolean
    readonly latency: boolean
    readonly prefault: boolean
    readonly select: boolean
    /** Whether traffic is told to tools that ask for it. */
    readonly record: boolean
    /** Longest payload that they get. */
    readonly recordBytes: number
  }
  readonly limits: Limits
  /** As `server.stats()`: the inspection's own connections count as well. */
  readonly stats: Stats
  /** Receive to answer, where the server records it. */
  readonly latency?: LatencyStats | undefined
}

/** Counters of a service's connections that have ended; gauges are of those that are there. */
export type EndedStats = Partial<Stats>

/** One service. */
export interface InspectedService {
  readonly id: number
  readonly name?: string | undefined
  readonly version?: string | undefined
  readonly summary?: string | undefined
  /** False: its connections are served by `select` alone. */
  readonly registered: boolean
  /** True: it is this one. */
  readonly inspection?: true | undefined
  /** Whether it has a description. */
  readonly described: boolean
  /** Connections that are open. */
  readonly connections: number
  /** Connections that have ended. */
  readonly connectionsEnded: number
  /** What those had counted. */
  readonly ended: EndedStats
}

export interface InspectedServices {
  readonly services: readonly InspectedService[]
  /** There are more: ask again with `after`. */
  readonly next?: number | undefined
}

/** How full a ring is. */
export interface InspectedRing {
  readonly bytes: number
  /** At this moment: old when it is read. */
  readonly used: number
}

/** One connection. */
export interface InspectedConnection {
  /** 16 hex digits; its client sees the same. */
  readonly id: string
  /** Its place in the server: small, and used again after its end. */
  readonly number: number
  readonly service: number
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** How long it has been there, milliseconds. */
  readonly ageMs: number
  /** True: a tool's, such as the one that asks. */
  readonly inspection?: true | undefined
  readonly trusted: boolean
  readonly messageBytes: number
  readonly requestsInFlight: number
  readonly rings: {
    readonly request: InspectedRing
    readonly response: InspectedRing
    readonly dispatch: InspectedRing
  }
  readonly stats: Stats
  readonly latency?: LatencyStats | undefined
}

export interface InspectedConnections {
  readonly connections: readonly InspectedConnection[]
  /** There are more: ask again with `after`. */
  readonly next?: number | undefined
}

export interface InspectedDescription {
  readonly service: number
  readonly description: ServiceDescription
}

/** Whose traffic a tool wants; all of it where neither is given. */
export interface RecordQuestion {
  /** The connection of this id. */
  readonly connection?: string | undefined
  /** Connections of this service. */
  readonly service?: number | undefined
  /** Longest payload that is wanted; longer ones are cut off. Default: what the server allows. */
  readonly payloadBytes?: number | undefined
}

/** Times of the messages are milliseconds since this answer was made. */
export interface RecordingBegun {
  /** Of each payload so many are sent at most. */
  readonly payloadBytes: number
}

/** What the option `inspect` takes. */
export interface InspectOptions {
  /** The service that answers tools. Default 65535. */
  readonly service?: number | undefined
  /** Tell tools that ask for it all traffic, payloads included. Default false. */
  readonly record?: boolean | undefined
  /** Longest payload that they get, 0 to 2^30; longer ones are cut off. Default 65536. */
  readonly recordBytes?: number | undefined
}

/** The checks of `inspect`. */
export const inspectChecks: Checks = {
  service: integer(0, ID_MAX),
  record: boolean,
  recordBytes: integer(0, 1 << 30),
}

/** What is inspected. */
export interface Inspected<Context> {
  readonly limits: Limits
  readonly options: Omit<InspectedServer['options'], 'record' | 'recordBytes'>
  readonly services: ReadonlyMap<number, Service<Context>>
  readonly connections: readonly (ServerConnection<Context> | undefined)[]
  address(): string | undefined
  /** From now on traffic is told to this one; undefined: to nobody. */
  record(recorder: Recorder | undefined): void
  stats(options: StatsOptions): Stats & { readonly latency?: LatencyStats }
}

/** Larger questions are none. */
const QUESTION_BYTES_MAX = 1024
const PAGE_DEFAULT = 64
const PAGE_MAX = 1024
/** Longest recorded payload where `recordBytes` says nothing. */
const RECORD_BYTES = 65536
/** What stands around the entries of a page. */
const FRAME_BYTES = 64
/** Gauges: of an ended connection they say nothing. */
const GAUGES: ReadonlySet<string> = new Set([
  'backlogMessages',
  'backlogBytes',
  'unsentResponses',
  'inFlight',
  'flowControl',
  'segments',
  'segmentBytes',
  'connections',
  'handshakesPending',
])

const utf8 = new TextDecoder()
/** Any question: which members it may have is what its checks say. */
type Question = InspectedPage & InspectedTimes & RecordQuestion

const noQuestion: Checks = {}
const serverQuestion: Checks = { latencyBounds: statsChecks.latencyBounds as Check }
const pageQuestion: Checks = {
  after: integer(0, Number.MAX_SAFE_INTEGER),
  limit: integer(1, PAGE_MAX),
}
const connectionsQuestion: Checks = { ...pageQuestion, service: integer(0, ID_MAX) }
const describeQuestion: Checks = { service: integer(0, ID_MAX) }
const recordQuestion: Checks = {
  connection: (name, value) => {
    if (typeof value !== 'string') throw invalidArgument(name, 'a text', value)
  },
  service: integer(0, ID_MAX),
  payloadBytes: integer(0, 1 << 30),
}

interface Ended {
  connections: number
  readonly stats: Partial<Record<keyof Stats, number>>
}

/** Answers tools. One for each server that wants it. */
export class Inspection<Context> {
  readonly service: number
  readonly #server: Inspected<Context>
  readonly #since = new WeakMap<object, number>()
  readonly #ended = new Map<number, Ended>()
  readonly #coroipc = ownVersion()
  readonly #record: boolean
  readonly #recordBytes: number
  readonly #recorder: Recorder
  #listeningSince = 0

  constructor(options: InspectOptions, server: Inspected<Context>) {
    this.service = options.service ?? inspection.service
    this.#server = server
    this.#record = options.record ?? false
    this.#recordBytes = options.recordBytes ?? RECORD_BYTES
    this.#recorder = new Recorder(this.service)
  }

  /** The service as `addService` takes it. Its handlers are synchronous: they serve under `run` as well. */
  get serviceOptions(): ServiceOptions<Context> {
    const { requests } = inspection
    return {
      id: this.service,
      serialize: false,
      description: {
        name: 'inspection',
        version: String(inspection.version),
        summary: 'What tools ask a server',
        requests: {
          [requests.server]: { name: 'server', codec: 'json' },
          [requests.services]: { name: 'services', codec: 'json' },
          [requests.connections]: { name: 'connections', codec: 'json' },
          [requests.describe]: { name: 'describe', codec: 'json' },
          [requests.record]: { name: 'record', codec: 'json' },
          [requests.stop]: { name: 'stop', codec: 'json' },
        },
        dispatches: Object.fromEntries(
          Object.entries(inspection.dispatches).map(([name, id]) => [
            id,
            { name, codec: 'record' },
          ]),
        ),
      },
      handlers: {
        [requests.server]: this.#answer(serverQuestion, (question) => this.#serverAnswer(question)),
        [requests.services]: this.#answer(pageQuestion, (page, { messageBytes }) =>
          this.#servicesAnswer(page, messageBytes),
        ),
        [requests.connections]: this.#answer(connectionsQuestion, (page, { messageBytes }) =>
          this.#connectionsAnswer(page, messageBytes),
        ),
        [requests.describe]: this.#answer(describeQuestion, (question) =>
          this.#describeAnswer(question.service),
        ),
        [requests.record]: this.#answer(recordQuestion, (question, connection) =>
          this.#recordAnswer(question, connection),
        ),
        [requests.stop]: this.#answer(noQuestion, (_, connection) => this.#stopAnswer(connection)),
      },
    }
  }

  listening(): void {
    this.#listeningSince = performance.now()
  }

  connected(connection: Connection<Context>): void {
    this.#since.set(connection, performance.now())
  }

  /** Its counters go with it: what they were is added to its service's. */
  disconnected(connection: Connection<Context>): void {
    if (connection.service === this.service) this.#endRecording(connection)
    let ended = this.#ended.get(connection.service)
    if (ended === undefined) {
      ended = { connections: 0, stats: {} }
      this.#ended.set(connection.service, ended)
    }
    ended.connections++
    for (const [name, value] of Object.entries(connection.stats()) as [keyof Stats, unknown][])
      if (typeof value === 'number' && !GAUGES.has(name))
        ended.stats[name] = (ended.stats[name] ?? 0) + value
  }

  /** A handler: reads the question, writes the answer. */
  #answer(
    questionChecks: Checks,
    answer: (question: Question, connection: Connection<Context>) => string,
  ): Handler<Context> {
    return (request, connection) => {
      const text = answer(readQuestion(request, questionChecks), connection)
      // Three bytes a character at most: only where that might not do is it counted.
      if (
        text.length * 3 > connection.messageBytes &&
        Buffer.byteLength(text) > connection.messageBytes
      )
        throw refused()
      return text
    }
  }

  #serverAnswer({ latencyBounds }: InspectedTimes): string {
    const { latency, ...stats } = this.#server.stats({ latencyBounds })
    const now = performance.now()
    const { rss, heapUsed } = process.memoryUsage()
    const { argv, execPath, pid } = process
    const answer: InspectedServer = {
      inspection: inspection.version,
      address: this.#server.address(),
      pid,
      uid: process.geteuid?.() ?? -1,
      command: [execPath, ...argv.slice(1, 2)],
      versions: { coroipc: this.#coroipc, node: process.version },
      uptimeMs: now - this.#listeningSince,
      nowMs: now,
      cpu: process.cpuUsage(),
      memory: { rssBytes: rss, heapUsedBytes: heapUsed },
      options: {
        ...this.#server.options,
        record: this.#record,
        recordBytes: this.#recordBytes,
      },
      limits: this.#server.limits,
      stats,
      latency,
    }
    return JSON.stringify(answer)
  }

  #servicesAnswer({ after = -1, limit = PAGE_DEFAULT }: InspectedPage, room: number): string {
    const open = new Map<number, number>()
    for (const connection of this.#server.connections)
      if (connection !== undefined && !connection.closed)
        open.set(connection.service, (open.get(connection.service) ?? 0) + 1)
    const ids = new Set([...this.#server.services.keys(), ...open.keys(), ...this.#ended.keys()])
    const page = new Page('services', limit, room)
    for (const id of [...ids].filter((each) => each > after).sort((a, b) => a - b)) {
      const service = this.#server.services.get(id)
      const description = service?.options.description
      const ended = this.#ended.get(id)
      const entry: InspectedService = {
        id,
        name: description?.name,
        version: description?.version,
        summary: description?.summary,
        registered: service !== undefined,
        inspection: id === this.service ? true : undefined,
        described: description !== undefined,
        connections: open.get(id) ?? 0,
        connectionsEnded: ended?.connections ?? 0,
        ended: ended?.stats ?? {},
      }
      if (!page.add(id, entry)) break
    }
    return page.text
  }

  #connectionsAnswer(
    { after = -1, limit = PAGE_DEFAULT, service }: InspectedPage,
    room: number,
  ): string {
    const { connections } = this.#server
    const page = new Page('connections', limit, room)
    const now = performance.now()
    for (let number = after + 1; number < connections.length; number++) {
      const connection = connections[number]
      if (connection === undefined || connection.closed) continue
      if (service !== undefined && connection.service !== service) continue
      const { latency, ...stats }: ConnectionStats = connection.stats()
      const { pid, uid, gid } = connection.credentials
      const entry: InspectedConnection = {
        id: connection.id,
        number,
        service: connection.service,
        pid,
        uid,
        gid,
        ageMs: now - (this.#since.get(connection) ?? now),
        inspection: connection.service === this.service ? true : undefined,
        trusted: connection.trusted,
        messageBytes: connection.messageBytes,
        requestsInFlight: connection.requestsInFlight,
        rings: this.#ringsOf(connection),
        stats,
        latency,
      }
      if (!page.add(number, entry)) break
    }
    return page.text
  }

  #recordAnswer({ connection: id, service, payloadBytes }: Question, tool: Connection): string {
    if (!this.#record) throw refused()
    const open = this.#server.connections.filter((each) => each !== undefined && !each.closed)
    const connection = open.find((each) => each?.id === id)
    if (id !== undefined && connection === undefined) throw refused()
    const most = Math.min(
      payloadBytes ?? Infinity,
      this.#recordBytes,
      tool.messageBytes - HEADER_BYTES,
    )
    const wanted = { connection, service, payloadBytes: most }
    if (!this.#recorder.begin(tool, wanted)) throw refused()
    this.#server.record(this.#recorder)
    for (const each of open) if (each !== undefined) this.#recorder.connected(each, tool)
    const answer: RecordingBegun = { payloadBytes: most }
    return JSON.stringify(answer)
  }

  #stopAnswer(tool: Connection): string {
    const end = this.#endRecording(tool)
    if (end === undefined) throw refused()
    return JSON.stringify(end)
  }

  #endRecording(tool: Connection): RecordingEnd | undefined {
    const end = this.#recorder.end(tool)
    if (this.#recorder.idle) this.#server.record(undefined)
    return end
  }

  #ringsOf(connection: ServerConnection<Context>): InspectedConnection['rings'] {
    const words = new Uint32Array(6)
    connection.rings(words)
    const ring = (at: number): InspectedRing => ({
      bytes: words[at] as number,
      used: words[at + 1] as number,
    })
    return { request: ring(0), response: ring(2), dispatch: ring(4) }
  }

  #describeAnswer(service: number | undefined): string {
    const description =
      service === undefined ? undefined : this.#server.services.get(service)?.options.description
    if (service === undefined || description === undefined) throw refused()
    const answer: InspectedDescription = { service, description }
    return JSON.stringify(answer)
  }
}

/** Entries of a list, as many as fit. */
class Page {
  readonly #name: string
  readonly #limit: number
  #room: number
  readonly #entries: string[] = []
  #last = -1
  #more = false

  constructor(name: string, limit: number, room: number) {
    this.#name = name
    this.#limit = limit
    this.#room = room - FRAME_BYTES
  }

  /** False: it is full, and there is at least this one more. */
  add(key: number, entry: object): boolean {
    const text = JSON.stringify(entry)
    this.#room -= Buffer.byteLength(text) + 1
    if (this.#room < 0 && this.#entries.length === 0) throw refused()
    if (this.#room < 0 || this.#entries.length === this.#limit) {
      this.#more = true
      return false
    }
    this.#entries.push(text)
    this.#last = key
    return true
  }

  get text(): string {
    const next = this.#more ? `,"next":${this.#last}` : ''
    return `{"${this.#name}":[${this.#entries.join(',')}]${next}}`
  }
}

function refused(): Error {
  return ipcError(Status.REFUSED, { subject: 'inspection' })
}

function readQuestion({ payload }: Request, questionChecks: Checks): Question {
  if (payload.length === 0) return {}
  if (payload.length > QUESTION_BYTES_MAX) throw refused()
  try {
    const question: unknown = JSON.parse(utf8.decode(payload))
    checkOptions('question', question, questionChecks)
    return question as Question
  } catch {
    throw refused()
  }
}

function ownVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
