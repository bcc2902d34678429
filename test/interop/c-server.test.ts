// A Node.js client and the C server of test/programs/interop-server.c, which says what its ids do.
import { connect, connectSync } from '@coroipc/ipcc'
import t from 'tap'
import { Program } from '../support/program.js'
import { freshName, left, runtimeDirectory } from '../support/runtime.js'
import { failure, outcome, pattern, text, until } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

const directory = runtimeDirectory(t)
const name = freshName()
const server = Program.start('interop-server', name)
t.teardown(() => server.kill())
await server.line('ready')

t.test('requests of every size, blocking and pipelined', async (t) => {
  await using connection = await connect(name, { service: 3, trustServer: true })
  t.equal(connection.server.pid, server.pid, 'the kernel names the C process')
  const max = connection.messageBytes
  for (const size of [0, 1, 7, 8, 4096, 8191, 8192, 8193, 16384, 65536, max - 1, max]) {
    const payload = pattern(size, size)
    t.ok(Buffer.compare(connection.requestSync(0, payload), payload) === 0, `${size} blocking`)
    t.ok(Buffer.compare(await connection.request(0, payload), payload) === 0, `${size} awaited`)
  }
  const many = Array.from({ length: 500 }, (_, i) => connection.request(0, String(i)))
  const answers = await Promise.all(many)
  t.strictSame(
    answers.map(text),
    answers.map((_, i) => String(i)),
  )
})

t.test('an answer gathered in C has its application status', async (t) => {
  using connection = connectSync(name, { service: 3 })
  const answer = connection.requestSync(1, 'x', { full: true })
  t.equal(text(answer.payload), '<x>')
  t.equal(answer.status, -42)
})

t.test('dispatches: one sent before anybody asked, ten during a request', async (t) => {
  using connection = connectSync(name, { service: 3 })
  const welcome = connection.dispatchSync(5000)
  t.equal(text(welcome?.payload), 'welcome')
  t.equal(welcome?.id, 100)
  connection.requestSync(2, 'event')
  for (let id = 0; id < 10; id++) {
    const message = connection.dispatchSync(5000)
    t.equal(message?.id, id)
    t.equal(text(message?.payload), 'event')
  }
  t.equal(connection.dispatchSync(0), undefined)
})

t.test('what sending_allowed says, and what is missing, have codes of their own', async (t) => {
  using connection = connectSync(name, { service: 3 })
  t.equal(await outcome(() => connection.requestSync(3)), 'ERR_COROIPC_RETRY')
  t.equal(await outcome(() => connection.requestSync(4)), 'ERR_COROIPC_REFUSED')
  t.equal(await outcome(() => connection.requestSync(99)), 'ERR_COROIPC_NO_HANDLER')
  const max = new Uint8Array(connection.messageBytes)
  t.equal(await outcome(() => connection.requestSync(1, max)), 'ERR_COROIPC_ANSWER_TOO_LARGE')
  t.notOk(
    server.lines.some((line) => line.startsWith('scratch')),
    'scratch was zeroed each time',
  )
})

t.test('zero copy both ways', sharedMemory, async (t) => {
  await using connection = await connect(name, { service: 3, trustServer: true })
  using buffer = await connection.allocate(100_000)
  t.ok(buffer.inPlace)
  buffer.bytes.fill(3)
  const sum = await connection.request(6, buffer)
  t.equal(new DataView(sum.buffer, sum.byteOffset).getUint32(0, true), 300_000)
  const want = new Uint8Array(Uint32Array.of(50_000).buffer)
  const lease = await connection.request(5, want, { inPlace: true })
  t.ok(lease.inPlace)
  t.equal(lease.status, 7)
  t.equal(lease.payload.length, 50_000)
  t.ok(lease.payload.every((byte) => byte === 42))
  lease[Symbol.dispose]()
  t.equal(lease.payload.length, 0)
})

t.test('deadline and cancel reach the C server', async (t) => {
  await using connection = await connect(name, { service: 3 })
  const asked = server.lines.filter((line) => line.startsWith('asked')).length
  t.equal(await outcome(connection.request(8, '', { timeoutMs: 300 })), 'ERR_COROIPC_TIMED_OUT')
  const line = server.lines.filter((each) => each.startsWith('asked'))[asked] as string
  const ms = Number(line.split(' ')[1])
  t.ok(ms > 0 && ms <= 300, `the handler saw a deadline of ${ms} ms`)
  await server.line('cancelled')
})

t.test('one-way messages are told apart from requests', async (t) => {
  await using connection = await connect(name, { service: 3 })
  t.equal(connection.send(9, new Uint8Array(20_000)), true)
  await server.line('one-way 20000')
})

t.test('a service that is not offered, and the server that was demanded', async (t) => {
  t.equal(await outcome(connect(name, { service: 4 })), 'ERR_COROIPC_NO_SERVICE')
  t.equal(
    await outcome(connect(name, { service: 3, server: { pid: process.pid } })),
    'ERR_COROIPC_DENIED',
  )
  const demanded = { pid: server.pid, uid: process.getuid?.() ?? 0 }
  await using connection = await connect(name, { service: 3, server: demanded })
  t.equal(text(await connection.request(0, 'x')), 'x')
})

t.test('the C server leaves in a handler: outcome unknown, and why', async (t) => {
  await using other = Program.start('interop-server', `${name}-2`)
  await other.line('ready')
  await using connection = await connect(`${name}-2`, { service: 3 })
  const error = await failure(() => connection.requestSync(7))
  t.equal(error.code, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  t.equal(error.cause.code, 'ERR_COROIPC_PEER_DEAD')
  t.equal(await other.end(), 3)
})

t.test('the C server ends in order: the client is told so, no file is left', async (t) => {
  await using connection = await connect(name, { service: 3 })
  const waiting = failure(connection.request(8, ''))
  await until('the request', () => server.lines.at(-1)?.startsWith('asked') === true)
  const before = left(directory).filter((file) => file.includes(`${name}-2`)) // killed above
  await server.kill('SIGTERM')
  t.equal(await server.end(), 0)
  t.equal((await waiting).cause.code, 'ERR_COROIPC_DISCONNECTED')
  t.strictSame(left(directory), before)
})
