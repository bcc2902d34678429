// Server: options, listening, closing, statistics, several in one process.
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { Program } from '../support/program.js'
import { outcome } from '../support/wait.js'

const echo = { 0: (request: { payload: Uint8Array }) => request.payload }

t.test('it listens under a path, a name in the abstract namespace, and a plain name', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-'))
  const runtime = process.env['XDG_RUNTIME_DIR']
  process.env['XDG_RUNTIME_DIR'] = folder
  t.teardown(() => {
    if (runtime === undefined) delete process.env['XDG_RUNTIME_DIR']
    else process.env['XDG_RUNTIME_DIR'] = runtime
  })
  for (const name of [join(folder, 'a.sock'), freshName(), `test-${process.pid}`]) {
    await using server = new Server()
    t.equal(server.address, undefined)
    t.equal(server.listening, false)
    let told = 0
    server.on('listening', () => told++)
    server.addService({ id: 1, handlers: echo })
    await server.listen(name)
    t.equal(told, 1)
    t.equal(server.listening, true)
    const { address } = server
    t.match(address, name.startsWith('/') || name.startsWith('@') ? name : `/coroipc/${name}`)
    await using connection = await connect(name, { service: 1 })
    t.equal(text(await connection.request(0, 'x')), 'x')
    await server.close()
    t.equal(server.address, undefined)
    if (!name.startsWith('@')) t.equal(existsSync(address as string), false, 'nothing is left')
  }
})

t.test('a name is taken while its server lives, and never a file that is not ours', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-'))
  await using server = new Server()
  await server.listen(join(folder, 'a.sock'))
  await using second = new Server()
  await t.rejects(second.listen(join(folder, 'a.sock')), { code: 'ERR_COROIPC_ADDRESS_IN_USE' })
  await server.close()
  await second.listen(join(folder, 'a.sock'))
  writeFileSync(join(folder, 'file'), 'precious')
  await using third = new Server()
  await t.rejects(third.listen(join(folder, 'file')), {
    code: 'ERR_COROIPC_ADDRESS_IN_USE',
    message: /file': the name is taken: .* something that is no socket is there/,
  })
  t.ok(existsSync(join(folder, 'file')))
  await t.rejects(third.listen(join(folder, 'none', 'a.sock')), { code: 'ERR_COROIPC_SYSTEM' })
})

t.test('names as long as they may be', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-'))
  const path = join(folder, 'x'.repeat(107 - folder.length - 1))
  t.equal(path.length, 107)
  for (const name of [path, freshName().padEnd(108, 'x')]) {
    await using server = new Server()
    server.addService({ id: 1, handlers: echo })
    await server.listen(name)
    await using connection = await connect(name, { service: 1 })
    t.equal(text(await connection.request(0, 'x')), 'x')
  }
})

t.test('listen says what is wrong', async (t) => {
  await using server = new Server()
  const invalid = { code: 'ERR_COROIPC_INVALID_ARGUMENT' }
  for (const name of ['', '@', 5, undefined, null, {}, { fd: -1 }, { fd: 1, mode: 2 }])
    await t.rejects(server.listen(name as string), invalid)
  const noSocket = { ...invalid, message: /name.fd: expected a listening AF_UNIX socket/ }
  await t.rejects(server.listen({ fd: 0x7fffffff }), noSocket)
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-'))
  const file = openSync(join(folder, 'file'), 'w')
  await t.rejects(server.listen({ fd: file }), noSocket)
  closeSync(file)
  await server.listen(freshName())
  await t.rejects(server.listen(freshName()), invalid)
  await server.close()
  await t.rejects(server.listen(freshName()), { code: 'ERR_COROIPC_DISCONNECTED' })
  t.throws(() => server.addService({ id: 1 }), {
    code: 'ERR_COROIPC_DISCONNECTED',
    message: 'addService: the server is closed',
  })
})

t.test('wrong options name what was expected and what came', (t) => {
  const wrong: [unknown, RegExp][] = [
    [{ authorise: () => true }, /authorise: expected an option among authorize, limits/],
    [{ authorize: true }, /authorize: expected a function/],
    [{ limits: { connection: 5 } }, /limits.connection: expected an option among connections/],
    [{ limits: { connections: 0 } }, /limits.connections: expected an integer from 1/],
    [{ limits: { requestRingBytes: 5000 } }, /limits.requestRingBytes: expected a power of two/],
    [{ limits: { messageBytes: 1 << 12, messageBytesMin: 1 << 13 } }, /messageBytesMin/],
    [{ limits: { ringBytesMin: 1 << 13, ringBytesMax: 1 << 12 } }, /ringBytesMin/],
    [{ wait: 'often' }, /wait/],
    [{ poll: {} }, /poll.acceptAdd: expected a function, got undefined/],
    [{ poll: 'uv' }, /poll/],
    [{ log: { info() {} } }, /log.debug/],
    [{ serialize: 1 }, /serialize: expected a boolean, got 1/],
    [5, /options: expected an object, got 5/],
  ]
  for (const [options, message] of wrong) {
    t.throws(() => new Server(options as object), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message,
    })
  }
  t.end()
})

t.test('several servers live in one process', async (t) => {
  const servers = []
  for (let i = 0; i < 5; i++) {
    const server = new Server()
    server.addService({ id: 1, handlers: { 0: () => String(i) } })
    await server.listen(freshName())
    servers.push(server)
  }
  const answers = await Promise.all(
    servers.map(async (server) => {
      await using connection = await connect(server.address as string, { service: 1 })
      return text(await connection.request(0))
    }),
  )
  t.same(answers, ['0', '1', '2', '3', '4'])
  await Promise.all(servers.map((server) => server.close()))
})

t.test('connections can be walked, events tell of them', async (t) => {
  await using server = new Server()
  server.addService({ id: 1, handlers: echo })
  server.addService({ id: 2, handlers: echo })
  const events: string[] = []
  server.on('connection', ({ service }) => events.push(`+${service}`))
  server.on('disconnect', ({ service }, reason) => events.push(`-${service} ${reason.code}`))
  const name = freshName()
  await server.listen(name)
  const first = await connect(name, { service: 1 })
  await using second = await connect(name, { service: 2 })
  const ids = [...server.connections()].map(({ id }) => id)
  t.same(ids.sort(), [first.id, second.id].sort())
  await first.close()
  await until(() => events.length === 3)
  t.same(events, ['+1', '+2', '-1 ERR_COROIPC_DISCONNECTED'])
  t.equal([...server.connections()].length, 1)
})

t.test(
  'close answers what is being handled, refuses what comes, then ends every connection',
  async (t) => {
    const server = new Server()
    let handled: (() => void) | undefined
    let gone = 0
    server.addService({
      id: 1,
      handlers: {
        0: () => new Promise<string>((resolve) => (handled = () => resolve('done'))),
        1: () => 'x',
      },
      onDisconnect: async () => {
        await new Promise((resolve) => setTimeout(resolve, 20))
        gone++
      },
    })
    const name = freshName()
    await server.listen(name)
    const connection = await connect(name, { service: 1 })
    const asked = connection.request(0)
    await connection.request(1)
    await until(() => handled !== undefined)
    let closed = 0
    server.on('close', () => closed++)
    const closing = server.close()
    t.equal(server.close(), closing)
    await t.rejects(connection.request(1), { code: 'ERR_COROIPC_RETRY' })
    await t.rejects(connect(name, { service: 1 }), { code: 'ERR_COROIPC_CONNECT_REFUSED' })
    handled?.()
    t.equal(text(await asked), 'done')
    await closing
    t.equal(gone, 1)
    t.equal(closed, 1)
    await until(() => connection.closed)
    t.equal(server.fd, -1)
  },
)

t.test('close waits no longer than it was told', async (t) => {
  const server = new Server()
  server.addService({
    id: 1,
    handlers: { 0: () => new Promise(() => {}) },
    onDisconnect: () => new Promise(() => {}),
  })
  const name = freshName()
  await server.listen(name)
  await using connection = await connect(name, { service: 1 })
  const asked = connection.request(0)
  await until(() => server.stats().inFlight === 1)
  const outcome = t.rejects(asked, {
    code: 'ERR_COROIPC_UNKNOWN_OUTCOME',
    cause: { code: 'ERR_COROIPC_DISCONNECTED' },
  })
  await server.close({ timeoutMs: 50 })
  await outcome
  t.throws(() => server.close({ timeout: 5 } as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('a handler can close its own server', async (t) => {
  const server = new Server()
  let closing: Promise<void> | undefined
  server.addService({
    id: 1,
    handlers: {
      0: () => {
        closing = server.close()
        return 'closing'
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  await using connection = await connect(name, { service: 1 })
  t.equal(text(await connection.request(0)), 'closing')
  await closing
})

t.test('a service is closed alone', async (t) => {
  await using server = new Server()
  let release: (() => void) | undefined
  server.addService({
    id: 1,
    handlers: echo,
    onDisconnect: () => new Promise((resolve) => (release = resolve)),
  })
  server.addService({ id: 2, handlers: echo })
  const name = freshName()
  await server.listen(name)
  await using first = await connect(name, { service: 1 })
  await using second = await connect(name, { service: 2 })
  let closed = false
  const closing = server.closeService(1).then(() => (closed = true))
  await until(() => first.closed && release !== undefined)
  await t.rejects(connect(name, { service: 1 }), { code: 'ERR_COROIPC_NO_SERVICE' })
  t.equal(closed, false, 'onDisconnect has not settled')
  release?.()
  await closing
  t.equal(text(await second.request(0, 'x')), 'x')
  await t.rejects(server.closeService(1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  server.addService({ id: 1, handlers: echo })
  await using again = await connect(name, { service: 1 })
  t.equal(text(await again.request(0, 'x')), 'x')
})

t.test('statistics of the server, with latencies, read and cleared', async (t) => {
  await using server = new Server({ latency: true })
  server.addService({ id: 1, handlers: echo })
  const name = freshName()
  await server.listen(name)
  await using connection = await connect(name, { service: 1 })
  for (let i = 0; i < 10; i++) await connection.request(0, 'abcd')
  await t.rejects(connect(name, { service: 9 }), { code: 'ERR_COROIPC_NO_SERVICE' })
  const stats = server.stats({ clear: true })
  t.match(stats, { requests: 10, responses: 10, bytesReceived: 40, bytesSent: 40, connections: 1 })
  t.equal(stats.connectionsTotal, 1)
  t.equal(stats.connectionsRefused, 1)
  t.equal(stats.latency?.count, 10)
  t.match(server.stats(), { requests: 0, connections: 1, latency: { count: 0 } })
  const [own] = server.connections()
  t.equal(own?.stats().latency?.count, 10)
  t.same(own?.stats({ latencyBounds: [60e6] }).latency?.counts, [10])
  for (const latencyBounds of [5, [0], [2, 1], [1, 1], [Number.NaN], Array(65).fill(1)] as never[])
    t.throws(() => server.stats({ latencyBounds }), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('an error without listener is a warning, with log it is logged', async (t) => {
  const name = freshName()
  const run = async (options: object): Promise<void> => {
    await using server = new Server(options)
    server.addService({
      id: 1,
      handlers: {
        0: () => {
          throw new Error('on purpose')
        },
      },
    })
    await server.listen(name)
    await using connection = await connect(name, { service: 1 })
    await t.rejects(connection.request(0), { code: 'ERR_COROIPC_HANDLER_FAILED' })
  }
  const warned = new Promise<Error & { code?: string; detail?: string }>((resolve) =>
    process.once('warning', resolve),
  )
  await run({})
  const warning = await warned
  t.equal(warning.code, 'ERR_COROIPC_HANDLER_FAILED')
  t.match(warning.detail, 'on purpose')
  const lines: [string, string][] = []
  const log = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [
      level,
      (_: object, message: string) => lines.push([level, message]),
    ]),
  )
  await run({ log })
  t.same(
    lines.map(([level]) => level),
    ['info', 'debug', 'error', 'debug', 'info'],
  )
})

t.test('diagnostics_channel tells of connections, requests and errors', async (t) => {
  const { subscribe, unsubscribe } = await import('node:diagnostics_channel')
  const seen: string[] = []
  const names = ['connect', 'disconnect', 'request', 'error'].map(
    (each) => `coroipc:server:${each}`,
  )
  const note = (message: unknown, channel: string | symbol): void => {
    const { code } = message as { code?: string }
    seen.push(
      String(channel).replace('coroipc:server:', '') + (code === undefined ? '' : ` ${code}`),
    )
  }
  for (const name of names) subscribe(name, note)
  await using server = new Server()
  server.on('error', () => {})
  server.addService({ id: 1, handlers: { ...echo, 1: () => 5 as never } })
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: 1 })
  await connection.request(0, 'x')
  await connection.request(1, 'x').catch(() => {})
  await connection.close()
  await until(() => seen.length === 5)
  for (const name of names) unsubscribe(name, note)
  t.same(seen, [
    'connect',
    'request OK',
    'request ERR_COROIPC_ANSWER_INVALID',
    'error',
    'disconnect',
  ])
})

t.test("the native core's lines reach `log` and the channel", async (t) => {
  const { subscribe, unsubscribe } = await import('node:diagnostics_channel')
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-'))
  const seen: unknown[] = []
  const note = (message: unknown): number => seen.push(message)
  subscribe('coroipc:server:log', note)
  t.teardown(() => unsubscribe('coroipc:server:log', note))
  const warnings: string[] = []
  const nothing = (): void => {}
  const warn = (_: object, message: string): number => warnings.push(message)
  await using server = new Server({ log: { debug: nothing, info: nothing, warn, error: nothing } })
  server.addService({ id: 1, handlers: echo })
  await server.listen(join(folder, 'a.sock'))
  // It connects in order and then fills all shared memory with nonsense.
  const stranger = Program.start('stranger', 'client', server.address as string, 'truncate')
  await stranger.end()
  const message = 'a client broke the protocol and was disconnected'
  await until(() => warnings.length > 0)
  t.same(warnings, [message])
  t.same(seen, [{ level: 40, message }])
})

const sanitized =
  /lib[al]san/.test(process.env['LD_PRELOAD'] ?? '') && 'a sanitizer makes nothing of mlock'
t.test(
  'prefault: all memory of a connection is there before its first message',
  { skip: sanitized },
  async (t) => {
    // How many of our mappings in this process have all of their pages: smaps in proc(5).
    const whole = (): number =>
      readFileSync('/proc/self/smaps', 'utf8')
        .split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)
        .filter((text) => text.includes('/memfd:coroipc'))
        .map((text) => {
          const kilobytes = (what: string): number =>
            Number(new RegExp(`^${what}: +(\\d+) kB`, 'm').exec(text)?.[1])
          return kilobytes('Rss') === kilobytes('Size')
        })
        .filter(Boolean).length
    for (const prefault of [false, true]) {
      await using server = new Server({ prefault })
      server.addService({ id: 1, handlers: echo })
      const name = freshName()
      await server.listen(name)
      await using connection = await connect(name, { service: 1 })
      // Its client is in this process as well, and touches only what it needs.
      t.equal(whole(), prefault ? 1 : 0, `prefault: ${prefault}`)
      await connection.close()
    }
  },
)

t.test(
  'a handler that closes its server: those behind it in the same batch are told RETRY',
  async (t) => {
    const name = freshName()
    const server = new Server()
    const asked: number[] = []
    let closed: Promise<void> | undefined
    server.addService({
      id: 1,
      handlers: {
        0: () => {
          asked.push(0)
          closed ??= server.close({ timeoutMs: 5000 })
          return 'closing'
        },
      },
      transientHandlers: { 1: () => void asked.push(1) },
    })
    await server.listen(name)
    const client = await connect(name, { service: 1 })
    const answers = [0, 0, 1].map((id) => outcome(client.request(id)))
    t.strictSame(await Promise.all(answers), ['OK', 'ERR_COROIPC_RETRY', 'ERR_COROIPC_RETRY'])
    t.strictSame(asked, [0])
    await client.close()
    await closed
  },
)
