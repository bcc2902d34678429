// The ways to be polled: libuv (every other test), a poll system of one's own, fd and process, a blocking loop.
import { connect } from '@coroipc/ipcc'
import { blockingPoll, type Poll, POLLIN, Server, uvPoll } from '@coroipc/ipcs'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { Worker } from 'node:worker_threads'
import { freshName, text, until } from '../ipcc/harness.js'
import { endedPromptly, timed } from '../support/prompt.js'
import { sleep } from '../support/wait.js'

/** poll(2) for one moment, by a program that has it: [fd, revents] of what is ready. */
async function pollOnce(watched: ReadonlyMap<number, number>): Promise<[number, number][]> {
  const fds = [...watched]
  const program = `
import select, sys
p = select.poll()
for fd, events in enumerate(map(int, sys.argv[1:]), 3): p.register(fd, events)
for fd, events in p.poll(20): print(fd, events)`
  const child = spawn('python3', ['-ISc', program, ...fds.map(([, events]) => String(events))], {
    stdio: ['ignore', 'pipe', 'inherit', ...fds.map(([fd]) => fd)],
  })
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await once(child, 'close')
  return output
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [index, revents] = line.split(' ').map(Number) as [number, number]
      return [(fds[index - 3] as [number, number])[0], revents]
    })
}

t.test('a poll system of its own, told by callbacks', async (t) => {
  const watched = new Map<number, number>()
  const cookies = new Map<number, { cookie: number; accept: boolean }>()
  const calls = new Set<string>()
  const poll: Poll = {
    acceptAdd: (fd, cookie) => {
      calls.add('acceptAdd')
      watched.set(fd, POLLIN)
      cookies.set(fd, { cookie, accept: true })
    },
    dispatchAdd: (fd, events, cookie) => {
      calls.add('dispatchAdd')
      watched.set(fd, events)
      cookies.set(fd, { cookie, accept: false })
    },
    dispatchModify: (fd, events, cookie) => {
      t.equal(cookies.get(fd)?.cookie, cookie)
      watched.set(fd, events)
    },
    dispatchDestroy: (fd, cookie) => {
      calls.add('dispatchDestroy')
      t.equal(cookies.get(fd)?.cookie, cookie)
      watched.delete(fd)
      cookies.delete(fd)
    },
  }
  const server = new Server({ poll })
  server.addService({ id: 1, handlers: { 0: (request) => request.payload } })
  const name = freshName()
  await server.listen(name)
  t.equal(server.fd, -1)
  const idle = watched.size
  t.ok(idle >= 1)
  const stop = new AbortController()
  const loop = (async () => {
    while (!stop.signal.aborted) {
      for (const [fd, revents] of await pollOnce(watched)) {
        const { cookie, accept } = cookies.get(fd) ?? { cookie: -1, accept: false }
        if (cookie === -1) continue
        if (accept) server.handlerAccept(cookie)
        else server.handlerDispatch(cookie, revents)
      }
    }
  })()
  const connection = await connect(name, { service: 1 })
  t.ok(watched.size > idle)
  for (let i = 0; i < 5; i++) t.equal(text(await connection.request(0, String(i))), String(i))
  t.equal((await connection.request(0, new Uint8Array(1 << 20))).length, 1 << 20)
  await connection.close()
  await until(() => watched.size === idle)
  stop.abort()
  await loop
  await server.close()
  t.equal(watched.size, 0)
  t.same([...calls].sort(), ['acceptAdd', 'dispatchAdd', 'dispatchDestroy'])
})

t.test('one fd and process, for any other loop', async (t) => {
  const server = new Server({ poll: blockingPoll() })
  server.addService({
    id: 1,
    handlers: { 0: (request) => request.payload, 1: () => server.process() },
  })
  server.on('error', () => {})
  const name = freshName()
  await server.listen(name)
  t.ok(server.fd >= 0)
  t.equal(server.process(), 'idle')
  const timer = setInterval(() => {
    while (server.process(5) === 'more');
  }, 1)
  t.teardown(() => clearInterval(timer))
  await using connection = await connect(name, { service: 1 })
  for (let i = 0; i < 50; i++) t.equal(text(await connection.request(0, String(i))), String(i))
  await t.rejects(connection.request(1), { code: 'ERR_COROIPC_HANDLER_FAILED' })
  t.throws(() => server.process(-1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  await server.close()
  await until(() => connection.closed)
})

t.test('run needs a server that was made for it', async (t) => {
  for (const options of [{}, { poll: uvPoll() }]) {
    await using server = new Server(options)
    t.throws(() => server.run(), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  }
  await using server = new Server({ poll: blockingPoll() })
  await server.listen(freshName())
  server.run({ timeoutMs: 10 })
  t.throws(() => server.run({ timeout: 10 } as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('a blocking loop serves; promises are refused, deferred answers are not', async (t) => {
  const name = freshName()
  const worker = new Worker(new URL('blocking-server.js', import.meta.url), { workerData: name })
  const exited = once(worker, 'exit')
  await once(worker, 'message')
  const connection = await connect(name, { service: 1 })
  t.equal(text(await connection.request(0, 'x')), 'x')
  await t.rejects(connection.request(1), { code: 'ERR_COROIPC_HANDLER_ASYNC' })
  await t.rejects(connection.request(5), { code: 'ERR_COROIPC_HANDLER_ASYNC' })
  const deferred = connection.request(2)
  t.equal(text(await connection.request(3)), 'answered')
  t.equal(text(await deferred), 'later')
  t.equal(
    text(connection.requestSync(0, 'blocking')),
    'blocking',
    'in another thread of this process',
  )
  connection.send(4)
  const [result] = (await once(worker, 'message')) as [{ errors: string[] }]
  t.same(result.errors, ['ERR_COROIPC_HANDLER_ASYNC', 'ERR_COROIPC_HANDLER_ASYNC'])
  await exited
  await until(() => connection.closed)
})

t.test('a worker is terminated inside its blocking loop', async (t) => {
  const times: number[] = []
  for (let round = 0; round < 5; round++) {
    const name = freshName()
    const worker = new Worker(new URL('blocking-server.js', import.meta.url), { workerData: name })
    await once(worker, 'message')
    const connection = await connect(name, { service: 1 })
    await connection.request(0, 'x')
    await sleep(10 * round)
    times.push(await timed(() => worker.terminate()))
    await until(() => connection.closed)
    t.equal(connection.closed, true)
  }
  endedPromptly(t, 'run', times)
})
