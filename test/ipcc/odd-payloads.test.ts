// Payloads that are not what they say: what leaves is what they hold, or nothing leaves and the caller is told. From both
// sides, small and large, since these go different ways.
import { connect, type Connection } from '@coroipc/ipcc'
import { type AnswerPayload, type FullAnswer, type IpcError, Server } from '@coroipc/ipcs'
import t, { type Test } from 'tap'
import { freshName, text, until } from './harness.js'

interface Sides {
  readonly client: Connection
  /** What the client gets if a handler returns this, responds with it, or dispatches it. */
  answers(payload: AnswerPayload | FullAnswer): Promise<Uint8Array>
  responds(payload: AnswerPayload): Promise<Uint8Array>
  dispatches(payload: AnswerPayload): Promise<Uint8Array>
  readonly errors: IpcError[]
}

async function sides(t: Test, trusted = false): Promise<Sides> {
  const server = new Server()
  const errors: IpcError[] = []
  server.on('error', (error) => errors.push(error))
  let given: AnswerPayload | FullAnswer
  server.addService({
    id: 1,
    trust: () => trusted,
    handlers: {
      0: ({ payload }) => payload,
      1: () => given,
      2: (request) => {
        request.respond(given as AnswerPayload)
      },
      3: (_, connection) => {
        connection.dispatch(given as AnswerPayload)
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  const client = await connect(name, { service: 1, trustServer: trusted, requestTimeoutMs: 10_000 })
  t.teardown(async () => {
    await client.close()
    await server.close({ timeoutMs: 100 })
  })
  const asks = (id: number) => async (payload: AnswerPayload | FullAnswer) => {
    given = payload
    return client.request(id)
  }
  const dispatches = async (payload: AnswerPayload): Promise<Uint8Array> => {
    let came: Uint8Array | undefined
    client.once('dispatch', (message) => (came = message.payload))
    await asks(3)(payload)
    await until(() => came !== undefined)
    return came as Uint8Array
  }
  return { client, answers: asks(1), responds: asks(2), dispatches, errors }
}

t.test('a list whose iterator yields more than its length', async (t) => {
  const { client, answers, dispatches } = await sides(t)
  for (const bytes of [1, 5000]) {
    const list = ['a', 'b'.repeat(bytes)]
    list[Symbol.iterator] = function* (): ArrayIterator<string> {
      for (let i = 0; i < 5000; i++) yield 'more'
    }
    const whole = `a${'b'.repeat(bytes)}`
    t.equal(text(await client.request(0, list)), whole)
    t.equal(text(await answers(list)), whole)
    t.equal(text(await dispatches(list)), whole)
  }
})

t.test(
  'an array that says another length than it has sends nothing but its own bytes',
  async (t) => {
    const { client, answers, responds, errors } = await sides(t)
    const uncaught: unknown[] = []
    const onUncaught = (error: unknown): unknown => uncaught.push(error)
    process.on('uncaughtException', onUncaught)
    t.teardown(() => process.off('uncaughtException', onUncaught))
    const saying = (length: unknown, bytes: number): Uint8Array =>
      Object.defineProperty(new Uint8Array(bytes).fill(9), 'length', { value: length })
    class Hundred extends Uint8Array {
      override get length(): number {
        return 100
      }
    }
    const liars = [
      saying(100, 4),
      saying(-8, 4),
      saying(NaN, 4),
      saying('4', 4),
      new Hundred([9, 9, 9, 9]),
    ]
    await client.request(0, 'what lay in the outbox before, and is nobody else’s'.repeat(8))
    const own = [9, 9, 9, 9]
    for (const liar of liars) {
      t.same([...(await client.request(0, liar))], own)
      if (liar.length === 100)
        t.same([...(await client.request(0, ['a', liar, 'b']))], [97, ...own, 98])
      t.same([...(await answers(liar))], own)
      t.same([...(await answers({ status: 1, payload: liar }))], own)
      t.same([...(await responds(liar))], own)
      t.equal(text(await client.request(0, 'all as ever')), 'all as ever')
    }
    await t.rejects(answers(saying(5, 100_000)), { code: 'ERR_COROIPC_HANDLER_FAILED' })
    t.match(errors.at(-1)?.cause, { name: 'RangeError' })
    t.equal(text(await client.request(0, 'all as ever')), 'all as ever')
    t.same(uncaught, [])
    class Plain extends Uint8Array {}
    for (const honest of [
      new Plain([7, 7]),
      Buffer.from([7, 7]),
      new Uint8Array(9).fill(7, 3, 5).subarray(3, 5),
    ]) {
      t.same([...(await client.request(0, honest))], [7, 7])
      t.same([...(await answers(honest))], [7, 7])
    }
  },
)

/** Views and buffers whose memory has become another's, or too small for them. */
function gone(): [what: string, payload: ArrayBufferView | ArrayBuffer][] {
  const transferred = (): ArrayBuffer => {
    const buffer = new ArrayBuffer(8)
    views.push(['an array', new Uint8Array(buffer)], ['shorts', new Int16Array(buffer)])
    views.push(['a view', new DataView(buffer)], ['a large one', large], ['a buffer', buffer])
    structuredClone(buffer, { transfer: [buffer, large.buffer] })
    return buffer
  }
  const views: [string, ArrayBufferView | ArrayBuffer][] = []
  const large = new Uint8Array(100_000)
  transferred()
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize(bytes: number): void }
  const shrunk = new Resizable(80_000, { maxByteLength: 80_000 })
  views.push(['out of bounds', new Uint8Array(shrunk, 4, 4)])
  views.push(['out of bounds, shorts', new Int16Array(shrunk, 4, 2)])
  views.push(['out of bounds, to the end', new Uint8Array(shrunk, 4)])
  views.push(['out of bounds, large', new Uint8Array(shrunk, 4, 70_000)])
  shrunk.resize(2)
  return views
}

t.test('memory that was transferred away, or resized, is not an empty payload', async (t) => {
  const { client, answers, responds, dispatches, errors } = await sides(t)
  const invalid = { name: 'TypeError', code: 'ERR_COROIPC_INVALID_ARGUMENT' }
  const named = { ...invalid, message: /^payload: expected memory that was not transferred away/ }
  for (const [what, payload] of gone()) {
    await t.rejects(client.request(0, payload), named, what)
    t.throws(() => client.request(0, payload, () => {}), named, what)
    t.throws(() => client.send(0, payload), named, what)
    t.throws(() => client.requestSync(0, payload), named, what)
    await t.rejects(client.request(0, ['a', payload]), { ...invalid, message: /^payload\[1\]: / })
    await t.rejects(answers(payload), { code: 'ERR_COROIPC_ANSWER_INVALID' }, what)
    t.match(errors.at(-1)?.cause, named)
    await t.rejects(responds(payload), { code: 'ERR_COROIPC_HANDLER_FAILED' }, what)
    t.match(errors.at(-1)?.cause, named)
    await t.rejects(dispatches(payload), { code: 'ERR_COROIPC_HANDLER_FAILED' }, what)
    t.match(errors.at(-1)?.cause, named)
  }
  for (const empty of [
    new Uint8Array(0),
    Buffer.alloc(0),
    new Uint8Array(8).subarray(8),
    new DataView(new ArrayBuffer(0)),
    new ArrayBuffer(0),
    [],
    '',
  ]) {
    t.equal((await client.request(0, empty)).length, 0)
    t.equal((await answers(empty)).length, 0)
  }
})
