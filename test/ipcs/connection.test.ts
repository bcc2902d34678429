// The server's side of a connection: dispatch and its bound, hold, disconnect, buffers, statistics.
import { readFileSync } from 'node:fs'
import { connect, type ConnectOptions } from '@coroipc/ipcc'
import { type Connection, Server, type ServiceOptions } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { sharedMemory } from '../support/shared-memory.js'

async function pair(
  service: Partial<ServiceOptions> = {},
  options: Partial<ConnectOptions> = {},
  serverOptions: object = {},
): Promise<
  AsyncDisposable & {
    server: Server
    mine: Connection
    client: Awaited<ReturnType<typeof connect>>
  }
> {
  const server = new Server(serverOptions)
  server.on('error', () => {})
  server.addService({ id: 1, handlers: { 0: (request) => request.payload }, ...service })
  const name = freshName()
  await server.listen(name)
  const client = await connect(name, { service: 1, ...options })
  await until(() => [...server.connections()].length === 1)
  const mine = [...server.connections()][0] as Connection
  return {
    server,
    mine,
    client,
    async [Symbol.asyncDispose]() {
      await client.close()
      await server.close()
    },
  }
}

const index = (payload: Uint8Array): number => Buffer.from(payload).readUInt32LE()
const numbered = (i: number, bytes: number): Buffer => {
  const payload = Buffer.alloc(bytes)
  payload.writeUInt32LE(i)
  return payload
}

t.test('it knows its client', async (t) => {
  await using both = await pair({}, { requestsInFlight: 17 })
  const { mine, client } = both
  t.equal(mine.id, client.id)
  t.equal(mine.requestsInFlight, 17)
  t.equal(client.requestsInFlight, 17)
  t.equal(mine.service, 1)
  t.match(mine.credentials, { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() })
  t.ok(Array.isArray(mine.credentials.groups))
  t.equal(mine.messageBytes, client.messageBytes)
  t.equal(mine.trusted, false)
  t.equal(mine.closed, false)
})

t.test('a dispatch in every form, small and large in their order', async (t) => {
  await using both = await pair()
  const { mine, client } = both
  const seen: string[] = []
  client.on('dispatch', ({ id, payload }) =>
    seen.push(`${id} ${text(payload).slice(0, 3)} ${payload.length}`),
  )
  t.equal(mine.dispatch('abc'), true)
  t.equal(mine.dispatch(new Uint8Array(70000), { id: 65535 }), true)
  t.equal(mine.dispatch(['a', 'b', 'c'], { id: 2 }), true)
  t.equal(mine.dispatch(undefined, { id: 3 }), true)
  t.equal(mine.dispatch(['x'.repeat(3000), 'y'], { id: 4 }), true)
  t.equal(mine.dispatch('end', {}), true)
  await until(() => seen.length === 6)
  t.same(seen, ['0 abc 3', '65535 \0\0\0 70000', '2 abc 3', '3  0', '4 xxx 3001', '0 end 3'])
})

t.test('a wrong dispatch is refused', async (t) => {
  await using both = await pair()
  const { mine } = both
  const invalid = { code: 'ERR_COROIPC_INVALID_ARGUMENT' }
  for (const id of [-1, 65536, 1.5, '1'])
    t.throws(() => mine.dispatch('x', { id: id as number }), invalid)
  t.throws(() => mine.dispatch('x', { priority: 1 } as never), invalid)
  t.throws(() => mine.dispatch(5 as never), invalid)
  t.throws(() => mine.dispatch(new Uint8Array(mine.messageBytes + 1)), {
    code: 'ERR_COROIPC_TOO_LARGE',
  })
})

t.test("policy 'error': false, then drain, and nothing that was taken is lost", async (t) => {
  await using both = await pair({ backlogBytes: 20000 }, { dispatchRingBytes: 4096 })
  const { mine, client } = both
  for (const bytes of [100, 3000]) {
    let taken = 0
    while (mine.dispatch(numbered(taken, bytes)))
      if (++taken > 1000) await new Promise(setImmediate)
    t.equal(mine.dispatch('x'), false)
    t.equal(mine.flowControl, true)
    t.ok(mine.stats().overload > 0)
    const drained = new Promise<void>((resolve) => mine.once('drain', resolve))
    const seen: number[] = []
    const read = (message: { payload: Uint8Array }): number => seen.push(index(message.payload))
    client.on('dispatch', read)
    await drained
    t.equal(mine.dispatch(numbered(taken, bytes)), true)
    await until(() => seen.length === taken + 1)
    t.ok(seen.every((each, i) => each === i))
    client.off('dispatch', read)
  }
})

t.test('drain waits for room, with an end', async (t) => {
  await using both = await pair(
    {
      backlogBytes: 20000,
      handlers: {
        // The client reads no dispatches while it waits for this answer.
        0: async (_, connection) => {
          let taken = 0
          while (connection.dispatch(numbered(taken, 3000))) taken++
          const waited = connection.drain({ timeoutMs: 20 }).then(
            () => 'drained',
            ({ code }: { code: string }) => code,
          )
          return `${taken} ${await waited}`
        },
        1: (_, connection) => connection.drain({ timeoutMs: Infinity }),
        2: () => 'done',
      },
    },
    { dispatchRingBytes: 4096 },
  )
  const { mine, client } = both
  await mine.drain()
  const answer = text(await client.request(0, '', { timeoutMs: 30_000 }))
  t.match(answer, /^\d+ ERR_COROIPC_TIMED_OUT$/)
  await t.rejects(mine.drain({ signal: AbortSignal.abort('why') }), {
    code: 'ERR_COROIPC_ABORTED',
    cause: 'why',
  })
  const controller = new AbortController()
  const wait = mine.drain({ signal: controller.signal })
  controller.abort('later')
  await t.rejects(wait, { code: 'ERR_COROIPC_ABORTED', cause: 'later' })
  await t.rejects(mine.drain({ timeoutMs: -1 }), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  const drained = client.request(1)
  const seen: number[] = []
  client.on('dispatch', ({ payload }) => seen.push(index(payload)))
  await drained
  await until(() => seen.length === Number.parseInt(answer))
  t.equal(mine.listenerCount('drain') + mine.listenerCount('close'), 0, 'nothing is left')
  client.removeAllListeners('dispatch')
  // What has been read gives room until the server knows all of it.
  t.equal(text(await client.request(2)), 'done')
  while (mine.dispatch(numbered(0, 3000)));
  const ended = mine.drain({ timeoutMs: Infinity })
  await client.close()
  await t.rejects(ended, { code: 'ERR_COROIPC_DISCONNECTED' })
  await t.rejects(mine.drain(), { code: 'ERR_COROIPC_DISCONNECTED' })
})

t.test('the other policies', async (t) => {
  for (const backlogPolicy of ['drop-oldest', 'drop-newest'] as const) {
    await using both = await pair(
      { backlogPolicy, backlogBytes: 20000 },
      { dispatchRingBytes: 4096 },
    )
    const { mine, client } = both
    for (let i = 0; i < 500; i++) if (!mine.dispatch(numbered(i, 500))) throw new Error('refused')
    await until(() => mine.stats().dropped > 0)
    const seen: number[] = []
    client.on('dispatch', ({ payload }) => seen.push(index(payload)))
    await until(() => !mine.flowControl)
    mine.dispatch(numbered(500, 500))
    await until(() => seen.at(-1) === 500)
    t.ok(
      seen.every((each, i) => i === 0 || each > (seen[i - 1] as number)),
      'in order',
    )
    t.equal(seen.length, 501 - mine.stats().dropped)
    t.equal(seen.includes(499), backlogPolicy === 'drop-oldest')
  }
  await using both = await pair(
    { backlogPolicy: 'disconnect', backlogBytes: 20000 },
    { dispatchRingBytes: 4096 },
  )
  const { mine, client } = both
  const why = new Promise<string>((resolve) => mine.once('close', ({ code }) => resolve(code)))
  for (let i = 0; i < 500 && !mine.closed; i++) {
    mine.dispatch(numbered(i, 500))
    if (i % 50 === 0) await new Promise(setImmediate)
  }
  t.equal(await why, 'ERR_COROIPC_BACKLOG_OVERFLOW')
  await until(() => client.closed)
  t.equal(mine.dispatch('x'), false)
})

t.test('the policy can be changed while it is open', async (t) => {
  await using both = await pair({ backlogBytes: 20000 }, { dispatchRingBytes: 4096 })
  const { mine } = both
  mine.setBacklogPolicy('drop-newest')
  for (let i = 0; i < 200; i++) if (!mine.dispatch(numbered(i, 500))) throw new Error('refused')
  t.throws(() => mine.setBacklogPolicy('none' as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => mine.setPriority('none' as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => mine.setRequestsPerSecond(-1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  mine.setPriority('high')
})

t.test('disconnect: the client sees what was sent before, then the end', async (t) => {
  await using both = await pair()
  const { mine, client } = both
  const seen: string[] = []
  client.on('dispatch', ({ payload }) => seen.push(text(payload)))
  client.on('close', ({ code }) => seen.push(code))
  mine.dispatch('last words')
  mine.disconnect()
  mine.disconnect()
  t.equal(mine.closed, true)
  t.equal(mine.dispatch('x'), false)
  await until(() => seen.length === 2)
  t.same(seen, ['last words', 'ERR_COROIPC_DISCONNECTED'])
})

t.test('hold keeps it past the disconnect, release lets it go', async (t) => {
  await using both = await pair()
  const { server, mine, client } = both
  mine.hold()
  mine.hold()
  await client.close()
  await until(() => mine.closed)
  t.equal(mine.stats().connections, 0, 'its statistics are still there')
  t.equal(mine.dispatch('x'), false)
  mine.release()
  mine.release()
  t.throws(() => mine.release(), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => mine.hold(), { code: 'ERR_COROIPC_DISCONNECTED' })
  t.throws(() => mine.stats(), { code: 'ERR_COROIPC_DISCONNECTED' })
  t.equal([...server.connections()].length, 0)
})

t.test('onDisconnect keeps it until its promise settles', async (t) => {
  let settle: (() => void) | undefined
  await using both = await pair({
    onDisconnect: () => new Promise((resolve) => (settle = resolve)),
  })
  const { mine, client } = both
  const mapped = (): number =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.includes('memfd:coroipc')).length
  const before = mapped()
  await client.close()
  await until(() => settle !== undefined)
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.equal(mine.stats().connections, 0)
  t.equal(mapped(), before - 1, 'the client has let go of its mapping, the server has not')
  settle?.()
  await new Promise(setImmediate)
  await until(() => mapped() === before - 2)
  t.throws(() => mine.stats(), { code: 'ERR_COROIPC_DISCONNECTED' })
})

t.test('a buffer of its own is handed over once', sharedMemory, async (t) => {
  for (const trust of [true, false]) {
    await using both = await pair({ trust: () => trust }, { trustServer: true })
    const { mine, client } = both
    const messages: Uint8Array[] = []
    client.on('dispatch', ({ payload }) => messages.push(payload))
    const buffer = mine.allocate(10000)
    t.equal(buffer.inPlace, trust)
    buffer.bytes.fill(7)
    t.equal(mine.dispatch(buffer), true)
    t.equal(buffer.disposed, true)
    t.equal(buffer.bytes.length, 0)
    t.throws(() => mine.dispatch(buffer), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    const second = mine.allocate(10000)
    second.bytes.fill(8)
    t.equal(mine.dispatch(second.part(10, 20)), true)
    await until(() => messages.length === 2)
    t.ok(messages[0]?.length === 10000 && messages[0].every((byte) => byte === 7))
    t.ok(messages[1]?.length === 20 && messages[1].every((byte) => byte === 8))
    t.throws(() => mine.allocate(0), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    t.throws(() => mine.allocate(mine.messageBytes + 1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    for (let i = 0; i < 50; i++) {
      using unused = mine.allocate(10000)
      if (unused.byteLength !== 10000) throw new Error('no buffer')
    }
  }
})

t.test(
  'whoever fills buffers for a slow client waits for one by drain()',
  sharedMemory,
  async (t) => {
    const limits = { messageBytes: 1 << 20, segments: 4 }
    await using both = await pair({ trust: () => true }, { trustServer: true }, { limits })
    const { mine, client } = both
    const frames = 40
    let waits = 0
    const producer = (async () => {
      for (let i = 0; i < frames; i++) {
        for (;;) {
          try {
            const buffer = mine.allocate(1 << 20)
            buffer.bytes.fill(i)
            if (!mine.dispatch(buffer)) await mine.drain()
            break
          } catch (error) {
            t.match(error, { code: 'ERR_COROIPC_FULL' })
            waits++
            await mine.drain()
          }
        }
      }
    })()
    let next = 0
    for await (const message of client.dispatches()) {
      await new Promise((resolve) => setTimeout(resolve, 2))
      t.ok(message.payload.every((byte) => byte === next))
      if (++next === frames) break
    }
    await producer
    t.ok(waits > 0, `${waits} waits`)
    t.ok(waits <= 2 * frames, 'a wait, not a loop')
  },
)

t.test(
  'all buffers with the client, as its own: FULL, and drain() when one comes back',
  sharedMemory,
  async (t) => {
    const limits = { messageBytes: 1 << 20, segments: 4 }
    await using both = await pair({ trust: () => true }, { trustServer: true }, { limits })
    const { mine, client } = both
    const held = []
    for (let i = 0; i < 4; i++) held.push(await client.allocate(1 << 20))
    t.throws(() => mine.allocate(1 << 20), { code: 'ERR_COROIPC_FULL' })
    let drained = false
    const waiting = mine.drain().then(() => (drained = true))
    await new Promise((resolve) => setTimeout(resolve, 20))
    t.equal(drained, false)
    for (const each of held) each.release()
    await waiting
    mine.allocate(1 << 20).release()
    t.throws(() => mine.allocate(0), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  },
)

t.test('every dispatch that is refused counts as overload', async (t) => {
  for (const bytes of [100, 4000]) {
    await using both = await pair({ backlogBytes: 20_000 }, { dispatchRingBytes: 4096 })
    const { server, mine } = both
    let refused = 0
    for (let i = 0; i < 1000; i++) if (!mine.dispatch(new Uint8Array(bytes))) refused++
    t.ok(refused > 100)
    t.equal(mine.stats().overload, refused)
    t.equal(server.stats({ clear: true }).overload, refused)
    t.equal(server.stats().overload, 0)
    t.equal(mine.stats().overload, 0, "the server's clear is for its connections as well")
    t.equal(mine.dispatch(new Uint8Array(bytes)), false)
    t.equal(mine.stats({ clear: true }).overload, 1)
    t.equal(mine.stats().overload, 0)
  }
})
