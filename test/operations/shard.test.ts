// One name over several worker threads: who gets which connection, what becomes of the others when one crashes, new code
// without a lost call, and the end.
import { readdirSync, readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { type Connection, connect, reconnecting } from '@coroipc/ipcc'
import { shard, shardSocket } from '@coroipc/ipcs'
import t from 'tap'
import { built } from '../support/paths.js'
import { Gauge } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome, text, until } from '../support/wait.js'

const directory = runtimeDirectory(t)
const script = built('test/operations/shard-worker.js')
interface Client {
  request(id: number, payload?: string): Promise<Uint8Array>
}
const whoOf = async (client: Client): Promise<string> => text(await client.request(0))
const placeOf = async (client: Client): Promise<number> =>
  Number((await whoOf(client)).split(' ')[0])

t.test('each worker gets its share, also after some have left', async (t) => {
  const name = freshName()
  await using shards = await shard(script, { name, workers: 3 })
  t.equal(shards.workers.filter((each) => each instanceof Worker).length, 3)
  const open = (): Promise<Connection> => connect(name, { service: 1, timeoutMs: 20_000 })
  const clients = await Promise.all(Array.from({ length: 9 }, open))
  const places = await Promise.all(clients.map(placeOf))
  t.strictSame(
    places.toSorted((a, b) => a - b),
    [0, 0, 0, 1, 1, 1, 2, 2, 2],
  )
  for (const [at, client] of clients.entries()) if (places[at] === 1) await client.close()
  await until('room in worker 1', async () => {
    const next = await open()
    clients.push(next)
    return (await placeOf(next)) === 1
  })
  for (const client of clients) await client.close()
})

t.test('who has said nothing yet counts as a connection, who left no more', async (t) => {
  const name = `${directory}/${freshName()}.sock`
  await using _ = await shard(script, {
    name,
    workers: 2,
    workerData: { handshakeTimeoutMs: 600_000 },
  })
  // Connected sockets of that name, proc(5): the accepted ends.
  const accepted = (): number =>
    readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .filter((line) => line.endsWith(name) && line.split(' ')[5] === '03').length
  const silent: Program[] = []
  t.teardown(() => Promise.all(silent.map((each) => each.kill())))
  for (let each = 1; each <= 5; each++) {
    silent.push(Program.start('stranger', 'client', name, 'silent'))
    await until('it is accepted', () => accepted() === each)
  }
  for (const at of [1, 3]) await silent[at]?.kill()
  await until('the two of one worker are gone', () => accepted() === 3)
  // That worker has none now, the other one has three, and was given more: the next three are all for the first.
  const clients: Connection[] = []
  for (let each = 0; each < 3; each++) clients.push(await connect(name, { service: 1 }))
  const places = await Promise.all(clients.map(placeOf))
  t.equal(new Set(places).size, 1, places.join(' '))
  // Silent ones that go without anybody coming are found out, too.
  for (const at of [0, 2, 4]) await silent[at]?.kill()
  await until('a client for the other worker', async () => {
    const next = await connect(name, { service: 1 })
    clients.push(next)
    return (await placeOf(next)) !== places[0]
  })
  for (const client of clients) await client.close()
})

t.test('more clients than there are slots, while the worker computes', async (t) => {
  const name = freshName()
  await using _ = await shard(script, { name, workers: 1 })
  const first = await connect(name, { service: 1, timeoutMs: 20_000 })
  const before = readdirSync('/proc/self/fd').length
  const computed = first.request(1, '500')
  // Slots are 256, and as many may wait: nobody is forgotten.
  const all = await Promise.allSettled(
    Array.from({ length: 400 }, () => connect(name, { service: 1, timeoutMs: 20_000 })),
  )
  await computed
  const codes = all.map((each) =>
    each.status === 'fulfilled' ? 'OK' : (each.reason as { code: string }).code,
  )
  t.notOk(codes.includes('ERR_COROIPC_TIMED_OUT'), [...new Set(codes)].join(' '))
  for (const each of all) if (each.status === 'fulfilled') await each.value.close()
  await until('nothing of them is left', () => readdirSync('/proc/self/fd').length <= before + 8)
  await first.close()
})

t.test(
  'a user that knocks without end, while the worker computes, pushes out only itself',
  async (t) => {
    if (process.getuid?.() !== 0) {
      t.pass('not run here', { skip: 'needs root, to become another user' })
      return
    }
    const name = `${directory}/${freshName()}.sock`
    await using _ = await shard(script, { name, workers: 1 })
    const first = await connect(name, { service: 1, timeoutMs: 20_000 })
    const peer = await Peer.open()
    t.teardown(() => peer.end())
    await peer.run(() => process.setuid?.(1234))
    const fds = (): number => readdirSync('/proc/self/fd').length
    const knock = (times: number): Promise<void> =>
      peer.run(
        ({ ipcc }, name, times) => {
          for (let at = 0; at < times; at++)
            ipcc.connect(name, { service: 1, timeoutMs: 20_000 }).catch(() => {})
        },
        name,
        times,
      )
    const computed = first.request(1, '4000')
    const before = fds()
    await knock(256)
    await until('its sockets fill the slots', () => fds() >= before + 256)
    const honest = connect(name, { service: 1, timeoutMs: 20_000 })
    await until('and somebody waits', () => fds() >= before + 258) // both ends are of this process
    await knock(400)
    t.equal(
      await Promise.race([computed.then(() => 'has computed'), Promise.resolve('computes')]),
      'computes',
    )
    t.equal(await outcome(honest.then(placeOf)), 'OK')
    await (await honest).close()
    await first.close()
  },
)

t.test('a worker that crashes ends its own connections only, and comes back', async (t) => {
  const name = freshName()
  await using shards = await shard(script, { name, workers: 2, pauseMs: 1 })
  const exits: unknown[] = []
  shards.on('exit', (index, code, error) => exits.push([index, code, (error as Error).message]))
  const [a, b] = [await connect(name, { service: 1 }), await connect(name, { service: 1 })]
  const [inA, inB] = [await whoOf(a), await whoOf(b)]
  t.not(inA, inB)
  await a.request(2)
  await until('the end of its connection', () => a.closed)
  await until('the end of the worker', () => exits.length === 1)
  t.strictSame(exits, [[Number(inA.split(' ')[0]), 1, 'on purpose']])
  t.equal(await whoOf(b), inB, 'the other one goes on')
  await until('the next one', () => shards.workers.every((each) => each !== undefined))
  const again = await connect(name, { service: 1 })
  t.not(await whoOf(again), inA, 'another thread')
  t.equal(await placeOf(again), Number(inA.split(' ')[0]), 'in the place of the one that crashed')
  await again.close()
  await b.close()
})

t.test('reload: every worker is another one, and no call is lost', async (t) => {
  const name = freshName()
  await using shards = await shard(script, { name, workers: 2 })
  const clients = Array.from({ length: 4 }, () =>
    reconnecting(name, { service: 1, pauseMs: 1, pauseMsMax: 5 }),
  )
  const before = new Set(await Promise.all(clients.map(whoOf)))
  t.equal(before.size, 2)
  const stop = new AbortController()
  const seen = new Set<string>()
  const asking = clients.map(async (client) => {
    let asked = 0
    for (; !stop.signal.aborted; asked++)
      seen.add(text(await client.request(3, '1', { timeoutMs: 20_000 })))
    return asked
  })
  await shards.reload()
  stop.abort()
  const asked = await Promise.all(asking)
  t.ok(asked.every((count) => count > 0))
  const after = new Set(await Promise.all(clients.map(whoOf)))
  t.strictSame(
    [...after].filter((each) => before.has(each)),
    [],
  )
  for (const client of clients) await client.close()
})

t.test('close answers what runs, then everything is given back', async (t) => {
  const warm = await shard(script, { name: freshName(), workers: 2 })
  await warm.close()
  const gauge = await Gauge.read()
  const name = freshName()
  const shards = await shard(script, { name, workers: 2 })
  t.equal(await outcome(shard(script, { name })), 'ERR_COROIPC_ADDRESS_IN_USE')
  const client = await connect(name, { service: 1 })
  const running = client.request(3, '50')
  await whoOf(client) // behind the other one in the ring: that has been read
  const closing = shards.close({ timeoutMs: 20_000 })
  t.ok(text(await running))
  await closing
  t.equal(await outcome(connect(name, { service: 1 })), 'ERR_COROIPC_CONNECT_REFUSED')
  await client.close()
  t.equal(await gauge.settled(), '')
})

t.test(
  'a worker that does not come to listen: an error at first, later tried again and again',
  async (t) => {
    const pauses: number[] = []
    const note = (): void => {}
    const error = (details: object): unknown =>
      pauses.push((details as { pauseMs: number }).pauseMs)
    const log = { debug: note, info: note, warn: note, error }
    const name = freshName()
    t.teardown(() => delete process.env['SHARD_FAILS'])
    process.env['SHARD_FAILS'] = ''
    await t.rejects(shard(script, { name, workers: 2 }), {
      code: 'ERR_COROIPC_PEER_DEAD',
      cause: { message: 'never starts' },
    })
    delete process.env['SHARD_FAILS']
    await using shards = await shard(script, { name, workers: 1, pauseMs: 1, log })
    process.env['SHARD_FAILS'] = ''
    await t.rejects(shards.reload(), { code: 'ERR_COROIPC_PEER_DEAD' })
    await using client = reconnecting(name, { service: 1, pauseMs: 1 })
    const before = await whoOf(client)
    await client.request(2)
    await until('some attempts', () => pauses.length >= 4)
    t.strictSame(pauses.slice(0, 4), [1, 2, 4, 8])
    delete process.env['SHARD_FAILS']
    t.not(text(await client.request(0, '', { timeoutMs: 20_000 })), before)
  },
)

t.test('wrong arguments', async (t) => {
  t.equal(shardSocket(), undefined, 'this is no worker of shard')
  for (const wrong of [{ workers: 0 }, { name: '' }, { balance: 'fair' }, { pauseMs: 0 }])
    await t.rejects(shard(script, { name: freshName(), ...wrong }), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
    })
})
