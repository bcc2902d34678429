// `coroipc call`: payloads in, answers out, by number and by name; exit codes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineService } from '@coroipc/contract'
import { implement } from '@coroipc/contract/server'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { z } from 'zod'
import { until } from '../support/wait.js'
import { coroipc, newName, serve, values } from './cli.js'

const name = newName()
const server = await serve(name, true)
t.teardown(() => server.end())
const call = (...args: string[]) => coroipc(['call', name, '7', ...args])

t.test('a payload from each source comes back', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-cli-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'payload')
  writeFileSync(file, 'from a file')
  t.equal((await call('0', '--text', 'grüße')).stdout, 'grüße\n')
  t.equal((await call('0', '--json', '{ "a": [1, null] }')).stdout, '{"a":[1,null]}\n')
  t.equal((await call('0', '--hex', '0x68 69')).stdout, 'hi\n')
  t.equal((await call('0', '--file', file)).stdout, 'from a file\n')
  const piped = ['call', name, '7', '0', '--file', '-']
  t.equal((await coroipc(piped, { input: 'piped' })).stdout, 'piped\n')
  t.equal((await call('0')).stdout, '', 'nothing is nothing')
  const both = await call('0', '--text', 'a', '--hex', '00')
  t.equal(both.code, 2)
  t.match(both.stderr, '--text and --hex')
  t.equal((await call('0', '--file', `${file}-not`)).code, 1)
  t.equal((await call('0', '--hex', '0')).code, 2)
})

t.test('an answer is shown as it is asked for', async (t) => {
  const raw = '\u0000\u0001\u0002A\ufffd'
  t.equal((await call('6')).stdout, raw, 'into a pipe bytes go as they are')
  t.equal((await call('6', '--output', 'raw')).stdout, raw)
  t.equal(
    (await call('6', '--output', 'hex')).stdout,
    `00000000  00 01 02 41 ff                                    |...A.|\n`,
  )
  const [record] = values((await call('6', '--output', 'json')).stdout)
  t.match(record, { status: 0, bytes: 5, hex: '00010241ff' })
  t.type(record?.['us'], 'number')
  const [described] = values((await call('0', '--json', '{"a":1}', '--output', 'json')).stdout)
  t.same(described?.['value'], { a: 1 })
  t.equal((await call('0', '--codec', 'utf8', '--json', '"text"')).stdout, 'text\n')
  t.equal((await call('0', '--codec', 'utf8', '--json', '1')).code, 2)
  const cloned = await call('0', '--codec', 'structured-clone', '--json', '{"a":[1]}')
  t.equal(cloned.stdout, '{"a":[1]}\n')
})

t.test('MessagePack is read without the records of msgpackr, which are compiled', async (t) => {
  const { pack } = await import('msgpackr')
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const asked = async (digits: string): Promise<unknown> => {
    const args = ['call', name, '7', '0', '--hex', digits, '--codec', 'msgpack', '--output', 'json']
    return values((await coroipc(args)).stdout)[0]
  }
  t.match(await asked(hex(pack({ a: 1 }))), { value: { a: 1 } })
  const record = `d47240${hex(pack(['a']))}01`
  t.match(await asked(record), { hex: record })
})

t.test("the application's own status is told, and is no failure", async (t) => {
  const { code, stdout, stderr } = await call('1', '--text', 'x')
  t.same({ code, stdout, stderr }, { code: 0, stdout: 'x!\n', stderr: 'status 42\n' })
  t.match(values((await call('1', '--output', 'json')).stdout), [{ status: 42, text: '!' }])
})

t.test('what a contract refuses has failed, and is not measured', async (t) => {
  const said = 'the request is not what the contract says: a.0: too big; \\x1b[31m'
  const refused = await call('10')
  t.match(refused, { code: 1, stdout: '' })
  t.match(refused.stderr, `${said} (ERR_COROIPC_REQUEST_INVALID)`)
  const { error } = values((await call('10', '--output', 'json')).stderr)[0] ?? {}
  t.match(error, { code: 'ERR_COROIPC_REQUEST_INVALID' })
  t.match(await coroipc(['hz', name, '7', '10', '--seconds', '1']), { code: 1, stdout: '' })
})

t.test('services and requests by name; what they are called is told by the server', async (t) => {
  const named = await coroipc(['call', name, 'cache', 'get', '--json', '[1]'])
  t.equal(named.stdout, '[1]\n')
  const near = await coroipc(['call', name, 'cahce', 'get'])
  t.equal(near.code, 2)
  t.match(near.stderr, "did you mean 'cache'?")
  const request = await coroipc(['call', name, 'cache', 'gte'])
  t.equal(request.code, 2)
  t.match(request.stderr, "did you mean 'get'?")
})

t.test('an inspection that was moved is found where it is said to be', async (t) => {
  const moved = newName()
  await using away = await serve(moved, { service: 9 })
  t.notOk(away.exited)
  t.equal((await coroipc(['call', moved, 'cache', 'get'])).code, 2)
  const args = ['call', moved, 'cache', 'get', '--json', '2', '--inspection', '9']
  t.equal((await coroipc(args)).stdout, '2\n')
})

t.test('a server that tells nothing is asked by number', async (t) => {
  const silent = newName()
  await using unnamed = await serve(silent)
  t.ok(unnamed.pid > 0)
  t.equal((await coroipc(['call', silent, '7', '0', '--text', 'hi'])).stdout, 'hi\n')
  const { code, stderr } = await coroipc(['call', silent, 'cache', 'get'])
  t.equal(code, 2)
  t.match(stderr, 'this server tells no names')
})

t.test('what a contract refuses is a failure, in words', async (t) => {
  const typed = newName()
  const numbers = z.object({ a: z.number(), b: z.number() })
  const contract = defineService({
    id: 7,
    requests: { add: { id: 0, request: numbers, response: z.number() } },
  })
  await using typing = new Server()
  typing.addService(implement(contract, { handlers: { add: ({ a, b }) => a + b } }))
  // By no contract, with a status that only they may use.
  typing.addService({ id: 8, handlers: { 0: () => ({ status: -0x80000000, payload: '[{}]' }) } })
  await typing.listen(typed)
  const add = (...args: string[]) => coroipc(['call', typed, '7', '0', ...args])
  t.equal((await add('--json', '{ "a": 1, "b": 2 }')).stdout, '3\n')
  const wrong = ['--json', '{ "a": 1, "b": "2" }']
  const { code, stdout, stderr } = await add(...wrong)
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(
    stderr,
    /^coroipc: .*contract says: b: .*string.* \(ERR_COROIPC_REQUEST_INVALID\)\n {2}advice/,
  )
  const { error } = JSON.parse((await add(...wrong, '--output', 'json')).stderr)
  t.equal(error.code, 'ERR_COROIPC_REQUEST_INVALID')
  const own = await coroipc(['call', typed, '8', '0'])
  t.equal(own.code, 0)
  t.match(own.stderr, 'status -2147483648')
})

t.test('one way: sent before it ends, by option or because the description says so', async (t) => {
  const sent = (): Promise<string[]> => server.run(({ state }) => state.sent as string[])
  t.same(await call('4', '--text', 'by option', '--one-way'), { code: 0, stdout: '', stderr: '' })
  t.equal((await coroipc(['call', name, 'cache', 'put', '--json', '"described"'])).code, 0)
  t.equal((await call('4', '--text', 'three', '--one-way', '--repeat', '3')).code, 0)
  const expected = ['by option', '"described"', 'three', 'three', 'three']
  await until('all five', async () => (await sent()).length === 5)
  t.same(await sent(), expected)
})

t.test('asked again and again, it tells the times', async (t) => {
  for (const sync of [[], ['--sync']]) {
    const { code, stdout, stderr } = await call('0', '--text', 'x', '--repeat', '50', ...sync)
    t.equal(code, 0)
    t.equal(stdout, 'x\n', 'the last answer')
    t.match(stderr, /^50 calls in .* a second; p50 .*, p99 .*, longest /)
  }
  const [record] = values((await call('8', '--repeat', '20', '--output', 'json')).stdout)
  t.match(record, { calls: 20, latency: { count: 20 } })
})

t.test('exit codes tell what went wrong', async (t) => {
  t.equal((await call('2')).code, 1, 'the handler threw')
  t.equal((await call('99')).code, 1, 'no handler')
  t.equal((await coroipc(['call', name, '99', '0'])).code, 3, 'no service')
  const late = await call('3', '--timeout', '300')
  t.equal(late.code, 4, 'nothing came in time')
  t.match(late.stderr, /ERR_COROIPC_TIMED_OUT/)
  const mortal = newName()
  await using victim = await serve(mortal)
  t.notOk(victim.exited)
  const dead = await coroipc(['call', mortal, '7', '9'])
  t.equal(dead.code, 5, 'the server died')
  t.match(
    dead.stderr,
    /ERR_COROIPC_UNKNOWN_OUTCOME.*\n {2}because: .*ERR_COROIPC_PEER_DEAD.*\n {2}advice: /,
  )
})
