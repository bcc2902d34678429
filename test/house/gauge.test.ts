// The gauge sees what it is there for: each kind of thing that can be left behind is left behind here once.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { until } from '../support/wait.js'

const directory = runtimeDirectory(t)

t.test('a descriptor', async (t) => {
  const gauge = await Gauge.read()
  const fd = openSync('/dev/null', 'r')
  t.match(await gauge.difference(), /^fd \/dev\/null: \d+ -> \d+$/)
  closeSync(fd)
  t.equal(await gauge.settled(), '')
})

t.test('a child', async (t) => {
  const gauge = await Gauge.read()
  const child = spawn('sleep', ['60'], { stdio: 'ignore' })
  t.match(await gauge.difference(), /child: 0 -> 1/)
  child.kill()
  await once(child, 'exit')
  t.equal(await gauge.settled(), '')
})

t.test('a thread', async (t) => {
  const warm = new Worker('', { eval: true }) // what its first use loads stays
  await once(warm, 'exit')
  const gauge = await Gauge.read()
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true })
  await once(worker, 'online')
  t.match(await gauge.difference(), /thread: \d+ -> \d+/)
  await worker.terminate()
  t.equal(await gauge.settled(), '')
})

t.test('resident memory, beyond what is allowed', async (t) => {
  const gauge = await Gauge.read({ rssBytes: 16 << 20 })
  t.equal(await gauge.difference(), '')
  const bytes = Buffer.alloc(64 << 20, 1)
  t.match(await gauge.difference(), /^rss: \d+ -> \d+$/)
  t.equal(bytes.length, 64 << 20)
})

t.test('a name in the runtime directory, and one of ours in /dev/shm', async (t) => {
  const gauge = await Gauge.read({ directory })
  const files = [`${directory}/left`, `/dev/shm/coroipc-${process.pid}`]
  t.teardown(() => files.forEach((file) => rmSync(file, { force: true })))
  for (const file of files) writeFileSync(file, '')
  t.equal(await gauge.difference(), `/dev/shm/coroipc-${process.pid}: 0 -> 1, file left: 0 -> 1`)
  for (const file of files) rmSync(file)
  t.equal(await gauge.difference(), '')
})

t.test('a connection: its sockets, its memory, its account', async (t) => {
  const server = new Server()
  server.addService({ id: 1, handlers: { 0: (request) => request.defer() } })
  const name = freshName()
  await server.listen(name)
  await (await connect(name, { service: 1 })).close() // the loop that a process's connections share stays
  await until('its end', () => server.stats().connections === 0)
  const gauge = await Gauge.read({ stats: () => server.stats() })
  const connection = await connect(name, { service: 1 })
  connection.request(0).catch(() => {})
  await until('the request', () => server.stats().inFlight === 1)
  const said = await gauge.difference()
  for (const kind of ['fd socket', 'mapping', 'mapped bytes', 'account connections', 'inFlight'])
    t.match(said, kind)
  await connection.close({ timeoutMs: 0 })
  t.equal(await gauge.settled(), '')
  await server.close()
})
