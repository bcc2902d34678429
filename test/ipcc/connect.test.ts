// connect and connectSync: what they resolve to, and every way in which they fail.
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { connect, connectSync, IpcError } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, startServer, text } from './harness.js'
import { sharedMemory } from '../support/shared-memory.js'

t.test('a connection knows both ends', async (t) => {
  await using server = await startServer()
  await using connection = await connect(server.name, { service: 7 })
  t.match(connection.id, /^[0-9a-f]{16}$/)
  t.match(connection.serverId, /^[0-9a-f]{16}$/)
  t.equal(connection.service, 7)
  t.equal(connection.server.pid, server.child.pid)
  t.equal(connection.server.uid, process.getuid?.())
  t.equal(connection.messageBytes, 2 << 20)
  t.equal(connection.requestsInFlight, 16)
  t.equal(connection.closed, false)
  t.ok(connection.fd >= 0)
  using second = connectSync(server.name, { service: 8 })
  t.equal(second.serverId, connection.serverId)
  t.not(second.id, connection.id)
  t.equal(text(second.requestSync(0, 'hello')), 'hello')
})

t.test('sizes are negotiated, bounded by the server', async (t) => {
  await using server = await startServer()
  await using small = await connect(server.name, {
    service: 7,
    messageBytes: 10000,
    requestsInFlight: 2,
  })
  t.equal(small.messageBytes, 10000)
  t.equal(small.requestsInFlight, 2)
  await using large = await connect(server.name, {
    service: 7,
    messageBytes: 1 << 30,
    requestsInFlight: 32768,
  })
  t.equal(large.messageBytes, 2 << 20)
  t.equal(large.requestsInFlight, 16)
})

t.test('nobody listens', async (t) => {
  const name = freshName()
  await t.rejects(connect(name, { service: 7 }), { code: 'ERR_COROIPC_CONNECT_REFUSED' })
  t.throws(() => connectSync(name, { service: 7 }), { code: 'ERR_COROIPC_CONNECT_REFUSED' })
  const error: unknown = await connect(name, { service: 7 }).catch((e: unknown) => e)
  t.ok(IpcError.is(error, 'ERR_COROIPC_CONNECT_REFUSED'))
  t.match((error as Error).message, name)
})

t.test('what fails says where it was called from', async (t) => {
  await using server = new Server()
  server.addService({ id: 7 })
  const name = freshName()
  await server.listen(name)
  const controller = new AbortController()
  const theCaller = (): Promise<unknown> => connect(freshName(), { service: 7 })
  const theImpatient = (): Promise<unknown> =>
    connect(name, { service: 7, signal: controller.signal })
  const failures = [theCaller(), theImpatient()].map((each) =>
    each.then(
      () => '',
      (error: Error) => `${error.stack}`,
    ),
  )
  controller.abort()
  const [refused = '', aborted = ''] = await Promise.all(failures)
  t.match(refused, /^IpcError: connect '.*\n +at theCaller .*connect\.test/)
  t.match(aborted, /^IpcError: connect '.*\n +at theImpatient .*connect\.test/)
})

t.test('a service that is not offered', async (t) => {
  await using server = await startServer()
  await t.rejects(connect(server.name, { service: 99 }), { code: 'ERR_COROIPC_NO_SERVICE' })
  t.throws(() => connectSync(server.name, { service: 99 }), { code: 'ERR_COROIPC_NO_SERVICE' })
})

t.test('a server that is not the one demanded', async (t) => {
  await using server = await startServer()
  const uid = (process.getuid?.() ?? 0) + 1
  await t.rejects(connect(server.name, { service: 7, server: { uid } }), {
    code: 'ERR_COROIPC_DENIED',
  })
  t.throws(() => connectSync(server.name, { service: 7, server: { pid: process.pid } }), {
    code: 'ERR_COROIPC_DENIED',
  })
  const pid = server.child.pid as number
  await using connection = await connect(server.name, { service: 7, server: { pid } })
  t.equal(connection.server.pid, pid)
})

t.test('authorize says no, throws, or says nothing', async (t) => {
  const verdicts: [string, () => boolean | Promise<boolean>][] = [
    ['false', () => false],
    ['a promise of false', async () => false],
    ['truthy is not true', () => 1 as unknown as boolean],
    [
      'an exception',
      () => {
        throw new Error('on purpose')
      },
    ],
    ['a rejection', () => Promise.reject(new Error('on purpose'))],
    ['silence', () => new Promise(() => {})],
  ]
  for (const [what, authorize] of verdicts) {
    await using server = new Server({ authorize, authorizeTimeoutMs: 100 })
    server.on('error', () => {})
    server.addService({ id: 7 })
    const name = freshName()
    await server.listen(name)
    await t.rejects(connect(name, { service: 7 }), { code: 'ERR_COROIPC_DENIED' }, what)
    t.equal([...server.connections()].length, 0)
  }
})

t.test('a deadline, and a signal, end a connect that gets no answer', async (t) => {
  await using server = new Server({ authorize: () => new Promise(() => {}) })
  server.addService({ id: 7 })
  const name = freshName()
  await server.listen(name)
  await t.rejects(connect(name, { service: 7, timeoutMs: 30 }), { code: 'ERR_COROIPC_TIMED_OUT' })
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  setTimeout(() => controller.abort(reason), 10)
  await t.rejects(connect(name, { service: 7, signal: controller.signal }), {
    code: 'ERR_COROIPC_ABORTED',
    cause: reason,
  })
  await t.rejects(connect(name, { service: 7, signal: AbortSignal.abort(reason) }), {
    code: 'ERR_COROIPC_ABORTED',
    cause: reason,
  })
})

t.test(
  'a blocking connect to a server of this thread is refused, an asynchronous one is not',
  sharedMemory,
  async (t) => {
    await using server = new Server()
    server.addService({ id: 7, handlers: { 0: (request) => request.payload } })
    const name = freshName()
    await server.listen(name)
    t.throws(() => connectSync(name, { service: 7 }), { code: 'ERR_COROIPC_DEADLOCK' })
    await using connection = await connect(name, { service: 7, trustServer: true })
    t.throws(() => connection.requestSync(0, 'x'), { code: 'ERR_COROIPC_DEADLOCK' })
    t.throws(() => connection.allocateSync(10), { code: 'ERR_COROIPC_DEADLOCK' })
    t.throws(() => connection.dispatchSync(10), { code: 'ERR_COROIPC_DEADLOCK' })
    t.equal(connection.dispatchSync(0), undefined, 'what does not wait may be asked')
    t.equal(text(await connection.request(0, 'x')), 'x')
  },
)

t.test('so is one by a plain name, wherever plain names live', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'coroipc-names-'))
  const before = process.env['COROIPC_RUNTIME_DIR']
  process.env['COROIPC_RUNTIME_DIR'] = directory
  t.teardown(() => {
    if (before === undefined) delete process.env['COROIPC_RUNTIME_DIR']
    else process.env['COROIPC_RUNTIME_DIR'] = before
    rmSync(directory, { recursive: true })
  })
  await using server = new Server()
  server.addService({ id: 7 })
  await server.listen('plain')
  t.equal(server.address, join(directory, 'plain'))
  t.throws(() => connectSync('plain', { service: 7 }), { code: 'ERR_COROIPC_DEADLOCK' })
})

t.test('its place is that of the process, whatever a worker believes', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'coroipc-names-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const code = `
    const { connectSync } = await import(${JSON.stringify(import.meta.resolve('@coroipc/ipcc'))})
    const { Server } = await import(${JSON.stringify(import.meta.resolve('@coroipc/ipcs'))})
    const { parentPort } = await import('node:worker_threads')
    const server = new Server()
    server.addService({ id: 7 })
    await server.listen('plain')
    try {
      connectSync('plain', { service: 7, timeoutMs: 1000 })
    } catch (error) {
      parentPort.postMessage(error.code)
    }
    await server.close()`
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    env: { ...process.env, COROIPC_RUNTIME_DIR: '/elsewhere' },
  })
  t.teardown(() => worker.terminate())
  const before = process.env['COROIPC_RUNTIME_DIR']
  process.env['COROIPC_RUNTIME_DIR'] = directory
  const [answer] = (await once(worker, 'message')) as [string]
  if (before === undefined) delete process.env['COROIPC_RUNTIME_DIR']
  else process.env['COROIPC_RUNTIME_DIR'] = before
  t.equal(answer, 'ERR_COROIPC_DEADLOCK')
})

t.test('wrong arguments name what was expected and what came', async (t) => {
  const invalid = { code: 'ERR_COROIPC_INVALID_ARGUMENT' }
  const options: [unknown, RegExp][] = [
    [{}, /service: expected an integer from 0 to 65535, got undefined/],
    [{ service: 65536 }, /service: expected an integer from 0 to 65535, got 65536/],
    [{ service: -1 }, /service/],
    [{ service: '7' }, /service/],
    [{ service: 7, timeout: 5 }, /timeout: expected an option among service, timeoutMs/],
    [{ service: 7, timeoutMs: -1 }, /timeoutMs/],
    [{ service: 7, timeoutMs: NaN }, /timeoutMs/],
    [{ service: 7, requestRingBytes: 5000 }, /requestRingBytes: expected a power of two/],
    [{ service: 7, wait: 'never' }, /wait: expected one of 'adaptive', 'spin', 'sleep'/],
    [{ service: 7, server: { gid: 1 } }, /server.gid/],
    [{ service: 7, trustServer: 1 }, /trustServer/],
    [{ service: 7, signal: {} }, /signal: expected an AbortSignal/],
    [null, /options/],
  ]
  for (const [given, message] of options) {
    await t.rejects(connect('@x', given as { service: number }), { ...invalid, message })
    t.throws(() => connectSync('@x', given as { service: number }), invalid)
  }
  t.throws(() => connectSync('@x', { service: 7, signal: AbortSignal.timeout(1) } as never), {
    ...invalid,
    message: /signal: expected an option among/,
  })
  const names: [unknown, RegExp][] = [
    ['', /name: expected a name, '@name' or a path, got ''/],
    ['@', /name/],
    [7, /name/],
    [undefined, /name/],
    ['a\0b', /no zero byte/],
    ['./x.sock', /letters, digits, .* a path that begins with '\/'.*got '.\/x.sock'/],
    ['..', /does not begin with '\.'/],
    ['.hidden', /does not begin with '\.'/],
    ['a b', /letters, digits/],
    ['a/b', /letters, digits/],
    ['ä', /letters, digits/],
    ['/tmp/', /a path of a file/],
    [`/${'x'.repeat(107)}`, /at most 107 bytes of a path \(not 108\)/],
    [`@${'x'.repeat(108)}`, /at most 107 bytes behind the '@' \(not 108\)/],
    [`@${'ä'.repeat(54)}`, /not 108/],
    ['x'.repeat(108), /at most 107 bytes with the folder/],
  ]
  for (const [name, message] of names) {
    await t.rejects(connect(name as string, { service: 7 }), { ...invalid, message })
    t.throws(() => connectSync(name as string, { service: 7 }), { ...invalid, message })
    await t.rejects(new Server().listen(name as string), invalid)
  }
  for (const name of ['a', '-', '_.x', `/${'x'.repeat(106)}`, `@${'x'.repeat(107)}`])
    await t.rejects(connect(name, { service: 7 }), { code: 'ERR_COROIPC_CONNECT_REFUSED' })
})
