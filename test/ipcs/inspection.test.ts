// The inspection service: what it answers, to whom, and what it does with questions that are none.
import { type Connection, connect } from '@coroipc/ipcc'
import {
  type InspectedConnection,
  type InspectedConnections,
  type InspectedDescription,
  type InspectedPage,
  type InspectedServer,
  type InspectedServices,
  type InspectedTimes,
  inspection,
  Server,
  type ServerOptions,
} from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { Peer } from '../support/peer.js'

interface Answers {
  server: InspectedServer
  services: InspectedServices
  connections: InspectedConnections
  describe: InspectedDescription
}

async function ask<Name extends keyof Answers>(
  tool: Connection,
  name: Name,
  question: InspectedPage & InspectedTimes = {},
): Promise<Answers[Name]> {
  const answer = await tool.request(inspection.requests[name], JSON.stringify(question))
  return JSON.parse(text(answer)) as Answers[Name]
}

async function listen(
  options: ServerOptions,
  prepare: (server: Server) => void = () => {},
): Promise<Server & { name: string }> {
  const server = new Server(options)
  prepare(server)
  const name = freshName()
  await server.listen(name)
  return Object.assign(server, { name })
}

const tool = (name: string, options: object = {}): Promise<Connection> =>
  connect(name, { service: inspection.service, ...options })

const description = {
  name: 'echo',
  version: '2.1',
  summary: 'sends it back',
  requests: { 0: { name: 'echo', codec: 'bytes' } },
}

t.test('without the option there is no such service', async (t) => {
  await using server = await listen({})
  await t.rejects(tool(server.name), { code: 'ERR_COROIPC_NO_SERVICE' })
  await using other = await listen({ inspect: false })
  await t.rejects(tool(other.name), { code: 'ERR_COROIPC_NO_SERVICE' })
})

t.test('the server, its services and connections', async (t) => {
  await using server = await listen({ inspect: true, latency: true, wait: 'sleep' }, (server) =>
    server
      .addService({ id: 7, description, handlers: { 0: (request) => request.payload } })
      .addService({ id: 3 }),
  )
  await using client = await connect(server.name, { service: 7 })
  for (const payload of ['a', 'bc']) await client.request(0, payload)
  await using asking = await tool(server.name)

  const overview = await ask(asking, 'server')
  t.match(overview, {
    inspection: inspection.version,
    address: server.name,
    pid: process.pid,
    uid: process.geteuid?.(),
    versions: { coroipc: /^\d+\.\d+\.\d+/, node: process.version },
    options: { wait: 'sleep', poll: 'uv', latency: true, serialize: false, select: false },
    limits: { messageBytes: 1 << 20 },
    stats: { connections: 2 },
    latency: { count: 2 },
  })
  t.ok(overview.uptimeMs > 0 && overview.cpu.user > 0 && overview.memory.rssBytes > 0)

  const { services, next } = await ask(asking, 'services')
  t.equal(next, undefined)
  t.strictSame(services, [
    { id: 3, registered: true, described: false, connections: 0, connectionsEnded: 0, ended: {} },
    {
      id: 7,
      name: 'echo',
      version: '2.1',
      summary: 'sends it back',
      registered: true,
      described: true,
      connections: 1,
      connectionsEnded: 0,
      ended: {},
    },
    {
      id: 65535,
      name: 'inspection',
      version: '1',
      summary: services[2]?.summary,
      registered: true,
      inspection: true,
      described: true,
      connections: 1,
      connectionsEnded: 0,
      ended: {},
    },
  ])

  const { connections } = await ask(asking, 'connections')
  t.match(connections, [
    { id: client.id, service: 7, pid: process.pid, trusted: false, stats: { requests: 2 } },
    { id: asking.id, service: 65535, inspection: true },
  ])
  t.match(connections[0]?.latency, { count: 2 })
  t.notOk(connections[0]?.inspection)
  t.equal((await ask(asking, 'connections', { service: 3 })).connections.length, 0)

  t.strictSame(await ask(asking, 'describe', { service: 7 }), { service: 7, description })
  t.equal((await ask(asking, 'describe', { service: 65535 })).description.name, 'inspection')
})

t.test('latencies up to the bounds that were asked for, where they are recorded', async (t) => {
  for (const latency of [true, false]) {
    await using server = await listen({ inspect: true, latency }, (server) =>
      server.addService({ id: 7, handlers: { 0: () => '' } }),
    )
    await using client = await connect(server.name, { service: 7 })
    await client.request(0)
    await using asking = await tool(server.name)
    const latencyBounds = [0.001, 60e6]
    const counts = latency ? [0, 1] : undefined
    t.same((await ask(asking, 'server', { latencyBounds })).latency?.counts, counts)
    await t.rejects(ask(asking, 'server', { latencyBounds: [2, 1] }), {
      code: 'ERR_COROIPC_REFUSED',
    })
  }
})

t.test('what an ended connection had counted stays with its service', async (t) => {
  await using server = await listen({ inspect: true }, (server) =>
    server.addService({ id: 7, handlers: { 0: (request) => request.payload } }),
  )
  await using asking = await tool(server.name)
  for (let round = 0; round < 2; round++) {
    await using client = await connect(server.name, { service: 7 })
    await client.request(0, 'abc')
  }
  await until(() => [...server.connections()].length === 1)
  const { services } = await ask(asking, 'services')
  t.match(services[0], { id: 7, connections: 0, connectionsEnded: 2 })
  t.match(services[0]?.ended, { requests: 2, responses: 2, bytesReceived: 6 })
  t.notOk('inFlight' in (services[0]?.ended ?? {}), 'a gauge')
})

t.test('how full the rings are', async (t) => {
  const limits = { requestRingBytes: 8192, responseRingBytes: 16384, dispatchRingBytes: 32768 }
  await using server = await listen({ inspect: true, limits }, (server) =>
    server.addService({ id: 7 }),
  )
  await using asking = await tool(server.name)
  await using client = await connect(server.name, { service: 7, inboxBytes: 4096 })
  const rings = async (): Promise<InspectedConnection['rings'] | undefined> =>
    (await ask(asking, 'connections', { service: 7 })).connections[0]?.rings
  t.strictSame(await rings(), {
    request: { bytes: 8192, used: 0 },
    response: { bytes: 16384, used: 0 },
    dispatch: { bytes: 32768, used: 0 },
  })
  const [connection] = [...server.connections()].filter(({ service }) => service === 7)
  for (let n = 0; n < 20; n++) connection?.dispatch(new Uint8Array(1000))
  const used = (await rings())?.dispatch.used ?? 0
  t.notOk(client.closed)
  t.ok(used >= 15 * 1000 && used <= 32768, `${used} bytes`)
})

t.test('pages: by count, and by what fits a message', async (t) => {
  await using server = await listen({ inspect: true }, (server) => server.addService({ id: 7 }))
  const clients: Connection[] = []
  for (let n = 0; n < 20; n++) clients.push(await connect(server.name, { service: 7 }))
  t.teardown(() => Promise.all(clients.map((each) => each.close())))
  for (const messageBytes of [4096, 1 << 20]) {
    await using asking = await tool(server.name, { messageBytes })
    for (const limit of [1, 7, 1024]) {
      const seen: string[] = []
      let page: InspectedPage = { limit, service: 7 }
      let longest = 0
      for (;;) {
        const answer = await ask(asking, 'connections', page)
        longest = Math.max(longest, answer.connections.length)
        seen.push(...answer.connections.map(({ id }) => id))
        if (answer.next === undefined) break
        page = { ...page, after: answer.next }
      }
      t.strictSame(seen.toSorted(), clients.map(({ id }) => id).toSorted(), `limit ${limit}`)
      t.ok(longest <= limit)
      if (messageBytes === 4096) t.ok(longest < 20, 'a small message holds fewer')
      else t.equal(longest, Math.min(limit, 20))
    }
  }
})

t.test('questions that are none are refused, and are no error of the server', async (t) => {
  const errors: unknown[] = []
  await using server = await listen({ inspect: true }, (server) => {
    server.addService({ id: 7, description: { name: 'x'.repeat(8000) } })
    server.on('error', (error) => errors.push(error))
  })
  await using asking = await tool(server.name, { messageBytes: 4096 })
  const { services, connections, describe } = inspection.requests
  const wrong: [number, string | Uint8Array][] = [
    [services, '{'],
    [services, '[]'],
    [services, 'null'],
    [services, '7'],
    [services, '{"limit":0}'],
    [services, '{"limit":1e9}'],
    [services, '{"after":-1}'],
    [services, '{"after":"1"}'],
    [services, '{"__proto__":{"limit":1}}'],
    [services, '{"service":7}'],
    [services, '{}'],
    [connections, '{"service":65536}'],
    [connections, '['.repeat(1024)],
    [connections, ' '.repeat(1023) + '{}'],
    [connections, new Uint8Array(1000).fill(0xff)],
    [describe, '{}'],
    [describe, '{"service":8}'],
    [describe, '{"service":7}'],
  ]
  for (const [id, question] of wrong)
    await t.rejects(
      asking.request(id, question),
      { code: 'ERR_COROIPC_REFUSED' },
      text(Buffer.from(question)).slice(0, 40),
    )
  await t.rejects(asking.request(99, ''), { code: 'ERR_COROIPC_NO_HANDLER' })
  t.equal((await ask(asking, 'connections', { after: 1e9 })).connections.length, 0)
  t.equal((await ask(asking, 'connections', { limit: 1 })).connections.length, 1)
  t.strictSame(errors, [])
})

t.test('authorize decides about it as about any service', async (t) => {
  const asked: number[] = []
  await using server = await listen(
    {
      inspect: { service: 9 },
      authorize: (_, service) => {
        asked.push(service)
        return service !== 9
      },
    },
    (server) => server.addService({ id: 1 }),
  )
  await (await connect(server.name, { service: 1 })).close()
  await t.rejects(connect(server.name, { service: 9 }), { code: 'ERR_COROIPC_DENIED' })
  t.strictSame(asked, [1, 9])
})

t.test('its id is taken: which option moves it', async (t) => {
  await using server = new Server({ inspect: true })
  t.throws(() => server.addService({ id: 65535 }), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
    message:
      /service.id: expected an id that the option inspect does not use \(inspect: \{ service \}/,
  })
  await using moved = await listen({ inspect: { service: 9 } }, (server) =>
    server.addService({ id: 65535, handlers: { 0: () => 'own' } }),
  )
  await using client = await connect(moved.name, { service: 65535 })
  t.equal(text(await client.request(0)), 'own')
  await using asking = await connect(moved.name, { service: 9 })
  t.match((await ask(asking, 'services')).services, [{ id: 9, inspection: true }, { id: 65535 }])
})

t.test('a selector that serves everything is not asked about it', async (t) => {
  await using server = await listen({ inspect: true, select: () => () => 'selected' })
  await using client = await connect(server.name, { service: 12 })
  t.equal(text(await client.request(5)), 'selected')
  await using asking = await tool(server.name)
  t.match((await ask(asking, 'services')).services, [
    { id: 12, registered: false, connections: 1 },
    { id: 65535, registered: true },
  ])
})

t.test('a server that blocks its thread answers as well', async (t) => {
  await using peer = await Peer.open()
  const name = freshName()
  await peer.run(async ({ ipcs, state }, name) => {
    const server = new ipcs.Server({ inspect: { record: true }, poll: ipcs.blockingPoll() })
    server.addService({ id: 7, handlers: { 0: (request) => request.payload } })
    await server.listen(name)
    state.server = server
  }, name)
  peer.start(({ state }) => state.server.run())
  await using asking = await tool(name)
  const recorded: number[] = []
  asking.on('dispatch', ({ id }) => void recorded.push(id))
  await asking.request(inspection.requests.record)
  await using client = await connect(name, { service: 7 })
  await client.request(0, 'abc')
  t.match(await ask(asking, 'server'), { pid: peer.pid, options: { poll: 'blocking' } })
  t.match((await ask(asking, 'connections', { service: 7 })).connections, [{ id: client.id }])
  const { connected, request, answer } = inspection.dispatches
  await until(() => recorded.length === 3)
  t.strictSame(recorded, [connected, request, answer])
})

t.test('wrong options', (t) => {
  for (const inspect of [5, 'yes', { service: -1 }, { services: 1 }, [], null])
    t.throws(() => new Server({ inspect } as unknown as ServerOptions), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message: /^inspect/,
    })
  const cycle: Record<string, unknown> = {}
  cycle['cycle'] = cycle
  for (const wrong of [5, 'x', null, [], () => {}, cycle, { n: 1n }])
    t.throws(() => new Server().addService({ id: 1, description: wrong as object }), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message: /^service.description: expected an object that JSON can write/,
    })
  t.end()
})
