// Handlers that block their thread, throw, or never answer: what it costs their own clients, and that it costs others
// nothing but the time in which the thread is blocked. Each story says what was not as it should be; a server that does wrong
// (`mutant`) has to be told by it.
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { failure, outcome, until } from '../support/wait.js'

runtimeDirectory(t)
const BLOCKED_MS = 1000

type Mutant = 'reverses' | 'swallows' | 'serves one by one'

/** 0 echo, 1 blocks, 2 throws, 3 rejects, 4 never answers. */
async function startServer(name: string, mutant?: Mutant): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs, state }, name, blockedMs, mutant) => {
      state.errors = 0
      state.server = new ipcs.Server({ limits: { requestsInFlight: 64 } })
      state.server.on('error', () => state.errors++)
      const waiting: { respond(payload: Uint8Array): void; payload: Uint8Array }[] = []
      const reversed = (request: (typeof waiting)[number] & { defer(): void }): void => {
        request.defer()
        waiting.push(request)
        setImmediate(() => waiting.pop()?.respond(request.payload))
      }
      const no = (): void => {
        if (mutant !== 'swallows') throw new Error('no')
      }
      state.server.addService({
        id: 1,
        serialize: mutant === 'serves one by one',
        handlers: {
          0:
            mutant === 'reverses'
              ? reversed
              : (request: { payload: Uint8Array }) => request.payload,
          1: () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockedMs),
          2: no,
          3: async () => no(),
          4: (request: { defer(): void }) =>
            mutant === 'serves one by one' ? new Promise(() => {}) : request.defer(),
        },
      })
      await state.server.listen(name)
    },
    name,
    BLOCKED_MS,
    mutant,
  )
  return peer
}

const stats = (server: Peer): Promise<Record<string, number>> =>
  server.run(({ state }) => ({ ...state.server.stats(), errors: state.errors }))

/** What of this does not hold. */
const wrongs = (checks: Readonly<Record<string, boolean>>): string =>
  Object.entries(checks)
    .filter(([, held]) => !held)
    .map(([what]) => what)
    .join('; ')

const agrees = (seen: Readonly<Record<string, number>>, wanted: Record<string, number>): boolean =>
  Object.entries(wanted).every(([name, value]) => seen[name] === value)

/** A handler that blocks for a second: what came meanwhile is answered in order. */
async function blocks(mutant?: Mutant): Promise<string> {
  const name = freshName()
  await using server = await startServer(name, mutant)
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
  const took = performance.now() - began
  const rung = other.stats().doorbellsSent - before.doorbellsSent
  return wrongs({
    [`somebody was served meanwhile: ${took} ms`]: took >= BLOCKED_MS - 50,
    'not in order': order.every((each, i) => each === i),
    [`${order.length} of 500 answered`]: order.length === 500,
    [`one that is awake was rung for: ${rung} times`]: rung < 100,
    'something grew': (await gauge.settled()) === '',
  })
}

/** Handlers that throw and reject, among others that do not. */
async function throws(mutant?: Mutant): Promise<string> {
  const name = freshName()
  await using server = await startServer(name, mutant)
  await using connection = await connect(name, { service: 1 })
  const codes = ['OK', 'ERR_COROIPC_HANDLER_FAILED', 'ERR_COROIPC_HANDLER_REJECTED']
  const ids = [0, 2, 3]
  const said = await Promise.all(
    Array.from({ length: 900 }, (_, i) => outcome(connection.request(ids[i % 3] as number, 'x'))),
  )
  const seen = await stats(server)
  const kept = { errors: 600, connections: 1, inFlight: 0, protocolErrors: 0 }
  return wrongs({
    'an outcome is another': said.every((each, i) => each === codes[i % 3]),
    [`the server says ${JSON.stringify(seen)}`]: agrees(seen, kept),
  })
}

/** A handler that never answers costs its client its own slots, and nobody else. */
async function neverAnswers(mutant?: Mutant): Promise<string> {
  const name = freshName()
  await using server = await startServer(name, mutant)
  const connection = await connect(name, { service: 1 })
  await using other = await connect(name, { service: 1 })
  const calls = Array.from({ length: 64 }, () => failure(connection.request(4, 'x')))
  await until('all of them', async () => (await stats(server))['inFlight'] === 64)
  const queued = await failure(connection.request(0, 'x', { timeoutMs: 100 }))
  const sync = await failure(() => connection.requestSync(0, 'x', { timeoutMs: 100 }))
  const served = await Promise.all(
    Array.from({ length: 200 }, () => outcome(other.request(0, 'on', { timeoutMs: 2000 }))),
  )
  const meanwhile = await stats(server)
  await connection.close()
  const ended = await Promise.all(calls)
  const said = wrongs({
    'not 64 in flight': connection.requestsInFlight === 64,
    [`the 65th: ${queued.code}`]: queued.code === 'ERR_COROIPC_TIMED_OUT' && queued.sent === false,
    [`a blocking one: ${sync.code}`]: sync.code === 'ERR_COROIPC_LIMIT',
    'others wait': served.every((each) => each === 'OK'),
    [`the server says ${JSON.stringify(meanwhile)}`]: agrees(meanwhile, {
      inFlight: 64,
      connections: 2,
    }),
    'an end is another': ended.every(({ code }) => code === 'ERR_COROIPC_UNKNOWN_OUTCOME'),
  })
  if (said === '') await until('their end', async () => (await stats(server))['inFlight'] === 0)
  return said
}

t.test('a handler that blocks: what came meanwhile is answered in order', async (t) =>
  t.equal(await blocks(), ''),
)
t.test('handlers that throw and reject, among others that do not', async (t) =>
  t.equal(await throws(), ''),
)
t.test('a handler that never answers costs its client its own slots, nobody else', async (t) =>
  t.equal(await neverAnswers(), ''),
)

for (const [mutant, story, says] of [
  ['reverses', blocks, 'order'],
  ['swallows', throws, 'an outcome is another'],
  ['serves one by one', neverAnswers, 'others wait'],
] as const)
  t.test(`a server that ${mutant} is told`, async (t) => {
    t.match(await story(mutant), says)
  })
