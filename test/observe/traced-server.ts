// A server in a process of its own, traced as its first argument says (options as JSON): what it did goes to whoever
// asks by a message.
import { connect } from '@coroipc/ipcc'
import { traceRequests } from '@coroipc/observe/opentelemetry'
import { Server } from '@coroipc/ipcs'
import { trace } from '@opentelemetry/api'
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node'
import { told } from './spans.js'

const [name = '', options = '{}'] = process.argv.slice(2)
const exporter = new InMemorySpanExporter()
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register()
traceRequests({
  ...(JSON.parse(options) as object),
  names: (_, id) => (id === 0 ? 'texts/upper' : undefined),
})

const server = new Server()
server.on('error', () => {})
server.addService({
  id: 7,
  handlers: {
    0: async (request) => {
      await new Promise(setImmediate)
      trace.getTracer('app').startSpan('work of the handler').end()
      return Buffer.from(request.payload).toString().toUpperCase()
    },
    // asks another service, which is here as well
    1: async (request) => {
      await using other = await connect(name, { service: 8 })
      return await other.request(2, request.payload)
    },
    2: () => {
      throw new Error('on purpose')
    },
    3: (_, connection) => void connection.dispatch('news', { id: 5 }),
  },
})
server.addService({ id: 8, handlers: { 2: (request) => request.payload } })
await server.listen(name)
process.on('message', () => process.send?.(exporter.getFinishedSpans().map(told)))
process.on('disconnect', () => process.exit())
process.send?.('ready')
