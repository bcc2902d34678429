// Payloads that an encoder writes when they are sent: on every way, of every size, and when the encoder misbehaves.
import { once } from 'node:events'
import { connect, type Connection, Encoded, type Encoder, type Message } from '@coroipc/ipcc'
import { type Handler, Server } from '@coroipc/ipcs'
import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'
import { Peer } from '../support/peer.js'
import { outcome, text, until } from '../support/wait.js'
import { freshName } from '../ipcc/harness.js'

/** Numbers as 32-bit words, written in place; asks for room where there is too little. */
const words: Encoder<readonly number[]> = {
  encode(values, memory, at, end) {
    const bytes = values.length * 4
    if (bytes > end - at) return -bytes
    for (const value of values) at = memory.writeUInt32LE(value, at)
    return bytes
  },
}
const wordsOf = (payload: Uint8Array): number[] => [
  ...new Uint32Array(Uint8Array.from(payload).buffer),
]
/** Not t.same: it prints what it compares, however long. */
const equal = (t: Test, payload: Uint8Array, values: number[]): void =>
  void t.ok(isDeepStrictEqual(wordsOf(payload), values), `${values.length} words`)
const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index * 7)
const INVALID_ARGUMENT = 'ERR_COROIPC_INVALID_ARGUMENT'
/** Empty; small; the largest that fits the window and one more; a large one. */
const COUNTS = [0, 1, 16, 512, 513, 20_000]

async function serve(
  t: Test,
  handlers: Record<number, Handler>,
): Promise<{ server: Server; name: string; connection: Connection; errors: Error[] }> {
  const server = new Server()
  const errors: Error[] = []
  server.on('error', (error) => errors.push(error))
  server.addService({ id: 1, handlers: { 0: (request) => request.payload, ...handlers } })
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: 1, requestsInFlight: 2 })
  t.teardown(async () => {
    await connection.close()
    await server.close({ timeoutMs: 100 })
  })
  return { server, name, connection, errors }
}

t.test('requests, answers, sends and dispatches of every size', async (t) => {
  const sent: Uint8Array[] = []
  const { connection } = await serve(t, {
    1: (request) => new Encoded(words, numbers(wordsOf(request.payload)[0] ?? 0)),
    2: (request) => ({ status: 5, payload: new Encoded(words, wordsOf(request.payload)) }),
    3: (request) => {
      sent.push(request.payload)
    },
    4: (request, each) => {
      each.dispatch(new Encoded(words, numbers(wordsOf(request.payload)[0] ?? 0)), { id: 9 })
    },
    5: (request) => {
      request.respond(new Encoded(words, [6, 7]))
    },
  })
  for (const count of COUNTS) {
    const values = numbers(count)
    equal(t, await connection.request(0, new Encoded(words, values)), values)
    equal(t, await connection.request(1, new Encoded(words, [count])), values)
    const answer = await connection.request(2, new Encoded(words, values), { full: true })
    t.equal(answer.status, 5)
    equal(t, answer.payload, values)
    const called = await new Promise<Uint8Array>((resolve) =>
      connection.request(0, new Encoded(words, values), (_, payload) => resolve(payload)),
    )
    equal(t, called, values)
    t.equal(connection.send(3, new Encoded(words, values)), true)
    await until('it came', () => sent.length > 0)
    equal(t, sent.pop() as Uint8Array, values)
    const [[message]] = (await Promise.all([
      once(connection as never, 'dispatch'),
      connection.request(4, new Encoded(words, [count])),
    ])) as [[Message], Uint8Array]
    t.equal(message.id, 9)
    equal(t, message.payload, values)
  }
  t.same(wordsOf(await connection.request(5)), [6, 7])
})

t.test('many at once, beyond the requests in flight, keep their bytes', async (t) => {
  const { connection } = await serve(t, {})
  const answers = await Promise.all(
    Array.from({ length: 300 }, (_, index) =>
      connection.request(0, new Encoded(words, [index, index + 1])),
    ),
  )
  t.same(
    answers.map(wordsOf),
    answers.map((_, index) => [index, index + 1]),
  )
})

/** A server of echoes in a process of its own. */
async function servePeer(): Promise<{ peer: Peer; name: string }> {
  const peer = await Peer.open()
  const name = freshName()
  await peer.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    const echo = (request: { payload: Uint8Array }): Uint8Array => request.payload
    state.server.addService({ id: 1, handlers: { 0: echo } })
    await state.server.listen(name)
  }, name)
  return { peer, name }
}

t.test('blocking calls', async (t) => {
  const { peer, name } = await servePeer()
  const connection = await connect(name, { service: 1 })
  for (const count of COUNTS) {
    const values = numbers(count)
    connection.send(0, 'goes before it')
    equal(t, connection.requestSync(0, new Encoded(words, values)), values)
    const full = connection.requestSync(0, new Encoded(words, values), { full: true })
    equal(t, full.payload, values)
    using lease = connection.requestSync(0, new Encoded(words, values), { inPlace: true })
    equal(t, lease.payload, values)
  }
  await connection.close()
  await peer.end()
})

t.test('a callback that sends while a blocking call flushes does not spoil the call', async (t) => {
  const dead = await servePeer()
  const alive = await servePeer()
  const gone = await connect(dead.name, { service: 1 })
  const connection = await connect(alive.name, { service: 1 })
  dead.peer.signal('SIGKILL')
  // Its end is known below and not here: events come after this turn.
  t.throws(() => gone.requestSync(0, 'x'))
  t.equal(gone.closed, false)
  let told = ''
  gone.request(0, 'x', (error) => {
    told = error?.code ?? ''
    connection.send(0, 'y'.repeat(500))
  })
  equal(t, connection.requestSync(0, new Encoded(words, [1, 2, 3])), [1, 2, 3])
  t.not(told, '', 'it was called by the flush')
  await connection.close()
  await gone.close()
  await alive.peer.end()
  await dead.peer.end()
})

t.test('an encoder that has its payload already gives that', async (t) => {
  const { connection } = await serve(t, {})
  for (const payload of ['', 'short', 'ü'.repeat(682), 'ü'.repeat(683), 'x'.repeat(5000)])
    t.equal(text(await connection.request(0, new Encoded({ encode: () => payload }, 0))), payload)
  const list = new Encoded({ encode: () => ['a', Buffer.from('b')] }, 0)
  t.equal(text(await connection.request(0, list)), 'ab')
  t.same(list.payload(), ['a', Buffer.from('b')])
  t.same(wordsOf(new Encoded(words, [3, 4]).payload() as Uint8Array), [3, 4])
})

t.test('an encoder that sends something itself spoils neither message', async (t) => {
  const { connection } = await serve(t, {})
  for (const inner of [1, 40, 20_000]) {
    let nested: Promise<Uint8Array> | undefined
    const encoder: Encoder<number[]> = {
      encode(values, memory, at, end) {
        const bytes = words.encode(values, memory, at, end)
        nested ??= connection.request(0, new Encoded(words, numbers(inner)))
        return bytes
      },
    }
    const outer = await connection.request(0, new Encoded(encoder, [1, 2, 3]))
    t.same(wordsOf(outer), [1, 2, 3])
    equal(t, (await nested) ?? new Uint8Array(), numbers(inner))
  }
})

t.test('an encoder sees nothing of other messages, and can take nothing away', async (t) => {
  const { connection } = await serve(t, {})
  const secret = 'what waits to be sent'
  let seen = 0
  const looks: Encoder<string> = {
    encode(value, memory, at, end) {
      if (Buffer.from(memory.buffer).includes(secret)) seen++
      return memory.write(value, at, end - at)
    },
  }
  const takes: Encoder<string> = {
    encode(value, memory, at, end) {
      const bytes = memory.write(value, at, end - at)
      // Twice: the second time with memory that it has asked for, if it is asked again.
      structuredClone(memory.buffer, { transfer: [memory.buffer as ArrayBuffer] })
      return bytes
    },
  }
  const says: Encoder<string> = {
    encode(value, memory) {
      structuredClone(memory.buffer, { transfer: [memory.buffer as ArrayBuffer] })
      return value
    },
  }
  for (let round = 0; round < 3; round++) {
    const before = connection.request(0, secret)
    const looked = connection.request(0, new Encoded(looks, 'looked'))
    const taken = await outcome(connection.request(0, new Encoded(takes, 'taken')))
    t.not(taken, 'ERR_COROIPC_TIMED_OUT', 'an error at once, or its bytes')
    t.equal(text(await connection.request(0, new Encoded(says, 'said'))), 'said')
    t.equal(text(await before), secret)
    t.equal(text(await looked), 'looked')
    t.equal(text(await connection.request(0, new Encoded(looks, 'after'))), 'after')
  }
  t.equal(seen, 0)
})

t.test('what an encoder throws is thrown, and nothing was sent', async (t) => {
  const { connection, errors } = await serve(t, {
    1: () => new Encoded({ encode: () => thrower() }, 0),
    2: (request) => {
      t.throws(() => request.respond(new Encoded({ encode: () => thrower() }, 0)), /cannot/)
      request.respond('still open')
    },
    3: (_, each) => {
      t.throws(() => each.dispatch(new Encoded({ encode: () => thrower() }, 0)), /cannot/)
    },
  })
  const thrower = (): never => {
    throw new Error('cannot be written')
  }
  const before = connection.stats().requests
  await t.rejects(connection.request(0, new Encoded({ encode: thrower }, 0)), /cannot be written/)
  t.throws(() => connection.send(0, new Encoded({ encode: thrower }, 0)), /cannot be written/)
  t.equal(connection.stats().requests, before)
  t.equal(await outcome(connection.request(1)), 'ERR_COROIPC_ANSWER_INVALID')
  t.match(errors.pop(), { code: 'ERR_COROIPC_ANSWER_INVALID', cause: { message: /cannot/ } })
  t.equal(text(await connection.request(2)), 'still open')
  await connection.request(3)
  t.same(errors, [])
})

t.test('an encoder that returns nonsense is a wrong argument', async (t) => {
  const { connection } = await serve(t, {})
  for (const wrong of [Number.NaN, 0.5, 2049, Infinity, -Infinity, null, {}, 7n]) {
    const encoded = new Encoded({ encode: () => wrong as never }, 0)
    t.equal(await outcome(connection.request(0, encoded)), INVALID_ARGUMENT)
  }
  const never = new Encoded({ encode: (_, memory) => -memory.length - 1 }, 0)
  t.equal(await outcome(connection.request(0, never)), INVALID_ARGUMENT)
  t.equal(text(await connection.request(0, 'and on it goes')), 'and on it goes')
})
