// Metrics in prom-client's registry: what a scrape says of servers, connections and requests that were really made;
// and that neither the end of a source nor a client's strange ids make counters go back or series grow.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from '@coroipc/ipcc'
import { ConnectionMetrics, RequestMetrics, ServerMetrics } from '@coroipc/observe/prometheus'
import { Server } from '@coroipc/ipcs'
import { AggregatorRegistry, Registry } from 'prom-client'
import t from 'tap'
import { freshName, text } from '../ipcc/harness.js'
import { outcome } from '../support/wait.js'

/** The lines of a scrape that are samples, by name and labels. */
async function scrape(register: Pick<Registry, 'metrics'>): Promise<Map<string, number>> {
  const samples = new Map<string, number>()
  for (const line of (await register.metrics()).split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [, series = '', value = ''] = /^(\w+(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? []
    if (series === '' || Number.isNaN(Number(value.replace('+Inf', 'Infinity'))))
      throw new Error(`no sample: ${line}`)
    if (samples.has(series)) throw new Error(`twice: ${line}`)
    samples.set(series, Number(value))
  }
  return samples
}

async function serve(latency = true): Promise<AsyncDisposable & { name: string; server: Server }> {
  const server = new Server({ latency })
  server.on('error', () => {})
  server.addService({
    id: 1,
    handlers: {
      0: (request) => request.payload,
      1: async () => {
        throw new Error('on purpose')
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  return { name, server, [Symbol.asyncDispose]: () => server.close({ timeoutMs: 100 }) }
}

t.test('a server and its connections, scraped over HTTP', async (t) => {
  await using own = await serve()
  const register = new Registry()
  const metrics = new ServerMetrics({ register }).add(own.server, 'demo')
  const connection = await connect(own.name, { service: 1, latency: true })
  const client = new ConnectionMetrics({ register }).add(connection, 'demo')
  for (let i = 0; i < 10; i++) await connection.request(0, 'abcd')

  const http = createServer((_, response) => {
    void register.metrics().then((body) => response.end(body))
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => http.close())
  const { port } = http.address() as AddressInfo
  const body = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  for (const line of [
    '# TYPE coroipc_server_requests_total counter',
    'coroipc_server_requests_total{server="demo"} 10',
    'coroipc_server_received_bytes_total{server="demo"} 40',
    '# TYPE coroipc_server_connections gauge',
    'coroipc_server_connections{server="demo"} 1',
    '# TYPE coroipc_server_latency_seconds histogram',
    'coroipc_server_latency_seconds_bucket{le="+Inf",server="demo"} 10',
    'coroipc_server_latency_seconds_bucket{le="10",server="demo"} 10',
    'coroipc_server_latency_seconds_count{server="demo"} 10',
    'coroipc_client_responses_total{connection="demo"} 10',
    'coroipc_client_latency_seconds_count{connection="demo"} 10',
  ])
    t.ok(body.includes(`${line}\n`), line)
  t.notMatch(body, connection.id, 'no random id in a label')

  const buckets = [...(await scrape(register))].filter(([series]) =>
    series.startsWith('coroipc_server_latency_seconds_bucket'),
  )
  const counts = buckets.map(([, count]) => count)
  t.same(
    counts,
    counts.toSorted((a, b) => a - b),
    'buckets are cumulative',
  )
  t.equal(counts.length, 21)
  metrics.stop()
  client.stop()
  t.equal((await scrape(register)).size, 0, 'nothing is left')
  await connection.close()
})

t.test('counters never go back: of sources that end, and of several with one name', async (t) => {
  const register = new Registry()
  const server = new ServerMetrics({ register })
  const clients = new ConnectionMetrics({ register })
  const own = await serve(false)
  const other = await serve(false)
  server.add(own.server, 'same').add(other.server, 'same')
  for (const { name } of [own, other]) {
    const connection = await connect(name, { service: 1 })
    clients.add(connection, 'all')
    await connection.request(0, '12')
    await scrape(register)
    await connection.close()
  }
  const before = await scrape(register)
  t.equal(before.get('coroipc_server_requests_total{server="same"}'), 2)
  t.equal(before.get('coroipc_client_sent_bytes_total{connection="all"}'), 4)
  t.equal(before.get('coroipc_client_connections{connection="all"}'), 0)
  t.equal(before.has('coroipc_server_latency_seconds_count{server="same"}'), false, 'not recorded')
  await own.server.close()
  server.remove(other.server)
  const after = await scrape(register)
  t.equal(after.get('coroipc_server_requests_total{server="same"}'), 2)
  t.equal(after.get('coroipc_server_connections{server="same"}'), 0)
  await other.server.close()
  t.throws(() => server.add({} as Server, 'no source'), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  t.throws(() => server.add(own.server, ''), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('the registry of a cluster adds them up', async (t) => {
  await using own = await serve()
  const register = new Registry()
  new ServerMetrics({ register }).add(own.server, 'demo')
  await using connection = await connect(own.name, { service: 1 })
  await connection.request(0)
  const one = await register.getMetricsAsJSON()
  const both = AggregatorRegistry.aggregate([one, structuredClone(one)])
  const samples = await scrape(both)
  t.equal(samples.get('coroipc_server_requests_total{server="demo"}'), 2)
  t.equal(samples.get('coroipc_server_latency_seconds_count{server="demo"}'), 2)
})

t.test('in the text of OpenMetrics as well', async (t) => {
  await using own = await serve()
  const register = new Registry<'application/openmetrics-text; version=1.0.0; charset=utf-8'>()
  register.setContentType('application/openmetrics-text; version=1.0.0; charset=utf-8')
  new ServerMetrics({ register: register as never }).add(own.server, 'demo')
  const body = await register.metrics()
  t.match(body, '# TYPE coroipc_server_requests counter')
  t.match(body, 'coroipc_server_requests_total{server="demo"} 0')
  t.match(body, 'coroipc_server_latency_seconds_bucket{le="+Inf",server="demo"} 0')
  t.ok(body.endsWith('# EOF\n'))
  const names = [...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name)
  t.equal(new Set(names).size, names.length, 'each family once')
})

t.test('requests by service, name and outcome, on both sides', async (t) => {
  await using own = await serve()
  const register = new Registry()
  const names = (_: number, id: number): string | undefined => (id === 0 ? 'echo' : undefined)
  const metrics = new RequestMetrics({ register, names })
  t.teardown(() => metrics.stop())
  const connection = await connect(own.name, { service: 1 })
  t.equal(text(await connection.request(0, 'x')), 'x')
  connection.send(0, 'x')
  await outcome(connection.request(1))
  for (const id of [7, 8, 9]) await outcome(connection.request(id))
  await outcome(connection.request(-1))
  const samples = await scrape(register)
  const counts = [...samples]
    .filter(([series]) => series.includes('_count{'))
    .map(
      ([series, count]) => `${series.replace(/coroipc_|_request_seconds_count|"/g, '')} ${count}`,
    )
  t.same(counts.sort(), [
    'client{service=1,request=1,code=ERR_COROIPC_HANDLER_REJECTED} 1',
    'client{service=1,request=echo,code=OK} 2',
    'client{service=1,request=other,code=ERR_COROIPC_INVALID_ARGUMENT} 1',
    'client{service=1,request=other,code=ERR_COROIPC_NO_HANDLER} 3',
    'server{service=1,request=1,code=ERR_COROIPC_HANDLER_REJECTED} 1',
    'server{service=1,request=echo,code=OK} 2',
    'server{service=1,request=other,code=ERR_COROIPC_NO_HANDLER} 3',
  ])
  metrics.stop()
  await connection.request(0)
  t.equal((await scrape(register)).size, 0, 'nothing is left')
  await connection.close()
})

t.test('series are bounded, whatever clients ask for', async (t) => {
  await using server = new Server({ select: () => (request) => request.payload })
  const name = freshName()
  await server.listen(name)
  const register = new Registry()
  const metrics = new RequestMetrics({ register, seriesMax: 3 })
  t.teardown(() => metrics.stop())
  for (let service = 0; service < 4; service++) {
    await using connection = await connect(name, { service })
    for (let id = 0; id < 10; id++) await connection.request(id)
  }
  const counts = [...(await scrape(register))].filter(([series]) =>
    series.startsWith('coroipc_server_request_seconds_count'),
  )
  t.equal(counts.length, 4, 'three, and the others')
  t.equal(
    counts.reduce((sum, [, count]) => sum + count, 0),
    40,
    'all were counted',
  )
  t.throws(() => new RequestMetrics({ register: new Registry(), seriesMax: 0 }), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
  })
})
