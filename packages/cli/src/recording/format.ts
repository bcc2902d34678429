/**
 * The file of `record` and `replay`: JSON lines. The first one is the header, the last one says how it ended; between
 * them one line for each message, in the order in which the server saw them. docs/guide/recording.md describes it.
 *
 * Payloads that are UTF-8 stand there as `text`, so that `grep` and `jq` find them; others as `base64`.
 */
import { isUtf8 } from 'node:buffer'
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { inspection } from '@coroipc/ipcs'
import { CommandError } from '../errors.js'

export const FORMAT = 1

export interface Header {
  readonly coroipc: 'recording'
  readonly version: number
  /** When it began, ISO 8601. */
  readonly time: string
  readonly server: { readonly address: string | undefined; readonly pid: number }
  readonly versions: { readonly coroipc: string; readonly node: string }
  /** What was asked for; null: all. */
  readonly connection: string | null
  readonly service: number | null
  /** Longer payloads were cut off. */
  readonly payloadBytes: number
}

/** A payload, in one of two forms; neither: it is empty. */
export interface Written {
  readonly text?: string | undefined
  readonly base64?: string | undefined
}

interface Common {
  /** Milliseconds since the recording began. */
  readonly t: number
  /** The connection's number. */
  readonly connection: number
}

interface Sized extends Written {
  readonly id: number
  /** Of the whole payload. */
  readonly bytes: number
  readonly cut?: true | undefined
}

export type Line =
  | (Common & {
      readonly kind: 'connected'
      readonly service: number
      /** The connection's id, its client's pid and uid. */
      readonly id: string
      readonly pid: number
      readonly uid: number
    })
  | (Common & { readonly kind: 'disconnected' })
  | (Common &
      Sized & {
        readonly kind: 'request'
        readonly service: number
        /** Names it until its answer. */
        readonly request: number
        readonly oneWay?: true | undefined
      })
  | (Common &
      Sized & {
        readonly kind: 'answer'
        readonly request: number
        readonly status: number
        /** It failed: with this code, and no payload. */
        readonly code?: string | undefined
      })
  | (Common & Sized & { readonly kind: 'dispatch' })
  | { readonly t: number; readonly kind: 'lost'; readonly messages: number }
  | {
      readonly t: number
      readonly kind: 'end'
      readonly recorded: number
      readonly lost: number
      /** It did not end in order: the code of what did. */
      readonly code?: string | undefined
    }

export type RequestLine = Extract<Line, { kind: 'request' }>
export type AnswerLine = Extract<Line, { kind: 'answer' }>

const ONE_WAY = 1
const CUT = 2
const FAILED = 4
const HEADER_BYTES = 32

function written(payload: Uint8Array): Written {
  if (payload.length === 0) return {}
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
  return isUtf8(bytes) ? { text: bytes.toString('utf8') } : { base64: bytes.toString('base64') }
}

/** The bytes of a payload as it was written. */
export function payloadOf({ text, base64 }: Written): Buffer {
  if (text !== undefined) return Buffer.from(text, 'utf8')
  return base64 === undefined ? Buffer.alloc(0) : Buffer.from(base64, 'base64')
}

/** A message of the inspection service as a line. */
export function lineOf(kind: number, message: Uint8Array): Line {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const t = Math.round(view.getFloat64(0, true) * 1000) / 1000
  const connection = view.getUint32(8, true)
  const request = view.getUint32(12, true)
  const service = view.getUint16(16, true)
  const id = view.getUint16(18, true)
  const bytes = view.getUint32(24, true)
  const flags = view.getUint32(28, true)
  const payload = message.subarray(HEADER_BYTES)
  const sized = (): Sized => ({
    id,
    bytes,
    ...((flags & CUT) === 0 ? {} : { cut: true }),
    ...written(payload),
  })
  const { dispatches } = inspection
  switch (kind) {
    case dispatches.connected: {
      const about = JSON.parse(new TextDecoder().decode(payload)) as {
        id: string
        pid: number
        uid: number
      }
      return { t, kind: 'connected', connection, service, ...about }
    }
    case dispatches.disconnected:
      return { t, kind: 'disconnected', connection }
    case dispatches.request: {
      const oneWay = (flags & ONE_WAY) === 0 ? {} : ({ oneWay: true } as const)
      return { t, kind: 'request', connection, service, request, ...oneWay, ...sized() }
    }
    case dispatches.answer: {
      const status = view.getInt32(20, true)
      if ((flags & FAILED) === 0)
        return { t, kind: 'answer', connection, request, status, ...sized() }
      const code = new TextDecoder().decode(payload)
      return { t, kind: 'answer', connection, request, id, status, bytes: 0, code }
    }
    case dispatches.dispatch:
      return { t, kind: 'dispatch', connection, ...sized() }
    default:
      return { t, kind: 'lost', messages: bytes }
  }
}

/** Reads a file; `header` is there once the first line was read. @throws CommandError for what is no recording */
export async function readRecording(
  file: string,
): Promise<{ header: Header; lines: readonly Line[] }> {
  const input = file === '-' ? process.stdin : createReadStream(file)
  const lines: Line[] = []
  let header: Header | undefined
  let number = 0
  const failed = new Promise<never>((_, reject) => input.once('error', reject))
  const read = async (): Promise<void> => {
    for await (const text of createInterface({ input })) {
      number++
      if (text === '') continue
      let line: unknown
      try {
        line = JSON.parse(text)
      } catch {
        // The last line of a recorder that was killed.
        throw new CommandError(`${file}, line ${number}: not JSON`)
      }
      if (header === undefined) header = checkHeader(file, line)
      else lines.push(checkLine(file, number, line))
    }
  }
  await Promise.race([read(), failed])
  if (header === undefined) throw new CommandError(`${file}: is empty`)
  return { header, lines }
}

const isText = (value: unknown): boolean => value === undefined || typeof value === 'string'
/** What is looked at of lines of a kind. Others may have come from a newer version: they are passed over. */
const numbers: Readonly<Record<string, readonly string[]>> = {
  request: ['t', 'connection', 'request', 'service', 'id'],
  answer: ['t', 'connection', 'request', 'status', 'bytes'],
}

/** A file may have come from anybody: what is used is what it is taken for. */
function checkLine(file: string, number: number, line: unknown): Line {
  const found = (typeof line === 'object' ? (line ?? {}) : {}) as Readonly<Record<string, unknown>>
  const { kind, text, base64, code } = found
  const needed = typeof kind === 'string' && Object.hasOwn(numbers, kind) ? numbers[kind] : []
  const right =
    typeof kind === 'string' &&
    (needed ?? []).every((name) => Number.isFinite(found[name])) &&
    [text, base64, code].every(isText)
  if (!right) throw new CommandError(`${file}, line ${number}: is no line of a recording`)
  return line as Line
}

function checkHeader(file: string, line: unknown): Header {
  const header = line as Partial<Header> | null
  if (header?.coroipc !== 'recording')
    throw new CommandError(`${file}: is no recording`, '`coroipc record` writes them')
  if (header.version !== FORMAT)
    throw new CommandError(
      `${file}: is of version ${String(header.version)}, this reads version ${FORMAT}`,
    )
  return header as Header
}
