// What a process passes on to programs that it starts, and which clock both sides live by.
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'

const directory = runtimeDirectory(t)

t.test('no descriptor of a server or a client reaches a program that they start', async (t) => {
  const name = freshName()
  const server = new Server()
  server.addService({
    id: 1,
    trust: () => true,
    handlers: { 0: (request) => request.payload },
  })
  await server.listen(name)
  const connection = await connect(name, { service: 1, trustServer: true })
  const buffer = await connection.allocate(100_000) // so there is an extra segment
  t.equal((await connection.request(0, new Uint8Array(300_000))).length, 300_000)
  // What ls itself sees as its own: three standard ones, the directory that it reads, and what this process had before.
  const list = async (): Promise<string[]> => {
    await using ls = Program.command('ls', '-l', '/proc/self/fd')
    await ls.end()
    return ls.lines
      .map((line) => / (\d+) -> (.*)$/.exec(line))
      .filter((found) => found !== null)
      .map(([, fd, target]) => `${fd} ${target}`)
  }
  const passed = (await list()).filter((line) => Number(line.split(' ')[0]) > 2)
  const ours = /memfd|anon_inode|coroipc|pidfd|socket/
  t.strictSame(
    passed.filter((line) => ours.test(line)),
    [],
  )
  t.match(passed.join('\n'), /\/proc\/\d+\/fd$/, 'ls sees its own descriptors')
  const held = readdirSync('/proc/self/fd').length
  t.ok(held > passed.length + 3 + 6, `this process has ${held}`)
  buffer[Symbol.dispose]()
  await connection.close()
  await server.close()
})

/** Debian's libfaketime, if it is there: it changes the wall clock of one process. */
const faketime = readdirSync('/usr/lib')
  .map((each) => join('/usr/lib', each, 'faketime/libfaketimeMT.so.1'))
  .find((file) => existsSync(file))

t.test(
  'a wall clock that jumps by an hour ends nothing early and keeps nothing waiting',
  {
    skip:
      faketime === undefined
        ? 'libfaketime is not installed'
        : process.env.LD_PRELOAD
          ? 'a sanitizer has to come first, and libfaketime hangs behind it'
          : false,
  },
  async (t) => {
    const file = join(directory, 'clock')
    writeFileSync(file, '+0')
    const env = {
      LD_PRELOAD: faketime,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1', // suspending a machine does not stop it either
      DONT_FAKE_MONOTONIC: '1',
    }
    const name = freshName()
    await using server = await Peer.open({ env })
    await using client = await Peer.open({ env })
    // libfaketime's own, which it leaves when its process does not end by itself.
    const pids = [server.pid, client.pid]
    t.teardown(() =>
      pids
        .flatMap((pid) => [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`])
        .forEach((left) => rmSync(join('/dev/shm', left), { force: true })),
    )
    await server.run(async ({ ipcs, wait, state }, name) => {
      state.server = new ipcs.Server()
      state.server.addService({
        id: 1,
        handlers: {
          0: (request: { payload: Uint8Array }) => request.payload,
          1: async () => {
            await wait.sleep(100)
            return 'late'
          },
          2: (request: { defer(): void }) => request.defer(),
        },
      })
      await state.server.listen(name)
    }, name)
    await client.run(async ({ ipcc, state }, name) => {
      state.connection = await ipcc.connect(name, { service: 1 })
    }, name)
    const before = await client.run(() => Date.now())
    const jumps = ['+1h', '-1h', '+1h', '+0', '-1h', '+365d', '+0']
    for (const jump of jumps) {
      const called = client.run(async ({ state, wait }) => {
        const { connection } = state
        const started = performance.now()
        const [blocking, late, silent] = await Promise.all([
          wait.outcome(() => connection.requestSync(0, 'x', { timeoutMs: 5000 })),
          wait.outcome(connection.request(1, '', { timeoutMs: 20_000 })),
          wait.outcome(connection.request(2, '', { timeoutMs: 200 })).then((code) => ({
            code,
            ms: performance.now() - started,
          })),
        ])
        return { blocking, late, ...silent }
      })
      writeFileSync(file, jump)
      const { blocking, late, code, ms } = await called
      t.equal(blocking, 'OK', jump)
      t.equal(late, 'OK', 'not given up early')
      t.equal(code, 'ERR_COROIPC_TIMED_OUT')
      t.ok(ms > 190 && ms < 10_000, `given up in time: ${ms.toFixed(0)} ms`)
      if (jump === '+1h') {
        const ahead = (await client.run(() => Date.now())) - before
        t.ok(ahead > 3_500_000, `the clock has jumped: ${ahead} ms`)
      }
    }
    t.equal(
      await client.run(async ({ state, wait }) =>
        wait.text(await state.connection.request(0, 'fine')),
      ),
      'fine',
    )
    await client.run(({ state }) => state.connection.close())
    await server.run(({ state }) => state.server.close())
  },
)
