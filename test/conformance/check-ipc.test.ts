// The list of libqb's tests/check_ipc.c, row by row: each test has the name of its row. The server is another process, as
// there; what libqb does with -EAGAIN and errno is said with our codes. Both transports of libqb are one here.
import { connect, connectSync, type Connection } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { freshName, left, runtimeDirectory } from '../support/runtime.js'
import { failure, outcome, pattern, text, until } from '../support/wait.js'

const directory = runtimeDirectory(t)

/** The server of these tests; what its ids do is said below. */
async function startServer(name: string = freshName()): Promise<{ name: string; peer: Peer }> {
  const peer = await Peer.open()
  await peer.run(async ({ ipcs, state }, name) => {
    const server = new ipcs.Server()
    state.server = server
    state.drop = false
    server.addService({
      id: 1,
      onConnect: (connection) => {
        if (state.drop) connection.disconnect()
        else connection.dispatch('created', { id: 50 })
      },
      onDisconnect: async () => {
        state.closed = (state.closed ?? 0) + 1
      },
      handlers: {
        0: (request) => request.payload, // TXRX
        1: (request, connection) => {
          connection.dispatch(request.payload, { id: 1 }) // DISPATCH: no answer
          request.defer()
        },
        2: () => process.exit(1), // SERVER_FAIL
        3: (request, connection) => {
          // BULK_EVENTS: some before the answer, some after; the length of the queue grows by one each time
          const before = connection.stats()
          const grew: boolean[] = []
          for (let i = 0; i < 10; i++) {
            if (i === 5) request.respond('half')
            connection.dispatch(Uint8Array.of(i), { id: 3 })
            const { dispatches, backlogMessages } = connection.stats()
            grew.push(
              dispatches + backlogMessages - before.dispatches - before.backlogMessages === i + 1,
            )
          }
          state.grew = grew
        },
        4: (request, connection) => {
          // STRESS: so many events, every 1000th of the maximum size
          const count = new DataView(request.payload.buffer, request.payload.byteOffset).getUint32(
            0,
            true,
          )
          let i = 0
          const more = (): void => {
            while (i < count) {
              const event = new Uint8Array(
                i % 1000 === 999 ? connection.messageBytes : 20 + (i % 50),
              )
              new DataView(event.buffer).setUint32(0, i, true)
              new DataView(event.buffer).setUint32(event.length - 4, i, true)
              if (!connection.dispatch(event, { id: 4 })) {
                connection.once('drain', more)
                return
              }
              i++
            }
          }
          more()
          return ''
        },
        5: () => {
          setImmediate(() => state.server.close()) // EXIT
          return 'going'
        },
        6: () => String(state.closed ?? 0),
      },
    })
    await server.listen(name)
  }, name)
  return { name, peer }
}

const main = await startServer()
t.teardown(() => main.peer.end())
const open = (options: object = {}): Connection => {
  const connection = connectSync(main.name, { service: 1, ...options })
  connection.dispatchSync(5000) // 'created'
  return connection
}

t.test('connect_async: connects without blocking, then a round trip works', async (t) => {
  let turns = 0
  const tick = setInterval(() => turns++, 0)
  await using connection = await connect(main.name, { service: 1 })
  clearInterval(tick)
  t.ok(connection.fd >= 0)
  t.equal(text(await connection.request(0, 'x')), 'x')
})

t.test('txrx_getauth: pid is not 0, uid and gid are ours', async (t) => {
  using connection = open()
  t.equal(connection.server.pid, main.peer.pid)
  t.equal(connection.server.uid, process.getuid?.())
  t.equal(connection.server.gid, process.getgid?.())
})

t.test(
  'txrx_timeout: answered only by an event: a time out, and the connection is usable',
  async (t) => {
    using connection = open()
    t.equal(
      await outcome(() => connection.requestSync(1, 'event', { timeoutMs: 200 })),
      'ERR_COROIPC_TIMED_OUT',
    )
    t.equal(text(connection.dispatchSync(5000)?.payload), 'event')
    t.equal(text(connection.requestSync(0, 'x')), 'x')
  },
)

t.test('server_fail: the server exits in a handler', async (t) => {
  const { name, peer: server } = await startServer()
  const connection = connectSync(name, { service: 1 })
  const error = await failure(() => connection.requestSync(2))
  t.equal(error.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  t.equal(error.cause.code, 'ERR_COROIPC_PEER_DEAD')
  await until('the end of the connection', () => connection.closed)
  await connection.close() // fine
  await server.end()
})

for (const [row, timeoutMs] of [
  ['txrx_block', Infinity],
  ['txrx_tmo', 5000],
] as const) {
  t.test(
    `${row}: sizes doubling from 32 to the maximum; twice the maximum is too large`,
    async (t) => {
      using connection = open()
      const max = connection.messageBytes
      for (let size = 32; size <= max; size *= 2) {
        const payload = pattern(size)
        const answer = connection.requestSync(0, payload, { timeoutMs })
        t.equal(Buffer.compare(answer, payload), 0, `${size}`)
      }
      const twice = new Uint8Array(2 * max)
      const before = connection.stats().requests
      t.equal(
        await outcome(() => connection.requestSync(0, twice, { timeoutMs })),
        'ERR_COROIPC_TOO_LARGE',
      )
      t.equal(connection.stats().requests, before, 'nothing was sent')
    },
  )
}

t.test('fc: a service whose rate is off: no answer, and the client knows', async (t) => {
  const name = freshName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server({ limits: { requestRingBytes: 4096 } })
    state.server.addService({
      id: 1,
      requestsPerSecond: 0,
      onConnect: (connection: unknown) => void (state.connection = connection),
      handlers: { 0: () => 'x', 1: () => {} },
    })
    await state.server.listen(name)
  }, name)
  await using connection = await connect(name, { service: 1, queueBytes: 10_000 })
  t.equal(
    await outcome(() => connection.requestSync(0, 'x', { timeoutMs: 200 })),
    'ERR_COROIPC_TIMED_OUT',
  )
  let taken = 0
  while (taken < 1000 && connection.send(1, new Uint8Array(1000))) taken++
  t.ok(taken < 1000, `send said no after ${taken}`)
  const drained = new Promise((resolve) => connection.once('drain', () => resolve('drained')))
  await server.run(({ state }) => state.connection.setRequestsPerSecond(Infinity))
  t.equal(await drained, 'drained', 'rate on again')
  t.equal(text(connection.requestSync(0, 'x')), 'x')
})

t.test('dispatch: the answer comes as an event', async (t) => {
  using connection = open()
  connection.request(1, 'as an event').catch(() => {})
  const event = connection.dispatchSync(5000)
  t.equal(text(event?.payload), 'as an event')
  t.equal(event?.id, 1)
})

t.test(
  'stress_test: 30000 events, every 1000th of the maximum size, in order and whole',
  async (t) => {
    await using connection = await connect(main.name, { service: 1, dispatchRingBytes: 65536 })
    const count = 30_000
    await connection.request(4, Uint32Array.of(count))
    let expected = 0
    let large = 0
    for await (const { id, payload } of connection.dispatches()) {
      if (id !== 4) continue
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length)
      const size = expected % 1000 === 999 ? connection.messageBytes : 20 + (expected % 50)
      if (
        payload.length !== size ||
        view.getUint32(0, true) !== expected ||
        view.getUint32(size - 4, true) !== expected
      ) {
        t.fail(`event ${expected}: ${payload.length} bytes`)
        break
      }
      if (size === connection.messageBytes) large++
      if (++expected === count) break
    }
    t.equal(expected, count)
    t.equal(large, 30)
  },
)

t.test(
  'stress_test: what the server enforces is larger than what the client asks for',
  async (t) => {
    const name = freshName()
    await using server = await Peer.open()
    await server.run(async ({ ipcs, state }, name) => {
      state.server = new ipcs.Server({ limits: { messageBytesMin: 1 << 19, ringBytesMin: 65536 } })
      state.server.addService({
        id: 1,
        handlers: { 0: (request: { payload: Uint8Array }) => request.payload },
      })
      await state.server.listen(name)
    }, name)
    using connection = connectSync(name, { service: 1, messageBytes: 8192, requestRingBytes: 4096 })
    t.equal(connection.messageBytes, 1 << 19)
    const payload = pattern(300_000)
    t.equal(
      Buffer.compare(connection.requestSync(0, payload), payload),
      0,
      'a larger one than asked for',
    )
  },
)

t.test(
  'bulk_events: too large an event, the length of the queue, all ten around an answer',
  async (t) => {
    const name = freshName()
    const server = new Server()
    let code = ''
    server.addService({
      id: 1,
      onConnect: (connection) => {
        try {
          connection.dispatch(new Uint8Array(connection.messageBytes * 10 + 1))
        } catch (error) {
          code = (error as { code: string }).code
        }
      },
    })
    await server.listen(name)
    const asked = await connect(name, { service: 1 })
    await until('onConnect', () => code !== '')
    t.equal(code, 'ERR_COROIPC_TOO_LARGE')
    await asked.close()
    await server.close()

    using connection = open()
    t.equal(text(connection.requestSync(3)), 'half')
    for (let i = 0; i < 10; i++)
      t.strictSame([...(connection.dispatchSync(5000)?.payload ?? [])], [i])
    t.strictSame(await main.peer.run(({ state }) => state.grew), Array(10).fill(true))
  },
)

t.test('exit: a server that was told to exit: an error at the client, a clean stop', async (t) => {
  const { name, peer } = await startServer()
  const connection = connectSync(name, { service: 1 })
  t.equal(text(connection.requestSync(5)), 'going')
  await until('the end', () => connection.closed)
  t.equal(await outcome(() => connection.requestSync(0)), 'ERR_COROIPC_DISCONNECTED')
  await until('a clean stop', async () => !left(directory).includes(name))
  await peer.end()
})

t.test('event_on_created: an event sent from inside onConnect arrives', async (t) => {
  using connection = connectSync(main.name, { service: 1 })
  const event = connection.dispatchSync(5000)
  t.equal(text(event?.payload), 'created')
  t.equal(event?.id, 50)
})

t.test('disconnect_after_created: the server disconnects; its hook is busy once', async (t) => {
  const name = freshName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      onConnect: (connection: { disconnect(): void }) => connection.disconnect(),
      onDisconnect: () => new Promise<void>((resolve) => (state.free = resolve)),
    })
    await state.server.listen(name)
  }, name)
  const connection = await connect(name, { service: 1 })
  await until('the end', () => connection.closed)
  t.equal(await outcome(connection.request(0)), 'ERR_COROIPC_DISCONNECTED')
  await until('the hook', () => server.run(({ state }) => state.free !== undefined))
  const gone = await server.run(async ({ state, wait }) => {
    let gone = false
    const closing = state.server.closeService(1).then(() => (gone = true))
    await wait.sleep(50)
    const before = gone
    state.free()
    await closing
    return [before, gone]
  })
  t.strictSame(gone, [false, true], 'its resources stay while the hook is busy')
  await connection.close()
})

t.test('service_ref_count: the service goes away with a held connection', async (t) => {
  const name = freshName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      context: () => ({ mine: 'intact' }),
      onConnect: (connection: { hold(): void }) => {
        connection.hold()
        state.connection = connection
      },
    })
    await state.server.listen(name)
  }, name)
  const connection = await connect(name, { service: 1 })
  await server.run(({ state }) => {
    state.gone = false
    state.closing = state.server.closeService(1).then(() => (state.gone = true))
  })
  await until('the end', () => connection.closed)
  const seen = await server.run(({ state }) => ({
    sent: state.connection.dispatch('safe'),
    context: state.connection.context.mine,
    gone: state.gone,
  }))
  t.strictSame(seen, { sent: false, context: 'intact', gone: false })
  await server.run(async ({ state }) => {
    state.connection.release()
    await state.closing
  })
  t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_NO_SERVICE')
  await connection.close()
})

t.test('server_perms: who may connect is said by authorize, whoever owns the files', async (t) => {
  // libqb gives the files of a connection to uid 555 and gid 741. Here a connection has no files.
  if (process.getuid?.() !== 0) {
    t.pass('not run here', { skip: 'needs root, to become another user' })
    return
  }
  const name = freshName()
  const server = new Server({ authorize: ({ uid, gid }) => uid === 555 && gid === 741 })
  server.addService({ id: 1, handlers: { 0: () => 'welcome' } })
  await server.listen(name)
  await using client = await Peer.open()
  const said = await client.run(async ({ ipcc, wait }, name) => {
    process.setgroups?.([])
    process.setgid?.(741)
    process.setuid?.(555)
    const connection = await ipcc.connect(name, { service: 1 })
    return wait.text(await connection.request(0))
  }, name)
  t.equal(said, 'welcome')
  t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_DENIED', 'root is not 555')
  await server.close()
})

t.test('stress_connections: 5000 connect and disconnect in a row', async (t) => {
  const before = await Gauge.read()
  const server = await Gauge.read({ pid: main.peer.pid })
  // All of them, as in libqb; the limit of time is there to say how far a machine came that is too slow for it.
  const total = 5000
  const limitMs = 90_000
  const { connectionsTotal } = await main.peer.run(({ state }) => state.server.stats())
  const started = performance.now()
  let done = 0
  while (done < total && performance.now() - started < limitMs) {
    connectSync(main.name, { service: 1 })[Symbol.dispose]()
    done++
  }
  const ms = Math.round(performance.now() - started)
  t.comment(`${done} in ${ms} ms`)
  t.equal(done, total, `${done} of ${total} in ${ms} ms`)
  const counted = (): Promise<number> =>
    main.peer.run(({ state }) => state.server.stats().connectionsTotal)
  t.equal((await counted()) - connectionsTotal, total, 'the server counted them')
  t.equal(await before.settled(), '')
  t.equal(await server.settled(), '')
  using connection = open()
  t.equal(text(connection.requestSync(0, 'x')), 'x')
})

t.test(
  'native_prio_dlock, glib_prio_dlock: a low priority is served beside a busy high one',
  async (t) => {
    const name = freshName()
    await using server = await Peer.open()
    await server.run(async ({ ipcs, state }, name) => {
      state.server = new ipcs.Server()
      const handlers = { 0: (request: { payload: Uint8Array }) => request.payload }
      state.server.addService({ id: 1, priority: 'low', handlers })
      state.server.addService({ id: 2, priority: 'high', handlers })
      await state.server.listen(name)
    }, name)
    await using busy = await Peer.open()
    busy.start(async ({ ipcc, state }, name) => {
      state.connection = await ipcc.connect(name, { service: 2 })
      const run = async (): Promise<void> => {
        for (;;) await state.connection.request(0, 'x')
      }
      await Promise.all(Array.from({ length: 64 }, run))
    }, name)
    const requests = (): Promise<number> => server.run(({ state }) => state.server.stats().requests)
    await until('a busy server', async () => (await requests()) > 10_000)
    await using low = await connect(name, { service: 1 })
    const before = await requests()
    for (let i = 0; i < 100; i++) t.equal(text(await low.request(0, 'low')), 'low')
    t.ok((await requests()) - before > 200, 'and the high one was busy all the time')
  },
)

t.test(
  'truncate_when_unlink_fails: nothing has to be unlinked: no file carries a connection',
  async (t) => {
    const { readdirSync } = await import('node:fs')
    using connection = open()
    t.equal(text(connection.requestSync(0, 'x')), 'x')
    t.strictSame(
      readdirSync('/dev/shm').filter((file) => /coroipc|^qb-/.test(file)),
      [],
    )
    t.strictSame(
      left(directory).filter((file) => file.startsWith(main.name) && !/lock/.test(file)),
      [main.name],
      'the socket, and nothing else',
    )
  },
)
