/** `coroipc record`: a server's traffic with its times, into a file that `replay` reads. */
import { once } from 'node:events'
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { IpcError } from '@coroipc/ipcc'
import {
  type InspectedConnection,
  inspection,
  type RecordingBegun,
  type RecordingEnd,
  type RecordQuestion,
} from '@coroipc/ipcs'
import { interruption } from '../client.js'
import {
  type Command,
  Exit,
  flag,
  integerOption,
  serverArgument,
  textOption,
  UsageError,
} from '../command.js'
import { CommandError } from '../errors.js'
import { Inspector, inspectorChoice, inspectorOptions, serviceNamed } from '../inspector.js'
import { count } from '../output.js'
import { FORMAT, type Header, type Line, lineOf } from '../recording/format.js'

/** A busy server fills a small ring before this process is awake. */
const RING_BYTES = 4 << 20
/** Time for what is on its way after the end. */
const REST_MS = 5000

/** The connection that is meant: by its id, the beginning of it, or its number. */
function chosen(connections: readonly InspectedConnection[], word: string): InspectedConnection {
  const ours = connections.filter((each) => each.inspection !== true)
  const found = ours.filter(
    ({ id, number }) =>
      id === word || String(number) === word || (word.length >= 4 && id.startsWith(word)),
  )
  const [one] = found
  if (one !== undefined && found.length === 1) return one
  throw new CommandError(
    `${found.length === 0 ? 'there is no connection' : 'more than one connection is called'} '${word}'`,
    `it has ${ours.map(({ id, number }) => `${id} (${number})`).join(', ') || 'none'}; \`coroipc top\` shows them`,
  )
}

/** Lines of JSON into a file, or to stdout. Waits where the disk is slow: the server then counts what is lost. */
class Sink {
  readonly #stream: NodeJS.WritableStream
  readonly #file: boolean

  private constructor(handle: FileHandle | undefined) {
    this.#file = handle !== undefined
    this.#stream = handle?.createWriteStream() ?? process.stdout
    // What goes wrong later is thrown by the write that meets it.
    this.#stream.on('error', () => {})
  }

  /** @throws CommandError if something is in the file and `force` was not given */
  static async open(file: string, force: boolean): Promise<Sink> {
    if (file === '-') return new Sink(undefined)
    // Not emptied before it is known to be empty, or may be.
    const handle = await open(file, constants.O_WRONLY | constants.O_CREAT, 0o600)
    try {
      const found = await handle.stat()
      // What is no file (a pipe, /dev/null) has nothing that could be lost, and keeps its mode.
      if (!found.isFile()) return new Sink(handle)
      if (found.size > 0 && !force)
        throw new CommandError(
          `'${file}' is not empty`,
          'another name keeps what is in it; --force writes over it',
        )
      await handle.chmod(0o600) // the mode above is that of a new file only
      await handle.truncate()
      return new Sink(handle)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  async write(line: object): Promise<void> {
    if (!this.#stream.write(`${JSON.stringify(line)}\n`)) await once(this.#stream, 'drain')
  }

  async end(): Promise<void> {
    if (!this.#file) return
    this.#stream.end()
    await once(this.#stream, 'finish')
  }
}

async function begin(inspector: Inspector, question: RecordQuestion): Promise<RecordingBegun> {
  try {
    return await inspector.ask(inspection.requests.record, question)
  } catch (error) {
    if (!IpcError.is(error, 'ERR_COROIPC_REFUSED')) throw error
    const refused = new CommandError(
      'the server does not let this be recorded',
      'new Server({ inspect: { record: true } }) does; at most 8 tools record at the same time',
    )
    refused.cause = error
    throw refused
  }
}

export const command: Command = {
  summary: "A server's traffic with its times, into a file for replay",
  arguments: [serverArgument],
  options: {
    output: { type: 'string', short: 'o', value: 'FILE', help: 'where to; - is standard output' },
    force: { type: 'boolean', short: 'f', help: 'write over a file in which something is' },
    connection: {
      type: 'string',
      value: 'ID',
      help: 'one connection: its id, the beginning of it, or its number (all)',
    },
    service: {
      type: 'string',
      value: 'SERVICE',
      help: 'connections of one service, by number or name (all)',
    },
    seconds: { type: 'string', short: 's', value: 'S', help: 'end after so long (Ctrl-C)' },
    count: { type: 'string', short: 'n', value: 'N', help: 'end after so many messages' },
    'payload-bytes': {
      type: 'string',
      value: 'N',
      help: 'cut longer payloads off (what the server allows)',
    },
    ...inspectorOptions,
  },
  details: `Needs new Server({ inspect: { record: true } }). The file holds payloads: it is made for its owner alone. JSON lines,
described in docs/guide/recording.md. The server does not wait: what this process is too slow for is lost,
counted, and told in the file.

Examples:
  coroipc record demo -o demo.jsonl --seconds 10
  coroipc record demo -o - --service 7 | jq 'select(.kind == "request")'`,

  async run({ values, positionals, output }) {
    const [name = ''] = positionals
    const file = textOption(values, 'output')
    if (file === undefined)
      throw new UsageError('--output is missing: a file, or - for standard output')
    const seconds = integerOption(values, 'seconds', 1, 1e6)
    const most = integerOption(values, 'count', 1, 1e12) ?? Infinity
    const payloadBytes = integerOption(values, 'payload-bytes', 0, 1 << 30)
    const word = textOption(values, 'connection')
    const stop = interruption(file === '-')

    await using inspector = await Inspector.open(name, inspectorChoice(values), {
      dispatchRingBytes: RING_BYTES,
    })
    const { connection: tool } = inspector
    const server = await inspector.server()
    const connection =
      word === undefined ? undefined : chosen(await inspector.connections(), word).id
    const serviceWord = textOption(values, 'service')
    const service =
      serviceWord === undefined
        ? undefined
        : serviceNamed(await inspector.services(), serviceWord).id
    const sink = await Sink.open(file, flag(values, 'force'))
    const messages = tool.dispatches()
    const begun = await begin(inspector, { connection, service, payloadBytes })
    const header: Header = {
      coroipc: 'recording',
      version: FORMAT,
      time: new Date().toISOString(),
      server: { address: server.address, pid: server.pid },
      versions: server.versions,
      connection: connection ?? null,
      service: service ?? null,
      payloadBytes: begun.payloadBytes,
    }
    await sink.write(header)
    if (!output.json && file !== '-' && output.terminal) output.note('recording; Ctrl-C ends it')

    // Messages that were read; the end says how many there are in all.
    let recorded = 0
    let lost = 0
    let t = 0
    let end: RecordingEnd | undefined
    let ending: Promise<unknown> | undefined
    let code: string | undefined
    const finish = (): void => {
      ending ??= inspector.ask<RecordingEnd>(inspection.requests.stop).then(
        (answer) => {
          end = answer
          if (recorded >= answer.recorded && lost >= answer.lost) return messages.return()
          // What is on its way still comes; for what does not nobody waits for ever.
          return delay(REST_MS, undefined, { ref: false }).then(() => messages.return())
        },
        () => {}, // the server is gone, which the messages tell
      )
    }
    stop.addEventListener('abort', finish)
    if (stop.aborted) finish() // before there was anything to finish
    const timer = seconds === undefined ? undefined : setTimeout(finish, seconds * 1000)
    try {
      for await (const { id, payload } of messages) {
        const line: Line = lineOf(id, payload)
        ;({ t } = line)
        await sink.write(line)
        if (line.kind === 'lost') lost += line.messages
        else recorded++
        if (end === undefined ? false : recorded >= end.recorded && lost >= end.lost) break
        if (recorded >= most) break
      }
    } catch (error) {
      if (!IpcError.is(error)) throw error
      ;({ code } = error)
    } finally {
      clearTimeout(timer)
    }
    const last: Line = { t, kind: 'end', recorded, lost: end?.lost ?? lost, code }
    await sink.write(last)
    await sink.end()
    if (output.json && file !== '-') output.record({ file, recorded, lost: last.lost, code })
    else
      output.note(
        `${count(recorded)} messages recorded${last.lost === 0 ? '' : `, ${count(last.lost)} lost: the disk, or this process, was too slow`}`,
      )
    if (code === undefined) return Exit.ok
    output.note(`the server '${name}' has gone (${code})`)
    return Exit.lost
  },
}
