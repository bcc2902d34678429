// `coroipc listen` and `coroipc hz`: what they show, and how they end.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { bin, command, coroipc, newName, serve, values } from './cli.js'
import { serveInspected } from './inspected.js'

const name = newName()
const server = await serve(name, true)
t.teardown(() => server.end())

t.test('dispatches as they come: text, dumps, names and values', async (t) => {
  const { code, stdout } = await coroipc(['listen', name, '7', '--count', '4'])
  t.equal(code, 0)
  const lines = stdout.split('\n')
  t.match(lines[0], /^\d\d:\d\d:\d\d\.\d{3} {5}1 {2}hello$/)
  t.match(lines[1], / {5}2 {2}2 bytes$/)
  t.match(lines[2], /^00000000 {2}00 ff /)
  t.match(lines[3], / tick {2}\{"ticks":0\}$/)
  t.match(lines[4], / tick {2}\{"ticks":1\}$/)
})

t.test('for machines one value a line; only those that are wanted', async (t) => {
  const { stdout } = await coroipc(['listen', name, 'cache', '--count', '3', '--json'])
  t.match(values(stdout), [
    { id: 1, text: 'hello', bytes: 5, sequence: Number, time: /Z$/ },
    { id: 2, hex: '00ff' },
    { id: 5, name: 'tick', value: { ticks: 0 } },
  ])
  const ticks = await coroipc(['listen', name, '7', '--id', 'tick', '-n', '2', '--json'])
  t.match(values(ticks.stdout), [{ id: 5 }, { id: 5 }])
})

t.test('SIGINT and SIGTERM end them in order, with 0 and what there is to say', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const listening = await coroipc(['listen', name, '7', '--json'], { kill: [signal, /\n/] })
    t.equal(listening.code, 0, `listen, ${signal}`)
    t.ok(values(listening.stdout).length > 0, 'whole lines')
    const measuring = await coroipc(['hz', name, '7'], { kill: [signal, /^ +1 /m] })
    t.equal(measuring.code, 0, `hz, ${signal}`)
    t.match(measuring.stdout, /\n\d+ dispatches in .* a second/)
  }
})

t.test('a reader that goes away is no failure', async (t) => {
  const script = `"$@" listen ${name} 7 --id 5 | head -n 1; echo "\${PIPESTATUS[0]}"`
  const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', ...command], {
    encoding: 'utf8',
  })
  t.match(stdout, /tick.*\n0\n$/)
  t.equal(stderr, '')
})

t.test('so it is when there is nothing more to write, by a pipe and by a socket', async (t) => {
  const quiet = newName()
  await using _ = await serveInspected(quiet)
  for (const [reader, ...args] of [
    ['head -n 1', 'listen', name, '7', '--id', '1'], // one dispatch, when it connects
    ['head -n 1', 'record', quiet, '--output', '-'], // what stands before the messages, of which there are none
    ['true', 'top', quiet, '--json', '--interval', '3600'],
  ]) {
    const script = `timeout 60 "$@" | ${reader} >/dev/null; echo "\${PIPESTATUS[0]}"`
    const { stdout } = spawnSync('bash', ['-c', script, 'bash', ...command, ...args], {
      encoding: 'utf8',
    })
    t.equal(stdout, '0\n', args.join(' '))
  }
  // Node.js gives its children sockets.
  const child = spawn(process.execPath, [bin, 'listen', name, '7', '--id', '1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000,
  })
  child.stdout.once('data', () => child.stdout.destroy())
  t.strictSame(await once(child, 'exit'), [0, null])
})

t.test('rates of dispatches, and of calls in each way of asking', async (t) => {
  const dispatched = values((await coroipc(['hz', name, '7', '-s', '1', '--json'])).stdout)
  t.match(dispatched, [
    { second: 1, us: { count: Number } },
    { total: true, count: Number },
  ])
  t.ok((dispatched[1]?.['count'] as number) >= 2)
  for (const how of [[], ['--in-flight', '16'], ['--sync']]) {
    const args = ['hz', name, 'cache', 'get', '-s', '1', '--size', '100', '--json', ...how]
    const { code, stdout } = await coroipc(args)
    t.equal(code, 0)
    const total = values(stdout).at(-1) as { count: number; bytes: number; us: { count: number } }
    t.ok(total.count > 0, how.join(' '))
    t.equal(total.bytes, total.count * 100)
    t.equal(total.us.count, total.count)
  }
  const { stdout } = await coroipc(['hz', name, '7', '0', '-s', '1'])
  t.match(stdout, /^ +SECOND +CALLS\/S +BYTES\/S +P50 +P99 +LONGEST\n +1 .*\n\n[\d,]+ calls in /)
})

t.test('a server that dies ends them, and is told', async (t) => {
  for (const args of [['listen'], ['hz'], ['hz', '0'], ['hz', '0', '--sync']]) {
    const mortal = newName()
    await using victim = await serve(mortal)
    await victim.run(({ state }) => {
      state.dieLater = true
    })
    const [what = '', ...more] = args
    const { code, stderr } = await coroipc([what, mortal, '7', ...more])
    t.equal(code, 5, `${args.join(' ')}: ${stderr}`)
    t.match(stderr, /ERR_COROIPC_(PEER_DEAD|UNKNOWN_OUTCOME)/)
  }
})
