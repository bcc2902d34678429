// The client's tracing channels: connect, request and dispatch in every form, in the order that TracingChannel
// promises; what a subscriber of `start` replaces; and that each channel alone is enough.
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import {
  type ConnectTrace,
  connect,
  connectSync,
  type Connection,
  type DispatchTrace,
  type RequestTrace,
} from '@coroipc/ipcc'
import t from 'tap'
import { type Stage, stages, traces } from '../support/traces.js'
import { outcome } from '../support/wait.js'
import { startServer, text, until } from './harness.js'

const CONNECT = 'coroipc:client:connect'
const REQUEST = 'coroipc:client:request'
const DISPATCH = 'coroipc:client:dispatch'

const codeOf = (error: unknown): string => (error as { code?: string } | undefined)?.code ?? ''
const told = ({ id, result, error }: RequestTrace): string => {
  const answer = result instanceof Uint8Array ? text(result) : result === true ? 'true' : ''
  return `${id} ${answer}${codeOf(error)}`.trim()
}

const server = await startServer()
t.teardown(() => server.kill())
const connection: Connection = await connect(server.name, { service: 7 })
t.teardown(() => connection.close())

t.test('connect, by promise and blocking, well and badly', async (t) => {
  const seen = traces<ConnectTrace>(
    t,
    CONNECT,
    ({ service, sync, result, error }) =>
      `${service} ${sync ? 'sync ' : ''}${result === undefined ? codeOf(error) : 'open'}`,
  )
  const one = await connect(server.name, { service: 7 })
  await one.close()
  connectSync(server.name, { service: 7 })[Symbol.dispose]()
  t.equal(await outcome(connect(server.name, { service: 9 })), 'ERR_COROIPC_NO_SERVICE')
  t.equal(await outcome(() => connectSync(server.name, { service: 9 })), 'ERR_COROIPC_NO_SERVICE')
  t.equal(await outcome(connect('x', undefined as never)), 'ERR_COROIPC_INVALID_ARGUMENT')
  t.same(seen, [
    'start 7',
    'end 7',
    'asyncStart 7 open',
    'asyncEnd 7 open',
    'start 7 sync',
    'end 7 sync open',
    'start 9',
    'end 9',
    ...['error', 'asyncStart', 'asyncEnd'].map((stage) => `${stage} 9 ERR_COROIPC_NO_SERVICE`),
    'start 9 sync',
    'error 9 sync ERR_COROIPC_NO_SERVICE',
    'end 9 sync ERR_COROIPC_NO_SERVICE',
    'start -1',
    'end -1',
    ...['error', 'asyncStart', 'asyncEnd'].map(
      (stage) => `${stage} -1 ERR_COROIPC_INVALID_ARGUMENT`,
    ),
  ])
})

t.test('a request by promise, by callback, blocking and one way', async (t) => {
  const seen = traces(t, REQUEST, told)
  t.equal(text(await connection.request(0, 'a')), 'a')
  await new Promise<void>((resolve, reject) =>
    connection.request(0, 'b', (error) => (error === null ? resolve() : reject(error))),
  )
  await new Promise<void>((resolve, reject) =>
    connection.request(0, 'c', {}, (error) => (error === null ? resolve() : reject(error))),
  )
  t.equal(text(connection.requestSync(0, 'd')), 'd')
  t.equal(connection.send(16, 'e'), true)
  t.same(seen, [
    'start 0',
    'end 0',
    'asyncStart 0 a',
    'asyncEnd 0 a',
    'start 0',
    'end 0',
    'asyncStart 0 b',
    'asyncEnd 0 b',
    'start 0',
    'end 0',
    'asyncStart 0 c',
    'asyncEnd 0 c',
    'start 0',
    'end 0 d',
    'start 16',
    'end 16 true',
  ])
})

t.test('a request that fails, in each form', async (t) => {
  const seen = traces(t, REQUEST, told)
  const failed = 'ERR_COROIPC_HANDLER_FAILED'
  t.equal(await outcome(connection.request(2)), failed)
  const code = await new Promise((resolve) =>
    connection.request(2, '', (error) => resolve(error?.code)),
  )
  t.equal(code, failed)
  t.equal(await outcome(() => connection.requestSync(2)), failed)
  const wrong = 'ERR_COROIPC_INVALID_ARGUMENT'
  t.equal(await outcome(connection.request(-1)), wrong)
  t.equal(await outcome(() => connection.send(-1)), wrong)
  t.equal(await outcome(() => connection.request(0, '', {}, 5 as never)), wrong)
  t.same(seen, [
    'start 2',
    'end 2',
    `error 2 ${failed}`,
    `asyncStart 2 ${failed}`,
    `asyncEnd 2 ${failed}`,
    'start 2',
    'end 2',
    `error 2 ${failed}`,
    `asyncStart 2 ${failed}`,
    `asyncEnd 2 ${failed}`,
    'start 2',
    `error 2 ${failed}`,
    `end 2 ${failed}`,

    'start -1',
    'end -1',
    `error -1 ${wrong}`,
    `asyncStart -1 ${wrong}`,
    `asyncEnd -1 ${wrong}`,
    'start -1',
    `error -1 ${wrong}`,
    `end -1 ${wrong}`,
  ])
})

t.test('each of the five channels is enough to be told', async (t) => {
  for (const only of stages) {
    await t.test(only, async (t) => {
      const seen = traces(t, REQUEST, told, [only])
      const id = only === 'error' ? 2 : 0
      await outcome(connection.request(id, ''))
      t.equal(seen.length, 1)
      t.match(seen[0], only satisfies Stage)
    })
  }
})

t.test('what a subscriber of start leaves in the message is sent', async (t) => {
  const seen = traces<RequestTrace>(t, REQUEST, ({ id }) => String(id), ['end', 'asyncEnd'])
  const replace = (trace: RequestTrace): void => {
    trace.id = 1
    trace.payload = ['traced ', trace.payload as string]
  }
  const channel = tracingChannel<unknown, RequestTrace>(REQUEST)
  channel.start.subscribe(replace as never)
  t.teardown(() => channel.start.unsubscribe(replace as never))
  t.equal(text(await connection.request(0, 'x')), '<traced x>')
  t.equal(text(connection.requestSync(0, 'y')), '<traced y>')
  t.same(seen, ['end 0', 'asyncEnd 0', 'end 0'], 'it tells what was asked for')
})

t.test('a store that is bound to start and asyncStart is there in the callback', async (t) => {
  const storage = new AsyncLocalStorage<string>()
  const channel = tracingChannel<string, RequestTrace>(REQUEST)
  const name = (trace: RequestTrace): string => `request ${trace.id}`
  channel.start.bindStore(storage, name)
  channel.asyncStart.bindStore(storage, name)
  t.teardown(() => {
    channel.start.unbindStore(storage)
    channel.asyncStart.unbindStore(storage)
  })
  const inside = await new Promise((resolve) =>
    connection.request(0, '', () => resolve(storage.getStore())),
  )
  t.equal(inside, 'request 0')
  t.equal(storage.getStore(), undefined)
})

t.test(
  'a dispatch to a listener, an iterator, a transient reader, and one that is fetched',
  async (t) => {
    const seen = traces<DispatchTrace>(t, DISPATCH, ({ message, error }) =>
      `${message.id} ${message.payload.length} ${codeOf(error)}`.trim(),
    )
    await using own = await connect(server.name, { service: 7 })
    const ask = JSON.stringify({ count: 1, bytes: 8, id: 5 })
    const heard: number[] = []
    const listener = (): void => void heard.push(seen.length)
    own.on('dispatch', listener)
    await own.request(9, ask)
    await until(() => heard.length === 1)
    t.same(heard, [1], 'start came before the listener, end did not')
    own.off('dispatch', listener)

    await using messages = own.dispatches()
    await own.request(9, ask)
    t.equal((await messages.next()).value?.payload.length, 8)
    await messages.return()

    let transient = 0
    const stop = own.transientDispatches((_, __, length) => {
      transient = length
    })
    await own.request(9, ask)
    await until(() => transient === 8)
    stop()

    await own.request(9, ask)
    const fetched = own.dispatchSync(1000)
    t.equal(fetched?.id, 5)
    t.same(seen, Array.from({ length: 4 }, () => ['start 5 8', 'end 5 8']).flat())
  },
)

t.test('nobody subscribed: no message is made', async (t) => {
  const seen = traces(t, REQUEST, told)
  const unsubscribed = traces({ teardown: (run) => run() }, REQUEST, told)
  await connection.request(0, 'x')
  t.equal(seen.length, 4)
  t.same(unsubscribed, [])
})
