/** `coroipc call`: one request, or the same one many times. */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { Answer, Connection } from '@coroipc/ipcc'
import { connectTo } from '../client.js'
import {
  type Codec,
  codecNames,
  findCodec,
  hexArgument,
  hexDump,
  jsonArgument,
  type Readable,
  textOf,
} from '../codec.js'
import {
  type Command,
  flag,
  ID_MAX,
  integerOption,
  serverArgument,
  serviceArgument,
  textOption,
  timeoutOption,
  UsageError,
  type Values,
} from '../command.js'
import { describedService, findRequest, inspectionOption } from '../directory.js'
import { spreadText } from '../distribution.js'
import { count, isPrintable, jsonText, type Output, printable } from '../output.js'
import { refusal } from '../refusal.js'
import { readerOf, trustOption } from '../trust.js'

const sources = ['json', 'text', 'hex', 'file']

/** The payload that the options say; nothing is an empty one. */
function payloadOf(values: Values, codec: Codec | undefined): Uint8Array {
  const given = sources.filter((name) => values[name] !== undefined)
  if (given.length > 1)
    throw new UsageError(`one payload is enough: ${given.map((name) => `--${name}`).join(' and ')}`)
  const json = textOption(values, 'json')
  if (json !== undefined) {
    const value = jsonArgument(json)
    return codec === undefined ? Buffer.from(JSON.stringify(value)) : codec.write(value)
  }
  const text = textOption(values, 'text')
  if (text !== undefined) return Buffer.from(text)
  const hex = textOption(values, 'hex')
  if (hex !== undefined) return hexArgument(hex)
  const file = textOption(values, 'file')
  return file === undefined ? new Uint8Array(0) : readFileSync(file === '-' ? 0 : file)
}

/** Shows a payload in the form that was asked for; `auto` chooses. */
async function show(
  output: Output,
  form: string,
  payload: Uint8Array,
  read: (payload: Uint8Array) => Readable,
): Promise<void> {
  if (form === 'raw') return output.bytes(payload)
  if (form === 'hex') return output.line(hexDump(payload))
  if (form === 'text') {
    const text = new TextDecoder().decode(payload)
    return output.line(output.terminal ? printable(text) : text)
  }
  if (payload.length === 0) return
  const said = read(payload)
  if ('value' in said) return output.line(jsonText(said.value, output.terminal ? 2 : 0))
  const text = textOf(payload)
  if (text !== undefined && isPrintable(text)) output.line(text)
  else if (output.terminal) output.line(hexDump(payload))
  else await output.bytes(payload)
}

/** Sends one way; waits for room if there is none. */
async function sendOneWay(connection: Connection, id: number, payload: Uint8Array): Promise<void> {
  while (!connection.send(id, payload))
    await Promise.race([
      new Promise<void>((resolve) => connection.once('drain', resolve)),
      delay(50),
    ])
}

interface Target {
  readonly service: number
  readonly id: number
  readonly codecName: string | undefined
  readonly oneWay: boolean
}

/** What the arguments name. The server is asked for what they leave open: names, the codec. */
async function find(
  name: string,
  serviceText: string,
  idText: string,
  values: Values,
  timeoutMs: number | undefined,
): Promise<Target> {
  const given = textOption(values, 'codec')
  const oneWay = flag(values, 'one-way')
  const { id: service, description } = await describedService(name, serviceText, timeoutMs, values)
  const { id, description: request } = findRequest(idText, description)
  // JSON that was given says that JSON is meant, unless the server knows better.
  const assumed = values['json'] === undefined ? undefined : 'json'
  return {
    service,
    id,
    codecName: given ?? request?.codec ?? assumed,
    oneWay: oneWay || request?.oneWay === true,
  }
}

export const command: Command = {
  summary: 'Ask a service, and show its answer',
  arguments: [
    serverArgument,
    serviceArgument,
    {
      name: 'ID',
      help: `the request: a number from 0 to ${ID_MAX}, or its name`,
      complete: 'request',
    },
  ],
  options: {
    json: {
      type: 'string',
      value: 'VALUE',
      help: 'the payload as a JSON value, written by the codec',
    },
    text: { type: 'string', value: 'TEXT', help: 'the payload as UTF-8' },
    hex: { type: 'string', value: 'DIGITS', help: 'the payload as hexadecimal digits' },
    file: { type: 'string', value: 'FILE', help: 'the payload from a file; - is standard input' },
    codec: {
      type: 'string',
      value: 'NAME',
      help: 'how values are written and answers read',
      choices: codecNames,
    },
    output: {
      type: 'string',
      value: 'FORM',
      help: 'how the answer is shown; json is for machines, with status and time',
      choices: ['auto', 'text', 'json', 'hex', 'raw'],
    },
    timeout: { type: 'string', value: 'MS', help: 'time to connect, and for each call (30000)' },
    inspection: inspectionOption,
    trust: trustOption,
    repeat: {
      type: 'string',
      value: 'N',
      help: 'ask N times, one after the other; show the times too',
    },
    sync: { type: 'boolean', help: 'by the blocking call' },
    'one-way': { type: 'boolean', help: 'send only: no answer, no outcome' },
  },
  details: `Names, and the codec, are known where the server has the option \`inspect\` and the service a description
(@coroipc/contract makes it). A number needs neither; --codec goes before what the server says.

Without payload option the payload is empty. \`auto\` shows an answer by its codec if that is known, else as text,
else as a dump of its bytes; into a pipe the bytes go as they are. A status other than 0, which is the
application's own, is shown on stderr; the exit code is 0 all the same. What a contract refuses is a failure.

Structured clones are read by V8, which is not meant for bytes of strangers: of a server of another user they are shown
as bytes, also to root, unless --trust says otherwise.

Examples:
  coroipc call demo 7 0 --text hello
  coroipc call demo cache get --json '{"key":"a"}' --output json
  coroipc call @cache 3 2 --file picture.png --output raw > smaller.png
  coroipc call demo 7 0 --repeat 10000 --sync`,

  async run({ values, positionals, output }) {
    const [name = '', serviceText = '', idText = ''] = positionals
    const timeoutMs = timeoutOption(values, 'timeout')
    const repeat = integerOption(values, 'repeat', 1, 1e9) ?? 1
    const form = textOption(values, 'output') ?? 'auto'
    jsonArgument(textOption(values, 'json') ?? 'null') // wrong arguments before anything else
    const { service, id, codecName, oneWay } = await find(
      name,
      serviceText,
      idText,
      values,
      timeoutMs,
    )
    const codec = await findCodec(codecName)
    const payload = payloadOf(values, codec)
    await using connection = await connectTo(name, service, timeoutMs, { latency: true })
    if (oneWay) {
      for (let left = repeat; left > 0; left--) await sendOneWay(connection, id, payload)
      await connection.close({ timeoutMs: timeoutMs ?? 30_000 })
      if (output.json) output.record({ sent: repeat, bytes: payload.length })
      return
    }
    const full = { full: true } as const
    const sync = flag(values, 'sync')
    const started = performance.now()
    let answer: Answer | undefined
    for (let left = repeat; left > 0; left--)
      answer = sync
        ? connection.requestSync(id, payload, full)
        : await connection.request(id, payload, full)
    const seconds = (performance.now() - started) / 1000
    const refused = refusal(answer as Answer)
    if (refused !== undefined) throw refused
    const { status, payload: bytes } = answer as Answer
    const { latency } = connection.stats()
    const reader = readerOf(connection, values, output)
    const read = (payload: Uint8Array): Readable => reader(codec, payload)
    if (output.json) {
      output.record({
        status,
        us: latency?.mean,
        bytes: bytes.length,
        ...read(bytes),
        ...(repeat > 1 ? { calls: repeat, seconds, latency } : {}),
      })
      return
    }
    if (status !== 0) output.note(`status ${status}`)
    await show(output, form, bytes, read)
    if (repeat > 1 && latency !== undefined)
      output.note(
        `${count(repeat)} calls in ${seconds.toFixed(2)} s: ${count(repeat / seconds)} a second; ` +
          spreadText(latency),
      )
  },
}
