// The fourteen defects of the original coroipc, and the seven that its history fixed: each test would fail on what it did.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from '@coroipc/ipcc'
import { type Connection as Client, Server } from '@coroipc/ipcs'
import t from 'tap'
import { cpuMs, mapped } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome, pattern, sleep, text, until } from '../support/wait.js'

const directory = runtimeDirectory(t)

/** A server of this process. */
async function serve(
  options: ConstructorParameters<typeof Server>[0] = {},
  service: Omit<Parameters<Server['addService']>[0], 'id'> = {},
): Promise<{ server: Server; path: string; clients: Client[] }> {
  const path = `${directory}/${freshName()}.sock`
  const clients: Client[] = []
  const server = new Server(options)
  server.on('error', () => {})
  server.addService({
    id: 1,
    handlers: { 0: (request) => request.payload },
    onConnect: (connection) => void clients.push(connection),
    ...service,
  })
  await server.listen(path)
  return { server, path, clients }
}

t.test(
  '1: no path of a client is opened, unlinked or truncated: the handshake has no room for one',
  async (t) => {
    const short = mkdtempSync('/tmp/') // a path that fits into the fields of a setup message
    t.teardown(() => rmSync(short, { recursive: true }))
    const victim = `${short}/victim`
    writeFileSync(victim, 'thirteen byte')
    const { ino, mtimeMs, ctimeMs } = statSync(victim)
    // Refused, taken for sizes (which are clamped) or cut off: it is read as numbers, never as a name.
    for (const [where, answer] of [
      ['path-instead', /^answered status (8|9) /],
      ['path-inside', /^answered status (0|9) /],
      ['path-behind', /^answered status 9 /],
      ['path-after', /^closed$/],
      ['path-in-ring', /^closed$/],
    ] as const) {
      const { server, path } = await serve()
      const stranger = Program.start('stranger', 'client', path, where, victim)
      t.equal(await stranger.end(), 0, where)
      const [said, answered, touched] = stranger.lines
      t.equal(said, 'said it', where)
      t.match(answered, answer, where)
      t.equal(touched, 'untouched', where)
      await until('its end', () => server.stats().connections === 0)
      await using connection = await connect(path, { service: 1 })
      t.equal(text(await connection.request(0, 'others are served')), 'others are served')
      await connection.close()
      await server.close()
    }
    t.match(statSync(victim), { ino, mtimeMs, ctimeMs, size: 13, nlink: 1 })
    t.equal(readFileSync(victim, 'utf8'), 'thirteen byte')
  },
)

t.test(
  '2: zero copy names buffers by index and offset: one that is not there is refused',
  async (t) => {
    const { server, path } = await serve({}, { trust: () => true })
    await using connection = await connect(path, { service: 1, trustServer: true })
    const buffer = await connection.allocate(10_000)
    buffer.bytes.fill(1)
    t.equal((await connection.request(0, buffer)).length, 10_000)
    t.throws(() => buffer.part(9_000, 2_000), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    buffer[Symbol.dispose]()
    t.equal(await outcome(connection.request(0, buffer)), 'ERR_COROIPC_INVALID_ARGUMENT')
    t.equal(text(await connection.request(0, 'the server lives')), 'the server lives')
    await connection.close()
    await server.close()
  },
)

t.test('3: an event larger than the ring arrives, and so do those behind it', async (t) => {
  const { server, path, clients } = await serve({ limits: { dispatchRingBytes: 4096 } })
  await using connection = await connect(path, { service: 1 })
  await until('the client', () => clients.length === 1)
  const large = pattern(100_000)
  t.equal(clients[0]?.dispatch(large), true)
  t.equal(clients[0]?.dispatch('small'), true)
  const iterator = connection.dispatches()
  t.equal(Buffer.compare((await iterator.next()).value?.payload as Uint8Array, large), 0)
  t.equal(text((await iterator.next()).value?.payload), 'small')
  await connection.close()
  await server.close()
})

t.test(
  '4: a gather list of odd lengths is one payload, with and without back-pressure',
  async (t) => {
    const { server, path, clients } = await serve({ limits: { dispatchRingBytes: 4096 } })
    await using connection = await connect(path, { service: 1 })
    await until('the client', () => clients.length === 1)
    const parts = [pattern(28), pattern(20, 1), pattern(1, 2), pattern(3, 3)]
    const whole = Buffer.concat(parts)
    for (let i = 0; i < 200; i++) t.equal(clients[0]?.dispatch(parts), true)
    let same = 0
    for await (const { payload } of connection.dispatches()) {
      if (Buffer.compare(payload, whole) !== 0) break
      if (++same === 200) break
    }
    t.equal(same, 200)
    t.equal(Buffer.compare(await connection.request(0, parts), whole), 0)
    await connection.close()
    await server.close()
  },
)

t.test(
  '5: callbacks that are left out have defaults: a queue is flushed without them',
  async (t) => {
    const { server, path } = await serve({ limits: { dispatchRingBytes: 4096 } }, {})
    const bare = `${directory}/${freshName()}.sock`
    const empty = new Server()
    empty.addService({ id: 1 })
    await empty.listen(bare)
    await using connection = await connect(bare, { service: 1 })
    await until('the client', () => [...empty.connections()].length === 1)
    for (const client of empty.connections())
      for (let i = 0; i < 1000; i++) client.dispatch(new Uint8Array(1000))
    let got = 0
    for await (const { payload } of connection.dispatches())
      if (payload.length !== 1000 || ++got === 1000) break
    t.equal(got, 1000)
    await connection.close()
    await empty.close()
    await server.close()
    t.ok(path)
  },
)

t.test('6: the queue of a slow client is bounded, and the sender is told', async (t) => {
  const limits = { dispatchRingBytes: 4096, backlogBytes: 100_000 }
  const { server, path, clients } = await serve({ limits })
  await using connection = await connect(path, { service: 1 })
  await until('the client', () => clients.length === 1)
  const client = clients[0] as Client
  let taken = 0
  while (client.dispatch(new Uint8Array(1000)) && taken < 10_000) taken++
  t.ok(taken < 200, `${taken} were taken`)
  t.ok(client.stats().backlogBytes <= limits.backlogBytes + 16_384)
  t.equal(client.flowControl, true)
  let drained = false
  client.once('drain', () => (drained = true))
  let got = 0
  for await (const _ of connection.dispatches()) if (++got >= taken) break
  await until("'drain'", () => drained)
  t.equal(client.dispatch('again'), true)
  await connection.close()
  await server.close()
})

t.test(
  '7: an answer above the maximum is refused; sizes that a client asks for are bounded',
  async (t) => {
    const { server, path } = await serve(
      { limits: { ringBytesMax: 65536, messageBytes: 20_000 } },
      { handlers: { 0: (request) => request.payload, 1: () => new Uint8Array(20_001) } },
    )
    await until('memory of nobody else', () => mapped().length === 0)
    await using connection = await connect(path, {
      service: 1,
      requestRingBytes: 1 << 30,
      responseRingBytes: 1 << 30,
      dispatchRingBytes: 1 << 30,
      messageBytes: 1 << 30,
    })
    t.equal(connection.messageBytes, 20_000)
    // What it costs: one memory of a control page and three rings, which both sides have mapped here.
    const segment = 4096 + 3 * 65536
    t.strictSame(mapped(), [segment, segment])
    t.equal(await outcome(connection.request(1)), 'ERR_COROIPC_ANSWER_TOO_LARGE')
    t.equal(text(await connection.request(0, 'x')), 'x')
    await connection.close()
    await server.close()
  },
)

t.test(
  '8: a client that says nothing, or one byte, costs no CPU and is let go in time',
  async (t) => {
    const { server, path } = await serve({ handshakeTimeoutMs: 600 })
    await using silent = Program.start('stranger', 'client', path, 'silent')
    await silent.line('said it')
    await using byte = Program.start('stranger', 'client', path, 'byte')
    await byte.line('said it')
    const before = cpuMs()
    await using connection = await connect(path, { service: 1 })
    t.equal(text(await connection.request(0, 'others are served')), 'others are served')
    await silent.end()
    t.match(silent.lines.at(-1), /closed|answered status/)
    t.ok(cpuMs() - before < 400, `${cpuMs() - before} ms of CPU`)
    await byte.end()
    t.match(byte.lines.at(-1), /closed|answered status 9/)
    t.equal(server.stats().handshakesPending, 0)
    await connection.close()
    await server.close()
  },
)

t.test('9: no thread for each connection', async (t) => {
  const { readdirSync } = await import('node:fs')
  const { server, path } = await serve()
  const threads = (): number => readdirSync('/proc/self/task').length
  const before = threads()
  // In turn: no more than 16 peers of one user may be in their handshake at once.
  const connections = []
  for (let i = 0; i < 40; i++) connections.push(await connect(path, { service: 1 }))
  const answers = await Promise.all(connections.map((each) => each.request(0, 'x')))
  t.equal(answers.length, 40)
  t.equal(threads(), before)
  await Promise.all(connections.map((each) => each.close()))
  await server.close()
})

t.test(
  '10: memory cannot be taken from under the server, and what stands in it is not believed',
  async (t) => {
    const reasons: string[] = []
    const { server, path } = await serve(
      {},
      { onDisconnect: (_, reason) => void reasons.push(reason.code) },
    )
    await using other = await connect(path, { service: 1 })
    const stranger = Program.start('stranger', 'client', path, 'truncate')
    t.equal(await stranger.end(), 0)
    t.strictSame(stranger.lines.slice(0, 4), [
      'shrink EPERM',
      'grow EPERM',
      'seal EPERM',
      'punch done',
    ])
    await until('the end of the stranger', () => reasons.length === 1)
    t.strictSame(reasons, ['ERR_COROIPC_PROTOCOL'])
    t.equal(server.stats().protocolErrors, 1)
    t.equal(text(await other.request(0, 'nobody else noticed')), 'nobody else noticed')
    await other.close()
    await server.close()
  },
)

t.test(
  '11: two processes that write at full speed both ways never see half a message',
  async (t) => {
    await using peer = await Peer.open()
    const path = `${directory}/${freshName()}.sock`
    await peer.run(async ({ ipcs, state }, path) => {
      state.server = new ipcs.Server({
        limits: { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 },
      })
      state.server.addService({
        id: 1,
        handlers: {
          0: (request, connection) => {
            connection.dispatch(request.payload)
            return request.payload
          },
        },
      } satisfies Parameters<Server['addService']>[0])
      await state.server.listen(path)
    }, path)
    await using connection = await connect(path, { service: 1 })
    let dispatched = 0
    let torn = 0
    const whole = (payload: Uint8Array): boolean => payload.every((byte) => byte === payload[0])
    connection.on('dispatch', ({ payload }) => {
      dispatched++
      if (!whole(payload)) torn++
    })
    const total = 20_000
    for (let i = 0; i < total; i += 200) {
      const batch = Array.from({ length: 200 }, (_, k) =>
        connection.request(0, new Uint8Array(1 + ((i + k) % 700)).fill(i + k)),
      )
      for (const [k, answer] of (await Promise.all(batch)).entries())
        if (answer.length !== 1 + ((i + k) % 700) || !whole(answer)) torn++
    }
    await until('all dispatches', () => dispatched === total)
    t.equal(torn, 0)
  },
)

t.test('12: no wake-up for each event: many messages, few doorbells', async (t) => {
  const { server, path, clients } = await serve()
  await using connection = await connect(path, { service: 1 })
  await until('the client', () => clients.length === 1)
  const client = clients[0] as Client
  let got = 0
  connection.on('dispatch', () => got++)
  client.stats({ clear: true })
  for (let i = 0; i < 2000; i++) client.dispatch('event')
  await until('all events', () => got === 2000)
  const { dispatches, doorbellsSent } = client.stats()
  t.equal(dispatches, 2000)
  t.ok(doorbellsSent < 200, `${doorbellsSent} doorbells`)
  await connection.close()
  await server.close()
})

t.test(
  '13: time outs, cancel, pipelining, correlation, a negotiated maximum, several servers',
  async (t) => {
    let aborted = 0
    const handlers = {
      0: (request: { payload: Uint8Array }) => request.payload,
      1: async (request: { payload: Uint8Array }) => {
        await sleep(Number(text(request.payload)))
        return request.payload
      },
      2: (request: { signal: AbortSignal; defer(): void }) => {
        request.defer()
        request.signal.addEventListener('abort', () => aborted++)
      },
    }
    const a = await serve({ limits: { messageBytes: 50_000 } }, { handlers })
    const b = await serve({}, { handlers: { 0: () => 'the other server' } })
    await using connection = await connect(a.path, { service: 1, messageBytes: 30_000 })
    await using other = await connect(b.path, { service: 1 })
    t.equal(connection.messageBytes, 30_000)
    t.equal(text(await other.request(0)), 'the other server')
    const order: string[] = []
    const note = (answer: Uint8Array): void => void order.push(text(answer))
    await Promise.all([
      connection.request(1, '200').then(note),
      connection.request(1, '100').then(note),
      connection.request(0, 'at once').then(note),
    ])
    t.strictSame(order, ['at once', '100', '200'], 'answers in the order of their coming')
    t.equal(await outcome(connection.request(2, '', { timeoutMs: 50 })), 'ERR_COROIPC_TIMED_OUT')
    await until('the cancel', () => aborted === 1)
    await connection.close()
    await other.close()
    await a.server.close()
    await b.server.close()
  },
)

t.test(
  '14: a forked child is told so; a namespace needs neither /dev/shm nor a shared name',
  async (t) => {
    const path = `${directory}/${freshName()}.sock`
    await using server = new Server()
    server.addService({ id: 5, handlers: { 0: (request) => request.payload } })
    await server.listen(path)
    const program = Program.start('interop-client', path, '5', 'forked')
    t.equal(await program.end(), 0)
    t.strictSame(program.lines, ['forked child: FORKED', 'its parent: OK'])
    // A client in namespaces of its own, with an empty /dev/shm.
    const unshare = ['unshare', '--mount', '--ipc', '--net']
    const probe = Program.command('unshare', ...unshare.slice(1), 'true')
    if ((await probe.end()) !== 0) {
      t.pass('not run here', { skip: 'the part in namespaces: unshare(1) is not allowed here' })
      return
    }
    await using client = await Peer.open({ through: unshare })
    const said = await client.run(async ({ ipcc, require, wait }, path) => {
      const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
      execFileSync('mount', ['-t', 'tmpfs', 'none', '/dev/shm'])
      const connection = ipcc.connectSync(path, { service: 5 })
      return wait.text(connection.requestSync(0, 'from another namespace'))
    }, path)
    t.equal(said, 'from another namespace')
  },
)

// -- the seven of its history -----------------------------------------------------------------------

t.test(
  'b1126721: no service number means something else: 0 and 65535 are services like others',
  async (t) => {
    const path = `${directory}/${freshName()}.sock`
    await using server = new Server()
    for (const id of [0, 65535])
      server.addService({ id, handlers: { 65535: () => String(id), 0: () => '0' } })
    await server.listen(path)
    for (const id of [0, 65535]) {
      await using connection = await connect(path, { service: id })
      t.equal(text(await connection.request(65535)), String(id))
    }
    for (const service of [-1, 65536, 1.5])
      t.equal(await outcome(connect(path, { service })), 'ERR_COROIPC_INVALID_ARGUMENT')
  },
)

t.test(
  '719fddd8: a service without hooks and handlers does not bring the server down',
  async (t) => {
    const path = `${directory}/${freshName()}.sock`
    await using server = new Server()
    server.addService({ id: 1 })
    await server.listen(path)
    await using connection = await connect(path, { service: 1 })
    t.equal(await outcome(connection.request(0)), 'ERR_COROIPC_NO_HANDLER')
  },
)

t.test('16499316: nobody freezes in a wait when the other side is gone', async (t) => {
  const path = `${directory}/${freshName()}.sock`
  const server = await Peer.open()
  await server.run(async ({ ipcs, state }, path) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      handlers: { 1: (request: { defer(): void }) => request.defer() },
    })
    await state.server.listen(path)
  }, path)
  await using client = await Peer.open()
  await client.run(({ ipcc, state }, path) => {
    state.connection = ipcc.connectSync(path, { service: 1 })
  }, path)
  const waiting = client.run(async ({ state, wait }) => {
    const error = await wait.failure(() =>
      state.connection.requestSync(1, '', { timeoutMs: Infinity }),
    )
    return error.cause.code
  })
  await until(
    'the request',
    async () => (await server.run(({ state }) => state.server.stats().requests)) === 1,
  )
  await server.kill()
  t.equal(await waiting, 'ERR_COROIPC_PEER_DEAD')
})

t.test('1135c911: flow control goes on and off a thousand times and never locks up', async (t) => {
  const rounds = 1000
  const limits = { dispatchRingBytes: 4096, backlogBytes: 8192 }
  const path = `${directory}/${freshName()}.sock`
  await using peer = await Peer.open()
  await peer.run(
    async ({ ipcs, state }, [path, limits]: [string, object]) => {
      state.server = new ipcs.Server({ limits })
      state.server.addService({
        id: 1,
        handlers: {
          // More than the ring holds (128 records of 32 bytes), less than ring and backlog.
          0: (request, connection) => {
            for (let i = 0; i < 150; i++)
              if (!connection.dispatch(Uint32Array.of(i))) throw new Error('refused')
            return request.payload
          },
        },
      } satisfies Parameters<Server['addService']>[0])
      await state.server.listen(path)
    },
    [path, limits] as [string, object],
  )
  await using connection = await connect(path, { service: 1 })
  let wrong = 0
  for (let round = 0; round < rounds; round++) {
    // Nobody reads dispatches before dispatchSync does: the ring is full, and flow control on, each time.
    await connection.request(0)
    if (!connection.flowControl) wrong++
    for (let i = 0; i < 150; i++) {
      const message = connection.dispatchSync(5000)
      if (
        message === undefined ||
        new DataView(message.payload.buffer, message.payload.byteOffset).getUint32(0, true) !== i
      )
        wrong++
    }
  }
  t.equal(wrong, 0, 'all arrived in order, and flow control was on in each round')
  const { flowControlCount } = await peer.run(({ state }) => state.server.stats())
  t.equal(flowControlCount, rounds)
})

t.test('2f24513d: an event that exactly fills what is left of the ring', async (t) => {
  const limits = { dispatchRingBytes: 4096 }
  const { server, path, clients } = await serve({ limits })
  await using connection = await connect(path, { service: 1 })
  await until('the client', () => clients.length === 1)
  const client = clients[0] as Client
  const iterator = connection.dispatches()
  // Two halves: 2048 with its header of 24. Then one byte less and one byte more.
  for (const size of [2024, 2023, 2025, 2017, 2016]) {
    for (let i = 0; i < 6; i++) t.equal(client.dispatch(pattern(size, i)), true)
    for (let i = 0; i < 6; i++) {
      const { value } = await iterator.next()
      t.equal(Buffer.compare(value?.payload as Uint8Array, pattern(size, i)), 0, `${size} ${i}`)
    }
  }
  await connection.close()
  await server.close()
})

t.test('c0ff6ca7: a process that waits can be ended by a signal', async (t) => {
  const { server, path } = await serve({}, { handlers: { 1: (request) => request.defer() } })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const client = await Peer.open()
    client.start(({ ipcc }, path) => ipcc.connectSync(path, { service: 1 }).requestSync(1), path)
    await until('the request', () => server.stats().inFlight === 1)
    await client.kill(signal)
    await until('its end', () => server.stats().connections === 0)
    t.pass(signal)
  }
  await server.close({ timeoutMs: 0 })
})

t.test(
  '3b320c17: a server without file descriptors says so, spares its CPU, and recovers',
  async (t) => {
    const path = `${directory}/${freshName()}.sock`
    await using server = await Peer.open()
    await server.run(async ({ ipcs, state, require }, path) => {
      const { readdirSync, openSync } = require('node:fs') as typeof import('node:fs')
      const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
      state.lines = []
      const nothing = (): void => {}
      const warn = (_: object, line: string): void => void state.lines.push(line)
      state.server = new ipcs.Server({
        log: { debug: nothing, info: nothing, warn, error: nothing },
      })
      state.server.addService({
        id: 1,
        handlers: { 0: (request: { payload: Uint8Array }) => request.payload },
      })
      await state.server.listen(path)
      const limit = readdirSync('/proc/self/fd').length + 12
      execFileSync('prlimit', [`--nofile=${limit}:${limit}`, `--pid=${process.pid}`])
      state.held = []
      state.fill = () => {
        try {
          for (;;) state.held.push(openSync('/dev/null', 'r'))
        } catch {}
      }
    }, path)
    await using first = await connect(path, { service: 1 })
    await server.run(({ state }) => state.fill())
    const before = cpuMs(server.pid)
    const waiting = connect(path, { service: 1, timeoutMs: 20_000 }).then(
      () => 'OK',
      (error: { code: string }) => error.code,
    )
    const lines = (): Promise<string[]> => server.run(({ state }) => state.lines)
    await until('the line', async () => (await lines()).length > 0)
    await sleep(500)
    for (const line of await lines())
      t.equal(line, 'accept paused: out of file descriptors or memory')
    t.equal(text(await first.request(0, 'connected ones go on')), 'connected ones go on')
    t.ok(
      cpuMs(server.pid) - before < 300,
      `${cpuMs(server.pid) - before} ms of CPU in half a second`,
    )
    await server.run(({ state, require }) => {
      const { closeSync } = require('node:fs') as typeof import('node:fs')
      for (const fd of state.held) closeSync(fd)
    })
    const said = await waiting
    t.match(said, /^(OK|ERR_COROIPC_NO_MEMORY)$/)
    await until('room again', async () => {
      const error = await connect(path, { service: 1 }).catch((each: unknown) => each)
      if (error instanceof Error) return false
      await (error as { close(): Promise<void> }).close()
      return true
    })
  },
)
