// The server's tracing channels: connect from authorize to onConnect, requests in every way they can end, dispatches;
// the context that handlers run in; and what a subscriber of `start` replaces.
import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '@coroipc/ipcc'
import {
  type ConnectTrace,
  type DispatchTrace,
  type RequestTrace,
  Server,
  type ServerOptions,
  type ServiceOptions,
} from '@coroipc/ipcs'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { traces } from '../support/traces.js'
import { outcome } from '../support/wait.js'

const CONNECT = 'coroipc:server:connect'
const REQUEST = 'coroipc:server:request'
const DISPATCH = 'coroipc:server:dispatch'

async function serve(
  service: Omit<ServiceOptions, 'id'>,
  options: ServerOptions = {},
): Promise<AsyncDisposable & { name: string; server: Server }> {
  const server = new Server(options)
  server.on('error', () => {})
  server.addService({ id: 1, ...service })
  const name = freshName()
  await server.listen(name)
  return { name, server, [Symbol.asyncDispose]: () => server.close({ timeoutMs: 100 }) }
}

const codeOf = (error: unknown): string =>
  error === undefined ? '' : ((error as { code?: string }).code ?? (error as Error).message)
const told = ({ id, code, error }: RequestTrace): string =>
  `${id} ${code ?? ''} ${codeOf(error)}`.trim()

t.test('connect: let in, refused, and an onConnect that fails', async (t) => {
  const seen = traces<ConnectTrace>(t, CONNECT, ({ connection, credentials, error }) =>
    `${credentials.pid === process.pid} ${connection === undefined ? '' : 'open'} ${codeOf(error)}`.trim(),
  )
  let verdict: boolean | Promise<boolean> = true
  let hook = (): void | Promise<void> => {}
  await using own = await serve({ onConnect: () => hook() }, { authorize: () => verdict })
  const welcomed = ['start true', 'end true', 'asyncStart true open', 'asyncEnd true open']
  await (await connect(own.name, { service: 1 })).close()
  await until(() => seen.length === 4)
  t.same(seen.splice(0), welcomed)

  verdict = sleep(5, true)
  hook = async () => await sleep(5)
  await (await connect(own.name, { service: 1 })).close()
  await until(() => seen.length === 4)
  t.same(seen.splice(0), welcomed, 'the same with promises')

  hook = () => {
    throw new Error('on purpose')
  }
  verdict = true
  await outcome(connect(own.name, { service: 1 }).then((connection) => connection.request(0)))
  await until(() => seen.length === 5)
  const failed = 'true open ERR_COROIPC_HANDLER_FAILED'
  t.same(seen.splice(0).slice(2), ['asyncStart true open', `error ${failed}`, `asyncEnd ${failed}`])

  for (const no of [false, sleep(5, false)]) {
    verdict = no
    t.equal(await outcome(connect(own.name, { service: 1 })), 'ERR_COROIPC_DENIED')
    await until(() => seen.length === 5)
    const denied = 'true  ERR_COROIPC_DENIED'
    t.same(seen.splice(0), [
      'start true',
      'end true',
      `error ${denied}`,
      `asyncStart ${denied}`,
      `asyncEnd ${denied}`,
    ])
  }

  verdict = new Promise<boolean>(() => {})
  t.equal(await outcome(connect(own.name, { service: 1, timeoutMs: 20 })), 'ERR_COROIPC_TIMED_OUT')
  await until(() => seen.length === 5)
  t.match(seen[2], /^error true {2}ERR_COROIPC_/, 'a client that left while authorize thought')
})

t.test('requests: answered at once, by promise, later, and in all ways not', async (t) => {
  const seen = traces(t, REQUEST, told)
  await using own = await serve({
    admit: ({ id }) => (id === 5 ? 'retry' : 'accept'),
    handlers: {
      0: (request) => request.payload,
      1: async (request) => request.payload,
      2: () => {
        throw new Error('on purpose')
      },
      3: async () => {
        throw new Error('on purpose')
      },
      4: (request) => {
        request.defer()
        setImmediate(() => request.respond('later'))
      },
      5: () => '',
    },
  })
  const connection = await connect(own.name, { service: 1 })
  for (const id of [0, 1, 2, 3, 4, 5, 6]) await outcome(connection.request(id, 'x'))
  connection.send(0, 'x')
  await until(() => seen.length >= 26)
  t.same(seen, [
    'start 0',
    'end 0 OK',
    'start 1',
    'end 1',
    'asyncStart 1 OK',
    'asyncEnd 1 OK',
    'start 2',
    'error 2 ERR_COROIPC_HANDLER_FAILED on purpose',
    'end 2 ERR_COROIPC_HANDLER_FAILED on purpose',
    'start 3',
    'end 3',
    ...['error', 'asyncStart', 'asyncEnd'].map(
      (stage) => `${stage} 3 ERR_COROIPC_HANDLER_REJECTED on purpose`,
    ),
    'start 4',
    'end 4',
    'asyncStart 4 OK',
    'asyncEnd 4 OK',
    'start 5',
    'error 5 ERR_COROIPC_RETRY ERR_COROIPC_RETRY',
    'end 5 ERR_COROIPC_RETRY ERR_COROIPC_RETRY',
    'start 6',
    'error 6 ERR_COROIPC_NO_HANDLER ERR_COROIPC_NO_HANDLER',
    'end 6 ERR_COROIPC_NO_HANDLER ERR_COROIPC_NO_HANDLER',
    'start 0',
    'end 0 OK',
  ])
  await connection.close()
})

t.test('a client that leaves ends its requests', async (t) => {
  const seen = traces(t, REQUEST, told)
  await using own = await serve({ handlers: { 0: (request) => request.defer() } })
  const connection = await connect(own.name, { service: 1 })
  void outcome(connection.request(0))
  await until(() => seen.length === 2)
  await connection.close()
  await until(() => seen.length === 5)
  t.match(seen[4], 'asyncEnd 0 ERR_COROIPC_DISCONNECTED')
})

t.test('one at a time (serialize), each with its own trace', async (t) => {
  const seen = traces(t, REQUEST, told)
  await using own = await serve({
    serialize: true,
    handlers: { 0: async () => await sleep(2), 1: () => 'x' },
  })
  const connection = await connect(own.name, { service: 1 })
  await Promise.all([connection.request(0), connection.request(1)])
  t.same(seen, ['start 0', 'end 0', 'asyncStart 0 OK', 'asyncEnd 0 OK', 'start 1', 'end 1 OK'])
  await connection.close()
})

t.test(
  'handlers see the store that is bound to start, and what it leaves in the message',
  async (t) => {
    const storage = new AsyncLocalStorage<string>()
    const channel = tracingChannel<string, RequestTrace>(REQUEST)
    const enter = (trace: RequestTrace): string => {
      const by = text(trace.payload.subarray(0, 3))
      trace.id -= 100
      trace.payload = trace.payload.subarray(3)
      return by
    }
    channel.start.bindStore(storage, enter)
    t.teardown(() => channel.start.unbindStore(storage))
    await using own = await serve({
      handlers: {
        0: async (request) => {
          await sleep(1)
          return `${storage.getStore()} ${request.id} ${text(request.payload)}`
        },
      },
    })
    const connection = await connect(own.name, { service: 1 })
    const answers = await Promise.all([
      connection.request(100, 'onea'),
      connection.request(100, 'twob'),
    ])
    t.same(answers.map(text), ['one 0 a', 'two 0 b'])
    t.equal(storage.getStore(), undefined)
    await connection.close()
  },
)

t.test('dispatch, and what replaces it', async (t) => {
  const seen = traces<DispatchTrace>(t, DISPATCH, ({ id, result, error }) =>
    `${id} ${String(result ?? '')} ${codeOf(error)}`.trim(),
  )
  const replace = (trace: DispatchTrace): void => {
    if (trace.id === 7) Object.assign(trace, { id: 8, payload: 'other' })
  }
  const channel = tracingChannel<unknown, DispatchTrace>(DISPATCH)
  channel.start.subscribe(replace as never)
  t.teardown(() => channel.start.unsubscribe(replace as never))
  await using own = await serve({
    onConnect: (connection) => {
      connection.dispatch('x', { id: 3 })
      connection.dispatch('x', { id: 7 })
      t.throws(() => connection.dispatch(5 as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    },
  })
  const connection = await connect(own.name, { service: 1 })
  await using messages = connection.dispatches()
  await messages.next()
  const { value } = await messages.next()
  t.same([value?.id, text(value?.payload)], [8, 'other'])
  t.same(seen, [
    'start 3',
    'end 3 true',
    'start 7',
    'end 7 true',
    'start 0',
    'error 0  ERR_COROIPC_INVALID_ARGUMENT',
    'end 0  ERR_COROIPC_INVALID_ARGUMENT',
  ])
  await connection.close()
})
