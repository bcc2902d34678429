// Connection: requests in all their forms, one-way sends, closing, statistics. The server is another process.
import { connect, connectSync, type Connection, type IpcError } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, startServer, text, until } from './harness.js'

const server = await startServer()
t.teardown(() => server.kill())

const open = (options?: object): Promise<Connection> =>
  connect(server.name, { service: 7, ...options })

/** Has the server answer a request of id 22 that came, or is to come, with this payload. */
async function letGo(other: Connection, key: string): Promise<void> {
  while (text(await other.request(23, key)) === '-1');
}

t.test('an answer is the payload, or everything that came with it', async (t) => {
  await using connection = await open()
  t.equal(text(await connection.request(0, 'hello')), 'hello')
  t.equal(text(connection.requestSync(0, 'hello')), 'hello')
  t.equal((await connection.request(0)).length, 0)
  t.equal(connection.requestSync(0).length, 0)
  const full = await connection.request(4, 'x', { full: true })
  t.equal(full.status, -7)
  t.equal(text(full.payload), 'x')
  const sync = connection.requestSync(4, 'y', { full: true })
  t.equal(sync.status, -7)
  t.equal(text(sync.payload), 'y')
  t.ok(sync.sequence > full.sequence)
  t.equal(text(connection.requestSync(6)), 'later', 'a deferred answer')
})

t.test('every form of payload arrives as the same bytes', async (t) => {
  await using connection = await open()
  const bytes = new Uint8Array([1, 2, 3, 4])
  const forms = [
    bytes,
    Buffer.from(bytes),
    bytes.buffer,
    new DataView(bytes.buffer),
    new Uint16Array(bytes.buffer),
    [bytes.subarray(0, 1), bytes.subarray(1)],
    [],
    '',
    'grüße',
    ['a', new Uint8Array(0), 'b'],
    'x'.repeat(5000),
    Array.from({ length: 1024 }, () => 'ab'),
  ]
  for (const form of forms) {
    const asked = await connection.request(0, form)
    t.same(connection.requestSync(0, form), asked)
    const expected = Buffer.concat(
      (Array.isArray(form) ? form : [form]).map((part) =>
        typeof part === 'string'
          ? Buffer.from(part)
          : ArrayBuffer.isView(part)
            ? Buffer.from(part.buffer, part.byteOffset, part.byteLength)
            : Buffer.from(part),
      ),
    )
    t.ok(expected.equals(asked))
  }
})

t.test('sizes around every border of the way come back whole', async (t) => {
  await using connection = await open()
  const max = connection.messageBytes
  const sizes = [
    0,
    1,
    7,
    8,
    2047,
    2048,
    2049,
    4095,
    4096,
    8191,
    8192,
    16384,
    65535,
    131072,
    max - 1,
    max,
  ]
  for (const size of sizes) {
    const payload = Buffer.alloc(size, size & 0xff)
    t.ok(payload.equals(await connection.request(0, payload)), `asynchronous ${size}`)
    t.ok(payload.equals(connection.requestSync(0, payload)), `blocking ${size}`)
  }
  for (const payload of [new Uint8Array(max + 1), [new Uint8Array(max), 'x']]) {
    await t.rejects(connection.request(0, payload), { code: 'ERR_COROIPC_TOO_LARGE' })
    t.throws(() => connection.requestSync(0, payload), { code: 'ERR_COROIPC_TOO_LARGE' })
    t.throws(() => connection.send(0, payload), { code: 'ERR_COROIPC_TOO_LARGE' })
  }
})

t.test('payloads are copied at once and owned for ever', async (t) => {
  await using connection = await open()
  const reused = Buffer.alloc(100)
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, i) => {
      reused.fill(i)
      return connection.request(0, reused)
    }),
  )
  for (let i = 0; i < 50; i++) await connection.request(0, Buffer.alloc(1000, 255))
  t.ok(answers.every((answer, i) => answer.length === 100 && answer.every((byte) => byte === i)))
})

t.test('each failure of a handler has its code', async (t) => {
  await using connection = await open()
  const codes: [number, string][] = [
    [2, 'ERR_COROIPC_HANDLER_FAILED'],
    [3, 'ERR_COROIPC_HANDLER_REJECTED'],
    [5, 'ERR_COROIPC_ANSWER_INVALID'],
    [7, 'ERR_COROIPC_ANSWER_TOO_LARGE'],
    [19, 'ERR_COROIPC_RETRY'],
    [99, 'ERR_COROIPC_NO_HANDLER'],
  ]
  for (const [id, code] of codes) {
    await t.rejects(connection.request(id, 'x'), { code })
    t.throws(() => connection.requestSync(id, 'x'), { code })
  }
  t.equal(text(connection.requestSync(0, 'still there')), 'still there')
})

t.test('a callback is called once, and not before request returns', async (t) => {
  await using connection = await open()
  const calls: unknown[] = []
  connection.request(0, 'a', (error, answer) => calls.push([error, text(answer)]))
  connection.request(2, 'b', (error) => calls.push((error as { code?: string } | null)?.code))
  connection.request(4, 'c', { full: true }, (error, answer) => calls.push([error, answer?.status]))
  connection.request(0, new Uint8Array(3 << 20), (error) =>
    calls.push((error as { code?: string } | null)?.code),
  )
  t.equal(calls.length, 0)
  await until(() => calls.length === 4)
  t.same(
    calls.sort((a, b) => String(a).localeCompare(String(b))),
    [[null, -7], [null, 'a'], 'ERR_COROIPC_HANDLER_FAILED', 'ERR_COROIPC_TOO_LARGE'].sort((a, b) =>
      String(a).localeCompare(String(b)),
    ),
  )
})

t.test('more requests than may be in flight wait their turn, in order', async (t) => {
  await using connection = await open()
  const answers = await Promise.all(
    Array.from({ length: 500 }, (_, i) => connection.request(i % 3 === 0 ? 1 : 0, String(i))),
  )
  t.ok(answers.every((answer, i) => text(answer) === (i % 3 === 0 ? `<${i}>` : String(i))))
  t.equal(connection.stats().inFlight, 0)
})

t.test('what waits is bounded', async (t) => {
  await using connection = await open({ queuedRequests: 3 })
  const never = Array.from({ length: 19 }, () => connection.request(8, 'x'))
  await t.rejects(connection.request(0, 'x'), { code: 'ERR_COROIPC_LIMIT' })
  await new Promise<void>((resolve) =>
    connection.request(0, 'x', (error) => {
      t.match(error, { code: 'ERR_COROIPC_LIMIT' })
      resolve()
    }),
  )
  t.equal(connection.send(16, 'x'), false, 'a send behind them is not taken')
  const outcomes = Promise.allSettled(never)
  await connection.close()
  const codes = (await outcomes).map(
    (each) => ((each as PromiseRejectedResult).reason as { code: string }).code,
  )
  t.same(codes.slice(0, 16), Array(16).fill('ERR_COROIPC_UNKNOWN_OUTCOME'))
  t.same(codes.slice(16), Array(3).fill('ERR_COROIPC_DISCONNECTED'), 'never sent')
})

t.test('answers come in any order', async (t) => {
  await using connection = await open()
  await using other = await open()
  const order: string[] = []
  const ask = async (key: string): Promise<void> => {
    order.push(text(await connection.request(22, key)))
  }
  const asked = new Map(['first', 'second', 'third'].map((key) => [key, ask(key)]))
  for (const key of ['third', 'first', 'second']) {
    await letGo(other, key)
    await asked.get(key)
  }
  t.same(order, ['third', 'first', 'second'])
})

t.test(
  'a deadline ends the request, tells the server, and its late answer reaches nobody',
  async (t) => {
    await using connection = await open()
    await connection.request(15)
    await t.rejects(connection.request(18, 'x', { timeoutMs: 20 }), {
      code: 'ERR_COROIPC_TIMED_OUT',
    })
    t.throws(() => connection.requestSync(18, 'x', { timeoutMs: 20 }), {
      code: 'ERR_COROIPC_TIMED_OUT',
    })
    t.equal(text(await connection.request(0, 'mine')), 'mine')
    t.equal(text(connection.requestSync(0, 'mine')), 'mine')
    let seen = ''
    while (seen.split(',').filter(Boolean).length < 2) {
      seen += `,${text(await connection.request(15))}`
    }
    t.match(seen, /ERR_COROIPC_(TIMED_OUT|ABORTED).*ERR_COROIPC_(TIMED_OUT|ABORTED)/)
    await until(() => connection.stats().lateResponses === 2)
  },
)

t.test('a slot is not used again before its late answer came', async (t) => {
  await using connection = await open({ requestsInFlight: 2 })
  await using other = await open()
  for (let round = 0; round < 5; round++) {
    await t.rejects(connection.request(22, 'late', { timeoutMs: 5 }), {
      code: 'ERR_COROIPC_TIMED_OUT',
    })
    const answers = Promise.all(
      Array.from({ length: 10 }, (_, i) => connection.request(0, `${round}-${i}`)),
    )
    // Through the slot that is left; then through both.
    if (round % 2 === 0) await answers
    await letGo(other, 'late')
    t.ok((await answers).every((answer, i) => text(answer) === `${round}-${i}`))
    await until(() => connection.stats().lateResponses === round + 1)
  }
})

t.test('a blocking call that timed out holds a place: requests wait for it', async (t) => {
  await using connection = await open({ requestsInFlight: 2 })
  await using other = await open()
  const late = { code: 'ERR_COROIPC_TIMED_OUT' }
  for (let round = 0; round < 5; round++) {
    // Nobody answers before he is told to, so that these time out however long the machine stops.
    t.throws(() => connection.requestSync(22, 'one', { timeoutMs: 5 }), late)
    t.throws(() => connection.requestSync(22, 'two', { timeoutMs: 5 }), late)
    let settled = 0
    const answers = Promise.all(
      Array.from({ length: 10 }, async (_, i) => {
        const answer = await connection.request(0, `${round}-${i}`)
        settled++
        return answer
      }),
    )
    // The server goes on, and both places are held.
    for (let i = 0; i < 10; i++) await other.request(0, 'x')
    t.equal(settled, 0, 'both places are held')
    await letGo(other, 'two')
    t.ok((await answers).every((answer, i) => text(answer) === `${round}-${i}`))
    await letGo(other, 'one')
    await until(() => connection.stats().lateResponses === 2 * round + 2)
  }
})

t.test(
  'no deadline comes early, however long the thread was busy between two requests',
  async (t) => {
    await using connection = await open()
    const timeoutMs = 300
    // Time in which this process ran, in pieces of 10 ms: what it was stopped for is not counted, since nobody can be in
    // time then.
    let ran = 0
    const clock = setInterval(() => ran++, 10)
    t.teardown(() => clearInterval(clock))
    const never = (): Promise<number> => {
      const start = performance.now()
      return connection.request(8, '', { timeoutMs }).then(
        () => -1,
        (error: { code: string }) =>
          error.code === 'ERR_COROIPC_TIMED_OUT' ? performance.now() - start : -2,
      )
    }
    const first = never()
    const busyUntil = performance.now() + 400
    while (performance.now() < busyUntil);
    const [second, before] = [never(), ran]
    t.ok((await first) >= timeoutMs, `first ${await first}`)
    t.ok((await second) >= timeoutMs, `second ${await second}`)
    t.ok((ran - before) * 10 < timeoutMs + 2000, `but it comes: after ${ran - before} times 10 ms`)
  },
)

t.test('a deadline covers the wait for a turn as well', async (t) => {
  await using connection = await open({ requestsInFlight: 1 })
  await using other = await open()
  const first = connection.request(22, 'held')
  await t.rejects(connection.request(0, 'x', { timeoutMs: 10 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  await letGo(other, 'held')
  t.equal(text(await first), 'held')
  t.equal(text(await connection.request(0, 'x')), 'x')
})

t.test('a signal ends the request with its reason', async (t) => {
  await using connection = await open()
  await connection.request(15)
  const reason = new Error('changed my mind')
  const controller = new AbortController()
  const asked = connection.request(18, 'x', { signal: controller.signal })
  setTimeout(() => controller.abort(reason), 10)
  await t.rejects(asked, { code: 'ERR_COROIPC_ABORTED', cause: reason })
  await t.rejects(connection.request(0, 'x', { signal: AbortSignal.abort(reason) }), {
    code: 'ERR_COROIPC_ABORTED',
    cause: reason,
  })
  let seen = ''
  while (seen === '') seen = text(await connection.request(15))
  t.equal(seen, 'ERR_COROIPC_ABORTED')
  t.equal(text(await connection.request(0, 'x', { signal: new AbortController().signal })), 'x')
})

t.test('a blocking answer goes into the memory that was given', async (t) => {
  using connection = connectSync(server.name, { service: 7 })
  const into = new Uint8Array(10)
  const answer = connection.requestSync(0, 'hello', { into })
  t.equal(answer.buffer, into.buffer)
  t.equal(text(answer), 'hello')
  const full = connection.requestSync(4, 'hi', { into, full: true })
  t.equal(full.status, -7)
  t.equal(text(full.payload), 'hi')
  const small = new Uint8Array(3)
  for (const payload of ['hello', 'x'.repeat(100000)]) {
    try {
      connection.requestSync(0, payload, { into: small })
      t.fail('it does not fit')
    } catch (error) {
      const { code, answer } = error as { code: string; answer: Uint8Array }
      t.equal(code, 'ERR_COROIPC_TOO_LARGE')
      t.equal(text(answer), payload, 'the answer is not lost')
    }
  }
  t.equal(text(connection.requestSync(0, 'x')), 'x')
  for (const wrong of [5, 'x', [1]]) {
    try {
      connection.requestSync(0, 'x', { into: wrong as unknown as Uint8Array })
      t.fail('no Uint8Array')
    } catch (error) {
      t.ok(error instanceof TypeError)
      t.match(error, {
        code: 'ERR_COROIPC_INVALID_ARGUMENT',
        message: /into: expected a Uint8Array/,
      })
    }
  }
})

t.test('one-way messages arrive in order, between requests', async (t) => {
  await using connection = await open()
  await connection.request(15)
  for (let i = 0; i < 10; i++) t.equal(connection.send(16, i % 2 ? String(i) : [String(i)]), true)
  t.equal(text(await connection.request(15)), '0,1,2,3,4,5,6,7,8,9')
  connection.send(16, `big${'x'.repeat(50000)}`)
  connection.send(16, 'small')
  t.match(text(connection.requestSync(15)), /^bigx+,small$/)
  connection.send(16, 'last')
  await connection.close()
  await using other = await open()
  let seen = ''
  while (seen === '') seen = text(await other.request(15))
  t.equal(seen, 'last', 'what was sent before close arrives')
})

t.test('a sender that is faster than the server is told so', async (t) => {
  await using connection = await open({ requestRingBytes: 4096, queueBytes: 20000 })
  await connection.request(15)
  const blocked = connection.request(21, '100')
  let taken = 0
  while (connection.send(16, String(taken).padEnd(500))) taken++
  t.ok(taken > 0)
  await new Promise<void>((resolve) => connection.once('drain', resolve))
  t.equal(connection.send(16, 'after'), true)
  await blocked
  const seen = text(await connection.request(15)).split(',')
  t.equal(seen.length, taken + 1)
  t.ok(seen.slice(0, -1).every((each, i) => each.trim() === String(i)))
})

t.test('a Proxy of bytes is no bytes, and null is no payload', async (t) => {
  await using connection = await open()
  const proxy = new Proxy(new Uint8Array(3), {})
  const buffer = new Proxy(new ArrayBuffer(3), {})
  for (const payload of [proxy, [proxy], ['x', buffer], null, [null]] as unknown as string[]) {
    const calls = [
      () => connection.request(0, payload),
      () => Promise.resolve().then(() => connection.requestSync(0, payload)),
      () => Promise.resolve().then(() => connection.send(16, payload)),
      () => Promise.resolve().then(() => connection.requestSync(0, 'x', { into: proxy })),
    ]
    for (const call of calls) {
      const error: unknown = await call().catch((thrown: unknown) => thrown)
      t.ok(error instanceof TypeError)
      t.match(error, { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    }
  }
  t.equal(text(await connection.request(0)), '')
})

t.test('wrong arguments are refused before anything is sent', async (t) => {
  await using connection = await open()
  const before = connection.stats().requests
  const wrong: [unknown, unknown, unknown, RegExp][] = [
    [65536, 'x', undefined, /id: expected an integer from 0 to 65535, got 65536/],
    [-1, 'x', undefined, /id/],
    [1.5, 'x', undefined, /id/],
    ['0', 'x', undefined, /id/],
    [0, 5, undefined, /payload: expected a string, an ArrayBuffer, a view/],
    [0, null, undefined, /payload/],
    [0, ['a', 5], undefined, /payload\[1\]/],
    [0, Array(1025).fill('a'), undefined, /payload.length: expected at most 1024 pieces, got 1025/],
    [0, 'x', { timeout: 5 }, /timeout: expected an option among/],
    [0, 'x', { timeoutMs: '5' }, /timeoutMs: expected milliseconds/],
    [0, 'x', { full: true, inPlace: true }, /full/],
    [0, 'x', 5, /options: expected an object/],
  ]
  for (const [id, payload, options, message] of wrong) {
    const expected = { code: 'ERR_COROIPC_INVALID_ARGUMENT', message }
    await t.rejects(connection.request(id as 0, payload as '', options as object), expected)
    t.throws(() => connection.requestSync(id as 0, payload as '', options as object), expected)
    if (options === undefined) t.throws(() => connection.send(id as 0, payload as ''), expected)
  }
  t.throws(() => connection.request(0, 'x', {}, 5 as never), { message: /callback/ })
  t.throws(() => connection.requestSync(0, 'x', { into: 'x' as never }), { message: /into/ })
  t.throws(
    () => connection.requestSync(0, 'x', { into: new Uint8Array(1), inPlace: true } as never),
    {
      message: /into/,
    },
  )
  t.equal(connection.stats().requests, before)
})

t.test(
  '0 milliseconds are refused by what has to wait, and are "do not wait" elsewhere',
  async (t) => {
    await using connection = await open()
    const refused = {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message: /expected milliseconds from 1 to /,
    }
    for (const timeoutMs of [0, 0.5]) {
      await t.rejects(connection.request(0, 'x', { timeoutMs }), refused)
      t.throws(() => connection.requestSync(0, 'x', { timeoutMs }), refused)
      await t.rejects(connection.allocate(8, { timeoutMs }), refused)
      t.throws(() => connection.allocateSync(8, { timeoutMs }), refused)
      await t.rejects(connect(server.name, { service: 7, timeoutMs }), refused)
      t.throws(() => connectSync(server.name, { service: 7, timeoutMs }), refused)
      await t.rejects(connect(server.name, { service: 7, requestTimeoutMs: timeoutMs }), refused)
    }
    t.equal(text(await connection.request(0, 'x', { timeoutMs: Infinity })), 'x')
    t.equal(connection.dispatchSync(0), undefined)
    t.equal(connection.dispatchSync({ timeoutMs: 0 }), undefined)
    await connection.close({ timeoutMs: 0 })
  },
)

t.test('an error says when nothing was sent, and nothing when that is not known', async (t) => {
  const connection = await open({ requestsInFlight: 1, queuedRequests: 3 })
  const failure = (promise: Promise<unknown>): Promise<IpcError> =>
    promise.then(
      () => t.fail('it was answered') as never,
      (error: IpcError) => error,
    )
  const sent = failure(connection.request(8, 'never answered'))
  const late = failure(connection.request(0, 'x', { timeoutMs: 5 }))
  const aborted = failure(connection.request(0, 'x', { signal: AbortSignal.timeout(5) }))
  const queued = failure(connection.request(0, 'x'))
  t.match(await failure(connection.request(0, 'x')), {
    code: 'ERR_COROIPC_LIMIT',
    sent: false,
    message: /queuedRequests \(3\)/,
  })
  t.match(await late, { code: 'ERR_COROIPC_TIMED_OUT', sent: false })
  t.match(await aborted, { code: 'ERR_COROIPC_ABORTED', sent: false })
  t.match(await failure(connection.request(0, 'x', { signal: AbortSignal.abort() })), {
    code: 'ERR_COROIPC_ABORTED',
    sent: false,
  })
  t.match(await failure(connection.request(0, new Uint8Array(3 << 20))), {
    code: 'ERR_COROIPC_TOO_LARGE',
    sent: false,
  })
  t.throws(() => connection.requestSync(0, 'x', { timeoutMs: 20 }), {
    code: 'ERR_COROIPC_LIMIT',
    sent: false,
    message: /all 1 requestsInFlight are taken/,
  })
  await connection.close()
  t.match(await queued, { code: 'ERR_COROIPC_DISCONNECTED', sent: false })
  const unknown = await sent
  t.equal(unknown.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  t.notOk('sent' in unknown)
  t.match(await failure(connection.request(0)), { code: 'ERR_COROIPC_DISCONNECTED', sent: false })
  t.throws(() => connection.requestSync(0), { code: 'ERR_COROIPC_DISCONNECTED', sent: false })

  await using other = await open()
  const inFlight = await failure(other.request(8, 'never answered', { timeoutMs: 5 }))
  t.equal(inFlight.code, 'ERR_COROIPC_TIMED_OUT')
  t.notOk('sent' in inFlight)
  const failed = await failure(other.request(2))
  t.equal(failed.code, 'ERR_COROIPC_HANDLER_FAILED')
  t.notOk('sent' in failed)
})

t.test('closing settles everything once', async (t) => {
  const connection = await open()
  const reasons: string[] = []
  connection.on('close', (reason) => reasons.push(reason.code))
  const inFlight = connection.request(8, 'x')
  await connection.request(0, 'x')
  await Promise.all([
    connection.close(),
    t.rejects(inFlight, {
      code: 'ERR_COROIPC_UNKNOWN_OUTCOME',
      cause: { code: 'ERR_COROIPC_DISCONNECTED' },
    }),
  ])
  await connection.close()
  connection[Symbol.dispose]()
  t.same(reasons, ['ERR_COROIPC_DISCONNECTED'])
  t.equal(connection.closed, true)
  const over = { code: 'ERR_COROIPC_DISCONNECTED' }
  await t.rejects(connection.request(0, 'x'), over)
  t.throws(() => connection.requestSync(0, 'x'), over)
  t.throws(() => connection.send(0, 'x'), over)
  t.throws(() => connection.dispatchSync(0), over)
  t.throws(() => connection.stats(), over)
  await t.rejects(connection.allocate(10), over)
  t.throws(() => connection.allocateSync(10), over)
  t.equal(connection.fd, -1)
})

t.test('close waits for answers if it is given the time', async (t) => {
  const connection = await open()
  const asked = connection.request(14, '20')
  await connection.close({ timeoutMs: 10000 })
  t.equal(text(await asked), '20')
})

t.test('the server disconnects', async (t) => {
  const connection = await open()
  const closed = new Promise<string>((resolve) =>
    connection.once('close', (reason) => resolve(reason.code)),
  )
  await t.rejects(connection.request(11), {
    code: 'ERR_COROIPC_UNKNOWN_OUTCOME',
    cause: { code: 'ERR_COROIPC_DISCONNECTED' },
  })
  t.equal(await closed, 'ERR_COROIPC_DISCONNECTED')
  t.equal(connection.closed, true)
  await connection.close()
})

t.test('statistics count, and begin anew when cleared', async (t) => {
  await using connection = await open({ latency: true })
  await Promise.all([connection.request(0, 'abc'), connection.request(0, 'abc')])
  const stats = connection.stats({ clear: true })
  t.equal(stats.requests, 2)
  t.equal(stats.responses, 2)
  t.equal(stats.bytesSent, 6)
  t.equal(stats.bytesReceived, 6)
  t.equal(stats.latency?.count, 2)
  t.ok((stats.latency?.p50 ?? 0) > 0)
  connection.requestSync(0, 'abc')
  connection.requestSync(0, 'abc', { inPlace: true }).release()
  t.throws(() => connection.requestSync(2, 'fails'))
  t.equal(connection.stats({ clear: true }).latency?.count, 3, 'blocking calls count, by outcome')
  const cleared = connection.stats()
  t.equal(cleared.requests, 0)
  t.equal(cleared.latency?.count, 0)
  t.equal(cleared.connections, 1)
  t.throws(() => connection.stats({ reset: true } as never), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
  })
})

t.test('what the native core has to say reaches the channel', async (t) => {
  const { subscribe, unsubscribe } = await import('node:diagnostics_channel')
  const seen: unknown[] = []
  const note = (message: unknown): number => seen.push(message)
  subscribe('coroipc:client:log', note)
  t.teardown(() => unsubscribe('coroipc:client:log', note))
  const rings = { requestRingBytes: 16384, responseRingBytes: 16384, dispatchRingBytes: 16384 }
  await using own = new Server({ limits: { ...rings, segmentBytes: 2 ** 17 } })
  own.addService({ id: 1 })
  const name = freshName()
  await own.listen(name)
  await using connection = await connect(name, { service: 1 })
  connection.send(0, new Uint8Array(100_000))
  await until(() => seen.length > 0)
  const message = 'a large one-way message was dropped: the server has no segment for it'
  t.same(seen, [{ level: 40, message }])
})

t.test('a callback that ends other requests: each has one outcome', async (t) => {
  const outcomes = async (
    end: (connection: Connection, second: AbortController) => void,
    then: (connection: Connection) => void,
  ): Promise<string[]> => {
    await using connection = await connect(server.name, { service: 7 })
    const second = new AbortController()
    const seen: string[] = []
    connection.request(8, 'a', { timeoutMs: 30 }, (error) => {
      seen.push(`a ${error?.code}`)
      end(connection, second)
    })
    connection.request(8, 'b', { timeoutMs: 30, signal: second.signal }, (error) => {
      seen.push(`b ${error?.code}`)
    })
    then(connection)
    await until(() => seen.length >= 2)
    await new Promise((resolve) => setTimeout(resolve, 60)) // a second one would come by now
    return seen
  }
  const abort = (_: Connection, second: AbortController): void => second.abort()
  const close = (connection: Connection): void => void connection.close()
  const nothing = (): void => {}
  // Both are late at the same look at the clock, whichever the machine makes of it.
  for (const seen of [
    await outcomes(close, nothing),
    await outcomes(abort, nothing),
    await outcomes(abort, close),
  ]) {
    t.equal(seen.length, 2, seen.join(', '))
    t.strictSame(new Set(seen.map((each) => each[0])), new Set(['a', 'b']))
  }
})
