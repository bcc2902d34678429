// The C client of test/programs/interop-client.c and a Node.js server in this process: C waits, so nothing blocks here.
import { IpcError, type Request, Server } from '@coroipc/ipcs'
import t from 'tap'
import { Program } from '../support/program.js'
import { freshName, left, runtimeDirectory } from '../support/runtime.js'
import { text } from '../support/wait.js'
import { sharedMemory } from '../support/shared-memory.js'

const directory = runtimeDirectory(t)
const name = freshName()
const reasons: string[] = []
const server = new Server()
server.on('error', () => {})
const waiting: Request[] = []
server.addService({
  id: 5,
  trust: () => true,
  onDisconnect: (_, reason) => void reasons.push(reason.code),
  admit: ({ id }) => (id === 20 ? 'retry' : id === 21 ? 'refuse' : 'accept'),
  handlers: {
    0: (request) => request.payload,
    1: (request, connection) => {
      for (let i = 0; i < Number(text(request.payload)); i++)
        connection.dispatch(Uint8Array.of(i, 0, 0, 0), { id: 5 })
    },
    2: (request) =>
      `${request.payload.length}, sum ${request.payload.reduce((sum, byte) => sum + byte, 0)}, ` +
      `in place ${request.inPlace}`,
    3: (_, connection) => {
      const buffer = connection.allocate(70_000)
      buffer.bytes.fill(2)
      return buffer
    },
    4: (request) => {
      request.defer()
      waiting.push(request)
    },
    20: () => 'never',
    21: () => 'never',
    23: () => {
      throw new Error('on purpose')
    },
    24: async () => {
      throw new Error('on purpose')
    },
    25: () => 25 as unknown as string,
    26: () => new Uint8Array(2 << 20),
    27: () => {
      throw Object.assign(new Error(), { name: 'IpcError', code: 'ERR_COROIPC_RETRY' })
    },
    28: () => ({ status: 1 << 30, payload: 'x' }),
    29: async () => ({ status: -1 }),
  },
})
await server.listen(name)
t.teardown(() => server.close({ timeoutMs: 0 }))

async function client(what: string, service: string = '5'): Promise<string[]> {
  const program = Program.start('interop-client', name, service, what)
  t.equal(await program.end(), 0, `exit code of ${what}`)
  return program.lines
}

t.test('every size around the edges of records, rings and the maximum comes back', async (t) => {
  t.strictSame(await client('sizes'), ['sizes: 14 of 14, one over: TOO_LARGE'])
})

t.test('what a handler does, and its absence, have codes that C maps to cs_error_t', async (t) => {
  t.strictSame(await client('codes'), [
    '20: RETRY 0 cs_error 6',
    '21: REFUSED 0 cs_error 7',
    '22: NO_HANDLER 0 cs_error 19',
    '23: HANDLER_FAILED 0 cs_error 21',
    '24: HANDLER_REJECTED 0 cs_error 21',
    '25: ANSWER_INVALID 0 cs_error 21',
    '26: ANSWER_TOO_LARGE 0 cs_error 26',
    '27: RETRY 0 cs_error 6',
    '28: OK 1073741824 cs_error 1',
    '29: OK -1 cs_error 1',
  ])
})

t.test('dispatches wake poll(2) on the connection and come in order', async (t) => {
  t.strictSame(await client('dispatches'), ['dispatches: fd 1, 9 in order 1, then AGAIN'])
})

t.test('zero copy both ways, in place on both sides', sharedMemory, async (t) => {
  t.strictSame(await client('zero-copy'), [
    'zero-copy: asked 100000, sum 300000, in place true, answered 70000 bytes in a segment 1, sum 140000',
  ])
})

const emulated = process.env['COROIPC_TEST_EMULATED'] !== undefined
const wiped = emulated ? { skip: 'qemu-user says yes to MADV_WIPEONFORK and does nothing' } : {}
t.test('a forked child is told so and its parent goes on', wiped, async (t) => {
  t.strictSame(await client('forked'), ['forked child: FORKED', 'its parent: OK'])
})

t.test('an unknown service is refused before memory exists', async (t) => {
  t.strictSame(await client('sizes', '6'), ['connect: NO_SERVICE, peer version 0'])
})

t.test('a C client that is killed is reported dead; one that leaves, disconnected', async (t) => {
  t.ok(reasons.length >= 4 && reasons.every((code) => code === 'ERR_COROIPC_DISCONNECTED'))
  reasons.length = 0
  const program = Program.start('interop-client', name, '5', 'waits')
  await program.line('waiting')
  while (waiting.length === 0) await new Promise(setImmediate)
  const request = waiting.pop() as Request
  const aborted = new Promise((resolve) =>
    request.signal.addEventListener('abort', () => resolve(request.signal.reason)),
  )
  await program.kill()
  const reason = await aborted
  t.ok(IpcError.is(reason, 'ERR_COROIPC_PEER_DEAD'))
  while (reasons.length === 0) await new Promise(setImmediate)
  t.strictSame(reasons, ['ERR_COROIPC_PEER_DEAD'])
  t.equal(request.respond('too late'), false)
})

t.test(
  'a server that closes in order: a C client in a call learns it, with its outcome',
  async (t) => {
    const program = Program.start('interop-client', name, '5', 'waits')
    await program.line('waiting')
    while (waiting.length === 0) await new Promise(setImmediate)
    await server.close({ timeoutMs: 0 })
    t.equal(await program.end(), 0)
    t.strictSame(program.lines.slice(1), [
      'waited: UNKNOWN_OUTCOME',
      'state: DISCONNECTED',
      'afterwards: DISCONNECTED',
    ])
    t.strictSame(left(directory), [])
  },
)
