// Services: registration, hooks, admission, selection, serialisation, trust.
import { connect } from '@coroipc/ipcc'
import { type Admission, IpcError, type Request, Server, type ServiceOptions } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { sharedMemory } from '../support/shared-memory.js'

async function serve<C>(
  options: Partial<ServiceOptions<C>>,
  serverOptions: object = {},
): Promise<Server<C> & { name: string }> {
  const server = new Server<C>(serverOptions)
  server.addService({ id: 1, ...options })
  const name = freshName()
  await server.listen(name)
  return Object.assign(server, { name })
}

/** The options that have `call` as this hook, or as handler 0. */
function hookOf(hook: string, call: () => never): Partial<ServiceOptions> {
  if (hook === 'authorize') return {}
  return hook.startsWith('on') ? { [hook]: call } : { handlers: { 0: call } }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

t.test('wrong options name what was expected and what came', (t) => {
  const server = new Server()
  t.teardown(() => server.close())
  const wrong: [unknown, RegExp][] = [
    [{}, /service.id: expected an integer from 0 to 65535, got undefined/],
    [{ id: 65536 }, /service.id: expected an integer from 0 to 65535, got 65536/],
    [{ id: -1 }, /service.id/],
    [{ id: 1, handler: {} }, /service.handler: expected an option among id, handlers/],
    [{ id: 1, handlers: { 65536: () => '' } }, /service.handlers: expected ids from 0 to 65535/],
    [{ id: 1, handlers: { x: () => '' } }, /service.handlers: expected ids/],
    [{ id: 1, handlers: new Map([[-1, () => '']]) }, /service.handlers: expected ids/],
    [{ id: 1, handlers: { 0: 'x' } }, /service.handlers\[0\]: expected a function, got 'x'/],
    [{ id: 1, handlers: 5 }, /service.handlers/],
    [{ id: 1, admit: true }, /service.admit: expected a function/],
    [{ id: 1, priority: 'urgent' }, /service.priority: expected one of 'low', 'normal', 'high'/],
    [{ id: 1, requestsPerSecond: -1 }, /service.requestsPerSecond/],
    [{ id: 1, backlogPolicy: 'drop' }, /service.backlogPolicy/],
    [5, /service: expected an object/],
  ]
  for (const [options, message] of wrong) {
    t.throws(() => server.addService(options as { id: number }), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message,
    })
  }
  server.addService({ id: 1 })
  t.throws(() => server.addService({ id: 1 }), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.end()
})

t.test('the first and the last service and id', async (t) => {
  await using server = new Server()
  for (const id of [0, 65535]) {
    server.addService({
      id,
      handlers: new Map([0, 1023, 1024, 65535].map((each) => [each, () => `${id} ${each}`])),
    })
  }
  const name = freshName()
  await server.listen(name)
  for (const service of [0, 65535]) {
    await using connection = await connect(name, { service })
    for (const id of [0, 1023, 1024, 65535])
      t.equal(text(await connection.request(id)), `${service} ${id}`)
    for (const id of [1, 1025, 65534])
      await t.rejects(connection.request(id), { code: 'ERR_COROIPC_NO_HANDLER' })
  }
})

t.test('select is asked first, and serves what was not added', async (t) => {
  const asked: string[] = []
  await using server = await serve(
    { handlers: { 0: () => 'own', 1: () => 'own' } },
    {
      select: (service: number, id: number) => {
        asked.push(`${service}.${id}`)
        return id === 0 ? () => 'selected' : undefined
      },
    },
  )
  await using known = await connect(server.name, { service: 1 })
  t.equal(text(await known.request(0)), 'selected')
  t.equal(text(await known.request(1)), 'own')
  await using unknown = await connect(server.name, { service: 777 })
  t.equal(text(await unknown.request(0)), 'selected')
  await t.rejects(unknown.request(1), { code: 'ERR_COROIPC_NO_HANDLER' })
  t.same(asked, ['1.0', '1.1', '777.0', '777.1'])
})

t.test('context, onConnect and onDisconnect', async (t) => {
  const events: string[] = []
  await using server = await serve<{ count: number }>({
    context: (connection) => {
      events.push(`context ${connection.credentials.pid === process.pid}`)
      return { count: 0 }
    },
    onConnect: (connection) => {
      events.push('connect')
      t.equal(connection.dispatch('welcome'), true)
    },
    onDisconnect: (connection, reason) => {
      events.push(`disconnect ${connection.context.count} ${reason.code}`)
    },
    handlers: { 0: (_, connection) => String(++connection.context.count) },
  })
  const connection = await connect(server.name, { service: 1 })
  t.equal(text(await connection.request(0)), '1')
  t.equal(text(await connection.request(0)), '2')
  t.equal(text(connection.dispatchSync(0)?.payload), 'welcome', 'what onConnect sends arrives')
  await connection.close()
  await until(() => events.length === 3)
  t.same(events, ['context true', 'connect', 'disconnect 2 ERR_COROIPC_DISCONNECTED'])
})

t.test('a hook that throws ends that connection only', async (t) => {
  for (const hook of ['context', 'onConnect'] as const) {
    let fail = true
    const errors: IpcError[] = []
    await using server = await serve({
      [hook]: () => {
        if (fail) throw new Error('on purpose')
      },
      handlers: { 0: () => 'x' },
    })
    server.on('error', (error) => errors.push(error))
    const connection = await connect(server.name, { service: 1 })
    await until(() => connection.closed)
    t.match(errors, [{ code: 'ERR_COROIPC_HANDLER_FAILED', cause: { message: 'on purpose' } }])
    t.ok(errors[0]?.message.startsWith(`${hook}: `), 'the message names the hook')
    fail = false
    await using second = await connect(server.name, { service: 1 })
    t.equal(text(await second.request(0)), 'x')
    await connection.close()
  }
})

t.test(
  'what any hook throws is an IpcError at the error event, with the hook and the cause',
  async (t) => {
    const thrown = 'not even an Error'
    const fail = (): never => {
      throw thrown
    }
    const reject = (): Promise<never> => Promise.reject(thrown)
    const hooks: [hook: string, code: string, options: object, server?: object][] = [
      ['authorize', 'ERR_COROIPC_HANDLER_FAILED', {}, { authorize: fail }],
      ['authorize', 'ERR_COROIPC_HANDLER_REJECTED', {}, { authorize: reject }],
      ['trust', 'ERR_COROIPC_HANDLER_FAILED', { trust: fail }],
      ['context', 'ERR_COROIPC_HANDLER_FAILED', { context: fail }],
      ['onConnect', 'ERR_COROIPC_HANDLER_FAILED', { onConnect: fail }],
      ['onConnect', 'ERR_COROIPC_HANDLER_REJECTED', { onConnect: reject }],
      ['onDisconnect', 'ERR_COROIPC_HANDLER_FAILED', { onDisconnect: fail }],
      ['onDisconnect', 'ERR_COROIPC_HANDLER_REJECTED', { onDisconnect: reject }],
      ['onAdmitted', 'ERR_COROIPC_HANDLER_FAILED', { onAdmitted: fail }],
      ['request 0 of service 1', 'ERR_COROIPC_HANDLER_FAILED', { admit: fail }],
    ]
    for (const [hook, code, options, serverOptions] of hooks) {
      await using server = await serve({ ...options, handlers: { 0: () => 'x' } }, serverOptions)
      const errors: IpcError[] = []
      server.on('error', (error) => errors.push(error))
      const connection = await connect(server.name, { service: 1 }).catch(() => undefined)
      await connection?.request(0).catch(() => {})
      await connection?.close()
      await until(() => errors.length > 0)
      t.ok(IpcError.is(errors[0]), hook)
      t.match(errors, [{ code, cause: thrown }], `${hook} ${code}`)
      t.ok(errors[0]?.message.startsWith(`${hook}: `), `${errors[0]?.message}`)
    }
  },
)

t.test('a hook whose result cannot be looked at stops nobody else', async (t) => {
  const uncaught: unknown[] = []
  const onUncaught = (error: unknown): unknown => uncaught.push(error)
  process.on('uncaughtException', onUncaught)
  t.teardown(() => process.off('uncaughtException', onUncaught))
  const fail = (): never => {
    throw new Error('on purpose')
  }
  const { proxy: revoked, revoke } = Proxy.revocable({}, {})
  revoke()
  const results: [what: string, result: unknown, code: string][] = [
    ['a getter', new Proxy({}, { get: fail }), 'ERR_COROIPC_HANDLER_FAILED'],
    ['a revoked proxy', revoked, 'ERR_COROIPC_HANDLER_FAILED'],
    ['then()', new Proxy({}, { get: () => fail }), 'ERR_COROIPC_HANDLER_REJECTED'],
    [
      'then() of a promise',
      Object.defineProperty(Promise.resolve(), 'constructor', { get: fail }),
      'ERR_COROIPC_HANDLER_REJECTED',
    ],
  ]
  for (const hook of ['authorize', 'onConnect', 'onDisconnect', 'request 0 of service 1'])
    for (const [what, result, code] of results) {
      let first = true
      const once = (): never => {
        const given = first ? result : hook === 'authorize' ? true : 'x'
        first = false
        return given as never
      }
      await using server = await serve(
        { serialize: true, handlers: { 0: () => 'x' }, ...hookOf(hook, once) },
        hook === 'authorize' ? { authorize: once } : {},
      )
      const errors: IpcError[] = []
      server.on('error', (error) => errors.push(error))
      const connection = await connect(server.name, { service: 1 }).catch(() => undefined)
      t.equal(connection === undefined, hook === 'authorize', 'refused')
      await connection?.request(0).catch(() => {})
      await connection?.close()
      await until(() => errors.length > 0)
      t.match(errors, [{ code }], `${hook}: ${what}`)
      t.ok(errors[0]?.message.startsWith(`${hook}: `), `${errors[0]?.message}`)
      await using second = await connect(server.name, { service: 1 })
      t.equal(text(await second.request(0, '', { timeoutMs: 5000 })), 'x', 'the next is served')
    }
  t.same(uncaught, [])
})

t.test('admit says accept, retry or refuse; onAdmitted always follows', async (t) => {
  const log: string[] = []
  await using server = await serve({
    admit: (request) => {
      const verdict = text(request.payload)
      log.push(verdict)
      if (verdict === 'throw') throw new Error('on purpose')
      return verdict as Admission
    },
    onAdmitted: (request) => log.push(`after ${text(request.payload)} ${request.answered}`),
    handlers: {
      0: () => {
        log.push('handled')
        return 'x'
      },
      1: async () => {
        await sleep(5)
        log.push('handled')
        return 'x'
      },
    },
  })
  server.on('error', () => {})
  await using connection = await connect(server.name, { service: 1 })
  t.equal(text(await connection.request(0, 'accept')), 'x')
  t.equal(text(await connection.request(1, 'accept')), 'x')
  await t.rejects(connection.request(0, 'retry'), { code: 'ERR_COROIPC_RETRY' })
  await t.rejects(connection.request(0, 'refuse'), { code: 'ERR_COROIPC_REFUSED' })
  await t.rejects(connection.request(0, 'throw'), { code: 'ERR_COROIPC_HANDLER_FAILED' })
  await t.rejects(connection.request(0, 'maybe'), { code: 'ERR_COROIPC_REFUSED' })
  t.same(log, [
    'accept',
    'handled',
    'after accept true',
    'accept',
    'handled',
    'after accept true',
    'retry',
    'after retry true',
    'refuse',
    'after refuse true',
    'throw',
    'after throw true',
    'maybe',
    'after maybe true',
  ])
})

t.test('serialize runs one handler or hook at a time, in order', async (t) => {
  for (const where of ['server', 'service'] as const) {
    let running = 0
    let most = 0
    const order: string[] = []
    const once = async (name: string): Promise<void> => {
      most = Math.max(most, ++running)
      await sleep(2)
      order.push(name)
      running--
    }
    await using server = await serve(
      {
        onConnect: () => once('connect'),
        onDisconnect: () => once('disconnect'),
        handlers: { 0: (request: Request) => once(text(request.payload)).then(() => 'x') },
        ...(where === 'service' ? { serialize: true } : {}),
      },
      where === 'server' ? { serialize: true } : {},
    )
    const connection = await connect(server.name, { service: 1 })
    await Promise.all(['a', 'b', 'c', 'd'].map((each) => connection.request(0, each)))
    await connection.close()
    await until(() => order.length === 6)
    t.same(order, ['connect', 'a', 'b', 'c', 'd', 'disconnect'])
    t.equal(most, 1)
  }
})

t.test('without serialize, handlers overlap', async (t) => {
  let running = 0
  let most = 0
  await using server = await serve({
    handlers: {
      0: async () => {
        most = Math.max(most, ++running)
        await sleep(5)
        running--
        return 'x'
      },
    },
  })
  await using connection = await connect(server.name, { service: 1 })
  await Promise.all([0, 0, 0].map((id) => connection.request(id)))
  t.equal(most, 3)
})

t.test('trust decides whether a buffer is read in place', sharedMemory, async (t) => {
  for (const trusted of [true, false, 'yes' as unknown as boolean]) {
    await using server = await serve({
      trust: () => trusted,
      handlers: { 0: (request) => `${request.inPlace} ${request.connection.trusted}` },
    })
    await using connection = await connect(server.name, { service: 1, trustServer: true })
    using buffer = await connection.allocate(5000)
    const expected = String(trusted) === 'true' ? 'true true' : 'false false'
    t.equal(text(await connection.request(0, buffer)), expected)
    t.match(text(await connection.request(0, 'plain')), 'false')
  }
})

t.test('a payload that is lent has no length once it is answered', sharedMemory, async (t) => {
  let kept: Request | undefined
  await using server = await serve({
    trust: () => true,
    handlers: {
      0: (request) => {
        kept = request
        return request.payload
      },
    },
  })
  await using connection = await connect(server.name, { service: 1, trustServer: true })
  using buffer = await connection.allocate(5000)
  buffer.bytes.fill(3)
  const answer = await connection.request(0, buffer)
  t.equal(answer.length, 5000)
  t.ok(answer.every((byte) => byte === 3))
  t.equal(kept?.payload.length, 0)
})

t.test('a rate limit slows a client down, and pauses it', async (t) => {
  await using server = await serve({ requestsPerSecond: 0, handlers: { 0: () => 'x' } })
  await using connection = await connect(server.name, { service: 1 })
  await t.rejects(connection.request(0, 'x', { timeoutMs: 100 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  const [own] = server.connections()
  own?.setRequestsPerSecond(Infinity)
  t.equal(text(await connection.request(0)), 'x')
  own?.setRequestsPerSecond(100)
  const started = performance.now()
  for (let i = 0; i < 30; i++) await connection.request(0)
  t.ok(performance.now() - started > 100, 'thirty took a while')
})
