// Who may connect: real other users, with and without supplementary groups, in a user namespace; authorize in all its
// forms; and what a refused peer has seen.
import { existsSync } from 'node:fs'
import { connect } from '@coroipc/ipcc'
import { type Credentials, Server, type ServerOptions } from '@coroipc/ipcs'
import t, { type Test } from 'tap'
import { held } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome, text, until } from '../support/wait.js'

const directory = runtimeDirectory(t)
const isRoot = process.getuid?.() === 0

async function serve(options: ServerOptions = {}): Promise<{ server: Server; name: string }> {
  const server = new Server(options)
  server.on('error', () => {})
  server.addService({ id: 1, handlers: { 0: () => 'in' } })
  const name = `${directory}/${freshName()}.sock`
  await server.listen(name)
  return { server, name }
}

/** A process of another user; ends with the test. */
async function as(t: Test, uid: number, gid: number, groups: number[]): Promise<Peer> {
  const peer = await Peer.open()
  t.teardown(() => peer.end())
  await peer.run(
    (_, uid, gid, groups) => {
      process.setgroups?.(groups)
      process.setgid?.(gid)
      process.setuid?.(uid)
    },
    uid,
    gid,
    groups,
  )
  return peer
}

const tryToConnect = (peer: Peer, name: string): Promise<string> =>
  peer.run(async ({ ipcc, wait }, name) => {
    try {
      const connection = await ipcc.connect(name, { service: 1 })
      return wait.text(await connection.request(0))
    } catch (error) {
      return (error as { code: string }).code
    }
  }, name)

for (const groups of [[], [4242, 4243]]) {
  t.test(
    `uid 1234, gid 4321, groups [${groups.join()}]: authorize sees what the kernel says`,
    async (t) => {
      if (!isRoot) {
        t.pass('not run here', { skip: 'needs root, to become another user' })
        return
      }
      let seen: Credentials | undefined
      const { server, name } = await serve({
        authorize: (credentials) => {
          seen = credentials
          return true
        },
      })
      const peer = await as(t, 1234, 4321, groups)
      t.equal(await tryToConnect(peer, name), 'in')
      t.equal(seen?.pid, peer.pid)
      t.equal(seen?.uid, 1234)
      t.equal(seen?.gid, 4321)
      t.strictSame(
        [...(seen?.groups ?? [])].sort((a, b) => a - b),
        groups,
      )
      t.ok(seen !== undefined && (seen.pidfd === -1 || seen.pidfd > 2))
      await server.close()
    },
  )
}

t.test('the default policy: the same user and root, nobody else', async (t) => {
  const { server, name } = await serve()
  t.equal(await outcome(connect(name, { service: 1 })), 'OK')
  if (!isRoot) {
    t.pass('not run here', { skip: 'the rest: needs root, to become other users' })
    await server.close()
    return
  }
  t.equal(await tryToConnect(await as(t, 1234, 4321, []), name), 'ERR_COROIPC_DENIED')
  t.equal(await tryToConnect(await as(t, 65534, 65534, []), name), 'ERR_COROIPC_DENIED')
  await server.close({ timeoutMs: 0 })
  // A server of user 1234 lets in 1234 and root, and not 1235.
  const other = await as(t, 1234, 4321, [])
  const path = `@${freshName()}`
  await other.run(async ({ ipcs, state }, path) => {
    state.server = new ipcs.Server()
    state.server.addService({ id: 1, handlers: { 0: () => 'in' } })
    await state.server.listen(path)
  }, path)
  t.equal(await tryToConnect(await as(t, 1234, 1, []), path), 'in')
  t.equal(await tryToConnect(await as(t, 0, 0, []), path), 'in')
  t.equal(await tryToConnect(await as(t, 1235, 4321, []), path), 'ERR_COROIPC_DENIED')
  // And the client knows who it talks to.
  t.equal(await outcome(connect(path, { service: 1, server: { uid: 0 } })), 'ERR_COROIPC_DENIED')
  await using connection = await connect(path, { service: 1, server: { uid: 1234 } })
  t.equal(connection.server.uid, 1234)
  t.equal(connection.server.gid, 4321)
})

t.test('a client in a user namespace is who it is outside', async (t) => {
  const unshare = ['--user', '--map-root-user']
  const probe = Program.command('unshare', ...unshare, 'true')
  if ((await probe.end()) !== 0) {
    t.pass('not run here', { skip: 'user namespaces are not allowed here' })
    return
  }
  const seen: number[] = []
  const { server, name } = await serve({
    authorize: ({ uid }) => {
      seen.push(uid)
      return uid === 0
    },
  })
  await using inside = await Peer.open({ through: ['unshare', ...unshare] })
  t.equal(await tryToConnect(inside, name), isRoot ? 'in' : 'ERR_COROIPC_DENIED')
  t.strictSame(seen, [process.getuid?.()])
  if (isRoot) {
    const prefix = ['setpriv', '--reuid=1234', '--regid=4321', '--clear-groups', 'unshare']
    const allowed = Program.command('setpriv', ...prefix.slice(1), ...unshare, 'true')
    if ((await allowed.end()) === 0) {
      await using other = await Peer.open({ through: [...prefix, ...unshare] })
      t.equal(await other.run(() => process.getuid?.()), 0, 'it thinks that it is root')
      t.equal(await tryToConnect(other, name), 'ERR_COROIPC_DENIED')
      t.equal(seen.at(-1), 1234)
    } else t.pass('not run here', { skip: 'user 1234 in a namespace: not allowed here' })
  }
  await server.close()
})

t.test(
  'a server in a user namespace refuses those it has no name for, unless allowed',
  async (t) => {
    if (!isRoot) {
      t.pass('not run here', { skip: 'needs root, to become another user' })
      return
    }
    const through = ['unshare', '--user', '--map-root-user']
    const probe = Program.command('unshare', ...through.slice(1), 'true')
    if ((await probe.end()) !== 0) {
      t.pass('not run here', { skip: 'user namespaces are not allowed here' })
      return
    }
    for (const allowUnmapped of [false, true]) {
      await using server = await Peer.open({ through })
      const name = `${directory}/${freshName()}.sock`
      await server.run(
        async ({ ipcs, state }, name, allowUnmapped) => {
          state.seen = []
          state.server = new ipcs.Server({
            allowUnmapped,
            authorize: ({ uid }) => {
              state.seen.push(uid)
              return true
            },
          })
          state.server.addService({ id: 1, handlers: { 0: () => 'in' } })
          await state.server.listen(name)
        },
        name,
        allowUnmapped,
      )
      const { chmodSync } = await import('node:fs')
      chmodSync(name, 0o666)
      const peer = await as(t, 1234, 4321, [])
      t.equal(await tryToConnect(peer, name), allowUnmapped ? 'in' : 'ERR_COROIPC_DENIED')
      t.strictSame(await server.run(({ state }) => state.seen), allowUnmapped ? [65534] : [])
    }
  },
)

const verdicts: [what: string, authorize: ServerOptions['authorize'], code: string][] = [
  ['true', () => true, 'OK'],
  ['false', () => false, 'ERR_COROIPC_DENIED'],
  ['1', () => 1 as unknown as boolean, 'ERR_COROIPC_DENIED'],
  ['undefined', () => undefined as unknown as boolean, 'ERR_COROIPC_DENIED'],
  [
    'an exception',
    () => {
      throw new Error('on purpose')
    },
    'ERR_COROIPC_DENIED',
  ],
  ['a promise of true', async () => true, 'OK'],
  ['a promise of false', async () => false, 'ERR_COROIPC_DENIED'],
  ['a rejection', () => Promise.reject(new Error('on purpose')), 'ERR_COROIPC_DENIED'],
]
for (const [what, authorize, code] of verdicts) {
  t.test(`authorize: ${what}`, async (t) => {
    const { server, name } = await serve({ authorize: authorize as () => boolean })
    t.equal(await outcome(connect(name, { service: 1 })), code)
    t.equal(server.stats().connectionsRefused, code === 'OK' ? 0 : 1)
    t.equal(server.stats().handshakesPending, 0)
    await server.close({ timeoutMs: 0 })
  })
}

t.test('authorize: five seconds of silence refuse; others get in meanwhile', async (t) => {
  let first = true
  const { server, name } = await serve({
    authorize: () => {
      if (!first) return true
      first = false
      return new Promise<boolean>(() => {})
    },
  })
  const started = performance.now()
  const silent = outcome(connect(name, { service: 1 }))
  await until('the question', () => !first)
  await using connection = await connect(name, { service: 1 })
  t.equal(text(await connection.request(0)), 'in')
  t.ok(performance.now() - started < 4900, 'before the silence was over')
  t.equal(await silent, 'ERR_COROIPC_DENIED')
  t.ok(performance.now() - started > 4900, 'after about five seconds')
  await connection.close()
  await server.close()
})

t.test('a refused peer has never seen memory: none is made before the verdict', async (t) => {
  const memory = async (pid?: number): Promise<number[]> => {
    const { mapping = 0, 'fd memfd': fds = 0 } = await held({ pid })
    return [mapping, fds]
  }
  const before = await memory()
  const answers: ((verdict: boolean) => void)[] = []
  const { server, name } = await serve({
    authorize: () => new Promise<boolean>((resolve) => void answers.push(resolve)),
  })
  const stranger = Program.start('stranger', 'client', name, 'version', '1')
  await until('the question', () => answers.length === 1)
  t.strictSame(await memory(), before, 'the server has none for it')
  t.strictSame(await memory(stranger.pid), [0, 0], 'nor has the peer')
  answers[0]?.(false)
  t.equal(await stranger.end(), 0)
  t.strictSame(stranger.lines, ['said it', 'answered status 5 version 1 fd no'])
  t.strictSame(await memory(), before, 'nor is there any afterwards')
  // A welcome one gets it with the verdict.
  const connecting = connect(name, { service: 1 })
  await until('the question', () => answers.length === 2)
  t.strictSame(await memory(), before)
  answers[1]?.(true)
  await using connection = await connecting
  t.equal((await memory())[0], (before[0] as number) + 2, 'both sides are in this process')
  await connection.close()
  await server.close()
  const { server: willing, name: other } = await serve({ authorize: () => true })
  const accepted = Program.start('stranger', 'client', other, 'version', '1')
  t.equal(await accepted.end(), 0)
  t.equal(accepted.lines.at(-1), 'answered status 0 version 1 fd yes')
  await willing.close()
})

t.test('a client that leaves while authorize thinks is forgotten', async (t) => {
  let answer: ((verdict: boolean) => void) | undefined
  const { server, name } = await serve({
    authorize: () => new Promise<boolean>((resolve) => (answer = resolve)),
  })
  const client = await Peer.open()
  client.start(({ ipcc }, name) => ipcc.connect(name, { service: 1 }), name)
  await until('the question', () => answer !== undefined)
  await client.kill()
  await until('its end', () => server.stats().handshakesPending === 0)
  answer?.(true)
  t.equal(server.stats().connections, 0)
  t.equal([...server.connections()].length, 0)
  await server.close()
  t.notOk(existsSync(name))
})
