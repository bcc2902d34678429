// Sockets that a server is born with: from a real systemd activator, from the server before it. What becomes of the name,
// of requests on their way, and of a successor that never listens. The storm is in test/storm/hand-over.test.ts.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect, probe, reconnecting } from '@coroipc/ipcc'
import { handOver, inherited, Server } from '@coroipc/ipcs'
import t from 'tap'
import { built } from '../support/paths.js'
import { Program } from '../support/program.js'
import { freshName, left, runtimeDirectory } from '../support/runtime.js'
import { isAlive } from '../support/alive.js'
import { failure, outcome, text, until } from '../support/wait.js'

const directory = runtimeDirectory(t)
const script = built('test/operations/server.js')
const activator = '/usr/bin/systemd-socket-activate'

const startServer = async (name: string, ...args: string[]): Promise<Program> => {
  const server = Program.command(process.execPath, script, name, ...args)
  await server.line('own')
  return server
}
const pidOf = async (client: { request(id: number): Promise<Uint8Array> }): Promise<number> =>
  Number(text(await client.request(0)))

/** Not only bound: __SO_ACCEPTCON is among the flags, unix(7). */
const listens = (path: string): boolean =>
  readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .some((line) => line.endsWith(` ${path}`) && line.split(' ')[3] === '00010000')

t.test(
  'systemd starts a server with the first connect; its variables are gone then',
  { skip: existsSync(activator) ? false : `no ${activator}` },
  async (t) => {
    const path = join(directory, 'activated.sock')
    await using program = Program.command(
      activator,
      '--seqpacket',
      `--listen=${path}`,
      '--fdname=demo.socket',
      `--setenv=PATH=${process.env['PATH']}`,
      process.execPath,
      script,
      'demo',
    )
    await until('the socket', () => listens(path))
    const connection = await connect(path, { service: 1, timeoutMs: 20_000 })
    const pid = await pidOf(connection)
    t.equal(pid, program.pid, 'the activator has become the server')
    t.equal(connection.server.pid, pid, 'and the kernel says so')
    const env = JSON.parse(text(await connection.request(2))) as Record<string, string>
    t.strictSame(
      Object.keys(env).filter((name) => name.startsWith('LISTEN_')),
      [],
    )
    t.match(program.lines.join(), `inherited ${pid} ${path}`)
    await connection.close()
    await program.kill('SIGTERM')
    t.ok(existsSync(path), 'the name is whose who made it')
  },
)

t.test(
  'a server hands its name over; what runs is finished, what waits goes to the next',
  async (t) => {
    const name = freshName()
    await using first = await startServer(name)
    await using client = reconnecting(name, { service: 1 })
    t.equal(await pidOf(client), first.pid)
    const began = client.request(1, '300', { timeoutMs: 20_000 })
    await client.connected()
    process.kill(first.pid, 'SIGUSR2')
    const inherits = await first.line('inherited')
    const second = Number(inherits.split(' ')[1])
    t.teardown(() => isAlive(second) && process.kill(second, 'SIGKILL'))
    t.equal(Number(text(await began)), first.pid, 'the old one answers what it has begun')
    await until('its end: nothing keeps it', () => first.exited)
    t.equal(Number(text(await client.request(0, '', { timeoutMs: 20_000 }))), second)
    const env = JSON.parse(text(await client.request(2))) as Record<string, string>
    t.equal(env['COROIPC_HANDED_OVER'], undefined)
    t.strictSame(
      left(directory).filter((each) => each.startsWith(name)),
      [name, `${name}.lock`],
    )
    const rival = new Server()
    t.equal(await outcome(rival.listen(name)), 'ERR_COROIPC_ADDRESS_IN_USE', 'the lock came along')
    await rival.close()
    process.kill(second, 'SIGTERM')
    // It closes for a successor, and nobody follows: the name stays for whoever comes.
    await until('its end', () => !isAlive(second))
  },
)

t.test('a successor that never listens is killed, and the server goes on', async (t) => {
  for (const [command, argument, code] of [
    ['/bin/false', '', 'ERR_COROIPC_PEER_DEAD'],
    ['/bin/sleep', '60', 'ERR_COROIPC_TIMED_OUT'],
    ['/nonexistent', '', 'ERR_COROIPC_SYSTEM'],
  ] as const) {
    const name = freshName()
    await using server = await startServer(name, command, argument)
    await using connection = await connect(name, { service: 1 })
    process.kill(server.pid, 'SIGUSR2')
    t.equal(await server.line('not handed over'), `not handed over ${code}`, command)
    t.equal(await pidOf(connection), server.pid)
    t.ok((await probe(name)).healthy)
  }
})

t.test('it is told how a successor ended that never listened', async (t) => {
  const server = new Server()
  await server.listen(freshName())
  const ending = (script: string) =>
    failure(handOver(server, { command: '/bin/sh', args: ['-c', script] }))
  const code = 'ERR_COROIPC_PEER_DEAD'
  const exited = await ending('exit 7')
  t.match(exited, { code, exitCode: 7, message: 'it listened (exit code 7)' })
  t.notOk('signal' in exited)
  const killed = await ending('kill -TERM $$')
  t.match(killed, { code, signal: 'SIGTERM', message: 'it listened (SIGTERM)' })
  t.notOk('exitCode' in killed)
  const lives = await ending('exec 3>&-; exec sleep 60')
  t.match(lives, { code, message: 'closed its pipe before it listened' })
  t.notOk('exitCode' in lives || 'signal' in lives, 'what was killed afterwards was killed by us')
  await server.close()
})

t.test('close for a successor answers what runs and leaves the rest unread', async (t) => {
  const name = freshName()
  let finish = (): void => {}
  let asked = 0
  const server = new Server()
  server.addService({
    id: 1,
    handlers: {
      0: () => {
        asked++
        return new Promise<string>((resolve) => (finish = () => resolve('finished')))
      },
      1: () => String(++asked),
    },
  })
  await server.listen(name)
  await using busy = await connect(name, { service: 1 })
  await using idle = await connect(name, { service: 1 })
  const running = busy.request(0)
  await until('the handler', () => asked === 1)
  const closing = server.close({ timeoutMs: 20_000, handOver: true })
  await until('the end of the idle one', () => idle.closed)
  t.equal(server.health().state, 'draining')
  t.equal(server.health().inFlight, 1)
  const late = outcome(busy.request(1))
  const lateSent = busy.request(1).catch((error: { sent?: boolean }) => error.sent)
  finish()
  t.equal(text(await running), 'finished')
  t.equal(await late, 'ERR_COROIPC_DISCONNECTED')
  t.equal(await lateSent, false, 'it is known that nobody has read it')
  await closing
  t.equal(asked, 1)
  t.equal(server.health().state, 'closed')
  t.ok(left(directory).includes(name), 'the name is left')
})

t.test('reconnecting sends what was never read to the next server, in its order', async (t) => {
  const name = freshName()
  const seen: string[] = []
  const start = async (of: string): Promise<Server> => {
    const server = new Server()
    server.addService({
      id: 1,
      handlers: {
        0: ({ payload }) => {
          seen.push(`${of} ${text(payload)}`)
          return payload
        },
        1: () => new Promise((resolve) => setTimeout(resolve, 50)),
      },
    })
    await server.listen(name)
    return server
  }
  const first = await start('first')
  await using client = reconnecting(name, { service: 1, pauseMs: 5 })
  await client.connected()
  const running = client.request(1)
  await until('the handler', () => first.stats().inFlight === 1)
  const closing = first.close({ timeoutMs: 20_000, handOver: true })
  const payload = Buffer.from('a')
  const waiting = [
    client.request(0, payload),
    client.request(0, 'b'),
    client.request(0, ['c', '!']),
  ]
  payload.fill('x') // the caller's own again
  await running
  await closing
  const second = await start('second')
  t.strictSame(
    (await Promise.all(waiting)).map((each) => text(each)),
    ['a', 'b', 'c!'],
  )
  t.strictSame(seen, ['second a', 'second b', 'second c!'])
  await second.close()
})

t.test('a program started by hand has none, and wrong arguments say so', async (t) => {
  t.equal(inherited('demo'), undefined)
  t.throws(() => inherited(''), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  const server = new Server()
  await t.rejects(handOver(server), { code: 'ERR_COROIPC_INVALID_ARGUMENT' }, 'it does not listen')
  await server.listen(freshName())
  await t.rejects(handOver(server, { argv: [] } as never), {
    code: 'ERR_COROIPC_INVALID_ARGUMENT',
  })
  t.throws(() => server.close({ handOver: 1 } as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  await server.close()
  t.throws(() => new Server({ lock: 'yes' } as never), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})
