// Handlers that block their thread, throw, or never answer: what it costs their own clients, and that it costs others
// nothing but the time in which the thread is blocked.
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { failure, outcome, until } from '../support/wait.js'

runtimeDirectory(t)
const BLOCKED_MS = 1000

/** 0 echo, 1 blocks, 2 throws, 3 rejects, 4 never answers. */
async function startServer(name: string): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs, state }, name, blockedMs) => {
      state.errors = 0
      state.server = new ipcs.Server({ limits: { requestsInFlight: 64 } })
      state.server.on('error', () => state.errors++)
      state.server.addService({
        id: 1,
        handlers: {
          0: (request: { payload: Uint8Array }) => request.payload,
          1: () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockedMs),
          2: () => {
            throw new Error('no')
          },
          3: () => Promise.reject(new Error('no')),
          4: (request: { defer(): void }) => request.defer(),
        },
      })
      await state.server.listen(name)
    },
    name,
    BLOCKED_MS,
  )
  return peer
}

const stats = (server: Peer): Promise<Record<string, number>> =>
  server.run(({ state }) => ({ ...state.server.stats(), errors: state.errors }))

t.test(
  'a handler that blocks for a second: what came meanwhile is answered in order',
  async (t) => {
    const name = freshName()
    await using server = await startServer(name)
    await using blocker = await connect(name, { service: 1 })
    await using other = await connect(name, { service: 1 })
    await other.request(0, 'warm')
    const gauge = await Gauge.read({ pid: server.pid })
    const before = other.stats()
    const began = performance.now()
    const blocked = blocker.request(1)
    await until('the block', async () => performance.now() - began > 50)
    const order: number[] = []
    const calls = Array.from({ length: 500 }, async (_, i) => {
      await other.request(0, String(i))
      order.push(i)
    })
    await Promise.all([...calls, blocked])
    t.ok(performance.now() - began >= BLOCKED_MS - 50, 'nobody is served meanwhile')
    t.strictSame(
      order,
      order.map((_, i) => i),
    )
    t.equal(order.length, 500)
    const rung = other.stats().doorbellsSent - before.doorbellsSent
    t.ok(rung < 100, `nobody rings for one that is awake: ${rung} times`)
    t.equal(await gauge.settled(), '', 'nothing grew')
  },
)

t.test('handlers that throw and reject, among others that do not', async (t) => {
  const name = freshName()
  await using server = await startServer(name)
  await using connection = await connect(name, { service: 1 })
  const codes = ['OK', 'ERR_COROIPC_HANDLER_FAILED', 'ERR_COROIPC_HANDLER_REJECTED']
  const ids = [0, 2, 3]
  const said = await Promise.all(
    Array.from({ length: 900 }, (_, i) => outcome(connection.request(ids[i % 3] as number, 'x'))),
  )
  t.strictSame(
    said,
    said.map((_, i) => codes[i % 3]),
  )
  t.match(await stats(server), { errors: 600, connections: 1, inFlight: 0, protocolErrors: 0 })
})

t.test(
  'a handler that never answers costs its client its own slots, and nobody else',
  async (t) => {
    const name = freshName()
    await using server = await startServer(name)
    const connection = await connect(name, { service: 1 })
    await using other = await connect(name, { service: 1 })
    t.equal(connection.requestsInFlight, 64)
    const calls = Array.from({ length: 64 }, () => failure(connection.request(4, 'x')))
    await until('all of them', async () => (await stats(server))['inFlight'] === 64)
    const queued = failure(connection.request(0, 'x', { timeoutMs: 100 }))
    t.match(await queued, { code: 'ERR_COROIPC_TIMED_OUT', sent: false })
    t.equal(
      (await failure(() => connection.requestSync(0, 'x', { timeoutMs: 100 }))).code,
      'ERR_COROIPC_LIMIT',
    )
    for (let i = 0; i < 200; i++) other.requestSync(0, 'others go on')
    t.match(await stats(server), { inFlight: 64, connections: 2 })
    await connection.close()
    for (const each of await Promise.all(calls)) t.equal(each.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
    await until('their end', async () => (await stats(server))['inFlight'] === 0)
  },
)
