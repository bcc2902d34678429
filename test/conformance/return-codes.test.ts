// Every situation of the original's table of return codes, with the code that it has here: each its own. Then every
// ERR_COROIPC_* of the one table, produced by a call. What a Node.js program cannot produce is said at the end.
import { writeFileSync } from 'node:fs'
import { connect, connectSync } from '@coroipc/ipcc'
import { type Connection as Client, IpcError, Server } from '@coroipc/ipcs'
import { errorCodes } from '@coroipc/native'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { type Failure, failure, sleep, until } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

const directory = runtimeDirectory(t)
const produced = new Map<string, string>()

/** The call fails with this code; an operating failure is an IpcError, a wrong argument a TypeError or RangeError. */
async function produces(
  t: { equal(a: unknown, b: unknown, m: string): unknown; ok(a: unknown, m: string): unknown },
  code: string,
  what: string,
  call: (() => unknown) | PromiseLike<unknown>,
): Promise<Failure> {
  const error = await failure(call)
  t.equal(error.code, code, what)
  t.equal(
    IpcError.is(error),
    code !== 'ERR_COROIPC_INVALID_ARGUMENT',
    `${what}: ${error.name}: ${error.message}`,
  )
  if (error.code === code) produced.set(code, what)
  return error
}

const name = freshName()
const peer = await Peer.open()
t.teardown(() => peer.end())
await peer.run(async ({ ipcs, state }, name) => {
  const server = new ipcs.Server({
    authorize: (_, service) => service !== 66,
    limits: { messageBytes: 100_000, segments: 4, requestsInFlight: 4 },
  })
  state.server = server
  server.on('error', () => {})
  const handlers: import('@coroipc/ipcs').Handlers = {
    0: (request) => request.payload,
    1: (request) => request.defer(),
    2: () => {
      throw new Error('on purpose')
    },
    3: async () => {
      throw new Error('on purpose')
    },
    4: () => 4 as unknown as string,
    5: (_, connection) => new Uint8Array(connection.messageBytes + 1),
    6: () => 'never',
    7: () => 'never',
    8: (_, connection) => connection.disconnect(),
    9: (_, connection) => {
      for (let i = 0; i < 3; i++) connection.dispatch(new Uint8Array(1000))
    },
    11: () => new Uint8Array(90_000),
  }
  server.addService({
    id: 1,
    handlers,
    trust: () => true,
    admit: ({ id }) => (id === 6 ? 'retry' : id === 7 ? 'refuse' : 'accept'),
  })
  server.addService({ id: 2, handlers, backlogPolicy: 'disconnect', backlogBytes: 8192 })
  server.addService({ id: 66, handlers })
  await server.listen(name)
}, name)

t.test('no server: CS_ERR_TRY_AGAIN there', async (t) => {
  await produces(t, 'ERR_COROIPC_CONNECT_REFUSED', 'connect', connect(freshName(), { service: 1 }))
  await produces(t, 'ERR_COROIPC_CONNECT_REFUSED', 'connectSync', () =>
    connectSync(freshName(), { service: 1 }),
  )
})

t.test('unknown service: CS_ERR_NOT_EXIST there', async (t) => {
  await produces(t, 'ERR_COROIPC_NO_SERVICE', 'service 99', connect(name, { service: 99 }))
})

t.test('refused by security_valid: CS_ERR_SECURITY there', async (t) => {
  await produces(t, 'ERR_COROIPC_DENIED', 'authorize said no', connect(name, { service: 66 }))
  await produces(
    t,
    'ERR_COROIPC_DENIED',
    'not the server that was demanded',
    connect(name, { service: 1, server: { uid: 12345 } }),
  )
})

t.test('request larger than request_size: CS_ERR_INVALID_PARAM there, nothing sent', async (t) => {
  await using connection = await connect(name, { service: 1 })
  const payload = new Uint8Array(100_001)
  await produces(t, 'ERR_COROIPC_TOO_LARGE', 'request', connection.request(0, payload))
  await produces(t, 'ERR_COROIPC_TOO_LARGE', 'requestSync', () =>
    connection.requestSync(0, payload),
  )
  await produces(t, 'ERR_COROIPC_TOO_LARGE', 'send', () => connection.send(0, payload))
  t.equal(connection.stats().requests, 0, 'nothing was sent')
  const error = await produces(t, 'ERR_COROIPC_TOO_LARGE', 'into is too small', () =>
    connection.requestSync(0, 'four', { into: new Uint8Array(2) }),
  )
  t.equal((error as unknown as { answer: Uint8Array }).answer.length, 4)
})

t.test(
  'sending_allowed 0: CS_ERR_TRY_AGAIN there, the buffer of the caller untouched',
  async (t) => {
    await using connection = await connect(name, { service: 1 })
    const into = new Uint8Array(8).fill(7)
    await produces(t, 'ERR_COROIPC_RETRY', 'admit said retry', () =>
      connection.requestSync(6, 'x', { into }),
    )
    t.ok(into.every((byte) => byte === 7))
  },
)

t.test('sending_allowed -1: CS_OK there, and the refusal only in the header', async (t) => {
  await using connection = await connect(name, { service: 1 })
  await produces(t, 'ERR_COROIPC_REFUSED', 'blocking', () => connection.requestSync(7))
  await produces(t, 'ERR_COROIPC_REFUSED', 'awaited', connection.request(7))
})

t.test('stale handle: CS_ERR_BAD_HANDLE there', async (t) => {
  const connection = await connect(name, { service: 1 })
  await connection.close()
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'request', connection.request(0))
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'requestSync', () => connection.requestSync(0))
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'dispatchSync', () => connection.dispatchSync(0))
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'send', () => connection.send(0))
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'allocate', connection.allocate(10))
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'stats', () => connection.stats())
})

t.test('no memory for a connection: CS_ERR_LIBRARY there', async (t) => {
  // A process that may open no more files: it is told so, and by which call.
  await using client = await Peer.open()
  const error = await client.run(async ({ ipcc, require, wait }, name) => {
    const { openSync, closeSync, readdirSync } = require('node:fs') as typeof import('node:fs')
    const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
    await (await ipcc.connect(name, { service: 1 })).close()
    const limit = readdirSync('/proc/self/fd').length + 8
    execFileSync('prlimit', [`--nofile=${limit}:${limit}`, `--pid=${process.pid}`])
    const held: number[] = []
    try {
      for (;;) held.push(openSync('/dev/null', 'r'))
    } catch {}
    const { code, syscall, errno, message } = await wait.failure(ipcc.connect(name, { service: 1 }))
    for (const fd of held) closeSync(fd)
    const connection = await ipcc.connect(name, { service: 1 })
    return { code, syscall, errno, message, later: wait.text(await connection.request(0, 'ok')) }
  }, name)
  t.equal(error.code, 'ERR_COROIPC_NO_MEMORY')
  t.match(error.message, 'EMFILE')
  t.equal(error.errno, -24)
  t.equal(error.later, 'ok', 'and can connect when there is room')
  if (error.code === 'ERR_COROIPC_NO_MEMORY') produced.set(error.code, 'no file descriptors')
})

t.test('nothing to dispatch: CS_ERR_TRY_AGAIN there', async (t) => {
  await using connection = await connect(name, { service: 1 })
  t.equal(connection.dispatchSync(0), undefined, 'no error: undefined')
})

t.test('server dead: CS_ERR_LIBRARY there', async (t) => {
  await using other = await Peer.open()
  const second = freshName()
  await other.run(async ({ ipcs, state }, second) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      handlers: { 1: (request: { defer(): void }) => request.defer() },
    })
    await state.server.listen(second)
  }, second)
  const connection = await connect(second, { service: 1 })
  const call = failure(connection.request(1))
  await until('the request', () => connection.stats().requests === 1)
  await sleep(20)
  await other.kill()
  const error = await produces(t, 'ERR_COROIPC_UNKNOWN_OUTCOME', 'in flight', () => {
    return call.then((each) => Promise.reject(each))
  })
  t.equal(error.cause.code, 'ERR_COROIPC_PEER_DEAD')
  await produces(t, 'ERR_COROIPC_PEER_DEAD', 'afterwards', connection.request(1))
  await produces(t, 'ERR_COROIPC_PEER_DEAD', 'dispatchSync', () => connection.dispatchSync(0))
  await connection.close()
})

t.test('server shut down in order: CS_ERR_IN_SHUTDOWN or CS_ERR_LIBRARY there', async (t) => {
  const connection = await connect(name, { service: 1 })
  const error = await produces(t, 'ERR_COROIPC_UNKNOWN_OUTCOME', 'in flight', connection.request(8))
  t.equal(error.cause.code, 'ERR_COROIPC_DISCONNECTED')
  await produces(t, 'ERR_COROIPC_DISCONNECTED', 'dispatchSync', () => connection.dispatchSync(0))
  await connection.close()
})

t.test('what the original cannot say at all', async (t) => {
  await using connection = await connect(name, { service: 1, trustServer: true })
  await produces(t, 'ERR_COROIPC_NO_HANDLER', 'no handler', connection.request(1234))
  await produces(t, 'ERR_COROIPC_HANDLER_FAILED', 'a handler throws', connection.request(2))
  await produces(t, 'ERR_COROIPC_HANDLER_REJECTED', 'its promise rejects', connection.request(3))
  await produces(t, 'ERR_COROIPC_ANSWER_INVALID', 'a number', connection.request(4))
  await produces(t, 'ERR_COROIPC_ANSWER_TOO_LARGE', 'one byte over', connection.request(5))
  await produces(
    t,
    'ERR_COROIPC_TIMED_OUT',
    'no answer in time',
    connection.request(1, '', { timeoutMs: 50 }),
  )
  await produces(t, 'ERR_COROIPC_TIMED_OUT', 'blocking', () =>
    connection.requestSync(1, '', { timeoutMs: 50 }),
  )
  const abort = new AbortController()
  const aborted = connection.request(1, '', { signal: abort.signal })
  abort.abort(new Error('enough'))
  const error = await produces(t, 'ERR_COROIPC_ABORTED', 'a signal', aborted)
  t.equal(error.cause.message, 'enough')
  await produces(t, 'ERR_COROIPC_INVALID_ARGUMENT', 'an id', () => connection.requestSync(65536))
})

t.test('LIMIT: requests that wait, and segments', sharedMemory, async (t) => {
  await using connection = await connect(name, {
    service: 1,
    queuedRequests: 2,
    trustServer: true,
  })
  const calls = Array.from({ length: 7 }, () =>
    failure(connection.request(1, '', { timeoutMs: 300 })),
  )
  const codes = (await Promise.all(calls)).map(({ code }) => code)
  t.strictSame(codes.slice(0, 6), Array(6).fill('ERR_COROIPC_TIMED_OUT'))
  t.equal(codes[6], 'ERR_COROIPC_LIMIT', '4 in flight, 2 that wait, and no more')
  await using second = await connect(name, { service: 1, trustServer: true })
  const buffers: { [Symbol.dispose](): void }[] = []
  await produces(t, 'ERR_COROIPC_LIMIT', 'segments', async () => {
    for (let i = 0; i < 100; i++) buffers.push(await second.allocate(50_000))
  })
  t.equal(buffers.length, 4)
  for (const buffer of buffers) buffer[Symbol.dispose]()
})

t.test('LEASE_HELD: one lease a channel', async (t) => {
  await using connection = await connect(name, { service: 1, trustServer: true })
  const lease = connection.requestSync(0, 'x', { inPlace: true })
  await produces(t, 'ERR_COROIPC_LEASE_HELD', 'a second lease', () =>
    connection.requestSync(0, 'x', { inPlace: true }),
  )
  lease[Symbol.dispose]()
  connection.requestSync(0, 'x', { inPlace: true })[Symbol.dispose]()
})

t.test('BACKLOG_OVERFLOW: the policy that disconnects', async (t) => {
  const connection = await connect(name, { service: 2, dispatchRingBytes: 4096 })
  const reason = new Promise<IpcError>((resolve) => connection.once('close', resolve))
  while (!connection.closed) {
    await failure(connection.request(9)).catch(() => {})
    await sleep(1)
  }
  await produces(t, 'ERR_COROIPC_BACKLOG_OVERFLOW', 'too many dispatches', () =>
    reason.then((each) => Promise.reject(each)),
  )
  await connection.close()
})

t.test('PROTOCOL: a server that hands out memory it could take back', async (t) => {
  const path = `${directory}/${freshName()}.sock`
  await using stranger = Program.start('stranger', 'server', path, 'unsealed')
  await stranger.line('ready')
  await produces(t, 'ERR_COROIPC_PROTOCOL', 'unsealed memory', connect(path, { service: 1 }))
})

t.test('VERSION: a server of another ABI', async (t) => {
  const path = `${directory}/${freshName()}.sock`
  await using stranger = Program.start('stranger', 'server', path, 'version', '9')
  await stranger.line('ready')
  await produces(t, 'ERR_COROIPC_VERSION', 'version 9', connect(path, { service: 1 }))
})

t.test('DEADLOCK: a blocking call to a server of this thread', async (t) => {
  const own = freshName()
  await using server = new Server()
  server.addService({ id: 1, handlers: { 0: () => 'x' } })
  await server.listen(own)
  await produces(t, 'ERR_COROIPC_DEADLOCK', 'connectSync', () => connectSync(own, { service: 1 }))
  await using connection = await connect(own, { service: 1 })
  await produces(t, 'ERR_COROIPC_DEADLOCK', 'requestSync', () => connection.requestSync(0))
  await produces(t, 'ERR_COROIPC_DEADLOCK', 'dispatchSync', () => connection.dispatchSync(50))
})

t.test(
  'ADDRESS_IN_USE: another server lives there, or something that is no socket of ours',
  async (t) => {
    const server = new Server()
    await produces(t, 'ERR_COROIPC_ADDRESS_IN_USE', 'a server', server.listen(name))
    const file = `${directory}/precious`
    writeFileSync(file, 'precious')
    await produces(t, 'ERR_COROIPC_ADDRESS_IN_USE', 'a file', server.listen(file))
    await server.close()
  },
)

t.test('SYSTEM: a path that cannot be', async (t) => {
  const server = new Server()
  const error = await produces(
    t,
    'ERR_COROIPC_SYSTEM',
    'no such directory',
    server.listen('/no/such/directory/at/all'),
  )
  t.ok(error.syscall)
  t.equal(error.errno, -2)
  await server.close()
})

t.test('HANDLER_ASYNC: a promise where none can settle', async (t) => {
  const blocking = freshName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, blocking) => {
    state.server = new ipcs.Server({ poll: ipcs.blockingPoll() })
    state.server.on('error', () => {})
    state.server.addService({ id: 1, handlers: { 0: async () => 'x', 1: () => 'x' } })
    await state.server.listen(blocking)
  }, blocking)
  server.start(({ state }) => state.server.run())
  await using connection = await connect(blocking, { service: 1 })
  await produces(t, 'ERR_COROIPC_HANDLER_ASYNC', 'under run()', connection.request(0))
  t.equal((await connection.request(1)).length, 1)
})

t.test('FORKED: only C can fork; there it is one', async (t) => {
  const own = freshName()
  await using server = new Server()
  server.addService({ id: 5, handlers: { 0: (request) => request.payload } })
  await server.listen(own)
  const program = Program.start('interop-client', own, '5', 'forked')
  t.equal(await program.end(), 0)
  t.strictSame(program.lines, ['forked child: FORKED', 'its parent: OK'])
  produced.set('ERR_COROIPC_FORKED', 'in C')
})

t.test(
  'FULL: all buffers are out; dispatch and send say false instead',
  sharedMemory,
  async (t) => {
    const own = freshName()
    const limits = { backlogBytes: 1000, dispatchRingBytes: 4096, segments: 2 }
    await using server = new Server({ limits })
    let said: boolean | undefined
    let client: Client | undefined
    server.addService({
      id: 1,
      trust: () => true,
      onConnect: (connection) => void (client = connection),
    })
    await server.listen(own)
    await using connection = await connect(own, { service: 1 })
    await until('the client', () => client !== undefined)
    const both = [client?.allocate(4096), client?.allocate(4096)]
    await produces(t, 'ERR_COROIPC_FULL', 'allocate', () => client?.allocate(4096))
    both[0]?.release()
    await client?.drain()
    client?.allocate(4096).release()
    both[1]?.release()
    for (let i = 0; i < 100 && said !== false; i++) said = client?.dispatch(new Uint8Array(2000))
    t.equal(said, false)
    t.equal(connection.closed, false)
  },
)

t.test('every code of the table was produced', sharedMemory, async (t) => {
  const missing = errorCodes.filter((code) => !produced.has(code))
  t.strictSame(missing, [])
})
