// A contract in two processes: every request of it in each way, and what is wrong on either side.
import { once } from 'node:events'
import {
  ContractError,
  defineService,
  type Issue,
  type RequestDefinition,
  type Schema,
  StatusError,
} from '@coroipc/contract'
import { client } from '@coroipc/contract/client'
import { implement } from '@coroipc/contract/server'
import { connect, type Connection, connectSync, reconnecting } from '@coroipc/ipcc'
import { type FullAnswer, Server } from '@coroipc/ipcs'
import t, { type Test } from 'tap'
import { freshName, startServer } from '../ipcc/harness.js'
import { failure, outcome, until } from '../support/wait.js'
import { everything } from './contracts.js'

const program = new URL('server.js', import.meta.url)
const INVALID_STATUS = -0x80000000

/** One for all: it loads three schema libraries. */
const server = await startServer(undefined, program)
t.teardown(() => server.kill())

async function open(t: Test): Promise<Connection> {
  const connection = await connect(server.name, { service: everything.id })
  t.teardown(() => connection.close())
  return connection
}

t.test('values of every codec go there and back', async (t) => {
  const connection = await open(t)
  const { sync, ...calls } = client(connection, everything)
  t.equal(await calls.add({ a: 1, b: 2 }), 3)
  t.equal(sync.add({ a: 1, b: 2 }, { timeoutMs: 5000 }), 3)
  t.equal(await calls.twice({ n: '21' }), 42, 'the input travels, both ends see the output')
  t.equal(await calls.unique('free'), 'free')
  t.equal(await calls.find('key'), 'value of key')
  t.equal(await calls.find('nothing'), undefined)
  t.equal(await calls.ping(), undefined)
  t.equal(sync.ping(), undefined)
  t.equal(await calls.ping(undefined, { timeoutMs: 5000 }), undefined)
  t.same(await calls.raw('abc'), Buffer.from('abc'))
  t.same(sync.raw([Buffer.from('a'), 'b']), Buffer.from('ab'))
  for (const text of ['', 'grüße', '\ufeffmark', 'x'.repeat(50_000)]) {
    t.equal(await calls.text(text), text.toUpperCase())
    t.equal(sync.text(text), text.toUpperCase())
  }
  t.same(await calls.believed({ x: 1, y: 2 }), { x: 2, y: 1 })
  t.same(sync.point({ x: 1, y: 2 }), { x: 2, y: 1 })
  t.same(await calls.point({ x: 1.5, y: -2 }), { x: -2, y: 1.5 })
  const cloned = await calls.clone(new Map<string, unknown>([['set', new Set([1n])]]))
  t.same(
    [...cloned],
    [
      ['set', new Set([1n])],
      ['answered', new Date(0)],
    ],
  )
  t.same(await calls.date({ at: new Date(5) }), { at: new Date(1005) })
  const packed = { a: [1, 'ü', null, true], bytes: Buffer.from([1, 2]), at: new Date(7) }
  t.same(await calls.packed(packed), packed)
  const message = sync.message({ fields: { a: { kind: { case: 'numberValue', value: 4 } } } })
  t.equal(message.$typeName, 'google.protobuf.Struct')
  t.same(message.fields['a']?.kind, { case: 'numberValue', value: 4 })
  t.equal(await calls.valibot({ name: 'abc' }), 'abc')
  t.equal(await calls.arktype({ age: 3 }), '3')
  const many = await Promise.all(Array.from({ length: 500 }, (_, a) => calls.add({ a, b: 1 })))
  t.same(
    many,
    many.map((_, a) => a + 1),
  )
})

t.test('a connection that was made blocking, and one that comes back', async (t) => {
  using blocking = connectSync(server.name, { service: everything.id })
  t.equal(client(blocking, everything).sync.add({ a: 2, b: 2 }), 4)
  await using again = reconnecting(server.name, { service: everything.id })
  const calls = client(again, everything)
  t.notOk('sync' in calls)
  t.equal(await calls.add({ a: 1, b: 1 }), 2)
  t.equal(await outcome(calls.add({ a: 'x' as never, b: 1 })), 'ERR_COROIPC_REQUEST_INVALID')
  const ticks: number[] = []
  const stop = calls.on('tick', ({ n }) => ticks.push(n))
  await calls.feed(3)
  await until('the last tick', () => ticks.includes(-1))
  t.same(ticks, [0, 1, 2, -1])
  stop()
  calls.on('tick', ({ n }) => ticks.push(n))
  await calls.feed(1)
  await until('the last tick', () => ticks.length >= 6)
  t.same(ticks.slice(4), [0, -1], 'each once')
  const late = again.close().then(() => calls.add({ a: 1, b: 1 }))
  t.equal(await outcome(late), 'ERR_COROIPC_DISCONNECTED')
})

t.test('the server refuses what does not validate, and says why', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  const error = await failure(calls.add({ a: 1 } as never))
  t.ok(error instanceof ContractError)
  t.match(error, {
    name: 'ContractError',
    code: 'ERR_COROIPC_REQUEST_INVALID',
    by: 'server',
    issues: [{ message: /number/, path: ['b'] }],
    message: /^everything\.add: the request is not what the contract says: b: /,
  })
  t.notOk('sent' in error)
  for (const [call, path] of [
    [() => calls.sync.add({ a: 1, b: '2' } as never), ['b']],
    [() => calls.unique('taken'), undefined],
    [() => calls.valibot({ name: 'x' }), ['name']],
    [() => calls.arktype({ age: -1 }), ['age']],
    [() => calls.date({ at: 'today' } as never), ['at']],
  ] as const) {
    const { code, issues } = (await failure(call)) as unknown as ContractError
    t.equal(code, 'ERR_COROIPC_REQUEST_INVALID')
    t.equal(issues.length, 1)
    t.same(issues[0]?.path, path)
  }
  t.equal(await calls.add({ a: 1, b: 2 }), 3, 'and goes on')
})

t.test('bytes that do not decode are refused, and so are too many', async (t) => {
  const connection = await open(t)
  const junk = Buffer.from([0xff, 0xfe, 0, 1, 0x7b])
  const definitions: Record<string, RequestDefinition> = everything.definition.requests
  for (const { id, request } of Object.values(definitions)) {
    if (request === undefined || id === 20 || id === 25 || id === 9) continue
    const { status, payload } = await connection.request(id, junk, { full: true })
    t.equal(status, INVALID_STATUS, String(id))
    const [issue] = JSON.parse(Buffer.from(payload).toString()) as { message: string }[]
    t.match(issue?.message, /^does not decode as [a-z8:.-]+/i)
  }
  const large = await connection.request(20, Buffer.alloc(100_001), { full: true })
  t.equal(large.status, INVALID_STATUS)
  t.match(Buffer.from(large.payload).toString(), '100001 bytes, at most 100000')
  t.equal((await connection.request(20, Buffer.alloc(100_000))).length, 100_000)
})

t.test('issues are bounded, whatever a client sends', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  const key = '\u0001'.repeat(5000)
  const { issues } = (await failure(
    calls.find({ [key]: key } as never),
  )) as unknown as ContractError
  t.ok(JSON.stringify(issues).length < 3000)
  const many = JSON.stringify(Array.from({ length: 1000 }, () => 'x'))
  const { payload } = await connection.request(12, many, { full: true })
  t.equal((JSON.parse(Buffer.from(payload).toString()) as unknown[]).length, 16)
  t.same(await calls.sort([3, 1, 2]), [1, 2, 3])
  connection.send(9, '"longer than five"')
  connection.send(9, 'junk')
  t.equal(calls.note('short'), true)
  t.same(await calls.notes(), ['short', 'hanging 0'], 'one way: passed over')
})

t.test('the client refuses answers that do not validate', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  t.match(await failure(calls.wrong()), {
    code: 'ERR_COROIPC_RESPONSE_INVALID',
    by: 'client',
    issues: [{ message: /number/ }],
  })
  t.equal(await outcome(() => calls.sync.wrong()), 'ERR_COROIPC_RESPONSE_INVALID')
  t.equal(await outcome(calls.unique('bad')), 'ERR_COROIPC_RESPONSE_INVALID')
  t.match(await failure(() => calls.sync.unique('free')), {
    code: 'ERR_COROIPC_RESPONSE_INVALID',
    issues: [{ message: /asynchronous/ }],
  })
  t.equal(await outcome(calls.valibot({ name: 'four' })), 'ERR_COROIPC_RESPONSE_INVALID')
  const believing = client(connection, everything, { validate: false })
  t.equal(await believing.wrong(), 'no number')
  t.equal(await believing.twice({ n: '4' }), '8', 'what travels')
  const reported = once(server.child, 'message')
  t.equal(await outcome(calls.cannot()), 'ERR_COROIPC_ANSWER_INVALID')
  t.same(await reported, [
    { code: 'ERR_COROIPC_ANSWER_INVALID', cause: 'TypeError: JSON has no form of a function' },
    undefined,
  ])
})

t.test('requests can be validated before they are sent', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything, { validateRequests: true })
  const before = connection.stats().requests
  t.match(await failure(calls.add({ a: 1 } as never)), {
    code: 'ERR_COROIPC_REQUEST_INVALID',
    by: 'client',
    sent: false,
  })
  t.equal(await outcome(() => calls.sync.add({ a: 1 } as never)), 'ERR_COROIPC_REQUEST_INVALID')
  t.equal(await outcome(() => calls.note('longer')), 'ERR_COROIPC_REQUEST_INVALID')
  t.equal(await outcome(calls.unique('taken')), 'ERR_COROIPC_REQUEST_INVALID')
  t.match(await failure(() => calls.sync.unique('free')), {
    sent: false,
    issues: [{ message: /asynchronous/ }],
  })
  t.equal(connection.stats().requests, before)
  t.equal(await calls.twice({ n: '4' }), 8, 'the input is what is sent')
  t.equal(await calls.unique('free'), 'free')
})

t.test('a handler may answer by a status of the application, or fail', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  const error = await failure(calls.find('none'))
  t.ok(error instanceof StatusError)
  t.match(error, { code: 'ERR_COROIPC_STATUS', status: 404, message: 'no such key' })
  t.match(await failure(() => calls.sync.find('none')), { status: 404 })
  t.match(await failure(calls.fail('status')), { status: -1, message: 'status -1' })
  t.equal(await outcome(calls.find('taken')), 'ERR_COROIPC_HANDLER_FAILED')
  t.equal(await outcome(calls.fail('x')), 'ERR_COROIPC_HANDLER_REJECTED')
})

t.test('deadlines and signals', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  t.equal(await outcome(calls.hang(undefined, { timeoutMs: 20 })), 'ERR_COROIPC_TIMED_OUT')
  const signal = AbortSignal.timeout(20)
  t.equal(await outcome(calls.hang(undefined, { signal })), 'ERR_COROIPC_ABORTED')
  t.equal(
    await outcome(() => calls.sync.hang(undefined, { timeoutMs: 20 })),
    'ERR_COROIPC_TIMED_OUT',
  )
  await until('handlers saw it', async () => (await calls.notes()).includes('hanging 0'))
  const wrong = { timeout: 5 } as never
  t.equal(await outcome(calls.ping(undefined, wrong)), 'ERR_COROIPC_INVALID_ARGUMENT')
  t.equal(
    await outcome(calls.text(5 as never)),
    'utf8 encodes strings only'.replace(/^/, 'TypeError: '),
  )
})

t.test('dispatches by iterator and by listener', async (t) => {
  const connection = await open(t)
  const invalid: ContractError[] = []
  const calls = client(connection, everything, { onInvalid: (error) => invalid.push(error) })
  const iterator = calls.dispatches()
  const heard: unknown[] = []
  const stops = [
    calls.on('tick', ({ n }) => heard.push(n)),
    calls.on('done', () => heard.push('done')),
    calls.on('late', (text) => heard.push(text)),
    calls.on('odd', (n) => heard.push(n)),
  ]
  await calls.feed(2000)
  const read: unknown[] = []
  const error = await failure(async () => {
    for await (const { name, value, sequence } of iterator) {
      read.push(name === 'tick' ? value.n : name === 'late' ? value : name)
      if (!Number.isInteger(sequence)) t.fail('a sequence')
    }
  })
  const ticks = Array.from({ length: 2000 }, (_, n) => n)
  t.match(error, { code: 'ERR_COROIPC_DISPATCH_INVALID', message: /^everything\.odd: / })
  t.strictSame(read, [...ticks, 'slow', 'done'], 'by iterator, in order, up to what is wrong')
  await until('the last tick', () => heard.includes(-1))
  t.strictSame(heard, [...ticks, 'slow', 'done', -1], 'by listener, in order')
  t.same(
    invalid.map(({ code, issues: [issue] }) => [code, issue?.message.slice(0, 16)]),
    [
      ['ERR_COROIPC_DISPATCH_INVALID', 'Invalid input: e'],
      ['ERR_COROIPC_DISPATCH_INVALID', 'does not decode '],
      ['ERR_COROIPC_DISPATCH_INVALID', '1002 bytes, at m'],
      ['ERR_COROIPC_DISPATCH_INVALID', 'Invalid input'],
    ],
  )
  for (const stop of stops) stop()
  t.equal(connection.listenerCount('dispatch'), 0)
  t.throws(() => calls.on('nothing' as never, () => {}), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('without a listener for it a wrong dispatch is a warning, once', async (t) => {
  const connection = await open(t)
  const calls = client(connection, everything)
  const warnings: Error[] = []
  const warned = (warning: Error): number => warnings.push(warning)
  process.on('warning', warned)
  t.teardown(() => process.off('warning', warned))
  let last = 0
  calls.on('tick', ({ n }) => {
    last = n
  })
  calls.on('odd', () => {})
  await calls.feed(0)
  await calls.feed(0)
  await until('the last tick', () => last === -1)
  await until('the warning', () => warnings.length > 0)
  t.match(warnings, [{ code: 'ERR_COROIPC_DISPATCH_INVALID' }])
  t.equal(warnings.length, 1)
})

t.test(
  'a hostile server: whatever it says is wrong comes bounded, as text and numbers',
  async (t) => {
    const said: unknown[] = [
      '',
      'no JSON',
      '{}',
      '[null, 1, "x", []]',
      JSON.stringify([
        { message: 5, path: 'x' },
        { message: 'm'.repeat(5e4), path: ['p'.repeat(5e4)] },
      ]),
      JSON.stringify([{ message: 'x', path: [{ key: 'a' }, null, 7, 'b'], code: 'other' }]),
      JSON.stringify(
        Array.from({ length: 100 }, () => ({ message: 'many', path: Array(99).fill(1) })),
      ),
      new Uint8Array(100_000).fill(0xff),
      `[${'['.repeat(100_000)}`,
      `[{"message":"much"}${' '.repeat(200_000)}]`,
    ]
    const hostile = new Server()
    let turn = 0
    const answer = (): FullAnswer => ({ status: INVALID_STATUS, payload: said[turn] as string })
    const shout = (): FullAnswer => ({ status: 9, payload: 'y'.repeat(1e5) })
    hostile.addService({ id: 7, handlers: { 0: answer, 3: shout, 7: () => 'ignored' } })
    const name = freshName()
    await hostile.listen(name)
    const connection = await connect(name, { service: 7 })
    const calls = client(connection, everything)
    const issues: (readonly Issue[])[] = []
    for (turn = 0; turn < said.length; turn++) {
      const error = (await failure(calls.add({ a: 1, b: 1 }))) as unknown as ContractError
      t.match(error, { code: 'ERR_COROIPC_REQUEST_INVALID', by: 'server' })
      t.ok(error.message.length < 1000 && JSON.stringify(error.issues).length < 20_000)
      issues.push(error.issues)
    }
    t.same(issues[0], [])
    t.same(issues.at(-1), [], 'more than there can be is not looked at')
    t.same(issues[3]?.length, 4)
    t.same(issues[4]?.[0], { message: 'not valid' })
    t.same([issues[4]?.[1]?.message.length, String(issues[4]?.[1]?.path?.[0]).length], [200, 64])
    t.same(issues[5], [{ message: 'x', path: [7, 'b'] }])
    t.same([issues[6]?.length, issues[6]?.[0]?.path?.length], [16, 8])
    t.equal((await failure(calls.find('x'))).message.length, 1024)
    t.equal(await calls.ping(), undefined, 'what the contract does not have is not looked at')
    await connection.close()
    await hostile.close()
  },
)

t.test('a schema that throws, or gives nonsense, has not said yes', async (t) => {
  const schemaOf = (validate: () => unknown): Schema =>
    ({ '~standard': { version: 1, vendor: 'test', validate } }) as unknown as Schema
  const thrower = (): never => {
    throw new Error('of the server alone')
  }
  const service = defineService({
    id: 1,
    requests: {
      throwing: { id: 0, request: schemaOf(thrower) },
      rejecting: {
        id: 1,
        request: schemaOf(() => Promise.reject(new Error('of the server alone'))),
      },
      nothing: { id: 2, request: schemaOf(() => undefined) },
      later: { id: 3, request: schemaOf(() => Promise.resolve(null)) },
    },
  })
  const reached = (): void => void t.fail('the handler ran')
  const server = new Server()
  const errors: Error[] = []
  server.on('error', (error) => errors.push(error))
  server.addService(
    implement(service, {
      handlers: { throwing: reached, rejecting: reached, nothing: reached, later: reached },
    }),
  )
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: 1 })
  const calls = client(connection, service)
  for (const call of [calls.throwing, calls.rejecting, calls.nothing, calls.later])
    t.match(await failure(call(1)), {
      code: 'ERR_COROIPC_REQUEST_INVALID',
      issues: [{ message: 'could not be validated' }],
    })
  t.same(errors, [])
  await connection.close()
  await server.close()
})

t.test('the wrong service, and wrong options', async (t) => {
  const connection = await open(t)
  const other = { ...everything, id: 8 }
  t.throws(() => client(connection, other), /connection: expected one to service 8, got 7/)
  t.throws(() => client(connection, everything, { valid: true } as never), /valid: expected/)
})
