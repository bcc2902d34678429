// What a connection means to its process: ref and unref, worker threads, listeners that throw, several loops.
import { connect, connectSync } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import t from 'tap'
import { Worker } from 'node:worker_threads'
import { endedPromptly, timed } from '../support/prompt.js'
import { sleep } from '../support/wait.js'
import { freshName, startServer, text, until } from './harness.js'

const ipcc = import.meta.resolve('@coroipc/ipcc')

/** Runs a module of text in a process of its own: its output and exit code. */
async function run(source: string, ...args: string[]): Promise<[string, number | null]> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', source, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return [output.trim(), code]
}

t.test('an open connection keeps the process alive, unref and close do not', async (t) => {
  await using server = await startServer()
  const start = `import { connect } from '${ipcc}'
    const connection = await connect(process.argv[1], { service: 7 })
    process.on('exit', () => console.log('exit'))\n`
  t.same(await run(`${start} connection.unref()`, server.name), ['exit', 0])
  t.same(await run(`${start} connection.unref().ref(); await connection.close()`, server.name), [
    'exit',
    0,
  ])
  t.same(
    await run(
      `${start} connection.on('close', ({ code }) => console.log(code)); connection.send(11)`,
      server.name,
    ),
    ['ERR_COROIPC_DISCONNECTED\nexit', 0],
    'it lives until the server disconnects',
  )
  t.same(await run(`${start} connection.send(16, 'at exit'); process.exit()`, server.name), [
    'exit',
    0,
  ])
  await using connection = await connect(server.name, { service: 7 })
  t.equal(text(await connection.request(15)), 'at exit', 'what was queued at exit was sent')
})

t.test('a listener that throws stops nothing', async (t) => {
  await using server = await startServer()
  const source = `import { connect } from '${ipcc}'
    const seen = []
    process.on('uncaughtException', (error) => seen.push(error.message))
    const connection = await connect(process.argv[1], { service: 7 })
    let count = 0
    connection.on('dispatch', () => { if (++count % 2) throw new Error('d') })
    await connection.request(9, JSON.stringify({ count: 10 }))
    connection.request(0, 'x', () => { throw new Error('c') })
    while (count < 10 || seen.length < 6) await new Promise((resolve) => setTimeout(resolve, 1))
    console.log(seen.sort().join(''), count)
    await connection.close()`
  t.same(await run(source, server.name), ['cddddd 10', 0])
})

t.test(
  'a signal ends a blocking call at once without a listener, and waits for it with one',
  async (t) => {
    await using server = await startServer()
    const block = async (listener: string): Promise<ChildProcess> => {
      const source = `import { connectSync } from '${ipcc}'
      const connection = connectSync(process.argv[1], { service: 7 })
      ${listener}
      console.log('blocked')
      try { connection.requestSync(8, 'never answered', { timeoutMs: 60000 }) } catch ({ code }) { console.log(code) }
      setTimeout(() => {}, 60000)`
      const child = spawn(process.execPath, ['--input-type=module', '-e', source, server.name], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      return child
    }
    const plain = await block('')
    plain.kill('SIGINT')
    t.same(await once(plain, 'exit'), [null, 'SIGINT'])

    const listening = await block("process.on('SIGINT', () => process.exit(7))")
    const told = once(listening.stdout as Readable, 'data')
    listening.kill('SIGINT')
    // What ends the call is its own outcome, here the death of the server; only then does the listener run.
    await server.kill()
    t.equal(String(await told).trim(), 'ERR_COROIPC_UNKNOWN_OUTCOME')
    t.same(await once(listening, 'exit'), [7, null])
  },
)

t.test('clients in several workers, terminated in the middle of a blocking call', async (t) => {
  await using server = await startServer()
  const source = `const { connectSync } = require('node:module').createRequire(process.cwd())
    import('${ipcc}').then(({ connectSync }) => {
      const { parentPort, workerData } = require('node:worker_threads')
      const connection = connectSync(workerData, { service: 7 })
      let count = 0
      while (count < 200) if (Buffer.from(connection.requestSync(0, 'x')).toString() === 'x') count++
      parentPort.postMessage(count)
      connection.requestSync(8, 'never', { timeoutMs: Infinity })
    })`.replace(/^.*createRequire.*\n/, '')
  const workers = Array.from(
    { length: 5 },
    () => new Worker(source, { eval: true, workerData: server.name }),
  )
  const counts = await Promise.all(
    workers.map(async (worker) => (await once(worker, 'message'))[0]),
  )
  t.same(counts, [200, 200, 200, 200, 200])
  await sleep(20) // what they wait for never comes
  const times: number[] = []
  for (const worker of workers) times.push(await timed(() => worker.terminate()))
  endedPromptly(t, 'requestSync', times)
  using connection = connectSync(server.name, { service: 7 })
  t.equal(text(connection.requestSync(0, 'x')), 'x')
})

t.test('a handler that asks another server, blocking, after a dispatch', async (t) => {
  await using behind = await startServer()
  using upstream = connectSync(behind.name, { service: 7 })
  await using server = new Server()
  server.addService({
    id: 1,
    handlers: {
      0: (request, connection) => {
        connection.dispatch('asking')
        return ['<', upstream.requestSync(0, request.payload), '>']
      },
      1: async (request) => ['<', await upstream.request(0, request.payload), '>'],
    },
  })
  const name = freshName()
  await server.listen(name)
  await using connection = await connect(name, { service: 1 })
  const seen: string[] = []
  connection.on('dispatch', ({ payload }) => seen.push(text(payload)))
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => connection.request(i % 2, String(i))),
  )
  t.ok(answers.every((answer, i) => text(answer) === `<${i}>`))
  await until(() => seen.length === 25)
})

t.test('small and large messages of one channel keep their order', async (t) => {
  const seen: number[] = []
  await using server = new Server()
  server.addService({
    id: 1,
    handlers: { 0: (request) => void seen.push(Buffer.from(request.payload).readUInt32LE()) },
  })
  const name = freshName()
  await server.listen(name)
  await using connection = await connect(name, { service: 1 })
  const sizes = [4, 2048, 2049, 8192, 70000, 200000, 5]
  for (let i = 0; i < 300; i++) {
    const payload = Buffer.alloc(sizes[i % sizes.length] as number)
    payload.writeUInt32LE(i)
    if (!connection.send(0, payload)) {
      await new Promise<void>((resolve) => connection.once('drain', resolve))
      i--
    }
  }
  await until(() => seen.length === 300)
  t.same(
    seen,
    Array.from({ length: 300 }, (_, i) => i),
  )
})

t.test('both directions full at once', async (t) => {
  await using server = new Server({ limits: { unsentBytes: 10000 } })
  server.addService({
    id: 1,
    handlers: {
      0: (request) => [request.payload, request.payload],
      1: (request) => request.payload,
    },
  })
  const name = freshName()
  await server.listen(name)
  const rings = { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 }
  await using connection = await connect(name, { service: 1, ...rings })
  const payload = new Uint8Array(1500).fill(7)
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all(
      Array.from({ length: 400 }, (_, i) => connection.request(i % 2, payload)),
    )
    t.ok(answers.every((answer, i) => answer.length === (i % 2 === 0 ? 3000 : 1500)))
  }
})
