// `coroipc record` and `coroipc replay`: what is in the file, and what a server gets of it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { until } from '../support/wait.js'
import { command, coroipc, newName, serve, values } from './cli.js'
import { serveInspected } from './inspected.js'

const directory = mkdtempSync(join(tmpdir(), 'coroipc-record-'))
t.teardown(() => rmSync(directory, { recursive: true }))

const name = newName()
const server = await serveInspected(name)
const client = await Peer.open()
t.teardown(() => Promise.all([server.end(), client.end()]))

/** What a client says while it is recorded: two connections, every kind of message. */
async function talk(): Promise<void> {
  await client.run(async ({ ipcc }, name) => {
    const one = await ipcc.connect(name, { service: 7 })
    const two = await ipcc.connect(name, { service: 9 })
    for (let n = 0; n < 5; n++) {
      await one.request(0, `text ${n}`)
      await one.request(1)
      await two.request(0, new Uint8Array([255, n]))
      one.send(4, 'one way')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await one.request(2).catch(() => {})
    await one.request(3, '7')
    await one.request(0, 'x'.repeat(3000))
    await one.close()
    await two.close()
  }, name)
}

const linesOf = (file: string): Record<string, unknown>[] => {
  try {
    const content = readFileSync(file, 'utf8')
    return values(content.slice(0, content.lastIndexOf('\n') + 1))
  } catch {
    return [] // not there yet
  }
}

/** Records while `talk` talks; ended by SIGINT, as by Ctrl-C. `connections`: of how many the end is waited for. */
async function recorded(
  file: string,
  connections: number,
  ...args: string[]
): Promise<Record<string, unknown>[]> {
  const [program = '', ...before] = command
  const child = spawn(program, [...before, 'record', name, '-o', file, ...args])
  const said = text(child.stderr)
  const ended = once(child, 'close')
  await until('the header', () => linesOf(file).length > 0)
  await talk()
  const gone = (): number => linesOf(file).filter((each) => each['kind'] === 'disconnected').length
  await until('the ends of the connections', () => gone() === connections)
  child.kill('SIGINT')
  t.same(await ended, [0, null])
  t.match(await said, /^\d+ messages recorded\n$/)
  return linesOf(file)
}

const statusOf = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8')

/** Whether that process has a handler for the signal. */
function isCaught(pid: number, signal: NodeJS.Signals): boolean {
  const mask = BigInt(`0x${/^SigCgt:\s*(\w+)/m.exec(statusOf(pid))?.[1]}`)
  return ((mask >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n
}

const file = join(directory, 'all.jsonl')

t.test('everything with its time, text as text', async (t) => {
  const [header, ...lines] = await recorded(file, 2)
  t.match(header, {
    coroipc: 'recording',
    version: 1,
    server: { address: name, pid: server.pid },
    connection: null,
    service: null,
    payloadBytes: 2000,
  })
  const of = (kind: string): Record<string, unknown>[] =>
    lines.filter((each) => each['kind'] === kind)
  t.match(of('connected'), [
    { service: 7, pid: client.pid, id: /^[0-9a-f]{16}$/ },
    { service: 9, pid: client.pid },
  ])
  t.match(of('request')[0], { service: 7, id: 0, bytes: 6, text: 'text 0' })
  t.match(of('request')[2], { service: 9, id: 0, bytes: 2, base64: '/wA=' })
  t.match(of('request')[3], { id: 4, oneWay: true, text: 'one way' })
  t.equal(of('request').length, 5 * 4 + 3)
  t.equal(of('answer').length, 5 * 3 + 3)
  t.match(of('answer')[1], { id: 1, status: 3, text: /^\d+$/ })
  t.match(
    of('answer').find((each) => each['id'] === 2),
    { code: 'ERR_COROIPC_HANDLER_FAILED' },
  )
  t.match(of('request').at(-1), { bytes: 3000, cut: true, text: 'x'.repeat(2000) })
  t.match(of('dispatch'), [{ id: 5, text: '7' }])
  t.equal(of('disconnected').length, 2)
  const times = lines.map((each) => each['t'] as number)
  t.ok(
    times.every((time, at) => time >= (times[at - 1] ?? 0)),
    'in time',
  )
  t.match(lines.at(-1), { kind: 'end', recorded: lines.length - 1, lost: 0 })
})

t.test('of one service; of one connection by the beginning of its id', async (t) => {
  const lines = await recorded(join(directory, 'nine.jsonl'), 1, '--service', '9')
  t.equal(lines[0]?.['service'], 9)
  const named = await coroipc(['record', name, '-o', '-', '--service', 'text'])
  t.match(named, { code: 1, stderr: /did you mean 'texts'/ })
  t.equal(lines.filter((each) => each['kind'] === 'request').length, 5)
  const id = await client.run(async ({ ipcc, state }, name) => {
    state.kept = await ipcc.connect(name, { service: 7 })
    state.timer = setInterval(() => void state.kept.request(0, 'mine'), 10)
    return state.kept.id as string
  }, name)
  const one = join(directory, 'one.jsonl')
  const earlier = 'of an earlier time, for everybody'
  writeFileSync(one, earlier, { mode: 0o644 })
  const which = ['--connection', id.slice(0, 8), '--service', 'texts']
  const args = [...which, '-o', one, '-n', '9', '--json']
  const unforced = await coroipc(['record', name, ...args])
  t.match(unforced, { code: 1, stdout: '', stderr: `'${one}' is not empty` })
  t.equal(readFileSync(one, 'utf8'), earlier, 'nothing was lost')
  const { code, stdout } = await coroipc(['record', name, ...args, '--force'])
  t.equal(code, 0)
  t.match(values(stdout), [{ file: one, recorded: 9, lost: 0 }])
  t.equal(statSync(one).mode & 0o777, 0o600, 'for its owner alone')
  const [header, first, ...rest] = linesOf(one)
  t.equal(header?.['connection'], id)
  t.match(first, { kind: 'connected', id })
  t.equal(rest.filter((each) => each['text'] === 'mine').length, 8)
  await client.run(async ({ state }) => {
    clearInterval(state.timer)
    await state.kept.close()
  })
  t.match(await coroipc(['record', name, '-o', '-', '--connection', 'ffff']), {
    code: 1,
    stderr: /there is no connection 'ffff'/,
  })
})

t.test('a replay gives the same answers, at the times of the recording or at once', async (t) => {
  // A fresh server counts from where the recorded one did.
  for (const speed of ['4', 'max']) {
    const next = newName()
    await using _ = await serveInspected(next)
    const { code, stdout } = await coroipc(['replay', file, next, '--speed', speed, '--compare'])
    t.equal(code, 0, stdout)
    t.match(stdout, /^22 requests in /)
    t.match(stdout, /\nnow +p50 .*\nrecorded +p50 /)
    t.match(stdout, /\nfailed: 1 ERR_COROIPC_HANDLER_FAILED\n/)
    t.match(stdout, /\n1 not sent: cut off in the recording\n/)
    t.match(stdout, /\n17 answers compared, all the same\n$/)
  }
})

t.test('the time between requests is kept', async (t) => {
  const lines = linesOf(file).filter((each) => each['kind'] === 'request')
  const span = ((lines.at(-2)?.['t'] as number) - (lines[0]?.['t'] as number)) / 1000
  const next = newName()
  await using _ = await serveInspected(next)
  const [played] = values((await coroipc(['replay', file, next, '--json'])).stdout)
  // Never early; how late is the machine's affair.
  t.ok((played?.['seconds'] as number) >= span, `${String(played?.['seconds'])} s of ${span} s`)
})

t.test('other answers are shown, counted, and the exit code', async (t) => {
  const next = newName()
  await using _ = await serveInspected(next, 2)
  const { code, stdout } = await coroipc(['replay', file, next, '--speed', 'max', '--compare'])
  t.equal(code, 1)
  t.match(stdout, /service 7, request 1: another payload\n {2}- 1\n {2}\+ 2\n/)
  t.match(stdout, /\n5 of 17 answers differ\n$/)
  const json = await coroipc(['replay', file, next, '--speed', 'max', '--compare', '--json'])
  const said = values(json.stdout)
  t.equal(said.length, 6)
  t.match(said[0], { difference: { service: 7, id: 1, what: 'payload', recorded: '1' } })
  t.match(said[5], { requests: 22, skipped: 1, differences: 5 })
  const other = await coroipc(['replay', file, next, '--speed', 'max', '--service', '9'])
  t.match(other.stdout, /ERR_COROIPC_NO_HANDLER/)
  t.equal(other.code, 0, 'without --compare nothing is wrong with that')
})

t.test('Ctrl-C ends a replay that waits for a time far away', async (t) => {
  const far = join(directory, 'far.jsonl')
  const about = '"connection":1,"service":7'
  writeFileSync(
    far,
    `{"coroipc":"recording","version":1}
{"kind":"request","t":0,"request":1,"id":0,"text":"x",${about}}
{"kind":"answer","t":1,"request":1,"status":0,"bytes":1,"text":"y",${about}}
{"kind":"request","t":3e9,"request":2,"id":0,"text":"x",${about}}
`,
  )
  const args = ['replay', far, name, '--compare']
  const { code, stdout, stderr } = await coroipc(args, { kill: ['SIGINT', /another payload/] })
  t.equal(code, 1)
  t.match(stdout, /^1 requests in/m)
  t.equal(stderr, '')
})

t.test('what its client gave up is no difference', async (t) => {
  const given = join(directory, 'given-up.jsonl')
  const lines = [
    linesOf(file)[0],
    { t: 1, kind: 'request', connection: 1, service: 7, request: 1, id: 0, bytes: 1, text: 'a' },
    {
      t: 2,
      kind: 'answer',
      connection: 1,
      request: 1,
      status: 0,
      bytes: 0,
      code: 'ERR_COROIPC_TIMED_OUT',
    },
    { t: 3, kind: 'end', recorded: 2, lost: 0 },
  ]
  writeFileSync(given, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  const { code, stdout } = await coroipc(['replay', given, name, '--compare', '--json'])
  t.equal(code, 0)
  t.match(values(stdout), [{ requests: 1, uncompared: 1, differences: 0 }])
})

t.test('a second signal ends at once what waits for a server that is stopped', async (t) => {
  const stopped = newName()
  await using held = await serveInspected(stopped)
  const [program = '', ...before] = command
  for (const signals of [
    ['SIGTERM', 'SIGTERM'],
    ['SIGINT', 'SIGTERM'],
    ['SIGTERM', 'SIGINT'],
  ] as const) {
    const [first, second] = signals
    const out = join(directory, `${first}-${second}.jsonl`)
    const args = ['record', stopped, '-o', out, '--timeout', '600000']
    const child = spawn(program, [...before, ...args], { stdio: 'ignore' })
    const ended = once(child, 'close')
    await until('the header', () => linesOf(out).length > 0)
    held.signal('SIGSTOP')
    await until('the stop', () => /^State:\s*T/m.test(statusOf(held.pid)))
    child.kill(first)
    await until('its ending', () => signals.every((signal) => !isCaught(child.pid ?? 0, signal)))
    child.kill(second)
    t.same(await ended, [null, second], signals.join(', '))
    held.signal('SIGCONT')
  }
})

t.test('what cannot be', async (t) => {
  const silent = newName()
  await using _ = await serve(silent, true)
  t.match(await coroipc(['record', silent, '-o', '-']), { code: 1, stderr: /record: true/ })
  t.match(await coroipc(['record', name]), { code: 2, stderr: /--output is missing/ })
  t.match(await coroipc(['record', name, '-o', join(directory, 'no/such/folder')]), {
    code: 1,
    stderr: /ENOENT/,
  })
  const wrong = join(directory, 'wrong')
  for (const [content, message] of [
    ['', /is empty/],
    ['{}\n', /is no recording/],
    ['null\n', /is no recording/],
    ['{"coroipc":"recording","version":2}\n', /is of version 2/],
    ['{"coroipc":"recording","version":1}\n{"t":1,', /line 2: not JSON/],
    ...[
      'null',
      '{"kind":5}',
      '{"kind":"request","t":"soon","connection":1,"request":1,"service":7,"id":0}',
      '{"kind":"request","t":0,"connection":1,"request":1,"service":7,"id":"\\u001b[31m"}',
      '{"kind":"request","t":0,"connection":1,"request":1,"service":7,"id":0,"text":{}}',
      '{"kind":"answer","t":0,"connection":1,"request":1,"status":0,"bytes":"\\u001b[31m"}',
    ].map(
      (line) =>
        [`{"coroipc":"recording","version":1}\n${line}\n`, /line 2: is no line of a rec/] as const,
    ),
  ] as const) {
    writeFileSync(wrong, content)
    t.match(await coroipc(['replay', wrong, name]), { code: 1, stderr: message })
  }
  t.match(await coroipc(['replay', join(directory, 'none'), name]), { code: 1, stderr: /ENOENT/ })
  t.equal((await coroipc(['replay', file, name, '--speed', '0'])).code, 2)
  t.equal((await coroipc(['replay', file, newName()])).code, 3)
})

t.test(
  'a server that dies: what was recorded is whole, and the file says how it ended',
  async (t) => {
    const other = newName()
    const dying = await serveInspected(other)
    const cut = join(directory, 'cut.jsonl')
    const recording = coroipc(['record', other, '-o', cut])
    await until('the header', () => linesOf(cut).length > 0)
    await dying.kill()
    const { code, stderr } = await recording
    t.equal(code, 5)
    t.match(stderr, /has gone \(ERR_COROIPC_PEER_DEAD\)/)
    t.match(linesOf(cut).at(-1), {
      kind: 'end',
      code: 'ERR_COROIPC_PEER_DEAD',
    })
  },
)
