// Limits, backlogs, flow control: what happens when one side is faster than the other, in every direction at once.
import { connect, type Connection as Client } from '@coroipc/ipcc'
import { type BacklogPolicy, type Connection, type Request, Server } from '@coroipc/ipcs'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome, pattern, sleep, text, until } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

runtimeDirectory(t)

const limits = { dispatchRingBytes: 4096, backlogBytes: 32_768 }

/** A server of this process with one client of this process. */
async function pair(
  options: ConstructorParameters<typeof Server>[0],
  service: Omit<Parameters<Server['addService']>[0], 'id'> = {},
  client: object = {},
): Promise<{ server: Server; there: Connection; here: Client; name: string }> {
  const name = freshName()
  const server = new Server(options)
  server.on('error', () => {})
  let there: Connection | undefined
  server.addService({ id: 1, onConnect: (connection) => void (there ??= connection), ...service })
  await server.listen(name)
  const here = await connect(name, { service: 1, ...client })
  await until('onConnect', () => there !== undefined)
  return { server, there: there as unknown as Connection, here, name }
}

const numbered = (i: number, bytes: number = 500): Uint8Array => {
  const payload = new Uint8Array(bytes)
  new DataView(payload.buffer).setUint32(0, i, true)
  return payload
}
const number = (payload: Uint8Array): number =>
  new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)

/** All dispatches that come until there is nothing more. */
async function read(client: Client, count: number): Promise<number[]> {
  const got: number[] = []
  for await (const { payload } of client.dispatches()) {
    got.push(number(payload))
    if (got.length === count) break
  }
  return got
}

t.test("policy 'error': false, then 'drain', and nothing is lost or doubled", async (t) => {
  const { server, there, here } = await pair({ limits })
  let next = 0
  let refused = 0
  const more = (): void => {
    while (next < 2000) {
      if (!there.dispatch(numbered(next))) {
        refused++
        there.once('drain', more)
        return
      }
      next++
    }
  }
  more()
  t.equal(refused, 1)
  t.equal(there.flowControl, true)
  await until('flow control at the client', () => here.flowControl)
  const got = await read(here, 2000)
  t.strictSame(
    got,
    got.map((_, i) => i),
  )
  t.ok(refused > 5, `${refused} times full`)
  await until('flow control to end', () => !here.flowControl)
  t.equal(there.stats().dropped, 0)
  await here.close()
  await server.close()
})

const dropping: [policy: BacklogPolicy, which: string][] = [
  ['drop-oldest', 'the oldest go'],
  ['drop-newest', 'the newest go'],
]
for (const [policy, which] of dropping) {
  t.test(`policy '${policy}': true, counted, and ${which}`, async (t) => {
    const { server, there, here } = await pair({ limits }, { backlogPolicy: policy })
    for (let i = 0; i < 1000; i++) t.equal(there.dispatch(numbered(i)), true)
    await sleep(0)
    const { dropped } = there.stats()
    t.ok(dropped > 500, `${dropped} dropped`)
    const got = await read(here, 1000 - dropped)
    t.equal(here.dispatchSync(0), undefined, 'no more than those')
    t.strictSame(
      got,
      got.toSorted((a, b) => a - b),
      'in order',
    )
    t.equal(got[0], 0, 'what was in the ring stays')
    t.equal(got.at(-1) === 999, policy === 'drop-oldest')
    await here.close()
    await server.close()
  })
}

t.test("policy 'disconnect': the connection ends, with its reason on both sides", async (t) => {
  const reasons: string[] = []
  const { server, there, here } = await pair(
    { limits },
    {
      backlogPolicy: 'disconnect',
      onDisconnect: (_, reason) => void reasons.push(reason.code),
    },
  )
  const closed = new Promise<string>((resolve) => here.on('close', ({ code }) => resolve(code)))
  for (let i = 0; i < 1000 && there.dispatch(numbered(i)); i++);
  t.equal(await closed, 'ERR_COROIPC_BACKLOG_OVERFLOW')
  await until('onDisconnect', () => reasons.length > 0)
  t.strictSame(reasons, ['ERR_COROIPC_BACKLOG_OVERFLOW'])
  t.equal(there.dispatch('x'), false)
  await here.close()
  await server.close()
})

t.test(
  'no stall: what was queued behind a full ring arrives without the client asking',
  async (t) => {
    const { server, there, here } = await pair({ limits })
    for (let i = 0; i < 40; i++) t.equal(there.dispatch(numbered(i)), true)
    t.ok(there.stats().backlogMessages > 20)
    // The client does nothing but read what comes.
    let got = 0
    here.on('dispatch', () => got++)
    await until('all of them', () => got === 40)
    t.equal(there.stats().backlogMessages, 0)
    await here.close()
    await server.close()
  },
)

t.test('no stall for a client that blocks in dispatchSync', async (t) => {
  const { server, there, name } = await pair({ limits })
  await using client = await Peer.open()
  await client.run(async ({ ipcc, state }, name) => {
    state.connection = ipcc.connectSync(name, { service: 1 })
  }, name)
  await until('the client', () => [...server.connections()].length === 2)
  const second = [...server.connections()].find((each) => each !== there) as Connection
  for (let i = 0; i < 60; i++) t.equal(second.dispatch(numbered(i)), true)
  const got = await client.run(({ state }) => {
    let count = 0
    while (count < 60 && state.connection.dispatchSync(5000) !== undefined) count++
    return count
  })
  t.equal(got, 60)
  await server.close({ timeoutMs: 0 })
})

t.test('both directions full at once, with a client that does not block', async (t) => {
  const name = freshName()
  await using peer = await Peer.open()
  await peer.run(async ({ ipcs, state }, name) => {
    const rings = { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 }
    state.server = new ipcs.Server({ limits: { ...rings, unsentBytes: 8192 } })
    state.server.addService({
      id: 1,
      handlers: {
        0: (request, connection) => {
          connection.dispatch(request.payload)
          return request.payload
        },
      },
    } satisfies Parameters<Server['addService']>[0])
    await state.server.listen(name)
  }, name)
  await using connection = await connect(name, { service: 1, queuedRequests: 10_000 })
  let dispatched = 0
  connection.on('dispatch', () => dispatched++)
  const payload = pattern(1500)
  const answers = await Promise.all(
    Array.from({ length: 2000 }, () => connection.request(0, payload)),
  )
  t.ok(answers.every((answer) => Buffer.compare(answer, payload) === 0))
  await until('the dispatches', () => dispatched === 2000)
})

t.test('both directions full at once, with a client that blocks', async (t) => {
  const name = freshName()
  await using peer = await Peer.open()
  await peer.run(async ({ ipcs, state }, name) => {
    const rings = { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 }
    state.server = new ipcs.Server({ limits: { ...rings, unsentBytes: 8192 } })
    state.server.addService({
      id: 1,
      handlers: {
        0: (request, connection) => {
          for (let i = 0; i < 3; i++) connection.dispatch(request.payload)
          return request.payload
        },
        1: () => 'done',
      },
    } satisfies Parameters<Server['addService']>[0])
    await state.server.listen(name)
  }, name)
  await using connection = await connect(name, { service: 1, queuedRequests: 10_000 })
  const payload = pattern(1500)
  // 300 answers (more than may be in flight) and 900 dispatches are on their way while this thread waits for one.
  const answers = Array.from({ length: 300 }, () => connection.request(0, payload))
  const all = Promise.all(answers)
  all.catch(() => {})
  t.equal(await outcome(() => connection.requestSync(1)), 'OK')
  t.ok((await all).every((answer) => answer.length === 1500))
  let dispatched = 0
  connection.on('dispatch', () => dispatched++)
  await until('the dispatches', () => dispatched === 900)
})

t.test('the bound of unsent answers: requests are left unread, others are served', async (t) => {
  const { server, there, here, name } = await pair(
    { limits: { responseRingBytes: 4096, unsentBytes: 20_000, requestsInFlight: 1000 } },
    { handlers: { 0: () => new Uint8Array(1000) } },
  )
  // A client in another process that sends and does not read: it is stopped.
  const client = await Peer.open()
  client.start(async ({ ipcc, state }, name) => {
    state.connection = await ipcc.connect(name, { service: 1, requestsInFlight: 500 })
    state.answers = Array.from({ length: 500 }, () => state.connection.request(0))
    setImmediate(() => process.kill(process.pid, 'SIGSTOP'))
  }, name)
  const other = (): Connection | undefined =>
    [...server.connections()].find((each) => each !== there)
  await until('its requests', () => (other()?.stats().unsentResponses ?? 0) > 15)
  await sleep(50)
  const stopped = other() as Connection
  t.ok(stopped.stats().requests < 400, `${stopped.stats().requests} of 500 were read`)
  // 20 in the bound, and as many as one turn takes.
  t.ok(stopped.stats().unsentResponses <= 20 + 64, `${stopped.stats().unsentResponses} unsent`)
  t.equal((await here.request(0)).length, 1000, 'another one is served')
  await client.kill()
  await here.close()
  await server.close({ timeoutMs: 0 })
})

t.test('more pipelined requests than one turn takes', async (t) => {
  const { server, here } = await pair(
    { limits: { requestsInFlight: 4096 } },
    { handlers: { 0: (request) => request.payload } },
    { requestsInFlight: 4096, queuedRequests: 100_000 },
  )
  const answers = await Promise.all(
    Array.from({ length: 10_000 }, (_, i) => here.request(0, numbered(i, 16))),
  )
  t.ok(answers.every((answer, i) => number(answer) === i))
  await here.close()
  await server.close()
})

t.test('a flooding connection beside a quiet one', async (t) => {
  const name = freshName()
  await using peer = await Peer.open()
  await peer.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      handlers: { 0: (request: { payload: Uint8Array }) => request.payload, 1: () => {} },
    })
    await state.server.listen(name)
  }, name)
  await using flood = await Peer.open()
  flood.start(async ({ ipcc, state }, name) => {
    state.connection = await ipcc.connect(name, { service: 1 })
    for (;;) {
      while (state.connection.send(1, new Uint8Array(32)));
      await new Promise((resolve) => state.connection.once('drain', resolve))
    }
  }, name)
  const requests = (): Promise<number> => peer.run(({ state }) => state.server.stats().requests)
  await until('the flood', async () => (await requests()) > 50_000)
  await using quiet = await connect(name, { service: 1 })
  let worst = 0
  for (let i = 0; i < 200; i++) {
    const started = performance.now()
    t.equal(text(await quiet.request(0, 'quiet')), 'quiet')
    worst = Math.max(worst, performance.now() - started)
  }
  t.comment(`the slowest of 200 calls: ${worst.toFixed(1)} ms`)
  const before = await requests()
  await until('the flood goes on', async () => (await requests()) > before)
})

t.test(
  'every record length at every start offset of a ring completes, in all three rings',
  async (t) => {
    const program = Program.start('offsets', `@${freshName()}`, '8')
    t.equal(await program.end(), 0, program.lines.join('\n'))
    t.match(program.lines[0], /^388620 combinations/)
  },
)

t.test('small and large messages keep their order, in all three channels', async (t) => {
  const order: number[] = []
  const { server, there, here } = await pair(
    { limits: { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 } },
    {
      handlers: {
        0: (request) => {
          order.push(number(request.payload))
          return request.payload
        },
      },
    },
    { queuedRequests: 1000, requestsInFlight: 100 },
  )
  const size = (i: number): number => [8, 200_000, 30, 5000, 1500][i % 5] as number
  const came: number[] = []
  await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      here.request(0, numbered(i, size(i))).then((answer) => came.push(number(answer))),
    ),
  )
  const straight = Array.from({ length: 100 }, (_, i) => i)
  t.strictSame(order, straight, 'requests')
  t.strictSame(came, straight, 'answers')
  const reading = read(here, 100)
  let next = 0
  const more = (): void => {
    while (next < 100 && there.dispatch(numbered(next, size(next)))) next++
    if (next < 100) there.once('drain', more)
  }
  more()
  t.strictSame(await reading, straight, 'dispatches')
  await here.close()
  await server.close()
})

for (const which of ['connections', 'connectionsPerUid'] as const) {
  t.test(`the limit of ${which}`, async (t) => {
    const { server, here, name } = await pair({ limits: { [which]: 2 } })
    const second = await connect(name, { service: 1 })
    t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_LIMIT')
    await second.close()
    await until('room', () => server.stats().connections === 1)
    await using third = await connect(name, { service: 1 })
    t.equal(third.closed, false)
    await third.close()
    await here.close()
    await server.close()
  })
}

t.test('the limit of those who wait for an asynchronous authorize', async (t) => {
  const name = freshName()
  const verdicts: ((verdict: boolean) => void)[] = []
  const server = new Server({
    limits: { authorizing: 2 },
    authorize: () => new Promise<boolean>((resolve) => verdicts.push(resolve)),
  })
  server.addService({ id: 1, handlers: { 0: () => 'in' } })
  await server.listen(name)
  const waiting = [connect(name, { service: 1 }), connect(name, { service: 1 })]
  await until('both questions', () => verdicts.length === 2)
  t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_LIMIT')
  for (const answer of verdicts) answer(true)
  for (const connection of await Promise.all(waiting)) {
    t.equal(text(await connection.request(0)), 'in')
    await connection.close()
  }
  await server.close()
})

t.test('the limit of handshakes', async (t) => {
  const { server, here, name } = await pair({ limits: { handshakesPerUid: 3 } })
  const path = server.address as string
  const silent = Array.from({ length: 3 }, () =>
    Program.start('stranger', 'client', path, 'silent'),
  )
  for (const each of silent) await each.line('said it')
  await until('three handshakes', () => server.stats().handshakesPending === 3)
  t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_LIMIT')
  for (const each of silent) await each.kill()
  await until('no handshake', () => server.stats().handshakesPending === 0)
  await using fourth = await connect(name, { service: 1 })
  t.equal(fourth.closed, false)
  await fourth.close()
  await here.close()
  await server.close()
})

t.test(
  'limits of bytes: of one uid, and of the segments of one connection',
  sharedMemory,
  async (t) => {
    const { server, here, name } = await pair(
      { limits: { bytesPerUid: 3 << 20, segmentBytes: 2 << 20, segments: 8 } },
      { trust: () => true, handlers: { 0: () => {} } },
      { trustServer: true },
    )
    await using second = await connect(name, { service: 1 })
    t.equal(
      await outcome(connect(name, { service: 1 })),
      'ERR_COROIPC_LIMIT',
      'three times a MiB of rings',
    )
    await second.close()
    const buffers: Disposable[] = []
    t.equal(
      await outcome(async () => {
        for (;;) buffers.push(await here.allocate(500_000))
      }),
      'ERR_COROIPC_LIMIT',
    )
    t.ok(buffers.length >= 1 && buffers.length < 8, `${buffers.length} buffers`)
    for (const buffer of buffers) buffer[Symbol.dispose]()
    const again = await here.allocate(500_000)
    again[Symbol.dispose]()
    await here.close()
    await server.close()
  },
)

t.test(
  'a request rate: the client waits, and nothing is refused; it can be changed while it runs',
  async (t) => {
    const { server, there, here } = await pair(
      {},
      { requestsPerSecond: 50, handlers: { 0: () => 'x' } },
      { queuedRequests: 1000 },
    )
    const started = performance.now()
    await Promise.all(Array.from({ length: 75 }, () => here.request(0)))
    t.ok(performance.now() - started > 400, '75 at 50 a second')
    there.setRequestsPerSecond(Infinity)
    await Promise.all(Array.from({ length: 500 }, () => here.request(0)))
    await here.close()
    await server.close()
  },
)

t.test('statistics: read and clear, of the connection and the server', async (t) => {
  const { server, there, here } = await pair({}, { handlers: { 0: (r: Request) => r.payload } })
  for (let i = 0; i < 10; i++) await here.request(0, 'four')
  t.equal(there.stats().requests, 10)
  t.equal(there.stats().responses, 10)
  t.equal(there.stats({ clear: true }).bytesReceived, 40)
  t.equal(there.stats().requests, 0)
  t.equal(there.stats().connections, 1, 'a gauge is not cleared')
  t.equal(here.stats({ clear: true }).requests, 10)
  t.equal(here.stats().requests, 0)
  t.equal(server.stats().connections, 1)
  await here.close()
  await server.close()
})
