/** `coroipc listen`: what a server sends unasked, as it comes. */
import { once } from 'node:events'
import type { Message } from '@coroipc/ipcc'
import { connectTo, ended, interruption, serverGone } from '../client.js'
import { type Codec, codecNames, findCodec, hexDump, type Readable } from '../codec.js'
import {
  type Command,
  integerOption,
  serverArgument,
  serviceArgument,
  textOption,
  timeoutOption,
} from '../command.js'
import { describedService, findDispatch, inspectionOption } from '../directory.js'
import { isPrintable, jsonText, type Output, printable } from '../output.js'
import { readerOf, trustOption } from '../trust.js'

/** What is known of a dispatch. */
interface Known {
  readonly name: string | undefined
  readonly codec: Codec | undefined
}

function show(
  output: Output,
  name: string | undefined,
  { id, payload, sequence }: Message,
  said: Readable,
): void {
  const time = new Date().toISOString()
  if (output.json) {
    output.record({ time, id, name, sequence, bytes: payload.length, ...said })
    return
  }
  const head = `${output.style('dim', time.slice(11, 23))} ${output.style('cyan', printable(name ?? `${id}`).padStart(5))}  `
  if ('value' in said) output.line(head + jsonText(said.value))
  else {
    const text = 'text' in said ? said.text : undefined
    const plain = text !== undefined && isPrintable(text) && !text.includes('\n')
    output.line(plain ? head + text : `${head}${payload.length} bytes\n${hexDump(payload)}`)
  }
}

export const command: Command = {
  summary: 'Show what a service sends unasked, as it comes',
  arguments: [serverArgument, serviceArgument],
  options: {
    count: { type: 'string', short: 'n', value: 'N', help: 'end after N dispatches' },
    id: { type: 'string', value: 'ID', help: 'only dispatches of this id, or name' },
    codec: { type: 'string', value: 'NAME', help: 'how payloads are read', choices: codecNames },
    timeout: { type: 'string', value: 'MS', help: 'time to connect (30000)' },
    inspection: inspectionOption,
    trust: trustOption,
  },
  details: `Each line is the time of arrival, the id and the payload; bytes that are no text are dumped. Ctrl-C ends it in
order, with exit code 0. Who reads slowly slows down nobody: the server's backlog policy for this connection applies.
Structured clones of a server of another user are shown as bytes, also to root, unless --trust says otherwise.

Examples:
  coroipc listen demo 7
  coroipc listen demo 7 --count 1 --json | jq .text`,

  async run({ values, positionals, output }) {
    const [name = '', serviceText = ''] = positionals
    const max = integerOption(values, 'count', 1, Number.MAX_SAFE_INTEGER) ?? Infinity
    const timeoutMs = timeoutOption(values, 'timeout')
    const given = textOption(values, 'codec')
    const idText = textOption(values, 'id')
    const { id: service, description } = await describedService(
      name,
      serviceText,
      timeoutMs,
      values,
    )
    const only = idText === undefined ? undefined : findDispatch(idText, description).id
    const known = new Map<number, Known>()
    const lookUp = async (id: number): Promise<Known> => {
      const said = description?.dispatches?.[id]
      const found = { name: said?.name, codec: await findCodec(given ?? said?.codec) }
      known.set(id, found)
      return found
    }
    const signal = interruption(true)
    await using connection = await connectTo(name, service, timeoutMs, { signal })
    const over = ended(connection)
    const read = readerOf(connection, values, output)
    let shown = 0
    try {
      for await (const message of connection.dispatches({ signal })) {
        if (only !== undefined && message.id !== only) continue
        const of = known.get(message.id) ?? (await lookUp(message.id))
        show(output, of.name, message, read(of.codec, message.payload))
        if (++shown >= max) return
        // What nobody reads further down is left in the ring.
        if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain')
      }
    } catch (error) {
      if (signal.aborted) return
      throw serverGone(name, error as Error)
    }
    throw serverGone(name, await over)
  },
}
