/** How values become payloads and payloads become something to read. */
import { deserialize, serialize } from 'node:v8'
import { UsageError } from './command.js'
import { printable } from './output.js'

/** The codecs that the command line knows by name. `bytes` says nothing about what they are. */
export const codecNames = ['json', 'utf8', 'structured-clone', 'bytes'] as const
export type CodecName = (typeof codecNames)[number]

/** Whether a name from a description is one that is known here. */
export function isCodecName(name: unknown): name is CodecName {
  return (codecNames as readonly unknown[]).includes(name)
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

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

/** Bytes written as hexadecimal digits, with or without blanks and colons. @throws UsageError */
export function hexArgument(text: string): Uint8Array {
  const digits = text.replace(/^0x/i, '').replace(/[\s:]/g, '')
  if (digits.length % 2 !== 0 || /[^\da-f]/i.test(digits))
    throw new UsageError(`--hex: expected pairs of hexadecimal digits, got '${text}'`)
  return Buffer.from(digits, 'hex')
}

/** Writes a value by a codec. @throws UsageError for a value that it cannot write */
export function encode(codec: CodecName, value: unknown): Uint8Array {
  if (codec === 'json') return Buffer.from(JSON.stringify(value))
  if (codec === 'structured-clone') return serialize(value)
  if (typeof value !== 'string') {
    const instead =
      codec === 'bytes' ? 'use --text, --hex or --file' : 'give a JSON string, or use --text'
    throw new UsageError(
      `--json: the payload is ${codec === 'bytes' ? 'bytes' : 'text'}: ${instead}`,
    )
  }
  return Buffer.from(value)
}

/** What a payload says, for a machine: the value, else text, else hexadecimal digits. */
export function readable(
  codec: CodecName | undefined,
  bytes: Uint8Array,
): { value: unknown } | { text: string } | { hex: string } {
  if (codec === 'structured-clone') {
    try {
      return { value: deserialize(bytes) }
    } catch {} // it is not what it was said to be: shown as it is
  }
  const text = codec === 'bytes' ? undefined : textOf(bytes)
  if (codec === 'json' && text !== undefined) {
    try {
      return { value: text === '' ? null : JSON.parse(text) }
    } catch {}
  }
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

/** Whether a text is one to show as it is: no control characters but line ends and tabs. */
export function isPlain(text: string): boolean {
  return printable(text).length === text.replaceAll('\r\n', '\n').length
}
