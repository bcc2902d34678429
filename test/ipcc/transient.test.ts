// Answers that are lent: `requestTransient`; what becomes of what a request by callback needed.
import { channel, tracingChannel } from 'node:diagnostics_channel'
import { connect, type Connection, type IpcError } from '@coroipc/ipcc'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { startServer, text, until } from './harness.js'

const server = await startServer()
t.teardown(() => server.kill())

const open = (options?: object): Promise<Connection> =>
  connect(server.name, { service: 7, ...options })

interface Seen {
  readonly error: IpcError | null
  readonly bytes: Uint8Array
  /** Of what was lent, a copy. */
  readonly answer: string
  readonly status: number
}

function ask(connection: Connection, id: number, payload?: string | Uint8Array): Promise<Seen> {
  return new Promise((resolve) =>
    connection.requestTransient(id, payload, (error, bytes, offset, length, status) =>
      resolve({ error, bytes, answer: text(bytes.slice(offset, offset + length)), status }),
    ),
  )
}

t.test(
  'answers of every size come whole, with their status, in memory that is used again',
  async (t) => {
    await using connection = await open()
    const memory = new Set<Uint8Array>()
    for (let i = 0; i < 3000; i++) {
      const { error, bytes, answer } = await ask(connection, 0, `answer ${i} ${'x'.repeat(100)}`)
      if (error !== null || answer !== `answer ${i} ${'x'.repeat(100)}`) t.fail(`answer ${i}`)
      memory.add(bytes)
    }
    // 3000 answers of 112 bytes and more would fill five slabs.
    t.ok(memory.size < 3, `${memory.size} pieces of memory`)
    for (const size of [0, 1, 2048, 2049, 8191, 8192, 70000, 1 << 20]) {
      const { error, answer, status } = await ask(connection, 4, Buffer.alloc(size, 'y'))
      t.equal(error, null)
      t.equal(answer, 'y'.repeat(size))
      t.equal(status, -7)
    }
  },
)

t.test('what others keep stays what it was', async (t) => {
  await using connection = await open()
  const kept: Uint8Array[] = []
  let left = 600
  const keep = async (): Promise<void> => {
    const at = kept.push(new Uint8Array(0)) - 1
    kept[at] = await connection.request(0, `kept ${at}`)
  }
  await new Promise<void>((resolve) => {
    const next = (): void => {
      connection.requestTransient(0, `lent ${left}`, (error, bytes, offset, length) => {
        t.equal(error, null)
        if (text(bytes.subarray(offset, offset + length)) !== `lent ${left}`)
          t.fail('another answer')
        if (--left === 0) return resolve()
        if (left % 3 === 0) kept.push(connection.requestSync(0, `kept ${kept.length}`))
        if (left % 5 === 0) void keep()
        next()
      })
    }
    next()
  })
  await until(() => kept.every((answer) => answer.length > 0))
  t.ok(kept.length > 200)
  t.ok(
    kept.every((answer, i) => text(answer) === `kept ${i}`),
    'answers that were not lent are the caller’s own',
  )
})

t.test('many at once, beside others, each with its own answer', async (t) => {
  await using connection = await open()
  const seen: string[] = []
  const others: Promise<Uint8Array>[] = []
  // The server takes 16 at once: further ones wait their turn here.
  for (let i = 0; i < 500; i++) {
    connection.requestTransient(0, String(i), (error, bytes, offset, length) => {
      seen.push(error?.code ?? text(bytes.slice(offset, offset + length)))
    })
    if (i % 7 === 0) others.push(connection.request(0, `other ${i}`))
  }
  t.equal(seen.length, 0, 'never before requestTransient has returned')
  const answers = await Promise.all(others)
  await until(() => seen.length === 500)
  t.strictSame(
    seen.map(Number).sort((a, b) => a - b),
    Array.from({ length: 500 }, (_, i) => i),
  )
  t.ok(answers.every((answer, i) => text(answer) === `other ${i * 7}`))
})

t.test('failures: what the server says, what is refused, what is over', async (t) => {
  const connection = await open({ requestTimeoutMs: 300 })
  const codes = async (id: number, payload?: string | Uint8Array): Promise<string | undefined> => {
    const { error, bytes, answer, status } = await ask(connection, id, payload)
    t.equal(bytes.length + answer.length + status, 0, 'with an error there is no answer')
    return error?.code
  }
  t.equal(await codes(2), 'ERR_COROIPC_HANDLER_FAILED')
  t.equal(await codes(99), 'ERR_COROIPC_NO_HANDLER')
  t.equal(await codes(19), 'ERR_COROIPC_RETRY')
  t.equal(await codes(0, new Uint8Array(3 << 20)), 'ERR_COROIPC_TOO_LARGE')
  t.equal(await codes(8), 'ERR_COROIPC_TIMED_OUT')
  for (const wrong of [undefined, 7, {}])
    t.throws(() => connection.requestTransient(0, 'x', wrong as never), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
    })
  t.throws(() => connection.requestTransient(70000, 'x', () => {}), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
  })
  t.throws(() => connection.requestTransient(0, 5 as never, () => {}), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
  })
  const inFlight = codes(8)
  await connection.close()
  t.equal(await inFlight, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  t.equal(await codes(0, 'x'), 'ERR_COROIPC_DISCONNECTED')
})

t.test('what a callback throws surfaces, and the next one is called all the same', async (t) => {
  await using connection = await open()
  const errors: unknown[] = []
  const caught = (error: unknown): unknown => errors.push(error)
  process.on('uncaughtException', caught)
  let called = 0
  for (let i = 0; i < 4; i++)
    connection.requestTransient(0, 'x', () => {
      called++
      throw new Error('of the callback')
    })
  await until(() => errors.length === 4)
  t.equal(called, 4)
  process.off('uncaughtException', caught)
})

t.test('who watches requests, traces them or asks for latencies sees these as well', async (t) => {
  await using measured = await open({ latency: true })
  t.equal((await ask(measured, 0, 'measured')).answer, 'measured')
  t.equal(measured.stats().latency?.count, 1)
  await using connection = await open()
  const watched: unknown[] = []
  const watch = (message: unknown): unknown => watched.push(message)
  channel('coroipc:client:request').subscribe(watch)
  t.equal((await ask(connection, 0, 'watched')).answer, 'watched')
  channel('coroipc:client:request').unsubscribe(watch)
  t.match(watched, [{ id: 0, error: undefined }])
  const traced: unknown[] = []
  const tracing = tracingChannel('coroipc:client:request')
  const asyncEnd = (message: unknown): unknown => traced.push(message)
  tracing.asyncEnd.subscribe(asyncEnd)
  const { answer, status } = await ask(connection, 4, 'traced')
  tracing.asyncEnd.unsubscribe(asyncEnd)
  t.equal(answer, 'traced')
  t.equal(status, -7)
  t.match(traced, [{ id: 4, sync: false, oneWay: false }])
})

t.test('an answer or a dispatch without bytes turns back nothing', async (t) => {
  await using connection = await open()
  const first = await connection.request(0, 'AAAAAAAA')
  t.equal((await ask(connection, 0)).answer, '')
  const second = await connection.request(0, 'BBBBBBBB')
  let dispatched = 0
  const stop = connection.transientDispatches(() => dispatched++)
  connection.send(24, '')
  await until(() => dispatched === 1)
  stop()
  const third = await connection.request(0, 'CCCCCCCC')
  t.strictSame([first, second, third].map(text), ['AAAAAAAA', 'BBBBBBBB', 'CCCCCCCC'])
})

t.test('requests by callback in every form leave nothing behind', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  await using connection = await open({ requestsInFlight: 16 })
  const bytes = Buffer.from('x')
  const forms: readonly ((done: () => void) => void)[] = [
    (done) => connection.request(0, bytes, done),
    (done) => connection.request(0, 'x', done),
    (done) => connection.request(0, bytes, { timeoutMs: 1000 }, done),
    (done) => connection.requestTransient(0, ['x', 'y'], done),
  ]
  const heap = (): number => {
    collect()
    return process.memoryUsage().heapUsed
  }
  for (const [form, request] of forms.entries()) {
    const some = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) await new Promise<void>((resolve) => request(resolve))
    }
    await some(2000)
    const before = heap()
    await some(20_000)
    const each = (heap() - before) / 20_000
    t.ok(each < 80, `form ${form}: ${each.toFixed(1)} bytes each`)
  }
})
