// Requests that are lent to their handlers: `transientHandlers`, the short way and the long one.
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { connect, type Connection as ClientConnection } from '@coroipc/ipcc'
import {
  type Answer,
  Server,
  type ServerOptions,
  type ServiceOptions,
  type TransientHandler,
} from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'

const echo: TransientHandler = (bytes, offset, length) => bytes.subarray(offset, offset + length)

async function serve(
  service: Omit<ServiceOptions, 'id'>,
  options: ServerOptions = {},
): Promise<AsyncDisposable & { server: Server; client: ClientConnection; errors: Error[] }> {
  const server = new Server(options)
  const errors: Error[] = []
  server.on('error', (error) => errors.push(error))
  server.addService({ id: 1, ...service })
  const name = freshName()
  await server.listen(name)
  const client = await connect(name, { service: 1 })
  return {
    server,
    client,
    errors,
    async [Symbol.asyncDispose]() {
      await client.close()
      await server.close({ timeoutMs: 100 })
    },
  }
}

t.test('requests of every size, the small ones in memory that is used again', async (t) => {
  const memory = new Set<Uint8Array>()
  await using both = await serve({
    transientHandlers: {
      0: (bytes, offset, length, connection) => {
        if (length < 200) memory.add(bytes)
        t.equal(connection.service, 1)
        return echo(bytes, offset, length, connection)
      },
    },
  })
  for (let i = 0; i < 3000; i++) {
    const question = `question ${i} ${'x'.repeat(100)}`
    if (text(await both.client.request(0, question)) !== question) t.fail(question)
  }
  // 3000 requests of 112 bytes and more would fill five slabs.
  t.ok(memory.size < 3, `${memory.size} pieces of memory`)
  for (const size of [0, 1, 2048, 2049, 8191, 8192, 70000, 1 << 20])
    t.equal(text(await both.client.request(0, Buffer.alloc(size, 'y'))), 'y'.repeat(size))
  t.same(both.errors, [])
})

t.test('what other handlers keep stays what it was', async (t) => {
  const kept: Uint8Array[] = []
  await using both = await serve({
    handlers: { 1: ({ payload }) => void kept.push(payload) },
    transientHandlers: { 0: echo },
  })
  const lent = async (question: string): Promise<void> => {
    if (text(await both.client.request(0, question)) !== question) t.fail('another answer')
  }
  for (let round = 0; round < 50; round++) {
    const asked = Array.from({ length: 40 }, (_, i) =>
      i % 3 === 0 ? both.client.request(1, `kept ${round} ${i}`) : lent(`lent ${round} ${i}`),
    )
    await Promise.all(asked)
  }
  t.strictSame(
    kept.map(text),
    Array.from({ length: 50 }, (_, round) =>
      Array.from({ length: 14 }, (_, i) => `kept ${round} ${i * 3}`),
    ).flat(),
  )
})

const answers: readonly [TransientHandler, string, number][] = [
  [() => undefined, '', 0],
  [() => 'grüße', 'grüße', 0],
  [() => ['a', Buffer.from('b')], 'ab', 0],
  [() => ({ status: 7, payload: 'x' }), 'x', 7],
  [() => Buffer.alloc(5000, 'z'), 'z'.repeat(5000), 0],
  [async () => 'later', 'later', 0],
]

t.test('every form of answer, by the short way and by the long one', async (t) => {
  const transientHandlers = Object.fromEntries(answers.map(([handler], id) => [id, handler]))
  for (const way of [
    {},
    { admit: () => 'accept' as const },
    { serialize: true },
    { onAdmitted: () => {} },
  ]) {
    await using both = await serve({
      transientHandlers: new Map(
        Object.entries(transientHandlers).map(([id, handler]) => [Number(id), handler]),
      ),
      ...way,
    })
    for (const [id, [, payload, status]] of answers.entries()) {
      const answer = await both.client.request(id, 'x', { full: true })
      t.equal(text(answer.payload), payload)
      t.equal(answer.status, status)
    }
    t.same(both.errors, [])
  }
})

t.test('what goes wrong has the codes that it has elsewhere', async (t) => {
  const retry = Object.assign(new Error('not now'), { name: 'IpcError', code: 'ERR_COROIPC_RETRY' })
  const wrong: readonly [TransientHandler, string, number][] = [
    [
      () => {
        throw new Error('on purpose')
      },
      'ERR_COROIPC_HANDLER_FAILED',
      1,
    ],
    [
      async () => {
        throw new Error('on purpose')
      },
      'ERR_COROIPC_HANDLER_REJECTED',
      1,
    ],
    [
      () => {
        throw retry
      },
      'ERR_COROIPC_RETRY',
      0,
    ],
    [() => 5 as unknown as Answer, 'ERR_COROIPC_ANSWER_INVALID', 1],
    [() => new Uint8Array(2 << 20), 'ERR_COROIPC_ANSWER_TOO_LARGE', 1],
  ]
  await using both = await serve({
    transientHandlers: Object.fromEntries(wrong.map(([handler], id) => [id, handler])),
  })
  for (const [id, [, code, told]] of wrong.entries()) {
    await t.rejects(both.client.request(id, 'x'), { code })
    t.match(both.errors.splice(0), told === 0 ? [] : [{ code }])
  }
  await t.rejects(both.client.request(77, 'x'), { code: 'ERR_COROIPC_NO_HANDLER' })
  t.equal(
    text(await both.client.request(1, 'x').catch(({ code }) => Buffer.from(code))),
    'ERR_COROIPC_HANDLER_REJECTED',
  )
})

t.test('an answer that comes after its handler counts as one that is waited for', async (t) => {
  let answer: (value: string) => void = () => {}
  await using both = await serve({
    transientHandlers: { 0: () => new Promise<string>((resolve) => (answer = resolve)) },
  })
  const asked = both.client.request(0, 'x')
  await until(() => both.server.stats().inFlight === 1)
  const closed = both.server.close({ timeoutMs: 5000 })
  answer('in time')
  t.equal(text(await asked), 'in time')
  await closed
})

t.test('a handler that ends the connection, and sends that nobody waits for', async (t) => {
  const sent: string[] = []
  await using both = await serve({
    transientHandlers: {
      0: (_bytes, _offset, _length, connection) => {
        connection.disconnect()
        return 'nobody reads this'
      },
      1: (bytes, offset, length) => {
        sent.push(text(bytes.slice(offset, offset + length)))
        return 'nobody waits for this'
      },
    },
  })
  both.client.send(1, 'one way')
  await until(() => sent.length === 1)
  t.strictSame(sent, ['one way'])
  await t.rejects(both.client.request(0, 'x'), { code: 'ERR_COROIPC_UNKNOWN_OUTCOME' })
  t.same(both.errors, [])
})

t.test('select, latencies and whoever watches see them too', async (t) => {
  const selected: number[] = []
  await using both = await serve(
    { transientHandlers: { 0: echo, 1: echo } },
    {
      latency: true,
      select: (_service, id) => {
        selected.push(id)
        return id === 1 ? () => 'selected' : undefined
      },
    },
  )
  t.equal(text(await both.client.request(0, 'x')), 'x')
  t.equal(text(await both.client.request(1, 'x')), 'selected')
  t.strictSame(selected, [0, 1])
  t.equal(both.server.stats().latency?.count, 2)
  await using plain = await serve({ transientHandlers: { 0: echo } })
  const seen: unknown[] = []
  const watch = (message: unknown): unknown => seen.push(message)
  subscribe('coroipc:server:request', watch)
  t.equal(text(await plain.client.request(0, 'watched')), 'watched')
  unsubscribe('coroipc:server:request', watch)
  t.match(seen, [{ request: { id: 0 }, code: 'OK' }])
})

t.test('a closing server answers RETRY', async (t) => {
  await using both = await serve({
    handlers: { 1: () => new Promise((resolve) => setTimeout(resolve, 50, 'slow')) },
    transientHandlers: { 0: echo },
  })
  const slow = both.client.request(1)
  await until(() => both.server.stats().inFlight === 1)
  const closed = both.server.close({ timeoutMs: 1000 })
  await t.rejects(both.client.request(0, 'x'), { code: 'ERR_COROIPC_RETRY' })
  t.equal(text(await slow), 'slow')
  await closed
})

t.test('wrong handlers', (t) => {
  const server = new Server()
  const code = 'ERR_COROIPC_INVALID_ARGUMENT'
  for (const transientHandlers of [
    7,
    { 0: 7 },
    { '01': echo },
    { 70000: echo },
    new Map([[-1, echo]]),
  ])
    t.throws(() => server.addService({ id: 1, transientHandlers: transientHandlers as never }), {
      code,
    })
  t.throws(
    () => server.addService({ id: 1, handlers: { 5: () => '' }, transientHandlers: { 5: echo } }),
    { code, message: /transientHandlers/ },
  )
  t.end()
})

t.test('a request without bytes turns back nothing', async (t) => {
  const kept: Uint8Array[] = []
  await using both = await serve({
    handlers: { 1: ({ payload }) => void kept.push(payload) },
    transientHandlers: { 0: echo },
  })
  for (const letter of ['A', 'B', 'C']) {
    await both.client.request(1, letter.repeat(8))
    await both.client.request(0)
  }
  t.strictSame(kept.map(text), ['AAAAAAAA', 'BBBBBBBB', 'CCCCCCCC'])
})

t.test('an answer that throws when anybody asks what it is', async (t) => {
  const trap = (): Answer =>
    new Proxy(new Uint8Array(1), {
      getPrototypeOf: () => {
        throw new Error('on purpose')
      },
    })
  await using both = await serve({ handlers: { 0: trap }, transientHandlers: { 1: trap, 2: echo } })
  const asked = [0, 1, 2].map((id) =>
    both.client
      .request(id, 'good', { timeoutMs: 5000 })
      .then(text, ({ code }: Error & { code: string }) => code),
  )
  const failed = 'ERR_COROIPC_HANDLER_FAILED'
  t.strictSame(await Promise.all(asked), [failed, failed, 'good'])
})

t.test('an answer that throws when it is looked at spoils nobody else’s', async (t) => {
  const trap = (name: string): Answer =>
    Object.defineProperty({ payload: 'x' }, name, {
      enumerable: true,
      get: () => {
        throw new Error('on purpose')
      },
    })
  for (const name of ['then', 'payload', 'status']) {
    const handler = (): Answer => trap(name)
    const later = async (): Promise<Answer> => (name === 'then' ? 'not awaited' : trap(name))
    await using both = await serve({
      handlers: { 0: handler, 2: later },
      transientHandlers: { 1: handler, 3: echo },
    })
    const asked = [0, 1, 2, 3].map((id) =>
      both.client
        .request(id, 'good', { timeoutMs: 5000 })
        .then(text, ({ code }: Error & { code: string }) => code),
    )
    const failed = 'ERR_COROIPC_HANDLER_FAILED'
    t.strictSame(await Promise.all(asked), [
      failed,
      failed,
      name === 'then' ? 'not awaited' : failed,
      'good',
    ])
  }
})
