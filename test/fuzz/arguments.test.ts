// The argument checks of the JavaScript API: every public function is called with anything at all, and with what is nearly
// right. It works, or says ERR_COROIPC_INVALID_ARGUMENT by a TypeError or RangeError and has sent nothing, or fails
// as its page in docs/reference says (an IpcError). Whatever else it throws, or a crash, is a finding.
//
// COROIPC_FUZZ_SEED repeats a run, COROIPC_FUZZ_RUNS makes it longer; what fails is made small by fast-check.
import * as ipcc from '@coroipc/ipcc'
import * as ipcs from '@coroipc/ipcs'
import * as fc from 'fast-check'
import t, { type Test } from 'tap'
import { Peer } from '../support/peer.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'

const seed = Number(process.env['COROIPC_FUZZ_SEED'] ?? Math.floor(Math.random() * 0x7fffffff))
const numRuns = Number(process.env['COROIPC_FUZZ_RUNS'] ?? 300)
t.comment(`COROIPC_FUZZ_SEED=${seed} COROIPC_FUZZ_RUNS=${numRuns}`)
runtimeDirectory(t)

type Arguments = unknown[]
type Callee = (...args: Arguments) => unknown

// -- arguments ----------------------------------------------------------------------------------------

const detached = new Uint8Array(8)
structuredClone(detached.buffer, { transfer: [detached.buffer] })
Object.assign(detached, { [fc.toStringMethod]: () => 'a detached array' })

const numbers = fc.oneof(
  fc.integer(),
  fc.double(),
  fc.constantFrom(
    0,
    -0,
    -1,
    1,
    0.5,
    7,
    65535,
    65536,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    Infinity,
  ),
)
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 32 }),
  fc.constantFrom(
    detached,
    Buffer.from('text'),
    new Uint8Array(70_000),
    new Uint8Array(new SharedArrayBuffer(16)),
    new Float64Array(2),
    new DataView(new ArrayBuffer(4)),
    new ArrayBuffer(4),
  ),
)
const functions = fc.constantFrom<unknown>(
  () => undefined,
  async () => 'x',
)
const words = fc.constantFrom(
  'adaptive',
  'spin',
  'sleep',
  'error',
  'drop-oldest',
  'high',
  'accept',
  '',
)
const value: fc.Arbitrary<unknown> = fc.oneof(
  numbers,
  bytes,
  fc.array(fc.oneof(bytes, fc.string()), { maxLength: 4 }),
  fc.string(),
  words,
  fc.boolean(),
  functions,
  fc.constantFrom(undefined, null, new AbortController().signal, AbortSignal.abort()),
  fc.anything({ withBigInt: true, withNullPrototype: true, withTypedArray: true }),
)
/** Nobody waits longer than this for what a sample asked for. */
const brief = (sample: unknown): unknown =>
  typeof sample === 'number' && sample > 5 ? (sample % 1 === 0 ? 5 : Number.NaN) : sample
const time = value.map(brief)
/** An options object with some of these keys, or anything. */
const options = (keys: readonly string[], right: Record<string, fc.Arbitrary<unknown>> = {}) =>
  fc.oneof(
    {
      arbitrary: fc.record(
        Object.fromEntries(
          keys.map((key) => [
            key,
            fc.oneof(right[key] ?? value, key.endsWith('Ms') ? time : value),
          ]),
        ),
        { requiredKeys: [] },
      ),
      weight: 6,
    },
    { arbitrary: time, weight: 1 },
    { arbitrary: fc.constant({ misspelt: 1 }), weight: 1 },
  )
const id = fc.oneof(fc.nat(3), value)
const payload = fc.oneof(bytes, fc.string(), value)
const ms = { timeoutMs: fc.constantFrom(1, 5) }
const request = options(['timeoutMs', 'signal', 'full', 'inPlace', 'into'], ms)

// -- the judge ----------------------------------------------------------------------------------------

const refused = (error: unknown): boolean =>
  (error as { code?: unknown }).code === 'ERR_COROIPC_INVALID_ARGUMENT'

/** What is wrong with an error; undefined: nothing. */
function wrong(error: unknown): string | undefined {
  if (!(error instanceof Error)) return `not an Error: ${String(error)}`
  if (refused(error))
    return error instanceof TypeError || error instanceof RangeError
      ? undefined
      : 'of a wrong class'
  return error instanceof ipcc.IpcError ? undefined : error.stack
}

/** Gives back what a call that worked has handed out. */
async function dispose(result: unknown): Promise<void> {
  const open = result as { release?: () => void; close?: () => unknown; return?: () => unknown }
  if (typeof result !== 'object' || result === null) return
  if (typeof open.close === 'function') await open.close()
  else if (typeof open.release === 'function') open.release()
  else if (typeof open.return === 'function') await open.return()
}

interface Subject {
  /** Made before each call. */
  readonly callee: () => Callee | Promise<Callee>
  readonly args: fc.Arbitrary<Arguments>
  /** Found once, tried each time. */
  readonly known?: Arguments[]
  /** What grows when something is sent. */
  readonly sent?: () => number
}

async function called({ callee, sent }: Subject, args: Arguments): Promise<void> {
  const call = await callee()
  const before = sent?.()
  try {
    await dispose(await call(...args))
  } catch (error) {
    const why = wrong(error)
    if (why !== undefined) throw new Error(`it threw what it must not: ${why}`, { cause: error })
    if (refused(error) && sent?.() !== before)
      throw new Error('refused, and something was sent', { cause: error })
  }
}

const check = (subject: Subject, runs = numRuns): Promise<void> =>
  fc.assert(
    fc.asyncProperty(subject.args, (args) => called(subject, args)),
    {
      seed,
      numRuns: runs,
      examples: (subject.known ?? []).map((args): [Arguments] => [args]),
    },
  )

async function each(
  t: Test,
  subjects: Readonly<Record<string, Subject>>,
  runs = numRuns,
): Promise<void> {
  for (const [name, subject] of Object.entries(subjects)) {
    const started = performance.now()
    try {
      await check(subject, runs)
      t.pass(`${name}: ${runs} calls, ${Math.round(performance.now() - started)} ms`)
    } catch (error) {
      const { stack, cause } = error as Error
      t.fail(name, { details: stack, cause: String(cause) })
    }
  }
}

const refusal = (make: typeof TypeError | typeof Error): Error =>
  Object.assign(new make('no'), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })

for (const [mistake, call] of Object.entries<Callee>({
  'throws any error': () => {
    throw new Error('no')
  },
  'throws no error': async () => {
    throw 'no' // oxlint-disable-line no-throw-literal
  },
  'refuses by another class': () => {
    throw refusal(Error)
  },
}))
  t.test(`a call that ${mistake} is told`, async (t) => {
    const subject = { callee: () => call, args: fc.tuple(value) }
    await t.rejects(check(subject), { cause: { message: /it threw what it must not/ } })
  })

t.test('a call that sends and then refuses is told, one that refuses first is not', async (t) => {
  let messages = 0
  const sends = (first: boolean): Callee => {
    return (given) => {
      if (first) messages++
      if (typeof given !== 'number') throw refusal(TypeError)
      if (!first) messages++
    }
  }
  const args = fc.tuple(fc.oneof(numbers, bytes))
  const sent = (): number => messages
  await t.rejects(check({ callee: () => sends(true), args, sent }), {
    cause: { message: /something was sent/ },
  })
  await t.resolves(check({ callee: () => sends(false), args, sent }))
})

// -- the client ---------------------------------------------------------------------------------------

const connectKeys = [
  'service',
  'timeoutMs',
  'requestTimeoutMs',
  'server',
  'trustServer',
  'wait',
  'requestRingBytes',
  'responseRingBytes',
  'dispatchRingBytes',
  'messageBytes',
  'requestsInFlight',
  'queuedRequests',
  'queueBytes',
  'inboxBytes',
  'latency',
  'signal',
]

t.test('the client', async (t) => {
  await using peer = await Peer.open()
  const name = freshName()
  await peer.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    state.server.addService({
      id: 1,
      handlers: { 0: (request: ipcs.Request) => request.payload, 1: () => ['a', 'b'] },
    })
    await state.server.listen(name)
  }, name)
  let connection = await ipcc.connect(name, { service: 1, requestTimeoutMs: 5 })
  t.teardown(() => connection.close())
  let buffer = await connection.allocate(4096)
  t.teardown(() => buffer.release())
  const open = async (): Promise<ipcc.Connection> => {
    if (connection.closed) {
      connection = await ipcc.connect(name, { service: 1, requestTimeoutMs: 5 })
      buffer = await connection.allocate(4096)
    }
    return connection
  }
  const method = (key: keyof ipcc.Connection) => async (): Promise<Callee> => {
    const on = await open()
    return (on[key] as Callee).bind(on)
  }
  const sent = (): number => connection.stats().bytesSent + connection.stats().requests
  const names = fc.oneof(fc.constant(name), value)
  const connectOptions = options(connectKeys, { service: fc.constantFrom(1, 1, 2), ...ms })
  await each(t, {
    request: {
      callee: method('request'),
      args: fc.tuple(id, payload, request),
      known: [[0n]],
      sent,
    },
    'request with a callback': {
      callee: method('request'),
      args: fc.tuple(
        id,
        payload,
        fc.constant(() => {}),
      ),
      sent,
    },
    requestSync: {
      callee: method('requestSync'),
      args: fc.tuple(id, payload, request),
      known: [[0n]],
      sent,
    },
    requestTransient: {
      callee: method('requestTransient'),
      args: fc.tuple(id, payload, fc.oneof(functions, value)),
      known: [[0n]],
      sent,
    },
    transientDispatches: {
      callee: async () => {
        const on = await open()
        return (listener) => on.transientDispatches(listener as ipcc.TransientListener)()
      },
      args: fc.tuple(fc.oneof(functions, value)),
      sent,
    },
    send: { callee: method('send'), args: fc.tuple(id, payload), known: [[0n]], sent },
    allocate: { callee: method('allocate'), args: fc.tuple(value, request), sent },
    allocateSync: { callee: method('allocateSync'), args: fc.tuple(value, request), sent },
    dispatchSync: { callee: method('dispatchSync'), args: fc.tuple(request), sent },
    dispatches: { callee: method('dispatches'), args: fc.tuple(options(['signal'])), sent },
    stats: { callee: method('stats'), args: fc.tuple(options(['clear'])) },
    part: {
      callee:
        () =>
        async (...args) =>
          void buffer.part(...(args as [number, number])),
      args: fc.tuple(value, value),
      known: [[Object.create(null)], [0, null]],
    },
  })
  await each(
    t,
    {
      connect: { callee: () => ipcc.connect as Callee, args: fc.tuple(names, connectOptions) },
      connectSync: {
        callee: () => ipcc.connectSync as Callee,
        args: fc.tuple(names, connectOptions),
      },
      reconnecting: {
        callee: () => ipcc.reconnecting as Callee,
        args: fc.tuple(names, options([...connectKeys, 'minDelayMs', 'maxDelayMs'])),
      },
      probe: {
        callee: () => ipcc.probe as Callee,
        args: fc.tuple(names, options(['service', 'timeoutMs', 'signal'], ms)),
      },
      close: { callee: method('close'), args: fc.tuple(options(['timeoutMs'], ms)), sent },
    },
    Math.ceil(numRuns / 3),
  )
})

t.test('a client that comes back', async (t) => {
  await using server = new ipcs.Server()
  let came = 0
  server.addService({
    id: 1,
    handlers: {
      0: () => {
        came++
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  await using client = ipcc.reconnecting(name, { service: 1, requestTimeoutMs: 5 })
  const method = (key: 'request' | 'send') => (): Callee => (client[key] as Callee).bind(client)
  const args = fc.tuple(id, payload, request)
  await each(t, {
    request: { callee: method('request'), args, known: [[0n]], sent: () => came },
    send: { callee: method('send'), args: fc.tuple(id, payload), sent: () => came },
  })
})

// -- the server ---------------------------------------------------------------------------------------

const limitKeys = Object.keys(ipcs.defaultLimits)
const serverKeys = [
  'authorize',
  'limits',
  'select',
  'wait',
  'poll',
  'log',
  'serialize',
  'latency',
  'authorizeTimeoutMs',
  'handshakeTimeoutMs',
  'allowUnmapped',
  'prefault',
]
const serviceKeys = [
  'id',
  'handlers',
  'context',
  'onConnect',
  'onDisconnect',
  'admit',
  'onAdmitted',
  'trust',
  'priority',
  'requestsPerSecond',
  'backlogPolicy',
  'backlogBytes',
  'serialize',
]

t.test('the server', async (t) => {
  const server = new ipcs.Server()
  t.teardown(() => server.close({ timeoutMs: 0 }))
  let connection: ipcs.Connection | undefined
  let pending: ipcs.Request | undefined
  let came = () => {}
  server.addService({
    id: 1,
    onConnect: (each) => {
      connection = each
    },
    handlers: {
      0: (request) => {
        request.defer()
        pending = request
        came()
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  await using peer = await Peer.open()
  await peer.run(async ({ ipcc, state }, name) => {
    state.connection = await ipcc.connect(name, { service: 1 })
    state.connection.on('dispatch', () => {})
  }, name)
  const client = connection as unknown as ipcs.Connection
  const method = (key: keyof ipcs.Connection) => (): Callee => (client[key] as Callee).bind(client)
  const sent = (): number => client.stats().bytesSent + client.stats().dispatches
  // A request that waits for its answer, whose method is to be called.
  const pendingRequest = async (): Promise<ipcs.Request> => {
    const arrived = new Promise<void>((resolve) => {
      came = resolve
    })
    peer.start(({ state }) => state.connection.request(0, 'x', () => {}))
    await arrived
    return pending as ipcs.Request
  }
  // Names that lead nowhere outside the runtime directory.
  const listenable = (sample: unknown): unknown =>
    typeof sample === 'string' ? sample.replaceAll('/', '_') : sample
  await each(t, {
    dispatch: {
      callee: method('dispatch'),
      args: fc.tuple(payload, options(['id'])),
      known: [
        ['', null],
        ['', { id: 0n }],
      ],
      sent,
    },
    drain: { callee: method('drain'), args: fc.tuple(options(['timeoutMs', 'signal'], ms)), sent },
    allocate: { callee: method('allocate'), args: fc.tuple(value), sent },
    setRequestsPerSecond: {
      callee: () => (rate) => {
        client.setRequestsPerSecond(rate as number)
        client.setRequestsPerSecond(Infinity)
      },
      args: fc.tuple(value),
      sent,
    },
    setPriority: { callee: method('setPriority'), args: fc.tuple(fc.oneof(words, value)), sent },
    setBacklogPolicy: {
      callee: () => (policy) => {
        if (policy !== 'disconnect') client.setBacklogPolicy(policy as 'error')
      },
      args: fc.tuple(fc.oneof(words, value)),
      sent,
    },
    'connection.stats': { callee: method('stats'), args: fc.tuple(options(['clear'])) },
    'server.stats': {
      callee: () => server.stats.bind(server) as Callee,
      args: fc.tuple(options(['clear'])),
    },
    'server.process': { callee: () => server.process.bind(server) as Callee, args: fc.tuple(time) },
    'server.run': {
      callee: () => server.run.bind(server) as Callee,
      args: fc.tuple(options(['timeoutMs'], ms)),
    },
    handlerAccept: {
      callee: () => server.handlerAccept.bind(server) as Callee,
      args: fc.tuple(value),
    },
    handlerDispatch: {
      callee: () => server.handlerDispatch.bind(server) as Callee,
      args: fc.tuple(value, value),
    },
    inherited: { callee: () => ipcs.inherited as Callee, args: fc.tuple(value) },
    // Nothing that would start a process, or a worker.
    handOver: {
      callee: () => ipcs.handOver as Callee,
      args: fc.tuple(
        fc.oneof(value, fc.constant([]), fc.constant(new ipcs.Server())),
        options(['command', 'args', 'cwd', 'env', 'readyTimeoutMs', 'timeoutMs']),
      ),
      known: [[5], [null], [[]], [[undefined]], [{}]],
    },
    shard: {
      callee: () => ipcs.shard as Callee,
      args: fc.tuple(
        value.filter((script) => typeof script !== 'string'),
        options(['name', 'workers', 'workerData', 'pauseMs', 'pauseMsMax', 'log']),
      ),
    },
    closeService: {
      callee: () => async (service) => {
        if (service !== 1) await server.closeService(service as number)
      },
      args: fc.tuple(value),
    },
    'new Server': {
      callee: () => (given) => new ipcs.Server(given as ipcs.ServerOptions),
      args: fc.tuple(options(serverKeys, { limits: options(limitKeys) })),
    },
    addService: {
      callee: () => (given) => {
        const other = new ipcs.Server()
        try {
          other.addService(given as ipcs.ServiceOptions)
        } finally {
          void other.close({ timeoutMs: 0 })
        }
      },
      args: fc.tuple(options(serviceKeys, { id: fc.nat(65535) })),
    },
    listen: {
      callee: () => async (where) => {
        await using other = new ipcs.Server()
        await other.listen(listenable(where) as string)
      },
      args: fc.tuple(fc.oneof(fc.string(), fc.record({ fd: value }), value)),
    },
  })
  await each(
    t,
    {
      respond: {
        callee: async () => {
          const to = await pendingRequest()
          return (...args) => {
            try {
              to.respond(...(args as []))
            } finally {
              to.respond('') // if that was refused: the client counts its requests
            }
          }
        },
        args: fc.tuple(payload, options(['status'])),
      },
      fail: {
        callee: async () => {
          const to = await pendingRequest()
          return to.fail.bind(to) as Callee
        },
        args: fc.tuple(value),
      },
    },
    Math.ceil(numRuns / 3),
  )
})

// -- the judge itself ---------------------------------------------------------------------------------

t.test('mistakes are found', async (t) => {
  let count = 0
  const sends: Subject = {
    callee: () => (ms) => {
      count++
      if (typeof ms !== 'number')
        throw Object.assign(new TypeError('ms'), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    },
    args: fc.tuple(value),
    sent: () => count,
  }
  const forgets: Subject = {
    callee: () => (given) => (given as { timeoutMs: number }).timeoutMs.toFixed(),
    args: fc.tuple(options(['timeoutMs'])),
  }
  for (const [subject, why] of [
    [sends, /something was sent/],
    [forgets, /threw what it must not/],
  ] as const) {
    const { cause } = (await check(subject).catch((error: unknown) => error as Error)) as Error
    t.match(String(cause), why)
  }
})
