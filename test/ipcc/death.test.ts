// The server is killed at each moment: what its clients learn, and that they learn it once.
import { connect, connectSync, type Message } from '@coroipc/ipcc'
import t from 'tap'
import { startServer, text, until } from './harness.js'

const unknown = { code: 'ERR_COROIPC_UNKNOWN_OUTCOME', cause: { code: 'ERR_COROIPC_PEER_DEAD' } }
const dead = { code: 'ERR_COROIPC_PEER_DEAD' }

t.test('in an asynchronous request', async (t) => {
  await using server = await startServer()
  await using connection = await connect(server.name, { service: 7, requestsInFlight: 2 })
  const reasons: string[] = []
  connection.on('close', ({ code }) => reasons.push(code))
  const inFlight = [connection.request(8), connection.request(8)]
  const waiting = connection.request(0)
  await new Promise((resolve) => setTimeout(resolve, 20))
  const started = performance.now()
  await Promise.all([
    ...inFlight.map((each) => t.rejects(each, unknown)),
    t.rejects(waiting, dead, 'it was never sent'),
    server.kill(),
  ])
  t.comment(`learnt after ${(performance.now() - started).toFixed(1)} ms`)
  t.same(reasons, ['ERR_COROIPC_PEER_DEAD'])
  t.equal(connection.closed, true)
  await t.rejects(connection.request(0), dead)
  t.throws(() => connection.requestSync(0), dead)
  t.throws(() => connection.send(0), dead)
  await t.rejects(connection.allocate(100), dead)
  t.equal(connection.stats().connections, 0)
})

t.test('in a blocking request', async (t) => {
  await using server = await startServer()
  using connection = connectSync(server.name, { service: 7 })
  t.throws(() => connection.requestSync(10), unknown)
  t.throws(() => connection.requestSync(0), dead)
  await until(() => connection.closed)
})

t.test('in a blocking wait for a dispatch', async (t) => {
  await using server = await startServer()
  using connection = connectSync(server.name, { service: 7 })
  connection.send(10)
  t.throws(() => connection.dispatchSync(10000), dead)
})

t.test(
  'with a ring full of dispatches: no more is read at once than an iterator holds',
  async (t) => {
    const MESSAGES = 20_000
    const HELD = 1024
    const options = { service: 7, dispatchRingBytes: 4 << 20 }
    await using server = await startServer()
    await using read = await connect(server.name, options)
    await using closed = await connect(server.name, options)
    const order = JSON.stringify({ count: MESSAGES, bytes: 100, id: 1 })
    const [slow, left, other] = [read.dispatches(), read.dispatches(), closed.dispatches()]
    for (const each of [read, closed]) {
      t.equal(text(await each.request(9, order)), String(MESSAGES))
      await until(() => each.stats().dispatches >= HELD)
    }
    await server.kill()
    await until(() => read.closed && closed.closed)
    for (const each of [read, closed])
      t.ok(each.stats().dispatches < 4 * HELD, `${each.stats().dispatches} were read`)

    let next = 0
    await t.rejects(async () => {
      for await (const { payload } of slow)
        if (Buffer.from(payload).readUInt32LE() !== next++) throw new Error('lost')
    }, dead)
    t.equal(next, MESSAGES, 'the others as they are asked for, whoever else does not ask')
    next = 0
    await t.rejects(async () => {
      for await (const { payload } of left)
        if (Buffer.from(payload).readUInt32LE() !== next++) throw new Error('lost')
    }, dead)
    t.equal(next, MESSAGES)

    await closed.close()
    next = 0
    await t.rejects(async () => {
      for await (const _ of other) next++
    }, dead)
    t.ok(next >= HELD && next < 4 * HELD, `closed: ${next}, which it held`)
  },
)

t.test('with dispatches on the way: all that were published are read first', async (t) => {
  await using server = await startServer()
  const options = { service: 7, dispatchRingBytes: 1 << 20 }
  using blocking = connectSync(server.name, options)
  await using listening = await connect(server.name, options)
  await using iterating = await connect(server.name, options)
  const order = JSON.stringify({ count: 3000, bytes: 100, id: 1 })
  for (const each of [blocking, listening, iterating])
    t.equal(text(each.requestSync(9, order)), '3000')
  await server.kill()
  for (let i = 0; i < 3000; i++) {
    const { payload } = blocking.dispatchSync(1000) as Message
    if (Buffer.from(payload).readUInt32LE() !== i) throw new Error('lost')
  }
  t.throws(() => blocking.dispatchSync(0), dead)
  let heard = 0
  listening.on('dispatch', () => heard++)
  let read = 0
  await t.rejects(async () => {
    for await (const { payload } of iterating.dispatches()) {
      if (Buffer.from(payload).readUInt32LE() !== read++) throw new Error('lost')
      if (read % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }, dead)
  t.equal(read, 3000)
  await until(() => listening.closed)
  t.equal(heard, 3000)
})

t.test('while it is being connected to', async (t) => {
  await using server = await startServer()
  await using first = await connect(server.name, { service: 7 })
  const blocked = first.request(21, '10000').catch(() => {})
  await new Promise((resolve) => setTimeout(resolve, 20))
  const connecting = connect(server.name, { service: 7 })
  await Promise.all([t.rejects(connecting, { code: /PEER_DEAD|CONNECT_REFUSED/ }), server.kill()])
  await blocked
})

t.test('with a zero-copy buffer on the way', async (t) => {
  await using server = await startServer()
  await using connection = await connect(server.name, { service: 8, trustServer: true })
  using buffer = await connection.allocate(100000)
  buffer.bytes.fill(1)
  const asked = connection.request(8, buffer)
  await new Promise((resolve) => setTimeout(resolve, 20))
  await Promise.all([t.rejects(asked, unknown), server.kill()])
  t.ok(buffer.bytes.every((byte) => byte === 1))
})
