// `coroipc list` and `coroipc describe`: which servers are found, who is said to run them, what they say of themselves.
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { until } from '../support/wait.js'
import { coroipc, newName, serve, values } from './cli.js'
import { serveInspected, serveLies } from './inspected.js'

const directory = mkdtempSync(join(tmpdir(), 'coroipc-list-'))
t.teardown(() => rmSync(directory, { recursive: true }))
process.env['COROIPC_RUNTIME_DIR'] = directory

const listed = async (name: string, ...args: string[]): Promise<Record<string, unknown>[]> =>
  values((await coroipc(['list', '--json', ...args])).stdout).filter(
    (each) => each['name'] === name,
  )

t.test('by plain name, abstract name and path: who runs it, services, connections', async (t) => {
  for (const name of ['plain', newName(), join(directory, 'elsewhere.sock')]) {
    const server = await serveInspected(name)
    const client = await Peer.open()
    t.teardown(() => Promise.all([server.end(), client.end()]))
    await client.run(async ({ ipcc, state }, name) => {
      state.connection = await ipcc.connect(name, { service: 7 })
    }, name)
    // A path in a folder of names is a plain name.
    const shown = name.endsWith('.sock') ? 'elsewhere.sock' : name
    t.match(await listed(shown), [
      {
        state: 'serving',
        pid: server.pid,
        uid: process.geteuid?.(),
        program: 'node peer-main.js',
        connections: 1,
        services: [
          { id: 7, name: 'texts', connections: 1 },
          { id: 9, connections: 0 },
        ],
      },
    ])
  }
  const { code, stdout } = await coroipc(['list'])
  t.equal(code, 0)
  const [head = '', ...rows] = stdout.trimEnd().split('\n')
  t.match(head, /^NAME +PID +USER +PROGRAM +CONNECTIONS +SERVICES$/)
  t.match(
    rows.find((row) => row.startsWith('plain ')),
    / +\d+ +\w+ +node peer-main\.js +1 +7 texts, 9$/,
  )
})

t.test('one that tells nothing is listed with what turns it on', async (t) => {
  const name = newName()
  await using server = await serve(name)
  t.match(await listed(name), [{ state: 'silent', pid: server.pid, note: /inspect: true/ }])
  t.match((await coroipc(['list'])).stdout, new RegExp(`${name} .*tells nothing: new Server`))
  const described = await coroipc(['describe', name])
  t.equal(described.code, 3)
  t.match(described.stderr, /tells nothing about itself.*\n.*because.*\n.*inspect: true/)
})

t.test('one that does not let this user ask', async (t) => {
  const name = newName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs }, name) => {
    const server = new ipcs.Server({ inspect: true, authorize: (_, service) => service !== 65535 })
    server.addService({ id: 1 })
    await server.listen(name)
  }, name)
  t.match(await listed(name), [{ state: 'denied', pid: server.pid }])
})

t.test('one that is stopped does not hold up the others', async (t) => {
  const name = newName()
  const server = await serveInspected(name)
  server.signal('SIGSTOP')
  const rows = await listed(name, '--timeout', '100')
  server.signal('SIGCONT')
  t.match(rows, [{ state: 'unreachable', pid: server.pid, note: /does not answer/ }])
  await server.end()
})

t.test('a dead socket is shown when it is asked for, other files never', async (t) => {
  const server = await serveInspected('short-lived')
  await server.kill()
  writeFileSync(join(directory, 'file'), '')
  t.same(await listed('short-lived'), [])
  t.match(await listed('short-lived', '--dead'), [{ state: 'dead', note: /nobody listens/ }])
  t.same(await listed('file', '--dead'), [])
  const { stderr } = await coroipc(['list'])
  t.match(stderr, /\d dead sockets?: coroipc list --dead/)
})

t.test('an inspection that was moved is found where one says', async (t) => {
  const name = newName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs }, name) => {
    const server = new ipcs.Server({ inspect: { service: 9 } })
    server.addService({ id: 1 })
    await server.listen(name)
  }, name)
  t.match(await listed(name), [{ state: 'silent' }])
  t.match(await listed(name, '--inspection', '9'), [{ state: 'serving', services: [{ id: 1 }] }])
})

t.test(
  'describe: tables of requests and dispatches, types as TypeScript writes them',
  async (t) => {
    const name = newName()
    await using server = await serveInspected(name)
    const { code, stdout } = await coroipc(['describe', name])
    t.equal(code, 0)
    t.equal(
      stdout,
      `7 texts 1.2  0 connections
  text into text\\x1b[2J
  REQUEST  NAME   CODEC  TAKES                              ANSWERS
        0  upper  json   { text: string, times?: integer }  (string | null)[]  in capitals
        4  note   utf8                                      no answer
  DISPATCH  NAME  CODEC  CARRIES
         5  tick  json   number

9  0 connections
  no description: addService({ description })
`,
    )
    t.match(values((await coroipc(['describe', name, 'texts', '--json'])).stdout), [
      {
        id: 7,
        described: true,
        name: 'texts',
        requests: { 0: { request: { required: ['text'] } } },
      },
    ])
    t.match(
      (await coroipc(['describe', name, '65535'])).stdout,
      /^65535 inspection 1 {2}1 connection\n/,
    )
    const wrong = await coroipc(['describe', name, 'text'])
    t.equal(wrong.code, 1)
    t.match(
      wrong.stderr,
      /there is no service 'text' \(did you mean 'texts'\?\)\n.*it has texts \(7\), 9, inspection \(65535\)\n/,
    )
    t.match(
      (await coroipc(['describe', name, 'nope'])).stderr,
      'it has texts (7), 9, inspection (65535)',
    )
    await server.end()
    await until('the end', async () => (await coroipc(['describe', name])).code === 3)
  },
)

t.test('one whose list has no end does not hold up the others', async (t) => {
  const name = newName()
  await using _ = await serveLies(name, 'no end')
  t.match(await listed(name, '--timeout', '300'), [{ state: 'unreachable', note: /not answer/ }])
  t.equal((await coroipc(['describe', name, '--timeout', '300'])).code, 4)
})

t.test('nothing that a server or its name says drives the terminal', async (t) => {
  const red = '\u001b[31mred\u009b'
  for (const lie of ['text', 'no json'] as const) {
    const name = newName()
    await using _ = await serveLies(name, lie, red)
    for (const args of [
      ['list'],
      ['describe', name],
      ['describe', name, '--json'],
      ['top', name],
    ]) {
      const { stdout, stderr } = await coroipc(args)
      // oxlint-disable-next-line no-control-regex
      t.notMatch(stdout + stderr, /[\u001b\u009b]/, `${lie}: ${args.join(' ')}`)
      t.match(stdout + stderr, 'red')
    }
  }
  const file = createServer().listen(join(directory, `a${red}`))
  await once(file, 'listening')
  const { stdout } = await coroipc(['list', '--dead'])
  file.close()
  t.match(stdout, 'a\\x1b[31mred\\x9b')
  // oxlint-disable-next-line no-control-regex
  t.notMatch(stdout, /[\u001b\u009b]/)
})
