// System calls that fail, or kill, in a Node.js process: a few of what the C programs of this directory are swept with, since
// here libuv stands between. The victim runs under strace in a process of its own, the other side is this one.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { cpuMs, mapped } from '../support/gauge.js'
import { Peer } from '../support/peer.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome, pattern, sleep, until } from '../support/wait.js'

const directory = runtimeDirectory(t)
const traced = spawnSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore' }).status === 0
const skip = traced ? false : 'no strace, or no leave to use it'

/** A process in which `call` fails, or kills it, as `how` says; `met` tells whether it did. */
async function victim(call: string, how: string): Promise<{ peer: Peer; met: () => boolean }> {
  const log = join(directory, `${freshName()}.strace`)
  const through = ['strace', '-f', '-qq', '-o', log, '-e', `trace=${call}`]
  const peer = await Peer.open({ through: [...through, '-e', `inject=${call}:${how}`] })
  return { peer, met: () => /\(INJECTED\)|killed by SIGKILL/.test(readFileSync(log, 'utf8')) }
}

/** strace would leave its process behind: it ends by itself. */
async function end(peer: Peer): Promise<void> {
  if (!peer.exited) peer.start(() => process.exit(0))
  await until('the end of the victim', () => peer.exited)
}

async function serve(peer: Peer, name: string): Promise<void> {
  await peer.run(async ({ ipcs }, name) => {
    const server = new ipcs.Server({ wait: 'sleep', prefault: true })
    server.addService({ id: 1, handlers: { 0: (request) => request.payload } })
    await server.listen(name)
  }, name)
}

const LARGE = 200_000 // by a segment of its own

/** A whole session of this process; 'OK', or the code of what did not work. */
async function session(name: string): Promise<string> {
  return outcome(async () => {
    await using connection = await connect(name, { service: 1, timeoutMs: 5000, wait: 'sleep' })
    for (const bytes of [8, 5000, LARGE, 8]) {
      const sent = pattern(bytes, bytes)
      const answer = await connection.request(0, sent, { timeoutMs: 5000 })
      if (Buffer.compare(answer, sent) !== 0) throw new Error('a torn answer')
    }
  })
}

const ranOut = 'ERR_COROIPC_NO_MEMORY'
for (const [call, how, first] of [
  ['accept4', 'error=EINTR:when=1', 'OK'],
  ['accept4', 'error=EMFILE:when=1..3', 'OK'],
  ['accept4', 'error=ENOMEM:when=1', 'OK'],
  ['sendto', 'error=EINTR:when=1', 'OK'],
  ['sendto', 'error=ENOBUFS:when=1', 'OK'],
  ['memfd_create', 'error=ENOMEM:when=1', ranOut],
  ['memfd_create', 'error=EMFILE:when=1', ranOut],
  ['fallocate', 'error=ENOSPC:when=1', ranOut], // found at connect, not later by SIGBUS
  ['fallocate', 'error=EINTR:when=1', 'OK'],
] as const) {
  t.test(`the server's ${call}: ${how}`, { skip }, async (t) => {
    const name = freshName()
    const { peer, met } = await victim(call, how)
    await serve(peer, name)
    t.equal(await session(name), first)
    t.equal(await session(name), 'OK', 'the next one')
    t.equal(mapped().length, 0, 'nothing is left')
    t.ok(met(), 'it was injected')
    await end(peer)
  })
}

for (const call of ['accept4', 'memfd_create', 'sendto'])
  t.test(`the server is killed at ${call}`, { skip }, async (t) => {
    const name = freshName()
    const { peer, met } = await victim(call, 'signal=SIGKILL:when=1')
    await serve(peer, name)
    t.match(await session(name), /^ERR_COROIPC_(PEER_DEAD|UNKNOWN_OUTCOME)$/)
    await until('its end', () => peer.exited)
    t.equal(mapped().length, 0, 'nothing is left')
    t.ok(met())
  })

for (const [how, code] of [
  ['error=EINTR:when=1', 'OK'],
  ['error=ENOBUFS:when=1', 'OK'],
  ['signal=SIGKILL:when=1', undefined],
] as const)
  t.test(`the client's sendto: ${how}`, { skip }, async (t) => {
    const name = freshName()
    const ends: string[] = []
    await using server = new Server({ wait: 'sleep' })
    server.addService({
      id: 1,
      onDisconnect: (_, { code }) => void ends.push(code),
      handlers: { 0: (request) => request.payload },
    })
    await server.listen(name)
    const { peer, met } = await victim('sendto', how)
    const call = peer.run(async ({ ipcc, wait }, name) => {
      const connection = await ipcc.connect(name, { service: 1, wait: 'sleep' })
      const code = await wait.outcome(async () => {
        for (let i = 0; i < 20; i++) await connection.request(0, 'x', { timeoutMs: 5000 })
      })
      await connection.close()
      return code
    }, name)
    if (code === undefined) await t.rejects(call, /SIGKILL/)
    else t.equal(await call, code)
    await until('the end of its connection', () => ends.length === 1)
    t.equal(ends[0], code === undefined ? 'ERR_COROIPC_PEER_DEAD' : 'ERR_COROIPC_DISCONNECTED')
    await until('its memory', () => mapped().length === 0)
    t.ok(met(), 'it was injected')
    await end(peer)
  })

t.test('a server that can never accept again does not spin', { skip }, async (t) => {
  const name = freshName()
  const { peer, met } = await victim('accept4', 'error=EMFILE:when=2+')
  await serve(peer, name)
  const pid = await peer.run(() => process.pid)
  await using inside = await connect(name, { service: 1 })
  await inside.request(0, 'x')
  const waiting = [1, 2, 3].map(() => outcome(connect(name, { service: 1, timeoutMs: 1500 })))
  await sleep(200)
  const before = cpuMs(pid)
  const started = performance.now()
  await sleep(1000)
  const share = ((cpuMs(pid) - before) / (performance.now() - started)) * 100
  t.comment(`${share.toFixed(1)} % of a CPU`)
  t.ok(share < 5, 'less than 5 % of a CPU')
  t.strictSame(await Promise.all(waiting), Array(3).fill('ERR_COROIPC_TIMED_OUT'))
  t.equal(Buffer.from(await inside.request(0, 'still')).toString(), 'still')
  t.ok(met())
  await end(peer)
})
