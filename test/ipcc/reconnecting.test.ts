// reconnecting: connects again, never sends again.
import { reconnecting } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, startServer, text, until } from './harness.js'

t.test('it waits for the first server, and finds the next', async (t) => {
  const name = freshName()
  await using client = reconnecting(name, { service: 7, pauseMs: 5, pauseMsMax: 20 })
  const events: string[] = []
  client.on('connect', ({ server }) => events.push(`connect ${server.pid}`))
  client.on('disconnect', ({ code }) => events.push(code))
  client.on('dispatch', () => events.push('dispatch'))
  t.equal(client.connection, undefined)
  t.equal(client.send(16, 'x'), false)
  const early = client.request(0, 'early', { timeoutMs: 20000 })
  await t.rejects(client.request(0, 'x', { timeoutMs: 5 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  const first = await startServer(name)
  t.equal(text(await early), 'early')
  t.equal(client.connection?.server.pid, first.child.pid)
  t.equal((await client.request(4, 'x', { full: true })).status, -7)
  await client.request(9, JSON.stringify({ count: 1 }))
  const inFlight = client.request(8)
  await Promise.all([
    t.rejects(inFlight, { code: 'ERR_COROIPC_UNKNOWN_OUTCOME' }, 'it is not sent again'),
    first.kill(),
  ])
  const waiting = client.request(0, 'waited', { timeoutMs: 20000 })
  await using second = await startServer(name)
  t.equal(text(await waiting), 'waited')
  t.same(events, [
    `connect ${first.child.pid}`,
    'dispatch',
    'ERR_COROIPC_PEER_DEAD',
    `connect ${second.child.pid}`,
  ])
})

t.test('listeners of dispatches come and go, and each message comes once', async (t) => {
  await using server = await startServer()
  await using client = reconnecting(server.name, { service: 7 })
  const heard: string[] = []
  const listen = (): void => void heard.push('on')
  const dispatched = async (): Promise<string[]> => {
    await client.request(9, JSON.stringify({ count: 1 }))
    await client.request(0) // behind it
    await new Promise(setImmediate)
    return heard.splice(0)
  }
  const connection = await client.connected()
  client.once('dispatch', () => heard.push('once'))
  t.same(await dispatched(), ['once'])
  t.equal(connection.listenerCount('dispatch'), 0, 'nobody takes them any more')
  client.on('dispatch', listen)
  t.same(await dispatched(), ['on'])
  client.off('dispatch', listen)
  t.same(await dispatched(), [], 'kept for whoever reads next')
  client.on('dispatch', listen)
  await until(() => heard.length > 0)
  t.same(heard.splice(0), ['on'])
  t.same(await dispatched(), ['on'])
  client.addListener('dispatch', listen)
  t.same(await dispatched(), ['on', 'on'], 'two listeners')
  client.removeAllListeners('dispatch')
  t.equal(connection.listenerCount('dispatch'), 0)
})

t.test('close ends what waits', async (t) => {
  const client = reconnecting(freshName(), { service: 7 })
  let closed = 0
  client.on('close', () => closed++)
  const waiting = client.request(0)
  const connected = client.connected()
  await Promise.all([
    client.close(),
    t.rejects(waiting, { code: 'ERR_COROIPC_DISCONNECTED' }),
    t.rejects(connected, { code: 'ERR_COROIPC_DISCONNECTED' }),
  ])
  await client.close()
  t.equal(closed, 1)
  await t.rejects(client.request(0), { code: 'ERR_COROIPC_DISCONNECTED' })
})

t.test('a signal closes it, or ends one wait', async (t) => {
  const controller = new AbortController()
  const client = reconnecting(freshName(), { service: 7, signal: controller.signal })
  await t.rejects(client.connected({ signal: AbortSignal.timeout(5) }), {
    code: 'ERR_COROIPC_ABORTED',
  })
  await t.rejects(client.connected({ timeoutMs: 5 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  controller.abort()
  await until(() => client.closed)
})

t.test('it gives up where trying again is pointless', async (t) => {
  await using server = new Server({ authorize: () => false })
  server.addService({ id: 7 })
  const name = freshName()
  await server.listen(name)
  const client = reconnecting(name, { service: 7 })
  const errors: string[] = []
  client.on('error', ({ code }) => errors.push(code))
  await t.rejects(client.request(0), { code: 'ERR_COROIPC_DENIED' })
  t.same(errors, ['ERR_COROIPC_DENIED'])
  t.equal(client.closed, true)
  await t.rejects(client.request(0), { code: 'ERR_COROIPC_DENIED' })
})

t.test('wrong options', (t) => {
  const invalid = { code: 'ERR_COROIPC_INVALID_ARGUMENT' }
  t.throws(() => reconnecting('', { service: 7 }), invalid)
  t.throws(() => reconnecting('@x', {} as never), invalid)
  t.throws(() => reconnecting('@x', { service: 7, pauseMs: 0 }), invalid)
  t.throws(() => reconnecting('@x', { service: 7, retries: 5 } as never), invalid)
  t.end()
})
