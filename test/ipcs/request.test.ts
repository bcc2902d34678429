// Requests as handlers see them: every way to answer, to answer later, to fail, and to be given up.
import { once } from 'node:events'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '@coroipc/ipcc'
import { type Handler, type Request, Server, type ServerOptions } from '@coroipc/ipcs'
import { addon, Kind, Status } from '@coroipc/native'
import t from 'tap'
import { connectOptions, openGroup, service } from '../addon/support.js'
import { freshName, text, until } from '../ipcc/harness.js'

const aborted = async (signal: AbortSignal): Promise<void> => {
  if (!signal.aborted) await once(signal, 'abort')
}

async function serve(
  handlers: Record<number, Handler>,
  options: ServerOptions = {},
): Promise<
  AsyncDisposable & {
    server: Server
    client: Awaited<ReturnType<typeof connect>>
    errors: Error[]
  }
> {
  const server = new Server(options)
  const errors: Error[] = []
  server.on('error', (error) => errors.push(error))
  server.addService({ id: 1, handlers })
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

t.test('every form of answer', async (t) => {
  const bytes = new Uint8Array([65, 66, 67, 68])
  const forms: [unknown, string, number][] = [
    [bytes, 'ABCD', 0],
    [Buffer.from(bytes), 'ABCD', 0],
    [bytes.buffer, 'ABCD', 0],
    [new DataView(bytes.buffer, 1), 'BCD', 0],
    [new Uint16Array(bytes.buffer), 'ABCD', 0],
    ['grüße', 'grüße', 0],
    ['ü'.repeat(3000), 'ü'.repeat(3000), 0],
    [['a', bytes, 'b'], 'aABCDb', 0],
    [['x'.repeat(5000), bytes], `${'x'.repeat(5000)}ABCD`, 0],
    [[], '', 0],
    [undefined, '', 0],
    [{ payload: 'x' }, 'x', 0],
    [{ status: 5 }, '', 5],
    [{ status: -(2 ** 31), payload: ['a', 'b'] }, 'ab', -(2 ** 31)],
  ]
  for (const wrap of [(value: unknown) => value, async (value: unknown) => value]) {
    await using both = await serve(
      Object.fromEntries(forms.map(([form], i) => [i, () => wrap(form) as string])),
    )
    for (const [i, [, payload, status]] of forms.entries()) {
      const answer = await both.client.request(i, '', { full: true })
      t.equal(text(answer.payload), payload)
      t.equal(answer.status, status)
    }
    t.same(both.errors, [])
  }
})

t.test('what is no answer', async (t) => {
  const wrong = [
    5,
    null,
    true,
    {},
    { x: 1 },
    { payload: 'x', statuss: 1 },
    { status: 1.5 },
    { status: 2 ** 31 },
    { payload: { payload: 'x' } },
    ['a', 5],
    () => '',
    Symbol('x'),
    new Proxy(new Uint8Array(3), {}),
    new Proxy(new ArrayBuffer(3), {}),
    Array(1025).fill('x'),
  ]
  await using both = await serve(
    Object.fromEntries(wrong.map((value, i) => [i, () => value as string])),
  )
  for (const i of wrong.keys())
    await t.rejects(both.client.request(i), { code: 'ERR_COROIPC_ANSWER_INVALID' }, String(i))
  t.equal(both.errors.length, wrong.length)
})

t.test('an answer of exactly the maximum, and one byte more', async (t) => {
  await using both = await serve({
    0: (request) => new Uint8Array(request.connection.messageBytes),
    1: (request) => new Uint8Array(request.connection.messageBytes + 1),
    2: (request) => 'ü'.repeat(request.connection.messageBytes / 2 + 1),
  })
  t.equal((await both.client.request(0)).length, both.client.messageBytes)
  for (const id of [1, 2])
    await t.rejects(both.client.request(id), { code: 'ERR_COROIPC_ANSWER_TOO_LARGE' })
})

t.test('a large answer without a segment: one answer, one error, the same code', async (t) => {
  const rings = { requestRingBytes: 16384, responseRingBytes: 16384, dispatchRingBytes: 16384 }
  await using both = await serve(
    {
      0: (request) => new Uint8Array(Number(text(request.payload))),
      1: (request) => {
        t.throws(() => request.respond(new Uint8Array(100_000)), { code: 'ERR_COROIPC_LIMIT' })
        t.equal(request.answered, true)
        t.throws(() => request.connection.dispatch(new Uint8Array(100_000)), {
          code: 'ERR_COROIPC_LIMIT',
        })
      },
    },
    { limits: { ...rings, segmentBytes: 2 ** 17 } },
  )
  await t.rejects(both.client.request(0, '100000'), { code: 'ERR_COROIPC_LIMIT' })
  await t.rejects(both.client.request(1), { code: 'ERR_COROIPC_LIMIT' })
  t.equal((await both.client.request(0, '20000')).length, 20000)
  t.match(both.errors, [{ code: 'ERR_COROIPC_LIMIT' }])
  t.equal(both.errors.length, 1)
})

t.test('the error of a handler stays here, with its cause and its source', async (t) => {
  const thrown = new Error('secret')
  const sources: unknown[] = []
  await using both = await serve({
    0: () => {
      throw thrown
    },
    1: () => Promise.reject(thrown),
  })
  both.server.on('error', (_, source) => sources.push(source.request?.id))
  await t.rejects(both.client.request(0), { code: 'ERR_COROIPC_HANDLER_FAILED', cause: undefined })
  await t.rejects(both.client.request(1), { code: 'ERR_COROIPC_HANDLER_REJECTED' })
  t.equal(both.errors[0]?.cause, thrown)
  t.equal(both.errors[1]?.cause, thrown)
  t.same(sources, [0, 1])
})

t.test('an answer that comes later', async (t) => {
  const kept: Request[] = []
  await using both = await serve({
    0: (request) => {
      request.defer()
      kept.push(request)
    },
    1: (request) => {
      t.equal(request.respond('now', { status: 2 }), true)
      t.equal(request.answered, true)
      t.throws(() => request.respond('twice'), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    },
    2: (request) => {
      request.respond('first')
      return 'second'
    },
    3: async (request) => {
      request.respond('early')
    },
  })
  const asked = both.client.request(0, '', { full: true })
  t.equal(text(await both.client.request(1)), 'now', 'others go on')
  t.equal(both.errors.length, 0)
  t.equal(text(await both.client.request(2)), 'first')
  t.match(both.errors, [
    {
      code: 'ERR_COROIPC_ANSWER_INVALID',
      message:
        /^request \d+ of service 1 was answered already; what its handler returned is dropped$/,
    },
  ])
  t.equal(text(await both.client.request(3)), 'early')
  const [request] = kept
  t.equal(request?.answered, false)
  t.throws(() => request?.respond(5 as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => request?.respond('x', { status: 0.5 }), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => request?.respond(new Uint8Array(2 << 20)), { code: 'ERR_COROIPC_TOO_LARGE' })
  t.equal(request?.respond(['l', 'ater'], { status: 9 }), true)
  const answer = await asked
  t.equal(text(answer.payload), 'later')
  t.equal(answer.status, 9)
})

t.test('a failure that comes later', async (t) => {
  const kept: Request[] = []
  await using both = await serve({
    0: (request) => {
      request.defer()
      kept.push(request)
    },
  })
  const asked = both.client.request(0)
  await until(() => kept.length === 1)
  t.equal(kept[0]?.fail(new Error('on purpose')), true)
  await t.rejects(asked, { code: 'ERR_COROIPC_HANDLER_FAILED' })
  const { IpcError } = await import('@coroipc/ipcs')
  const again = both.client.request(0)
  await until(() => kept.length === 2)
  kept[1]?.fail(new IpcError('ERR_COROIPC_REFUSED', 'never'))
  await t.rejects(again, { code: 'ERR_COROIPC_REFUSED' })
  t.equal(both.errors.length, 1)
})

t.test('the signal tells of a deadline, of a cancel, and of the end of the client', async (t) => {
  const reasons: string[] = []
  const payloads: number[] = []
  await using both = await serve({
    0: (request) =>
      new Promise((resolve) => {
        t.equal(request.signal, request.signal)
        payloads.push(request.deadline - performance.now())
        request.signal.addEventListener('abort', () => {
          reasons.push((request.signal.reason as { code: string }).code)
          // Later than its client gives up by itself: the two clocks race otherwise.
          setTimeout(resolve, 50, 'late')
        })
      }),
    1: (request) => request.signal.throwIfAborted(),
  })
  const { client } = both
  await t.rejects(client.request(0, '', { timeoutMs: 30 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  await until(() => reasons.length === 1)
  t.match(reasons[0], /TIMED_OUT|ABORTED/)
  t.ok((payloads[0] as number) > 0 && (payloads[0] as number) <= 30)
  const controller = new AbortController()
  const asked = client.request(0, '', { signal: controller.signal, timeoutMs: Infinity })
  await until(() => payloads.length === 2)
  t.equal(payloads[1], Infinity)
  controller.abort()
  await t.rejects(asked, { code: 'ERR_COROIPC_ABORTED' })
  await until(() => reasons.length === 2)
  t.equal(reasons[1], 'ERR_COROIPC_ABORTED')
  await client.request(1)
  const last = client.request(0).catch(() => {})
  await until(() => payloads.length === 3)
  await client.close()
  await last
  await until(() => reasons.length === 3)
  t.equal(reasons[2], 'ERR_COROIPC_DISCONNECTED')
  t.same(both.errors, [])
})

t.test("a handler that obeys its signal is answered with the reason's code", async (t) => {
  const ways: Handler[] = [
    ({ signal }) => aborted(signal).then(() => signal.throwIfAborted()),
    async ({ signal }) => {
      await sleep(60_000, undefined, { signal })
    },
    async ({ signal }) => {
      await aborted(signal)
      throw new Error('wrapped', { cause: signal.reason })
    },
    (request) => {
      request.defer()
      void aborted(request.signal).then(() => request.fail(request.signal.reason))
    },
    async ({ signal }) => {
      await aborted(signal)
      throw new Error('of its own')
    },
  ]
  const handlers = Object.fromEntries(ways.entries())
  await using both = await serve(handlers)
  const [mine] = [...both.server.connections()]
  const codes: string[] = []
  const note = (message: unknown): void => {
    const { request, code } = message as { request: Request; code: string }
    if (request.connection === mine) codes[request.id] = code
  }
  subscribe('coroipc:server:request', note)
  t.teardown(() => unsubscribe('coroipc:server:request', note))
  const controller = new AbortController()
  const { signal } = controller
  for (const id of ways.keys())
    void both.client.request(id, '', { signal, timeoutMs: Infinity }).catch(() => {})
  await both.client.request(99).catch(() => {})
  codes.length = 0
  controller.abort()
  await until(() => Object.keys(codes).length === ways.length)
  const obeyed = ways.slice(1).map(() => 'ERR_COROIPC_ABORTED')
  t.same(codes, [...obeyed, 'ERR_COROIPC_HANDLER_REJECTED'])
  t.match(both.errors.splice(0), [{ code: 'ERR_COROIPC_HANDLER_REJECTED' }])
  // Of this client the deadline never comes: only the server's clock runs.
  const name = freshName()
  await both.server.close()
  const server = new Server()
  server.on('error', () => {})
  server.addService({ id: service, handlers })
  await server.listen(name)
  const answers = new Map<number, number>()
  let open = false
  const group = openGroup((row) => {
    if (row.kind === Kind.connected) open = true
    if (row.kind === Kind.response) answers.set(row.correlation, row.argument)
  })
  addon.attach(group.loop.handle)
  t.teardown(() => addon.groupDestroy(group.loop.handle))
  const number = addon.connectStart(group.loop.handle, name, connectOptions, 5000)
  await until(() => open)
  for (const id of ways.keys())
    addon.sendRow(group.loop.handle, number, Kind.request, id, id, 20, new Uint8Array(0))
  await until(() => answers.size === ways.length)
  t.same(
    [...ways.keys()].map((slot) => answers.get(slot)),
    [...obeyed.map(() => Status.TIMED_OUT), Status.HANDLER_REJECTED],
  )
  await server.close({ timeoutMs: 0 })
})

t.test('answers to a client that is gone go nowhere, quietly', async (t) => {
  const kept: Request[] = []
  let resolve: ((value: string) => void) | undefined
  await using both = await serve({
    0: (request) => {
      request.defer()
      kept.push(request)
    },
    1: () => new Promise((settle) => (resolve = settle)),
  })
  void both.client.request(0).catch(() => {})
  void both.client.request(1).catch(() => {})
  await until(() => kept.length === 1 && resolve !== undefined)
  await both.client.close()
  await until(() => kept[0]?.connection.closed === true)
  t.equal(kept[0]?.respond('x'), false)
  t.equal(kept[0]?.signal.aborted, true)
  resolve?.('x')
  await new Promise(setImmediate)
  t.same(both.errors, [])
})

t.test('one-way requests: no answer, failures reported', async (t) => {
  const seen: string[] = []
  await using both = await serve({
    0: (request) => {
      seen.push(`${request.oneWay} ${text(request.payload)}`)
      return 'ignored'
    },
    1: () => {
      throw new Error('on purpose')
    },
    2: (request) => {
      seen.push(String(request.respond('x')))
    },
  })
  both.client.send(0, 'a')
  both.client.send(1)
  both.client.send(2)
  both.client.send(99)
  t.equal(text(await both.client.request(0, 'b')), 'ignored')
  t.same(seen, ['true a', 'false', 'false b'])
  t.match(both.errors, [{ code: 'ERR_COROIPC_HANDLER_FAILED' }])
})
