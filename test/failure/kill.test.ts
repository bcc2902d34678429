// SIGKILL in the middle of each phase of a connection's life, on either side: the survivor gets its error, and nothing is
// left: no descriptor, mapping or child in the survivor, no file but the socket's name, which the next server takes over.
// The time until the survivor knows is printed; what is asserted is the promise of 1 s.
import { type Connection as Client, connect } from '@coroipc/ipcc'
import { type Connection, Server } from '@coroipc/ipcs'
import t, { type Test } from 'tap'
import { Gauge } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, left, runtimeDirectory } from '../support/runtime.js'
import { failure, sleep, text, until } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

const directory = runtimeDirectory(t)
const PROMISED_MS = 1000

/** A server process: 0 echo, 1 never answers, 2 dispatches for ever, 3 an endless stream of buffers, 4 blocks. */
async function startServer(name: string): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(async ({ ipcs, state }, name) => {
    const server = new ipcs.Server({ limits: { dispatchRingBytes: 65536, backlogBytes: 1 << 20 } })
    state.server = server
    state.asked = 0
    server.addService({
      id: 1,
      trust: () => true,
      handlers: {
        0: (request) => request.payload,
        1: (request) => {
          state.asked++
          request.defer()
        },
        2: (_, connection) => {
          const more = (): void => {
            while (connection.dispatch(new Uint8Array(1000)));
            if (!connection.closed) connection.once('drain', more)
          }
          setImmediate(more)
        },
        3: (_, connection) => {
          const buffer = connection.allocate(200_000)
          buffer.bytes.fill(3)
          return buffer
        },
      },
    })
    await server.listen(name)
  }, name)
  return peer
}

/** Warms this process up (libraries, the client group), so that the gauge shows connections alone. */
async function warm(): Promise<void> {
  const name = freshName()
  const server = await startServer(name)
  const connection = await connect(name, { service: 1 })
  await connection.request(0, 'x')
  await connection.close()
  await server.end()
}
await warm()

/** The server is killed in `during`; what the client's calls come to. */
function serverDies(
  phase: string,
  during: (t: Test, kill: () => Promise<void>, connection: Client, server: Peer) => Promise<void>,
  options: typeof sharedMemory = {},
): void {
  t.test(`the server is killed during ${phase}`, options, async (t) => {
    const name = freshName()
    const before = await Gauge.read()
    const files = left(directory)
    const server = await startServer(name)
    const connection = await connect(name, { service: 1, trustServer: true })
    const closed = new Promise<string>((resolve) =>
      connection.on('close', (reason) => resolve(reason.code)),
    )
    let killed = 0
    const kill = async (): Promise<void> => {
      killed = performance.now()
      await server.kill()
    }
    await during(t, kill, connection, server)
    t.equal(await closed, 'ERR_COROIPC_PEER_DEAD')
    const ms = performance.now() - killed
    t.comment(`known after ${ms.toFixed(1)} ms`)
    t.ok(ms < PROMISED_MS, 'within 1 s')
    t.equal((await failure(connection.request(0, 'x'))).code, 'ERR_COROIPC_PEER_DEAD', 'afterwards')
    t.equal((await failure(() => connection.requestSync(0))).code, 'ERR_COROIPC_PEER_DEAD')
    await connection.close()
    t.equal(await before.settled(), '', 'the client holds nothing of it')
    // Its name is there until the next server takes it.
    await using next = await startServer(name)
    await using again = await connect(name, { service: 1 })
    t.equal(text(await again.request(0, 'again')), 'again')
    await next.run(({ state }) => state.server.close())
    t.strictSame(left(directory), files, 'and is gone when that one ends in order')
  })
}

serverDies('rest', async (_t, kill) => kill())

serverDies('requests in flight', async (t, kill, connection, server) => {
  const calls = Array.from({ length: 20 }, () => failure(connection.request(1, 'x')))
  await until('the requests', async () => (await server.run(({ state }) => state.asked)) === 20)
  await kill()
  for (const error of await Promise.all(calls)) {
    t.equal(error.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
    t.equal(error.cause.code, 'ERR_COROIPC_PEER_DEAD')
  }
})

serverDies('a stream of responses', async (t, kill, connection) => {
  let answered = 0
  let over = false
  const outcomes = new Set<string>()
  const run = async (): Promise<void> => {
    while (!over) {
      try {
        const answer = await connection.request(0, new Uint8Array(5000).fill(answered & 255))
        if (answer.length !== 5000 || answer.some((byte) => byte !== answer[0]))
          outcomes.add('a torn answer')
        answered++
      } catch (error) {
        outcomes.add((error as { code: string }).code)
        over = true
      }
    }
  }
  const running = Promise.all([run(), run(), run(), run()])
  await until('some answers', () => answered > 50)
  await kill()
  await running
  for (const each of outcomes)
    t.ok(['ERR_COROIPC_UNKNOWN_OUTCOME', 'ERR_COROIPC_PEER_DEAD'].includes(each), each)
})

serverDies('dispatches', async (t, kill, connection) => {
  let count = 0
  let torn = 0
  connection.on('dispatch', ({ payload }) => {
    count++
    if (payload.length !== 1000) torn++
  })
  await connection.request(2)
  await until('dispatches', () => count > 500)
  await kill()
  t.equal(torn, 0)
})

serverDies(
  'an iterator over dispatches, which gets all that was sent before',
  async (t, kill, connection) => {
    await connection.request(2)
    const iterator = connection.dispatches()
    for (let i = 0; i < 100; i++) await iterator.next()
    await kill()
    const error = await failure(async () => {
      while ((await iterator.next()).done !== true);
    })
    t.equal(error.code, 'ERR_COROIPC_PEER_DEAD')
  },
)

serverDies(
  'zero copy: a lease and a buffer stay readable',
  async (t, kill, connection) => {
    const lease = connection.requestSync(3, '', { inPlace: true })
    const buffer = await connection.allocate(100_000)
    buffer.bytes.fill(9)
    t.ok(lease.inPlace && buffer.inPlace)
    await kill()
    await until('the death', () => connection.closed)
    t.ok(lease.payload.length === 200_000 && lease.payload.every((byte) => byte === 3))
    t.ok(buffer.bytes.every((byte) => byte === 9))
    lease[Symbol.dispose]()
    buffer[Symbol.dispose]()
  },
  sharedMemory,
)

serverDies('a buffer that is being sent', async (t, kill, connection, server) => {
  const buffer = await connection.allocate(100_000)
  const call = failure(connection.request(1, buffer))
  await until('the request', async () => (await server.run(({ state }) => state.asked)) === 1)
  await kill()
  t.equal((await call).code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  buffer[Symbol.dispose]()
})

serverDies(
  'the wait for a buffer',
  async (t, kill, connection, server) => {
    server.signal('SIGSTOP')
    const call = failure(connection.allocate(300_000))
    await sleep(20)
    await kill()
    const { code } = await call
    t.match(code, /PEER_DEAD|UNKNOWN_OUTCOME/)
  },
  sharedMemory,
)

t.test('the server is killed while the client closes', async (t) => {
  const name = freshName()
  const before = await Gauge.read()
  const server = await startServer(name)
  const connection = await connect(name, { service: 1 })
  server.signal('SIGSTOP') // so that it cannot answer
  const call = failure(connection.request(0, 'x'))
  const closing = connection.close({ timeoutMs: 20_000 })
  await server.kill()
  t.equal((await call).code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  t.equal((await call).cause.code, 'ERR_COROIPC_PEER_DEAD')
  await closing
  t.equal((await failure(connection.request(0, 'x'))).code, 'ERR_COROIPC_PEER_DEAD')
  t.equal(await before.settled(), '')
})

t.test('the server is killed during connect', async (t) => {
  const before = await Gauge.read()
  for (const blocking of [false, true]) {
    const name = freshName()
    const server = await startServer(name)
    server.signal('SIGSTOP') // so the handshake cannot end
    const client = await Peer.open()
    const call = client.run(
      async ({ ipcc, wait }, name, blocking) => {
        const error = await wait.failure(
          blocking
            ? () => ipcc.connectSync(name, { service: 1 })
            : ipcc.connect(name, { service: 1 }),
        )
        return { code: error.code, at: Date.now() }
      },
      name,
      blocking,
    )
    await sleep(50)
    const killed = Date.now()
    await server.kill()
    const { code, at } = await call
    t.equal(code, 'ERR_COROIPC_PEER_DEAD', blocking ? 'connectSync' : 'connect')
    t.comment(`known after ${at - killed} ms`)
    t.ok(at - killed < PROMISED_MS)
    await client.end()
  }
  t.equal(await before.settled(), '')
})

t.test(
  'the server is killed during a blocking request, receive and allocation',
  sharedMemory,
  async (t) => {
    const calls = ['requestSync', 'dispatchSync', 'requestInPlace', 'allocateSync'] as const
    for (const what of calls) {
      const name = freshName()
      const server = await startServer(name)
      const client = await Peer.open()
      await client.run(({ ipcc, state }, name) => {
        state.connection = ipcc.connectSync(name, { service: 1, trustServer: true })
      }, name)
      if (what === 'allocateSync') server.signal('SIGSTOP')
      const call = client.run(async ({ state, wait }, what) => {
        const { connection } = state
        const error = await wait.failure(() => {
          if (what === 'requestSync') return connection.requestSync(1, 'x')
          if (what === 'requestInPlace') return connection.requestSync(1, 'x', { inPlace: true })
          if (what === 'allocateSync') return connection.allocateSync(100_000)
          return connection.dispatchSync()
        })
        return { code: error.code, cause: error.cause?.code, at: Date.now() }
      }, what)
      if (what.startsWith('request'))
        await until('the request', async () => (await server.run(({ state }) => state.asked)) === 1)
      else await sleep(50)
      const killed = Date.now()
      await server.kill()
      const { code, cause, at } = await call
      t.equal(
        code,
        what.startsWith('request') ? 'ERR_COROIPC_UNKNOWN_OUTCOME' : 'ERR_COROIPC_PEER_DEAD',
        what,
      )
      if (what.startsWith('request')) t.equal(cause, 'ERR_COROIPC_PEER_DEAD')
      t.comment(`${what}: known after ${at - killed} ms`)
      t.ok(at - killed < PROMISED_MS)
      await client.end()
    }
  },
)

// -- the client dies --------------------------------------------------------------------------------

interface Seen {
  readonly connection: Connection
  readonly reason: string
  readonly at: number
}

/** A server of this process and what it sees of the client that `during` kills. */
function clientDies(
  phase: string,
  setUp: (client: Peer, name: string) => Promise<void>,
  during: (t: Test, kill: () => Promise<void>, server: Server, client: Peer) => Promise<void>,
): void {
  t.test(`the client is killed during ${phase}`, async (t) => {
    const name = freshName()
    const gone: Seen[] = []
    const server = new Server({ limits: { dispatchRingBytes: 65536, backlogBytes: 1 << 20 } })
    server.addService({
      id: 1,
      trust: () => true,
      onDisconnect: (connection, reason) =>
        void gone.push({ connection, reason: reason.code, at: performance.now() }),
      handlers: {
        0: (request) => request.payload,
        1: (request) => request.defer(),
        2: (_, connection) => {
          const more = (): void => {
            while (connection.dispatch(new Uint8Array(1000)));
            if (!connection.closed) connection.once('drain', more)
          }
          setImmediate(more)
        },
        3: (_, connection) => {
          const buffer = connection.allocate(200_000)
          buffer.bytes.fill(3)
          return buffer
        },
      },
    })
    await server.listen(name)
    const before = await Gauge.read({ stats: () => server.stats(), directory })
    const client = await Peer.open()
    await setUp(client, name)
    let killed = 0
    await during(
      t,
      async () => {
        killed = performance.now()
        await client.kill()
      },
      server,
      client,
    )
    // In a series of connections only the last one can be cut off, and if it was closing, it was in order.
    const series = server.stats().connectionsTotal > 1
    await until('the death', () => gone.length === server.stats().connectionsTotal)
    const last = gone.at(-1)
    if (last !== undefined) {
      t.match(last.reason, series ? /PEER_DEAD|DISCONNECTED/ : 'ERR_COROIPC_PEER_DEAD')
      const ms = last.at - killed
      t.comment(`known after ${ms.toFixed(1)} ms`)
      t.ok(ms < PROMISED_MS, 'within 1 s')
      t.equal(last.connection.closed, true)
      t.equal(last.connection.dispatch('too late'), false)
    }
    // The last two may end in either order: one was closed, the other being made.
    t.ok(gone.slice(0, -2).every(({ reason }) => reason === 'ERR_COROIPC_DISCONNECTED'))
    await until('resources', () => server.stats().connections === 0)
    t.equal(await before.settled(), '', 'the server holds nothing of it')
    await using other = await Peer.open()
    const answer = await other.run(async ({ ipcc, wait }, name) => {
      const connection = await ipcc.connect(name, { service: 1 })
      return wait.text(await connection.request(0, 'others go on'))
    }, name)
    t.equal(answer, 'others go on')
    await server.close({ timeoutMs: 1000 })
  })
}

const connected = (client: Peer, name: string): Promise<void> =>
  client.run(async ({ ipcc, state }, name) => {
    state.connection = await ipcc.connect(name, { service: 1, trustServer: true })
  }, name)

clientDies('rest', connected, async (_t, kill) => kill())

clientDies(
  'connect',
  async () => {},
  async (_t, kill, server, client) => {
    client.start(async ({ ipcc }, name) => {
      for (;;) await (await ipcc.connect(name, { service: 9999 }).catch(() => undefined))?.close()
    }, server.address as string)
    await until('handshakes', () => server.stats().connectionsRefused > 20)
    await kill()
    await until('no handshake', () => server.stats().handshakesPending === 0)
  },
)

t.test('the client is killed during connects that give it memory, again and again', async (t) => {
  const name = freshName()
  const server = new Server()
  server.addService({ id: 1, handlers: { 0: (request) => request.payload } })
  await server.listen(name)
  // One that stays, so that only what the killed ones leave can make a difference.
  await using witness = await connect(name, { service: 1 })
  t.equal(text(await witness.request(0, 'x')), 'x')
  const before = await Gauge.read({ stats: () => server.stats(), directory })
  let begun = 0
  for (let round = 0; round < 12; round++) {
    const client = await Peer.open()
    // None of them is closed: all the memory that the server ever gave it is its own when it dies.
    client.start(
      async ({ ipcc, state }, name, blocking) => {
        state.all = []
        for (;;) {
          if (blocking) state.all.push(ipcc.connectSync(name, { service: 1 }))
          else {
            const some = Array.from({ length: 8 }, () => ipcc.connect(name, { service: 1 }))
            state.all.push(...(await Promise.all(some)))
          }
        }
      },
      name,
      round % 2 === 0,
    )
    const start = server.stats().connectionsTotal
    const enough = 1 + round * 7 // another place in the row of connects each time
    await until('connections', () => server.stats().connectionsTotal - start >= enough)
    const held = server.stats().connections
    t.ok(held > 1, `${held - 1} connections are open when it is killed`)
    begun += held - 1
    const killed = performance.now()
    await client.kill()
    await until('the account', () => {
      const { connections, handshakesPending } = server.stats()
      return connections === 1 && handshakesPending === 0
    })
    const ms = performance.now() - killed
    t.comment(`${held - 1} connections gone after ${ms.toFixed(1)} ms`)
    t.ok(ms < PROMISED_MS, 'within 1 s')
    t.equal(await before.settled(), '', 'no descriptor, memory or mapping is left')
  }
  t.ok(begun > 50, `${begun} connections were cut off`)
  t.equal(text(await witness.request(0, 'others go on')), 'others go on')
  t.match(server.stats(), { segmentBytes: 0, backlogBytes: 0, inFlight: 0 })
  await witness.close()
  await server.close({ timeoutMs: 1000 })
})

clientDies('requests in flight', connected, async (_t, kill, server, client) => {
  client.start(({ state }) => {
    for (let i = 0; i < 20; i++) state.connection.request(1, 'x').catch(() => {})
  })
  await until('the requests', () => server.stats().inFlight === 20)
  await kill()
})

clientDies('a blocking request', connected, async (_t, kill, server, client) => {
  client.start(({ state }) => state.connection.requestSync(1, 'x'))
  await until('the request', () => server.stats().inFlight === 1)
  await kill()
})

clientDies('a stream of requests and responses', connected, async (_t, kill, server, client) => {
  client.start(async ({ state }) => {
    for (;;) await state.connection.request(0, new Uint8Array(50_000))
  })
  await until('requests', () => server.stats().requests > 50)
  await kill()
})

clientDies('dispatches that it reads', connected, async (_t, kill, server, client) => {
  await client.run(async ({ state }) => {
    state.connection.on('dispatch', () => {})
    await state.connection.request(2)
  })
  await until('dispatches', () => server.stats().dispatches > 500)
  await kill()
})

clientDies('dispatches that it does not read', connected, async (_t, kill, server, client) => {
  await client.run(async ({ state }) => void (await state.connection.request(2)))
  await until('a full backlog', () => server.stats().overload > 0)
  await kill()
})

clientDies('zero copy', connected, async (_t, kill, server, client) => {
  await client.run(async ({ state }) => {
    state.lease = await state.connection.request(3, '', { inPlace: true })
    state.buffer = await state.connection.allocate(100_000)
    state.connection.request(1, state.buffer).catch(() => {})
  })
  await until('the request', () => server.stats().inFlight === 1)
  await kill()
})

clientDies('close', connected, async (_t, kill, server, client) => {
  // Many are opened and closed; the one that is killed is somewhere between.
  client.start(async ({ ipcc }, name) => {
    for (;;) await (await ipcc.connect(name, { service: 1 })).close()
  }, server.address as string)
  const total = server.stats().connectionsTotal
  await until('connections', () => server.stats().connectionsTotal > total + 20)
  await kill()
})

t.test('the C client is killed while it holds everything', async (t) => {
  const name = freshName()
  const reasons: string[] = []
  const server = new Server()
  server.addService({
    id: 5,
    trust: () => true,
    onDisconnect: (_, reason) => void reasons.push(reason.code),
    handlers: { 4: (request) => request.defer() },
  })
  await server.listen(name)
  const before = await Gauge.read({ stats: () => server.stats(), directory })
  const program = Program.start('interop-client', name, '5', 'waits')
  await until('the request', () => server.stats().inFlight === 1)
  await program.kill()
  await until('the death', () => reasons.length === 1)
  t.strictSame(reasons, ['ERR_COROIPC_PEER_DEAD'])
  t.equal(await before.settled(), '')
  await server.close()
})

t.test('a client whose forked child keeps the socket is reported dead all the same', async (t) => {
  const name = freshName()
  const reasons: string[] = []
  const server = new Server()
  server.addService({ id: 1, onDisconnect: (_, reason) => void reasons.push(reason.code) })
  await server.listen(name)
  await using client = await Peer.open()
  const child = await client.run(async ({ ipcc, require, state }, name) => {
    const { spawn } = require('node:child_process') as typeof import('node:child_process')
    const { readdirSync, readlinkSync } = require('node:fs') as typeof import('node:fs')
    const sockets = (): number[] =>
      readdirSync('/proc/self/fd')
        .filter((fd) => {
          try {
            return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
          } catch {
            return false
          }
        })
        .map(Number)
    const before = new Set(sockets())
    state.connection = await ipcc.connect(name, { service: 1 })
    const fd = sockets().find((each) => !before.has(each)) as number
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
    return child.pid as number
  }, name)
  try {
    await client.kill()
    await until('the death', () => reasons.length === 1, 5000)
    t.strictSame(reasons, ['ERR_COROIPC_PEER_DEAD'])
  } finally {
    process.kill(child, 'SIGKILL')
  }
  await server.close()
})
