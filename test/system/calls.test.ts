// Calls that get in each other's way: blocking ones beside asynchronous ones, doorbells, leases, late answers, deadlines and
// deaths as a handler sees them, several servers, workers.
import { readdirSync, readFileSync } from 'node:fs'
import { connect, connectSync } from '@coroipc/ipcc'
import { type Connection, type Request, Server } from '@coroipc/ipcs'
import t from 'tap'
import { Gauge } from '../support/gauge.js'
import { Peer, PeerWorker, type Task } from '../support/peer.js'
import { endedPromptly, timed } from '../support/prompt.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { failure, outcome, sleep, text, until } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

runtimeDirectory(t)

/** A server process: 0 echo, 1 never answers, 2 dispatches and answers, 3 answers after so many ms. */
async function startServer(name: string): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(async ({ ipcs, state, wait }, name) => {
    state.server = new ipcs.Server()
    state.server.on('error', () => {})
    state.server.addService({
      id: 1,
      trust: () => true,
      handlers: {
        0: (request) => request.payload,
        1: (request) => request.defer(),
        2: (request, connection) => {
          for (let i = 0; i < 5; i++) connection.dispatch(`event ${i}`)
          return request.payload
        },
        3: async (request) => {
          await wait.sleep(Number(wait.text(request.payload)))
          return request.payload
        },
      },
    } satisfies Parameters<Server['addService']>[0])
    await state.server.listen(name)
  }, name)
  return peer
}
const name = freshName()
const peer = await startServer(name)
t.teardown(() => peer.end())

t.test(
  'a blocking call takes the doorbell that was meant for a dispatch: it still arrives',
  async (t) => {
    await using connection = await connect(name, { service: 1, wait: 'sleep' })
    let got = 0
    connection.on('dispatch', () => got++)
    for (let i = 0; i < 50; i++) t.equal(text(connection.requestSync(2, String(i))), String(i))
    await until('every dispatch', () => got === 250)
  },
)

for (const wait of ['sleep', 'adaptive'] as const) {
  t.test(
    `a blocking call takes the doorbell that was meant for pipelined answers: ${wait}`,
    async (t) => {
      await using connection = await connect(name, { service: 1, wait, requestTimeoutMs: 5000 })
      for (let i = 0; i < 300; i++) {
        const answers = Array.from({ length: 20 }, (_, k) => connection.request(0, String(k)))
        const blocking = text(connection.requestSync(0, 'blocking'))
        const all = (await Promise.all(answers)).map(text).join()
        if (blocking !== 'blocking' || all !== answers.map((_, k) => k).join()) t.fail(all)
      }
      t.equal(connection.stats().responses, 300 * 21)
    },
  )
}

t.test('what was drained meanwhile makes connection.fd readable', async (t) => {
  await using client = await Peer.open()
  const seen = await client.run(({ ipcc, require, wait }, name) => {
    const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
    const connection = ipcc.connectSync(name, { service: 1 })
    const { fd } = connection
    connection.requestSync(2) // five dispatches come before its answer
    const script = 'import select, sys; print(len(select.select([0], [], [], 10)[0]))'
    const readable = execFileSync('python3', ['-c', script], { stdio: [fd, 'pipe', 'inherit'] })
    const events: string[] = []
    for (;;) {
      const message = connection.dispatchSync(0)
      if (message === undefined) break
      events.push(wait.text(message.payload))
    }
    return [readable.toString().trim(), ...events]
  }, name)
  t.strictSame(seen, ['1', 'event 0', 'event 1', 'event 2', 'event 3', 'event 4'])
})

t.test('a lease that is held while answers pile up behind it', sharedMemory, async (t) => {
  await using connection = await connect(name, {
    service: 1,
    trustServer: true,
    responseRingBytes: 4096,
  })
  const lease = connection.requestSync(0, 'leased', { inPlace: true })
  t.ok(lease.inPlace)
  const answers = Array.from({ length: 200 }, (_, i) =>
    connection.request(0, String(i).padEnd(100)),
  )
  let arrived = 0
  for (const each of answers)
    each.then(
      () => arrived++,
      () => {},
    )
  await until('those for which there is room', () => arrived > 5)
  t.ok(arrived < 200, `${arrived} had room`)
  t.equal(text(lease.payload), 'leased', 'untouched')
  const blocked = await outcome(() => connection.requestSync(0, 'x'.repeat(1000)))
  t.match(blocked, /OK|LEASE_HELD/, 'not a hang')
  lease[Symbol.dispose]()
  await Promise.all(answers)
  t.equal(text(connection.requestSync(0, 'and on')), 'and on')
})

t.test('a dispatch, then a blocking call to another server, inside one handler', async (t) => {
  const own = freshName()
  await using middle = await Peer.open()
  await middle.run(
    async ({ ipcs, ipcc, state, wait }, own, other) => {
      state.server = new ipcs.Server()
      const upstream = ipcc.connectSync(other, { service: 1 })
      state.server.addService({
        id: 1,
        handlers: {
          0: (request: Request, connection: Connection) => {
            connection.dispatch('before')
            const answer = upstream.requestSync(3, '300')
            return `${wait.text(answer)} ${wait.text(request.payload)}`
          },
        },
      })
      await state.server.listen(own)
    },
    own,
    name,
  )
  await using connection = await connect(own, { service: 1 })
  const order: string[] = []
  connection.on('dispatch', ({ payload }) => void order.push(text(payload)))
  const answer = await connection.request(0, 'x')
  order.push(text(answer))
  t.strictSame(order, ['before', '300 x'])
})

t.test('a promise under run() is answered with a code, and the loop goes on', async (t) => {
  const own = freshName()
  await using server = await Peer.open()
  await server.run(async ({ ipcs, state }, own) => {
    state.server = new ipcs.Server({ poll: ipcs.blockingPoll() })
    state.server.on('error', () => {})
    state.server.addService({
      id: 1,
      handlers: {
        0: async () => 'never',
        1: () => 'sync',
        2: () => {
          state.server.stop()
          return 'stopped'
        },
      },
    })
    await state.server.listen(own)
  }, own)
  const ran = server.run(({ state }) => state.server.run())
  await using connection = await connect(own, { service: 1 })
  for (let i = 0; i < 3; i++) {
    t.equal(await outcome(connection.request(0)), 'ERR_COROIPC_HANDLER_ASYNC')
    t.equal(text(await connection.request(1)), 'sync')
  }
  t.equal(text(await connection.request(2)), 'stopped')
  await ran
})

t.test('request.signal: the deadline, the cancel and the death of the client', async (t) => {
  const own = freshName()
  const seen: string[] = []
  let asked = 0
  const server = new Server()
  server.addService({
    id: 1,
    handlers: {
      0: (request) =>
        new Promise<string>((resolve) => {
          asked++
          request.signal.addEventListener('abort', () => {
            seen.push((request.signal.reason as { code: string }).code)
            setTimeout(resolve, 200, 'too late')
          })
        }),
      1: (request) => String(Math.round(request.deadline - performance.now())),
    },
  })
  await server.listen(own)
  const connection = await connect(own, { service: 1 })
  const left = Number(text(await connection.request(1, '', { timeoutMs: 5000 })))
  t.ok(left > 4000 && left <= 5001, `${left} ms left of 5000`)
  t.equal(await outcome(connection.request(0, '', { timeoutMs: 100 })), 'ERR_COROIPC_TIMED_OUT')
  await until('the deadline', () => seen.length === 1)
  t.match(seen.pop(), /TIMED_OUT|ABORTED/)
  const abort = new AbortController()
  const call = outcome(connection.request(0, '', { signal: abort.signal }))
  await until('the request', () => asked === 2)
  abort.abort()
  t.equal(await call, 'ERR_COROIPC_ABORTED')
  await until('the cancel', () => seen.length === 1)
  t.equal(seen.pop(), 'ERR_COROIPC_ABORTED')
  const client = await Peer.open()
  client.start(async ({ ipcc }, own) => (await ipcc.connect(own, { service: 1 })).request(0), own)
  await until('the request', () => asked === 3)
  await client.kill()
  await until('the death', () => seen.length === 1)
  t.equal(seen.pop(), 'ERR_COROIPC_PEER_DEAD')
  const closing = outcome(connection.request(0))
  await until('the request', () => asked === 4)
  await connection.close()
  t.equal(await closing, 'ERR_COROIPC_UNKNOWN_OUTCOME')
  await until('the close', () => seen.length === 1)
  t.equal(seen.pop(), 'ERR_COROIPC_DISCONNECTED')
  await server.close()
})

t.test('a late answer is discarded, and never given to the next call', async (t) => {
  await using connection = await connect(name, { service: 1, requestsInFlight: 4 })
  for (const blocking of [true, false]) {
    const late = blocking
      ? outcome(() => connection.requestSync(3, '200', { timeoutMs: 50 }))
      : outcome(connection.request(3, '200', { timeoutMs: 50 }))
    t.equal(await late, 'ERR_COROIPC_TIMED_OUT')
    t.equal(text(await connection.request(0, 'mine')), 'mine')
  }
  await until('late answers', () => connection.stats().lateResponses === 2)
  t.equal(connection.stats().inFlight, 0)
})

t.test('two servers and their clients in one process', async (t) => {
  const names = [freshName(), freshName()]
  const servers = names.map((own) => {
    const server = new Server()
    server.addService({ id: 1, handlers: { 0: () => own } })
    return server
  })
  for (const [i, server] of servers.entries()) await server.listen(names[i] as string)
  for (let i = 0; i < 2; i++) {
    await using a = await connect(names[0] as string, { service: 1 })
    await using b = await connect(names[1] as string, { service: 1 })
    t.strictSame((await Promise.all([a.request(0), b.request(0), a.request(0)])).map(text), [
      names[0],
      names[1],
      names[0],
    ])
    t.not(a.serverId, b.serverId)
  }
  for (const server of servers) await server.close()
})

t.test('servers and clients in several workers, each with all others', async (t) => {
  const names = [freshName(), freshName(), freshName()]
  const workers = await Promise.all(names.map(() => PeerWorker.open()))
  for (const [i, worker] of workers.entries()) {
    await worker.run(async ({ ipcs, state }, own) => {
      state.server = new ipcs.Server()
      state.server.addService({ id: 1, handlers: { 0: () => own } })
      await state.server.listen(own)
    }, names[i] as string)
  }
  const said = await Promise.all(
    workers.map((worker, i) =>
      worker.run(
        async ({ ipcc, wait }, names, i) => {
          const all: string[] = []
          for (const [k, name] of names.entries()) {
            const connection = await ipcc.connect(name, { service: 1 })
            for (let n = 0; n < 20; n++) all.push(wait.text(await connection.request(0)))
            // A server in another thread can be waited for; one in this thread is refused.
            if (k === i) {
              const { code } = await wait.failure(() => connection.requestSync(0))
              all.push(code as string)
            }
            await connection.close()
          }
          return [...new Set(all)].sort()
        },
        names,
        i,
      ),
    ),
  )
  for (const each of said) t.strictSame(each, ['ERR_COROIPC_DEADLOCK', ...names].sort())
  // A blocking call from this thread to a server in a worker.
  const connection = connectSync(names[0] as string, { service: 1 })
  t.equal(text(connection.requestSync(0)), names[0])
  await connection.close()
  for (const worker of workers) await worker.end()
})

/** A SIGSTOP that has arrived in every thread. */
async function stop(of: Peer): Promise<void> {
  of.signal('SIGSTOP')
  const states = (): string[] =>
    readdirSync(`/proc/${of.pid}/task`).map((task) =>
      readFileSync(`/proc/${of.pid}/task/${task}/stat`, 'utf8').replace(/^.*\) (.).*$/s, '$1'),
    )
  await until('the stop', () => states().every((state) => state === 'T'))
}

// What the worker says through shared memory, since it cannot post a message from inside a call.
const BEGUN = 1
const GO = 2
const CALLS = 3

const blocking = ['requestSync', 'dispatchSync', 'connectSync', 'allocateSync', 'run'] as const

t.test(
  'terminate() during a blocking call ends the worker and leaves nothing',
  sharedMemory,
  async (t) => {
    const warm = await PeerWorker.open()
    await warm.end()
    const before = await Gauge.read()
    const held = await Gauge.read({ pid: peer.pid })
    const open = (): Promise<number> => peer.run(({ state }) => state.server.stats().connections)
    let ended = 0
    const terminated = async (
      what: (typeof blocking)[number],
      wait: 'adaptive' | 'spin' | 'sleep',
    ): Promise<number> => {
      const worker = await PeerWorker.open()
      const own = freshName()
      const step = new Int32Array(new SharedArrayBuffer(4))
      const reached = (wanted: number): Promise<void> =>
        until(`${what}, step ${wanted}`, () => Atomics.load(step, 0) === wanted)
      const stopped = what === 'connectSync' || what === 'allocateSync'
      if (what === 'connectSync') await stop(peer)
      worker.start(
        async ({ ipcc, ipcs }, name, own, what, wait, step, [begun, go, calls]) => {
          if (what === 'run') {
            const server = new ipcs.Server({ poll: ipcs.blockingPoll(), wait })
            server.addService({ id: 1 })
            await server.listen(own)
            Atomics.store(step, 0, calls)
            server.run()
          }
          const options = { service: 1, wait, trustServer: true, requestTimeoutMs: Infinity }
          if (what === 'connectSync') {
            Atomics.store(step, 0, calls)
            ipcc.connectSync(name, { ...options, timeoutMs: 60_000 })
          }
          const connection = ipcc.connectSync(name, options)
          Atomics.store(step, 0, begun)
          Atomics.wait(step, 0, begun)
          if (Atomics.load(step, 0) !== go) return
          Atomics.store(step, 0, calls)
          if (what === 'dispatchSync') connection.dispatchSync()
          else if (what === 'allocateSync') connection.allocateSync(500_000)
          else connection.requestSync(1)
          Atomics.store(step, 0, 0) // it came back by itself: nothing was terminated
        },
        name,
        own,
        what,
        wait,
        step,
        [BEGUN, GO, CALLS] as [number, number, number],
      )
      if (what !== 'run' && what !== 'connectSync') {
        await reached(BEGUN)
        if (what === 'allocateSync') await stop(peer)
        Atomics.store(step, 0, GO)
        Atomics.notify(step, 0)
      }
      await reached(CALLS)
      if (what === 'requestSync')
        await until('the request', async () => (await peer.run(inFlight)) === 1)
      if (what === 'run')
        await until('the server', async () =>
          (await outcome(connect(own, { service: 9 }))).endsWith('NO_SERVICE'),
        )
      await sleep(20 + ((ended++ * 19) % 50)) // so that all places of a slice of waiting are met
      t.equal(Atomics.load(step, 0), CALLS, `${what}, ${wait}: it is in its call`)
      const ms = await timed(() => worker.end())
      if (stopped) peer.signal('SIGCONT')
      await until('the end of the connection', async () => (await open()) === 0)
      return ms
    }
    const inFlight: Task<[], number> = ({ state }) => state.server.stats().inFlight
    for (const what of blocking) {
      for (const wait of ['adaptive', 'spin', 'sleep'] as const) {
        const times: number[] = []
        for (let round = 0; round < 3; round++) times.push(await terminated(what, wait))
        endedPromptly(t, `${what}, ${wait}`, times)
      }
    }
    t.equal(await before.settled(), '', 'this process')
    t.equal(await held.settled(), '', 'the server')
  },
)

/** The sockets of a process. */
const sockets: Task<[], number[]> = ({ require }) => {
  const { readdirSync, readlinkSync } = require('node:fs') as typeof import('node:fs')
  return readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
      } catch {
        return false // the directory itself
      }
    })
}

t.test('a full socket in blocking mode holds nobody up but its peer', async (t) => {
  const own = `${process.env['COROIPC_RUNTIME_DIR']}/${freshName()}.sock`
  const server = await startServer(own)
  t.teardown(() => server.end())
  await using good = await connect(own, { service: 1, requestTimeoutMs: 10_000 })
  const before = new Set(await server.run(sockets))
  // It has itself rung for each answer and reads none of the doorbells; its own descriptors are in blocking mode.
  await using deaf = Program.start('stranger', 'client', own, 'deaf')
  await deaf.line('rung 1000')
  const fds = (await server.run(sockets)).filter((fd) => !before.has(fd))
  t.equal(fds.length, 1)
  // The mode belongs to the open file description: whoever shares the server's end, as a child does that was given it,
  // can take its O_NONBLOCK away. It also says whether the socket has no room for one byte more.
  const said = await server.run(({ require }, fd) => {
    const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
    const script = `
import fcntl, os, socket
fcntl.fcntl(3, fcntl.F_SETFL, fcntl.fcntl(3, fcntl.F_GETFL) & ~os.O_NONBLOCK)
try:
  socket.socket(fileno=3).send(b'\\1', socket.MSG_DONTWAIT)
  print('room')
except BlockingIOError:
  print('full')`
    const stdio = ['ignore', 'pipe', 'inherit', fd] as const
    return execFileSync('python3', ['-c', script], { stdio: [...stdio] }).toString()
  }, fds[0] as number)
  t.equal(said, 'full\n')
  const rung = (): number => Number(/\d+/.exec(deaf.lines.at(-1) ?? '')?.[0])
  const goal = rung() + 200
  for (let i = 0; i < 100; i++) t.equal(text(await good.request(0, 'served')), 'served')
  await until('more answers without a doorbell', () => rung() >= goal)
  await using late = await connect(own, { service: 1 })
  t.equal(text(await late.request(0, 'served')), 'served')
})

t.test('a listening socket in blocking mode holds nobody up', async (t) => {
  const own = `${process.env['COROIPC_RUNTIME_DIR']}/${freshName()}.sock`
  const server = await startServer(own)
  t.teardown(() => server.end())
  await using before = await connect(own, { service: 1, requestTimeoutMs: 10_000 })
  const cleared = await server.run(
    ({ require }, fds) => {
      const { execFileSync } = require('node:child_process') as typeof import('node:child_process')
      const script = `
import fcntl, os, socket
for fd in range(3, 3 + ${fds.length}):
  s = socket.socket(fileno=fd)
  if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    print('cleared')`
      const stdio = ['ignore', 'pipe', 'inherit', ...fds] as const
      return execFileSync('python3', ['-c', script], { stdio: [...stdio] }).toString()
    },
    await server.run(sockets),
  )
  t.equal(cleared, 'cleared\n')
  for (let i = 0; i < 3; i++) {
    await using late = await connect(own, { service: 1, timeoutMs: 10_000 })
    t.equal(text(await late.request(0, 'served')), 'served')
    // Its timers go on, and so do those who were there before.
    t.equal(text(await before.request(3, '5')), '5')
  }
})

t.test('an inherited listening fd whose creator is another process', async (t) => {
  const path = `${process.env['COROIPC_RUNTIME_DIR']}/${freshName()}.sock`
  // python3 makes the socket, and becomes the server's parent.
  const script = [
    'import os, socket, sys',
    's = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)',
    `s.bind(${JSON.stringify(path)})`,
    's.listen(5)',
    'os.dup2(s.fileno(), 77, inheritable=True)',
    'pid = os.fork()',
    'if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])',
    'code = os.waitpid(pid, 0)[1]',
    'sys.exit(0)',
  ].join('\n')
  await using server = await Peer.open({ through: ['python3', '-c', script] })
  const pid = await server.run(async ({ ipcs, state }) => {
    state.server = new ipcs.Server()
    state.server.addService({ id: 1, handlers: { 0: () => 'inherited' } })
    await state.server.listen({ fd: 77 })
    return process.pid
  })
  t.not(pid, server.pid, 'the creator is another process')
  await using connection = await connect(path, { service: 1, server: { pid } })
  t.equal(connection.server.pid, pid, 'the client is told who serves, not who made the socket')
  t.equal(text(await connection.request(0)), 'inherited')
  t.equal(
    await outcome(connect(path, { service: 1, server: { pid: server.pid } })),
    'ERR_COROIPC_DENIED',
  )
  const waiting = new Promise<string>((resolve) =>
    connection.on('close', ({ code }) => resolve(code)),
  )
  process.kill(pid, 'SIGKILL')
  t.equal(await waiting, 'ERR_COROIPC_PEER_DEAD', 'its death is noticed although its parent lives')
})

for (const trustServer of [false, true]) {
  for (const trust of [false, true]) {
    t.test(
      `zero copy: the client ${trustServer ? 'trusts' : 'does not trust'} the server, the server ${trust ? 'trusts' : 'does not trust'} the client: the same calls`,
      trustServer || trust ? sharedMemory : {},
      async (t) => {
        const own = freshName()
        await using server = await Peer.open()
        await server.run(
          async ({ ipcs, state }, own, trust) => {
            state.server = new ipcs.Server()
            state.server.addService({
              id: 1,
              trust: () => trust,
              handlers: {
                0: (request: Request) =>
                  `${request.inPlace} ${request.payload.length} ${request.payload[99_999]}`,
                1: (_: Request, connection: Connection) => {
                  const buffer = connection.allocate(100_000)
                  buffer.bytes.fill(8)
                  return buffer
                },
                2: (_: Request, connection: Connection) => {
                  const buffer = connection.allocate(100_000)
                  buffer.bytes.fill(9)
                  connection.dispatch(buffer, { id: 2 })
                },
              },
            })
            await state.server.listen(own)
          },
          own,
          trust,
        )
        await using connection = await connect(own, { service: 1, trustServer })
        for (let i = 0; i < 30; i++) {
          using buffer = connection.allocateSync(100_000)
          t.equal(buffer.inPlace, trustServer)
          buffer.bytes.fill(i)
          const said = text(await connection.request(0, buffer))
          t.match(said, `100000 ${i}`)
          if (!trust) t.match(said, 'false')
          if (trust && trustServer) t.match(said, 'true')
          t.match(text(connection.requestSync(0, buffer)), `100000 ${i}`)
        }
        for (let i = 0; i < 30; i++) {
          const lease = await connection.request(1, '', { inPlace: true })
          t.ok(lease.payload.length === 100_000 && lease.payload.every((byte) => byte === 8))
          if (!trustServer) t.equal(lease.inPlace, false)
          if (trust && trustServer) t.equal(lease.inPlace, true)
          lease[Symbol.dispose]()
          t.equal(lease.payload.length, 0)
          const copy = connection.requestSync(1)
          t.ok(copy.length === 100_000 && copy.every((byte) => byte === 8))
          connection.requestSync(2)
          const message = connection.dispatchSync(5000)
          t.ok(message?.id === 2 && message.payload.every((byte) => byte === 9))
        }
      },
    )
  }
}

t.test('a failure that nobody waits for is not lost: the error event has its cause', async (t) => {
  const own = freshName()
  const server = new Server()
  const errors: Error[] = []
  server.on('error', (error) => void errors.push(error))
  server.addService({
    id: 1,
    handlers: {
      0: () => {
        throw new Error('on purpose')
      },
    },
  })
  await server.listen(own)
  await using connection = await connect(own, { service: 1 })
  connection.send(0, 'nobody waits')
  await until('the error', () => errors.length === 1)
  t.equal((errors[0]?.cause as Error | undefined)?.message, 'on purpose')
  t.match((await failure(connection.request(0))).message, 'the handler threw')
  await connection.close()
  await server.close()
})
