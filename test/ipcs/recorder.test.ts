// Traffic told to tools: what is recorded, of whom, how much of it, and what becomes of a tool that is too slow.
import { type Connection, connect } from '@coroipc/ipcc'
import {
  inspection,
  type InspectOptions,
  type RecordingBegun,
  type RecordingEnd,
  Server,
  type ServiceOptions,
} from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { Peer } from '../support/peer.js'

interface Message {
  kind: keyof typeof inspection.dispatches
  time: number
  connection: number
  request: number
  service: number
  id: number
  status: number
  bytes: number
  flags: number
  payload: string
}

const kinds = Object.entries(inspection.dispatches) as [Message['kind'], number][]

function decode(id: number, bytes: Uint8Array): Message {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return {
    kind: kinds.find(([, each]) => each === id)?.[0] as Message['kind'],
    time: view.getFloat64(0, true),
    connection: view.getUint32(8, true),
    request: view.getUint32(12, true),
    service: view.getUint16(16, true),
    id: view.getUint16(18, true),
    status: view.getInt32(20, true),
    bytes: view.getUint32(24, true),
    flags: view.getUint32(28, true),
    payload: text(bytes.subarray(32)),
  }
}

/** A tool that records from now on. */
async function record(
  name: string,
  question: object = {},
  options: object = {},
): Promise<{ tool: Connection; messages: Message[]; begun: RecordingBegun }> {
  const tool = await connect(name, { service: inspection.service, ...options })
  const messages: Message[] = []
  tool.on('dispatch', ({ id, payload }) => void messages.push(decode(id, payload)))
  const begun = await tool.request(inspection.requests.record, JSON.stringify(question))
  return { tool, messages, begun: JSON.parse(text(begun)) as RecordingBegun }
}

const stop = async (tool: Connection): Promise<RecordingEnd> =>
  JSON.parse(text(await tool.request(inspection.requests.stop))) as RecordingEnd

const ONE_WAY = 1
const CUT = 2
const FAILED = 4

async function serve(
  inspect: InspectOptions = { record: true },
  service: Partial<ServiceOptions> = {},
): Promise<Server & { name: string }> {
  const server = new Server({ inspect })
  server.on('error', () => {})
  for (const id of [7, 8])
    server.addService({
      id,
      trust: () => true,
      onConnect: (connection) => void connection.dispatch('welcome', { id: 5 }),
      handlers: {
        0: (request) => request.payload,
        1: () => ({ status: -3, payload: ['a', 'b'] }),
        2: () => {
          throw new Error('on purpose')
        },
        3: async (request) => {
          await new Promise((resolve) => setTimeout(resolve, 1))
          request.respond('later', { status: 1 })
        },
        4: () => undefined,
        5: (_, connection) => {
          const buffer = connection.allocate(10_000)
          buffer.bytes.fill(0x62)
          return buffer
        },
        6: (_, connection) => {
          const buffer = connection.allocate(5000)
          buffer.bytes.fill(0x63)
          connection.dispatch(buffer, { id: 9 })
          connection.dispatch(['x', 'y'.repeat(3000)], { id: 10 })
          connection.dispatch(['p', 'q'], { id: 11 })
        },
      },
      ...service,
    })
  const name = freshName()
  await server.listen(name)
  return Object.assign(server, { name })
}

t.test('requests, answers and dispatches as they were', async (t) => {
  await using server = await serve()
  const { tool, messages, begun } = await record(server.name)
  t.match(begun, { payloadBytes: 65536 })
  const client = await connect(server.name, { service: 7, trustServer: true })
  t.equal(text(await client.request(0, 'abc')), 'abc')
  await client.request(1)
  await t.rejects(client.request(2, 'x'), { code: 'ERR_COROIPC_HANDLER_FAILED' })
  await client.request(3)
  await client.request(4)
  await t.rejects(client.request(99), { code: 'ERR_COROIPC_NO_HANDLER' })
  client.send(0, 'one way')
  await client.request(5)
  await client.request(6)
  await client.close()
  await until(() => messages.at(-1)?.kind === 'disconnected')
  const shown = messages.map(({ kind, id, status, bytes, flags, payload }) => [
    kind,
    id,
    status,
    bytes,
    flags,
    payload.length > 20 ? `${payload[0]}*${payload.length}` : payload,
  ])
  t.strictSame(shown.slice(1), [
    ['dispatch', 5, 0, 7, 0, 'welcome'],
    ['request', 0, 0, 3, 0, 'abc'],
    ['answer', 0, 0, 3, 0, 'abc'],
    ['request', 1, 0, 0, 0, ''],
    ['answer', 1, -3, 2, 0, 'ab'],
    ['request', 2, 0, 1, 0, 'x'],
    ['answer', 2, 0, 26, FAILED, 'E*26'],
    ['request', 3, 0, 0, 0, ''],
    ['answer', 3, 1, 5, 0, 'later'],
    ['request', 4, 0, 0, 0, ''],
    ['answer', 4, 0, 0, 0, ''],
    ['request', 99, 0, 0, 0, ''],
    ['answer', 99, 0, 22, FAILED, 'E*22'],
    ['request', 0, 0, 7, ONE_WAY, 'one way'],
    ['request', 5, 0, 0, 0, ''],
    ['answer', 5, 0, 10_000, 0, 'b*10000'],
    ['request', 6, 0, 0, 0, ''],
    ['dispatch', 9, 0, 5000, 0, 'c*5000'],
    ['dispatch', 10, 0, 3001, 0, 'x*3001'],
    ['dispatch', 11, 0, 2, 0, 'pq'],
    ['answer', 6, 0, 0, 0, ''],
    ['disconnected', 0, 0, 0, 0, ''],
  ])
  const [first] = messages
  t.equal(first?.kind, 'connected')
  t.strictSame(JSON.parse(first?.payload ?? ''), {
    id: client.id,
    pid: process.pid,
    uid: process.geteuid?.(),
  })
  t.ok(
    messages.every(({ service, connection }) => service === 7 && connection === first?.connection),
  )
  t.ok(
    messages.every(({ time }, at) => time >= (messages[at - 1]?.time ?? 0)),
    'in time',
  )
  const of = (kind: string): number[] =>
    messages
      .filter((each) => each.kind === kind && each.flags !== ONE_WAY)
      .map(({ request }) => request)
  t.strictSame(of('request'), of('answer'), 'answers name their requests')
  t.equal(messages[2]?.request === messages[3]?.request, true)
  t.strictSame(await stop(tool), { recorded: messages.length, lost: 0 })
  await tool.close()
})

t.test('of one connection, of one service; who is there already is told', async (t) => {
  await using server = await serve()
  await using one = await connect(server.name, { service: 7 })
  await using two = await connect(server.name, { service: 7 })
  await using three = await connect(server.name, { service: 8 })
  const byConnection = await record(server.name, { connection: two.id })
  const byService = await record(server.name, { service: 8 })
  for (const [client, said] of [
    [one, 'one'],
    [two, 'two'],
    [three, 'three'],
  ] as const)
    await client.request(0, said)
  await until(() => byService.messages.length === 3 && byConnection.messages.length === 3)
  const payloads = ({ messages }: { messages: Message[] }): string[] =>
    messages.slice(1).map(({ payload }) => payload)
  t.match(byConnection.messages[0]?.payload, two.id)
  t.strictSame(payloads(byConnection), ['two', 'two'])
  t.match(byService.messages[0]?.payload, three.id)
  t.strictSame(payloads(byService), ['three', 'three'])
  await byConnection.tool.close()
  await byService.tool.close()
})

t.test('payloads are cut off where the tool, the server or the message say', async (t) => {
  await using server = await serve({ record: true, recordBytes: 100 })
  await using client = await connect(server.name, { service: 7 })
  const cases: [object, object, number][] = [
    [{}, {}, 100],
    [{ payloadBytes: 0 }, {}, 0],
    [{ payloadBytes: 7 }, {}, 7],
    [{ payloadBytes: 1e6 }, {}, 100],
  ]
  for (const [question, options, most] of cases) {
    const { tool, messages, begun } = await record(
      server.name,
      { connection: client.id, ...question },
      options,
    )
    t.equal(begun.payloadBytes, most)
    for (const length of [most, most + 1]) await client.request(0, 'a'.repeat(length))
    await until(() => messages.length === 5)
    t.strictSame(
      messages.slice(1).map(({ bytes, flags, payload }) => [bytes, flags, payload.length]),
      [
        [most, 0, most],
        [most, 0, most],
        [most + 1, CUT, most],
        [most + 1, CUT, most],
      ],
    )
    await tool.close()
  }
  await using large = await serve({ record: true, recordBytes: 1 << 20 })
  const { begun, tool } = await record(large.name, {}, { messageBytes: 4096 })
  t.equal(begun.payloadBytes, 4096 - 32)
  await tool.close()
})

t.test(
  'a tool that does not read loses messages, is told how many, and keeps nobody waiting',
  async (t) => {
    await using server = await serve()
    await using client = await connect(server.name, { service: 7 })
    const { tool, messages } = await record(
      server.name,
      { service: 7 },
      { inboxBytes: 4096, dispatchRingBytes: 65536 },
    )
    tool.removeAllListeners('dispatch')
    const rounds = 300
    for (let n = 0; n < rounds; n++) await client.request(0, new Uint8Array(60_000))
    tool.on('dispatch', ({ id, payload }) => void messages.push(decode(id, payload)))
    await until(() => messages.some(({ kind }) => kind === 'lost'))
    const { recorded, lost } = await stop(tool)
    await until(
      () => messages.length >= recorded + messages.filter(({ kind }) => kind === 'lost').length,
    )
    t.ok(lost > 0, `${lost} lost`)
    t.equal(recorded + lost, 1 + 2 * rounds, 'each is one or the other')
    const told = messages
      .filter(({ kind }) => kind === 'lost')
      .reduce((sum, { bytes }) => sum + bytes, 0)
    t.equal(told, lost)
    t.equal(messages.filter(({ kind }) => kind !== 'lost').length, recorded)
    await tool.close()
  },
)

t.test('what cannot be told for want of memory is lost, and served all the same', async (t) => {
  await using peer = await Peer.open({ through: ['prlimit', '--nofile=128'] })
  const name = freshName()
  await peer.run(async ({ ipcs, state }, name) => {
    state.errors = []
    process.on('uncaughtException', (error) => state.errors.push(String(error)))
    const server = new ipcs.Server({ inspect: { record: true } })
    server.addService({
      id: 7,
      onConnect: () => {},
      handlers: {
        0: (request) => request.payload,
        1: (_, connection) => String(connection.dispatch(new Uint8Array(60_000))),
      },
    })
    await server.listen(name)
  }, name)
  await using client = await connect(name, { service: 7 })
  const { tool, messages } = await record(name, {}, { dispatchRingBytes: 4096 })
  await peer.run(({ state, require }) => {
    const { openSync } = require('node:fs') as typeof import('node:fs')
    state.files = []
    try {
      for (;;) state.files.push(openSync('/dev/null', 'r'))
    } catch {} // there are no more
  })
  // For a tool with so small a ring this needs a segment, which needs a file descriptor.
  const payload = new Uint8Array(60_000)
  t.equal((await client.request(0, payload, { timeoutMs: 5000 })).length, 60_000)
  t.equal(text(await client.request(1, undefined, { timeoutMs: 5000 })), 'true')
  t.equal(text(await client.request(0, 'small')), 'small')
  t.strictSame(await peer.run(({ state }) => state.errors as string[]), [])
  await peer.run(({ state, require }) => {
    const { closeSync } = require('node:fs') as typeof import('node:fs')
    for (const file of state.files) closeSync(file)
  })
  await client.request(0, 'again')
  const { lost } = await stop(tool)
  t.ok(lost >= 3, `${lost} lost`)
  const again = messages.findIndex(({ payload: bytes }) => bytes === 'again')
  const told = messages.slice(0, again).filter(({ kind }) => kind === 'lost')
  t.equal(
    told.reduce((sum, { bytes }) => sum + bytes, 0),
    lost,
    'told before what came after',
  )
  await tool.close()
})

t.test('who may not, or asks for what is not there, is refused', async (t) => {
  const refused = { code: 'ERR_COROIPC_REFUSED' }
  await using silent = await serve({ record: false })
  await t.rejects(record(silent.name), refused, 'the server does not allow it')
  await using server = await serve()
  for (const question of [
    { connection: '0123456789abcdef' },
    { connection: 1 },
    { service: -1 },
    { payloadBytes: -1 },
    { payloadBytes: 2 ** 31 },
    { everything: true },
  ])
    await t.rejects(record(server.name, question), refused, JSON.stringify(question))
  const { tool } = await record(server.name)
  await t.rejects(tool.request(inspection.requests.record), refused, 'once is enough')
  const others = []
  for (let n = 0; n < 7; n++) others.push(await record(server.name))
  await t.rejects(record(server.name), refused, 'the ninth')
  for (const { tool: other } of others) await other.close()
  await stop(tool)
  await t.rejects(stop(tool), refused)
  await tool.close()
})

t.test('tools are not recorded, themselves or others', async (t) => {
  await using server = await serve()
  const { tool, messages } = await record(server.name)
  const other = await record(server.name)
  await other.tool.request(inspection.requests.server)
  await using client = await connect(server.name, { service: 7 })
  await client.request(4)
  await until(() => messages.length === 4 && other.messages.length === 4)
  t.ok(messages.every(({ service }) => service === 7))
  await tool.close()
  await other.tool.close()
})

t.test('a tool that goes away ends its recording', async (t) => {
  await using server = await serve()
  await using client = await connect(server.name, { service: 7 })
  for (let round = 0; round < 10; round++) {
    const { tool } = await record(server.name)
    await tool.close()
    await client.request(0, 'x')
  }
  const { messages, tool } = await record(server.name, { connection: client.id })
  await client.request(0, 'x')
  await until(() => messages.length === 3)
  t.equal(server.stats().connections, 2)
  await tool.close()
})
