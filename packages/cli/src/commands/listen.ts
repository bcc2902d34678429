/** `coroipc listen`: what a server sends unasked, as it comes. */
import { once } from 'node:events'
import type { Message } from '@coroipc/ipcc'
import { connectTo, ended, interruption, serverGone } from '../client.js'
import { type CodecName, codecNames, hexDump, isPlain, readable, textOf } from '../codec.js'
import {
  type Command,
  ID_MAX,
  integerArgument,
  integerOption,
  textOption,
  timeoutOption,
} from '../command.js'
import type { Output } from '../output.js'

function show(
  output: Output,
  codec: CodecName | undefined,
  { id, payload, sequence }: Message,
): void {
  const time = new Date()
  const said = readable(codec, payload)
  if (output.json) {
    output.record({ time: time.toISOString(), id, sequence, bytes: payload.length, ...said })
    return
  }
  const head = `${output.style('dim', time.toISOString().slice(11, 23))} ${output.style('cyan', `${id}`.padStart(5))}  `
  if ('value' in said) output.line(head + JSON.stringify(said.value))
  else {
    const text = textOf(payload)
    const plain = text !== undefined && isPlain(text) && !text.includes('\n')
    output.line(plain ? head + text : `${head}${payload.length} bytes\n${hexDump(payload)}`)
  }
}

export const command: Command = {
  summary: 'Show what a service sends unasked, as it comes',
  arguments: [
    { name: 'NAME', help: 'the server', complete: 'server' },
    { name: 'SERVICE', help: `its service: a number from 0 to ${ID_MAX}` },
  ],
  options: {
    count: { type: 'string', short: 'n', value: 'N', help: 'end after N dispatches' },
    id: { type: 'string', value: 'ID', help: 'only dispatches of this id' },
    codec: { type: 'string', value: 'NAME', help: 'how payloads are read', choices: codecNames },
    timeout: { type: 'string', value: 'MS', help: 'time to connect (30000)' },
  },
  details: `Each line is the time of arrival, the id and the payload; bytes that are no text are dumped. Ctrl-C ends it in
order, with exit code 0. Who reads slowly slows down nobody: the server's backlog policy for this connection applies.

Examples:
  coroipc listen demo 7
  coroipc listen demo 7 --count 1 --json | jq .text`,

  async run({ values, positionals, output }) {
    const [name = '', serviceText = ''] = positionals
    const service = integerArgument('SERVICE', serviceText, 0, ID_MAX)
    const max = integerOption(values, 'count', 1, Number.MAX_SAFE_INTEGER) ?? Infinity
    const only = integerOption(values, 'id', 0, ID_MAX)
    const codec = textOption(values, 'codec') as CodecName | undefined
    const signal = interruption()
    await using connection = await connectTo(name, service, timeoutOption(values, 'timeout'), {
      signal,
    })
    const over = ended(connection)
    let shown = 0
    try {
      for await (const message of connection.dispatches({ signal })) {
        if (only !== undefined && message.id !== only) continue
        show(output, codec, message)
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
