// `coroipc top`: in a pipe, for machines, and in a real terminal: its keys, its size, and what it leaves behind.
import t from 'tap'
import { noTerminal, Terminal } from '../support/terminal.js'
import { coroipc, command, newName, values } from './cli.js'
import { burden, idleCalls, serveInspected, serveLies } from './inspected.js'

const name = newName()
const server = await serveInspected(name)
const busy = await burden(name, 7, 10)
const calm = await burden(name, 9, 1)
t.teardown(() => Promise.all([server.end(), busy.end(), calm.end()]))

t.test('one look into a pipe', async (t) => {
  const { code, stdout, stderr } = await coroipc(['top', name])
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, new RegExp(`^${name}  pid ${server.pid}, user \\w+, up `))
  t.match(
    stdout,
    /\n[\d,.]+ calls\/s, 0 dispatches\/s, in .*\ncpu [\d.]+ %.*connections 3 of 4,096/,
  )
  t.match(stdout, /\n7 texts +1 +[\d,.]+ +0 /)
  const rows = stdout.trimEnd().split('\n').slice(-2)
  t.match(rows[0], new RegExp(` ${busy.pid} +node peer-main\\.js +7 `), 'the busy one first')
  t.match(rows[1], new RegExp(` ${calm.pid} +node peer-main\\.js +9 `))
  t.notMatch(stdout, /coroipc\.js/, 'itself is not shown')
  const reversed = await coroipc(['top', name, '--sort', 'calls', '-r', '--all'])
  const pids = [...reversed.stdout.matchAll(/^[0-9a-f]{8} +(\d+) /gm)].map(([, pid]) => Number(pid))
  t.ok(pids.indexOf(calm.pid) < pids.indexOf(busy.pid))
  t.match(reversed.stdout, /node coroipc\.js/, 'but with --all')
})

t.test('one line for each look, for machines', async (t) => {
  const { code, stdout } = await coroipc(['top', name, '--json', '-n', '2', '-i', '0.2'])
  t.equal(code, 0)
  const looks = values(stdout) as unknown as {
    rates: { calls: number }
    services: { id: number; rates: { calls: number } }[]
    connections: { pid: number; rates: { calls: number }; latency: { p99: number } }[]
  }[]
  t.equal(looks.length, 2)
  for (const { rates, services, connections } of looks) {
    t.ok(rates.calls > 0)
    const of = (pid: number): number =>
      connections.find((each) => each.pid === pid)?.rates.calls ?? 0
    t.ok(of(busy.pid) > of(calm.pid) && of(calm.pid) > 0)
    t.ok((services.find(({ id }) => id === 7)?.rates.calls ?? 0) > 0)
    t.ok(connections.every(({ latency }) => latency.p99 >= 0))
  }
})

t.test('what each connection takes: CPU of its client, time of its calls', async (t) => {
  interface Taken {
    readonly pid: number
    readonly program?: string
    readonly clientCpuPercent?: number
    readonly latency: { readonly busyPercent: number }
  }
  const takenBy = async (pid: number, ...args: string[]): Promise<Taken> => {
    const { stdout } = await coroipc(['top', name, '--json', '-n', '1', '-i', '1', ...args])
    const [look] = values(stdout) as unknown as { connections: Taken[] }[]
    const found = look?.connections.find((each) => each.pid === pid)
    if (found === undefined) throw new Error(`no connection of ${pid} in: ${stdout}`)
    return found
  }
  const idle = await idleCalls(name)
  const [computes, rests] = [await takenBy(idle.pid), await takenBy(calm.pid)]
  t.ok((computes.clientCpuPercent ?? 0) > (rests.clientCpuPercent ?? Infinity))
  // Four calls in work at a time are 400; the client may be late to ask again.
  t.ok(computes.latency.busyPercent > 100, `${computes.latency.busyPercent}`)
  t.ok(computes.latency.busyPercent < 500, `${computes.latency.busyPercent}`)
  t.ok(rests.latency.busyPercent > 0 && rests.latency.busyPercent < 100)

  const pidsOf = async (sort: string): Promise<number[]> => {
    const { stdout } = await coroipc(['top', name, '--sort', sort])
    return [...stdout.matchAll(/^[0-9a-f]{8} +(\d+) /gm)].map(([, pid]) => Number(pid))
  }
  t.equal((await pidsOf('cpu'))[0], idle.pid)
  t.equal((await pidsOf('busy'))[0], idle.pid)
  await idle.end()
})

t.test('pids of a server that is not where it says are looked up nowhere', async (t) => {
  // As from inside of a container: its pids are other processes here.
  const other = newName()
  await using _ = await serveLies(other, 'number', `${process.pid}`)
  const { code, stdout } = await coroipc(['top', other, '--json', '-n', '1', '-i', '0.1'])
  t.equal(code, 0)
  const [look] = values(stdout) as unknown as { connections: object[] }[]
  t.match(look?.connections, [{ pid: process.pid }])
  t.notOk('program' in (look?.connections[0] ?? {}))
  t.notOk('clientCpuPercent' in (look?.connections[0] ?? {}))
})

t.test('interrupted, it ends in order', async (t) => {
  const { code, stdout } = await coroipc(['top', name, '--json', '-i', '0.1'], {
    kill: ['SIGINT', /\n/],
  })
  t.equal(code, 0)
  t.ok(values(stdout).length > 0)
})

t.test('wrong usage', async (t) => {
  t.equal((await coroipc(['top', name, '--interval', '0'])).code, 2)
  t.equal((await coroipc(['top', name, '--sort', 'call'])).code, 2)
  t.equal((await coroipc(['top', newName()])).code, 3)
})

t.test('in a terminal', { skip: noTerminal ?? false }, async (t) => {
  await using terminal = await Terminal.open(
    [
      'sh',
      '-c',
      'echo before; "$0" "$@"; echo "ended with $?"; stty -a | grep -o -- "-\\?echo\\b"',
      ...command,
      'top',
      name,
      '-i',
      '0.2',
    ],
    { columns: 150, rows: 24 },
  )
  const screen = await terminal.shows('sorted by calls')
  t.match(screen, /\n7 texts +1 /)
  t.match(screen, /every 0\.2 s {3}sorted by calls {3}h help, q quit$/)
  t.notMatch(screen, 'before')

  terminal.press('s')
  await terminal.shows('sorted by dispatches')
  terminal.press('S', 'S')
  await terminal.shows('sorted by pid')
  terminal.press('r')
  await terminal.shows('sorted by pid, reversed')
  terminal.press('a')
  await terminal.shows(/node coroipc\.js/)
  terminal.press('-')
  await terminal.shows('every 0.5 s')
  terminal.press('p')
  await terminal.shows('paused')
  const frozen = terminal.screen()
  await new Promise((resolve) => setTimeout(resolve, 1200))
  t.equal(terminal.screen(), frozen, 'nothing moves while it is paused')
  terminal.press('Space')
  await terminal.shows('every 0.5 s')
  terminal.press('h')
  await terminal.shows('next, previous column')
  terminal.press('h')
  await terminal.shows(/^@coroipc/)

  terminal.resize(60, 9)
  const small = await terminal.shows(/\.\.\. \d+ more\n/)
  t.equal(small.split('\n').length, 9)
  t.ok(small.split('\n').every((line) => line.length <= 60))
  terminal.resize(150, 24)
  await terminal.shows(/CONNECTION +PID/)

  terminal.press('q')
  const after = await terminal.shows(/^-?echo$/m)
  t.equal(after, 'before\nended with 0\necho', 'the screen and the echo are as they were')
})

t.test(
  'Ctrl-C, and a server that goes away, give the terminal back',
  { skip: noTerminal ?? false },
  async (t) => {
    const other = newName()
    const shortLived = await serveInspected(other)
    for (const [end, code] of [
      [(terminal: Terminal) => terminal.press('C-c'), 0],
      [() => void shortLived.kill(), 5],
    ] as const) {
      await using terminal = await Terminal.open(
        [
          'sh',
          '-c',
          '"$0" "$@"; echo "ended with $?"; stty -a | grep -o -- "-\\?echo\\b"',
          ...command,
          'top',
          other,
        ],
        { columns: 120, rows: 20 },
      )
      await terminal.shows('sorted by calls')
      end(terminal)
      const after = await terminal.shows(/^-?echo$/m)
      t.match(after, new RegExp(`ended with ${code}\necho$`))
      t.notMatch(after, 'sorted by')
      if (code === 5) t.match(after, `the server '${other}' has gone`)
    }
  },
)
