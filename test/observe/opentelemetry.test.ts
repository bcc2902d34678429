// Spans of the real SDK: of a client here and a server in another process, as one trace; of a server that does not
// take part; of dispatches; and what a stranger may put into the header.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { connect, type Connection } from '@coroipc/ipcc'
import { traceRequests, type TracingOptions } from '@coroipc/observe/opentelemetry'
import { context, trace } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import t from 'tap'
import { freshName, text, until } from '../ipcc/harness.js'
import { failure, outcome } from '../support/wait.js'
import { told, type Told } from './spans.js'

const exporter = new InMemorySpanExporter()
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
provider.register()

interface Pair extends AsyncDisposable {
  readonly connection: Connection
  readonly name: string
  /** Spans of the other process. */
  spans(): Promise<Told[]>
}

/** A traced server in another process, and a traced connection to it. */
async function pair(
  t: { teardown(run: () => unknown): void },
  client: TracingOptions | undefined,
  server: object = {},
): Promise<Pair> {
  exporter.reset()
  const name = freshName()
  const child = fork(fileURLToPath(new URL('traced-server.js', import.meta.url)), [
    name,
    JSON.stringify(server),
  ])
  await once(child, 'message')
  if (client !== undefined) {
    const instrumentation = traceRequests(client)
    t.teardown(() => instrumentation.stop())
  }
  const connection = await connect(name, { service: 7 })
  return {
    connection,
    name,
    spans: async () => {
      child.send('spans')
      return (await once(child, 'message'))[0] as Told[]
    },
    async [Symbol.asyncDispose]() {
      await connection.close()
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

const here = (): Told[] => exporter.getFinishedSpans().map(told)
const named = (spans: readonly Told[], name: string): Told => {
  const found = spans.find((span) => span.name === name)
  if (found === undefined)
    throw new Error(`no span ${name}: ${spans.map((span) => span.name).join()}`)
  return found
}

t.test('one trace over two processes, and a third hop', async (t) => {
  await using own = await pair(t, { propagate: true }, { propagate: true })
  const root = trace.getTracer('test').startSpan('root')
  const answer = await context.with(trace.setSpan(context.active(), root), () =>
    own.connection.request(0, 'abc'),
  )
  t.equal(text(answer), 'ABC', 'the handler sees the payload alone')
  const [client] = here()
  const spans = await own.spans()
  const server = named(spans, 'texts/upper')
  const work = named(spans, 'work of the handler')
  t.equal(client?.parent, root.spanContext().spanId)
  t.equal(server.parent, client?.id)
  t.equal(work.parent, server.id, 'also after an await')
  for (const span of [client, server, work]) t.equal(span?.trace, root.spanContext().traceId)
  t.match(client, {
    name: '7/0',
    kind: 'CLIENT',
    status: 'UNSET',
    attributes: {
      'rpc.system.name': 'coroipc',
      'rpc.method': '7/0',
      'rpc.response.status_code': 'OK',
      'network.transport': 'unix',
      'coroipc.connection.id': own.connection.id,
    },
  })
  t.match(server, {
    kind: 'SERVER',
    attributes: {
      'rpc.method': 'texts/upper',
      'coroipc.client.pid': process.pid,
      'coroipc.connection.id': own.connection.id,
    },
  })

  exporter.reset()
  t.equal(text(await own.connection.request(1, 'hop')), 'hop')
  const all = [...here(), ...(await own.spans())]
  const chain = ['7/1', '8/2'].flatMap((name) =>
    ['CLIENT', 'SERVER'].map((kind) =>
      all.find((span) => span.name === name && span.kind === kind),
    ),
  )
  t.same(
    chain.map((span) => span?.parent),
    [undefined, ...chain.slice(0, 3).map((span) => span?.id)],
    'the handler that asks on is in the middle',
  )
})

t.test(
  'every form of a call carries it: callback, blocking, one way, a list of pieces',
  async (t) => {
    await using own = await pair(t, { propagate: (service) => service === 7 }, { propagate: true })
    const inside = await new Promise<string | undefined>((resolve) => {
      const span = trace.getTracer('test').startSpan('caller')
      context.with(trace.setSpan(context.active(), span), () =>
        own.connection.request(0, ['a', 'b'], () =>
          resolve(trace.getActiveSpan()?.spanContext().spanId),
        ),
      )
      span.end()
    })
    t.equal(inside, named(here(), 'caller').id, 'a callback is in the context of its call')
    t.equal(text(own.connection.requestSync(0, 'sync')), 'SYNC')
    t.equal(text(own.connection.requestSync(0)), '')
    own.connection.send(0, 'one way')
    t.equal(text(await own.connection.request(0, '')), '')
    let spans: Told[] = []
    while (spans.length < 10) spans = await own.spans()
    const ids = new Set(here().map(({ id }) => id))
    t.ok(spans.filter(({ kind }) => kind === 'SERVER').every(({ parent }) => ids.has(parent ?? '')))
  },
)

t.test('what fails says how, and a client cannot invent names of spans', async (t) => {
  await using own = await pair(t, { propagate: true }, { propagate: true })
  t.equal(await outcome(own.connection.request(2)), 'ERR_COROIPC_HANDLER_FAILED')
  t.equal(await outcome(own.connection.request(99)), 'ERR_COROIPC_NO_HANDLER')
  const spans = await own.spans()
  const failed = 'ERR_COROIPC_HANDLER_FAILED'
  t.match(named(here(), '7/2'), { status: 'ERROR', attributes: { 'error.type': failed } })
  t.match(named(spans, '7/2'), {
    status: 'ERROR',
    events: ['exception'],
    attributes: { 'error.type': failed, 'rpc.response.status_code': failed },
  })
  t.match(named(spans, 'coroipc'), {
    status: 'UNSET',
    attributes: {
      'rpc.method': '_OTHER',
      'rpc.method_original': '7/99',
      'error.type': 'ERR_COROIPC_NO_HANDLER',
    },
  })
})

t.test('what fails is told by the id that was asked for, in every form', async (t) => {
  await using own = await pair(t, { propagate: true }, { propagate: true })
  const { connection } = own
  const told = async (asked: () => unknown): Promise<string> => {
    const { message, stack } = await failure(asked)
    t.ok(stack?.includes(message), 'in the stack as well')
    t.notMatch(stack, '327')
    return message
  }
  t.match(await told(() => connection.request(2)), /^request 2: the handler threw$/)
  t.match(await told(() => connection.requestSync(2)), /^requestSync 2: the handler threw$/)
  const byCallback = (): Promise<never> =>
    new Promise((_, reject) => connection.request(2, '', reject))
  t.match(await told(byCallback), /^request 2: the handler threw$/)
  t.same(
    here().map(({ message }) => message),
    ['request', 'requestSync', 'request'].map((form) => `${form} 2: the handler threw`),
  )
  await connection.close()
  t.match(await told(() => connection.send(2)), /^send 2: /)
})

t.test('without propagation: spans on both sides, each its own trace', async (t) => {
  await using own = await pair(t, {})
  t.equal(text(await own.connection.request(0, 'abc')), 'ABC')
  const server = named(await own.spans(), 'texts/upper')
  t.equal(server.parent, undefined)
  t.equal(here().length, 1)
})

t.test(
  'a server that takes no headers refuses, and one that does takes clients without',
  async (t) => {
    await t.test('client alone', async (t) => {
      await using own = await pair(t, { propagate: true })
      t.equal(await outcome(own.connection.request(0, 'abc')), 'ERR_COROIPC_NO_HANDLER')
    })
    await t.test('server alone', async (t) => {
      await using own = await pair(t, undefined, { propagate: true })
      t.equal(text(await own.connection.request(0, 'abc')), 'ABC')
      t.equal(here().length, 0)
    })
  },
)

t.test('a header that is none, or of no trace', async (t) => {
  await using own = await pair(t, undefined, { propagate: true })
  const ask = (bytes: Uint8Array): Promise<string> =>
    own.connection.request(0x8000, bytes).then(text, (error: { code: string }) => error.code)
  t.equal(await ask(new Uint8Array(31)), 'ERR_COROIPC_NO_HANDLER', 'too short')
  t.equal(await ask(Buffer.alloc(32 + 1, 'a').fill(0, 0, 32)), 'A', 'zeros: no parent')
  t.equal(await ask(Buffer.alloc(32 + 1, 'a').fill(255, 0, 32)), 'A', 'another version: no parent')
  const spans = (await own.spans()).filter(({ name }) => name === 'texts/upper')
  t.same(
    spans.map(({ parent }) => parent),
    [undefined, undefined],
  )
})

t.test('what leaves no room for a header goes without', async (t) => {
  await using own = await pair(t, { propagate: true }, { propagate: true })
  const { messageBytes } = own.connection
  const length = (answer: Uint8Array): number => answer.length
  t.equal(
    await own.connection.request(0, Buffer.alloc(messageBytes, 'a')).then(length),
    messageBytes,
  )
  t.equal(await own.connection.request(0, Array(1024).fill('a')).then(length), 1024)
  const buffer = await own.connection.allocate(8)
  t.equal(await own.connection.request(0, buffer).then(length), 8)
  const servers = (await own.spans()).filter(({ kind }) => kind === 'SERVER')
  t.same(
    servers.map(({ parent }) => parent),
    [undefined, undefined, undefined],
  )
})

t.test('dispatches, when asked for', async (t) => {
  const options = { propagate: true, dispatches: true }
  await using own = await pair(t, options, options)
  const seen: unknown[] = []
  own.connection.on('dispatch', ({ id, payload }) => {
    seen.push([id, text(payload), trace.getActiveSpan() !== undefined])
  })
  await own.connection.request(3)
  await until(() => seen.length > 0)
  t.same(seen, [[5, 'news', true]])
  const sent = named(await own.spans(), 'send 7/5')
  const processed = named(here(), 'process 7/5')
  t.equal(sent.kind, 'PRODUCER')
  t.match(processed, { kind: 'CONSUMER', trace: sent.trace, parent: sent.id })
  t.equal(sent.parent, named(await own.spans(), '7/3').id, 'the handler dispatched it')
})

t.test('stop, and wrong options', async (t) => {
  await using own = await pair(t, undefined)
  const instrumentation = traceRequests({ tracerProvider: provider })
  await own.connection.request(0)
  instrumentation.stop()
  await own.connection.request(0)
  t.equal(here().length, 1)
  for (const options of [{ propagate: 1 }, { tracerProvider: {} }, { dispatches: 'x' }, { x: 1 }])
    t.throws(() => traceRequests(options as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})
