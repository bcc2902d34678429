/** How values become payloads and payloads become something to read. */
import { deserialize, serialize } from 'node:v8'
import { CommandError } from './errors.js'
import { UsageError } from './command.js'

/** How values of a service are written; the names are those of @coroipc/contract. */
export interface Codec {
  readonly name: string
  write(value: unknown): Uint8Array
  /** What the bytes say; throws if they are something else. */
  read(bytes: Uint8Array): unknown
  /** `read` is not meant for bytes of strangers: trust.ts. */
  readonly forOwnUser?: true
}

/** What can be asked for by name. `bytes` says nothing about what they are: they are shown as digits. */
export const codecNames = ['json', 'utf8', 'structured-clone', 'msgpack', 'bytes'] as const

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

const json: Codec = {
  name: 'json',
  write: (value) => Buffer.from(JSON.stringify(value)),
  read: (bytes) => (bytes.length === 0 ? null : (JSON.parse(utf8.decode(bytes)) as unknown)),
}

const structuredClone: Codec = {
  name: 'structured-clone',
  write: (value) => serialize(value),
  read: (bytes) => deserialize(bytes) as unknown,
  forOwnUser: true,
}

/** Of those that are no values: only how a value that was given is refused. */
function withoutValues(name: 'utf8' | 'bytes'): Codec {
  return {
    name,
    write(value) {
      if (name === 'utf8' && typeof value === 'string') return Buffer.from(value)
      const instead = name === 'utf8' ? 'a JSON string, or --text' : '--text, --hex or --file'
      throw new UsageError(
        `--json: the payload is ${name === 'utf8' ? 'text' : 'bytes'}: give ${instead}`,
      )
    },
    read: (bytes) => (name === 'utf8' ? utf8.decode(bytes) : bytes),
  }
}

interface Msgpackr {
  pack(value: unknown): Uint8Array
  readonly Unpackr: new (options: object) => { unpack(bytes: Uint8Array): unknown }
}

/**
 * The program's own msgpackr, as @coroipc/contract takes it: without records, of whose names a stranger would have
 * functions compiled.
 */
async function msgpack(): Promise<Codec> {
  const name: string = 'msgpackr'
  let library: Msgpackr
  try {
    library = (await import(name)) as Msgpackr
  } catch {
    throw new CommandError(
      'the payload is MessagePack, and the package msgpackr is not here',
      'npm install msgpackr, beside @coroipc/cli; or give and show bytes: --codec bytes',
    )
  }
  const unpackr = new library.Unpackr({ useRecords: false, mapsAsObjects: true })
  Object.assign(unpackr, { structures: Object.freeze(Object.assign([], { sharedLength: 0 })) })
  return {
    name: 'msgpack',
    write: (value) => library.pack(value),
    read: (bytes) => unpackr.unpack(bytes),
  }
}

/**
 * The codec of a name; undefined for one that is not known here (protobuf, those of applications): such payloads are
 * bytes. @throws CommandError if it needs a package that is not there
 */
export async function findCodec(name: string | undefined): Promise<Codec | undefined> {
  if (name === 'json') return json
  if (name === 'structured-clone') return structuredClone
  if (name === 'utf8' || name === 'bytes') return withoutValues(name)
  return name === 'msgpack' ? msgpack() : undefined
}

/** The text that these bytes are; undefined if they are none. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/** A JSON value, as it was written on the command line. @throws UsageError */
export function jsonArgument(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new UsageError(`--json: ${(error as Error).message}; text needs quotes: --json '"text"'`)
  }
}

/** What structured clones and MessagePack can hold and JSON cannot, in something that JSON can. */
function plain(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Map || value instanceof Set) return [...(value as Iterable<unknown>)]
  if (value instanceof Error) return { name: value.name, message: value.message }
  if (ArrayBuffer.isView(value) && !(value instanceof DataView))
    return value instanceof Uint8Array
      ? { hex: Buffer.from(value).toString('hex') }
      : Array.from(value as Int8Array)
  return value
}

/** Bytes written as hexadecimal digits, with or without blanks and colons. @throws UsageError */
export function hexArgument(text: string): Uint8Array {
  const digits = text.replace(/^0x/i, '').replace(/[\s:]/g, '')
  if (digits.length % 2 !== 0 || /[^\da-f]/i.test(digits))
    throw new UsageError(`--hex: expected pairs of hexadecimal digits, got '${text}'`)
  return Buffer.from(digits, 'hex')
}

/** What a payload says, for a machine: the value, else text, else hexadecimal digits. */
export type Readable = { value: unknown } | { text: string } | { hex: string }

/** What these bytes say, whoever sent them: payloads of servers go by `readerOf` (trust.ts). */
export function readable(codec: Codec | undefined, bytes: Uint8Array): Readable {
  const name = codec?.name
  if (codec !== undefined && name !== 'bytes' && name !== 'utf8') {
    try {
      // A Buffer has a toJSON of its own, which goes before any replacer.
      const value = codec.read(bytes)
      return { value: JSON.parse(JSON.stringify(value, plain) ?? 'null') as unknown }
    } catch {} // it is not what it was said to be: shown as it is
  }
  const text = name === 'bytes' ? undefined : textOf(bytes)
  return text === undefined ? { hex: Buffer.from(bytes).toString('hex') } : { text }
}

/** Bytes as `hexdump -C` shows them. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16)
    const digits = Array.from(row, (byte) => byte.toString(16).padStart(2, '0'))
    const left = digits.slice(0, 8).join(' ')
    const right = digits.slice(8).join(' ')
    const shown = Array.from(row, (byte) =>
      byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.',
    ).join('')
    lines.push(
      `${at.toString(16).padStart(8, '0')}  ${left.padEnd(23)}  ${right.padEnd(23)}  |${shown}|`,
    )
  }
  return lines.join('\n')
}
