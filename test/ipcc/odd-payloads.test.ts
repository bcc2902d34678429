// Payloads that are not what they say: what leaves is what they hold, or nothing leaves and the caller is told. From both
// sides, small and large, since these go different ways.
import { connect, type Connection } from '@coroipc/ipcc'
import { type AnswerPayload, type IpcError, Server } from '@coroipc/ipcs'
import t, { type Test } from 'tap'
import { freshName, text, until } from './harness.js'

interface Sides {
  readonly client: Connection
  /** What the client gets if a handler returns this, responds with it, or dispatches it. */
  answers(payload: AnswerPayload): Promise<Uint8Array>
  responds(payload: AnswerPayload): Promise<Uint8Array>
  dispatches(payload: AnswerPayload): Promise<Uint8Array>
  readonly errors: IpcError[]
}

async function sides(t: Test, trusted = false): Promise<Sides> {
  const server = new Server()
  const errors: IpcError[] = []
  server.on('error', (error) => errors.push(error))
  let given: AnswerPayload
  server.addService({
    id: 1,
    trust: () => trusted,
    handlers: {
      0: ({ payload }) => payload,
      1: () => given,
      2: (request) => {
        request.respond(given)
      },
      3: (_, connection) => {
        connection.dispatch(given)
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
  const asks = (id: number) => async (payload: AnswerPayload) => {
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
