// The kernel ends a process for want of memory, for real: the other side gets its error, keeps what is its own, and goes on with
// everybody else.
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { MemoryGroup } from '../support/memory-group.js'
import { Peer } from '../support/peer.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { sharedMemory } from '../support/shared-memory.js'
import { failure, text, until } from '../support/wait.js'

runtimeDirectory(t)
const PROMISED_MS = 1000
const LIMIT = 64 << 20
const skip = MemoryGroup.missing()
const here = skip === undefined ? {} : { skip }

/** Takes memory until there is none. */
const devour = (peer: Peer): Promise<unknown> =>
  peer
    .run(({ state }) => {
      state.taken = []
      for (;;) state.taken.push(Buffer.alloc(1 << 20, 1))
    })
    .catch(() => {})

t.test(
  'a client that the kernel ends while it fills shared memory',
  { ...here, ...sharedMemory },
  async (t) => {
    using group = MemoryGroup.create(LIMIT)
    const name = freshName()
    const gone: string[] = []
    const limits = { messageBytes: 256 << 20, segmentBytes: 512 << 20, bytesPerUid: 1024 << 20 }
    const server = new Server({ limits })
    server.addService({
      id: 1,
      trust: () => true,
      handlers: { 0: (request) => request.payload },
      onDisconnect: (_, reason) => void gone.push(reason.code),
    })
    await server.listen(name)
    const other = await connect(name, { service: 1 })
    const before = await Gauge.read()
    await using client = await Peer.open()
    await client.run(async ({ ipcc, state }, name) => {
      state.connection = await ipcc.connect(name, { service: 1, trustServer: true })
      state.buffer = await state.connection.allocate(200 << 20)
    }, name)
    group.add(client.pid)
    // Pages are charged to whoever touches them first: to the client's group, whoever has made the segment.
    await client.run(({ state }) => void state.buffer.bytes.fill(1)).catch(() => {})
    await until('the server knows', () => gone.length === 1)
    t.strictSame(gone, ['ERR_COROIPC_PEER_DEAD'])
    t.ok(group.kills > 0, 'it was the kernel')
    t.equal(text(await other.request(0, 'still here')), 'still here')
    t.equal(await before.settled(), '')
    await other.close()
    await server.close()
  },
)

t.test('a server that the kernel ends for want of memory', here, async (t) => {
  using group = MemoryGroup.create(LIMIT)
  const name = freshName()
  // What a client keeps once it has had a connection is there already.
  const warm = new Server()
  warm.addService({ id: 1, handlers: { 0: () => 'warm' } })
  await warm.listen(freshName())
  const first = await connect(warm.address as string, { service: 1 })
  await first.request(0)
  await first.close()
  await warm.close()
  const before = await Gauge.read()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, name) => {
    state.asked = 0
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      handlers: {
        0: (request: { defer(): void }) => {
          state.asked++
          request.defer()
        },
      },
    })
    await state.server.listen(name)
  }, name)
  const connection = await connect(name, { service: 1 })
  const calls = Array.from({ length: 8 }, () => failure(connection.request(0, 'x')))
  await until('the requests', async () => (await server.run(({ state }) => state.asked)) === 8)
  group.add(server.pid)
  await devour(server)
  const ended = performance.now()
  for (const error of await Promise.all(calls)) {
    t.equal(error.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
    t.equal(error.cause.code, 'ERR_COROIPC_PEER_DEAD')
  }
  t.ok(performance.now() - ended < PROMISED_MS, 'known within 1 s')
  t.ok(group.kills > 0, 'it was the kernel')
  await connection.close()
  t.equal(await before.settled(), '')
})
