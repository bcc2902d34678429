// Whoever transfers the buffer of a payload takes the others in it away. Those that lay in the same memory and were to come
// are told at once, by name, and whatever comes later is as ever. Since Node.js 24 nobody can: there the attempt throws.
import { setFlagsFromString } from 'node:v8'
import { runInThisContext } from 'node:vm'
import { markAsUntransferable } from 'node:worker_threads'
import { connect, IpcError, type SharedBuffer } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, until } from './harness.js'

/** As `ArrayBuffer.prototype.transfer` of Node.js 22 does; Node.js 20 has no other way than V8's own. */
function transfer(buffer: ArrayBufferLike): void {
  const moved = buffer as ArrayBuffer & { transfer?(): ArrayBuffer }
  if (moved.transfer !== undefined) moved.transfer()
  else detach(moved)
}
const possible = ((): boolean => {
  const marked = new ArrayBuffer(8) as ArrayBuffer & { transfer?(): ArrayBuffer }
  markAsUntransferable(marked)
  try {
    marked.transfer?.()
    return true
  } catch {
    return false
  }
})()
setFlagsFromString('--allow-natives-syntax')
const detach = runInThisContext('(buffer) => %ArrayBufferDetach(buffer)') as (
  buffer: ArrayBuffer,
) => void

for (const bytes of [64, 65536]) {
  t.test(
    `${bytes} bytes`,
    { skip: !possible && 'this Node.js transfers no marked buffer' },
    async (t) => {
      const server = new Server()
      const lost: unknown[] = []
      let taken = 0
      server.on('error', (error) => lost.push(error))
      server.addService({
        id: 1,
        handlers: {
          0: ({ payload }) => payload,
          // The first of a batch takes the memory of all.
          1: ({ payload }) => {
            if (taken++ === 0) transfer(payload.buffer)
            return 'here'
          },
          2: ({ payload }, connection) => {
            for (let i = 0; i < 4; i++) connection.dispatch(payload, { id: i })
          },
        },
        transientHandlers: {
          3: (memory) => {
            if (taken++ === 0) transfer(memory.buffer)
            return 'here'
          },
        },
      })
      const name = freshName()
      await server.listen(name)
      const client = await connect(name, { service: 1, requestTimeoutMs: 5000 })
      const payload = Buffer.alloc(bytes, 7)
      /** One after the other, so that what is large has a slab. */
      const warm = async (): Promise<void> => {
        let wrong = 0
        for (let i = 0; i < 40; i++) if (!payload.equals(await client.request(0, payload))) wrong++
        t.equal(wrong, 0, 'all as ever')
      }
      const answers = async (id: number): Promise<string[]> => {
        const all = Array.from({ length: 8 }, () => client.request(id, payload))
        const settled = await Promise.allSettled(all)
        return settled.map((one) =>
          one.status === 'fulfilled' ? Buffer.from(one.value).toString() : String(one.reason.code),
        )
      }

      await t.test('answers', async (t) => {
        await warm()
        const codes: string[] = []
        let gone = false
        for (let i = 0; i < 8; i++)
          client.request(0, payload, (error, answer) => {
            if (error !== null) {
              t.ok(IpcError.is(error))
              t.match(error.cause, { name: 'TypeError', message: /was transferred/ })
              codes.push(error.code)
            } else {
              t.equal(answer?.length, bytes)
              codes.push('bytes')
              if (!gone && answer !== undefined) transfer(answer.buffer)
              gone = true
            }
          })
        await until(() => codes.length === 8)
        t.equal(codes[0], 'bytes')
        t.equal(codes[1], 'ERR_COROIPC_ABORTED', 'those behind it were in the same memory')
        t.notMatch(codes, /TIMED_OUT/)
        await warm()
      })

      await t.test('requests', async (t) => {
        await warm()
        taken = 0
        const told = await answers(1)
        t.equal(told[0], 'here')
        t.equal(told[1], 'ERR_COROIPC_HANDLER_FAILED')
        t.equal(
          lost.length,
          told.filter((one) => one !== 'here').length,
          'the server is told of each',
        )
        t.match(lost[0], {
          code: 'ERR_COROIPC_HANDLER_FAILED',
          cause: { message: /was transferred/ },
        })
        await warm()
      })

      if (bytes < 8192)
        await t.test('requests that are lent', async (t) => {
          await warm()
          taken = 0
          const told = await answers(3)
          t.equal(told[0], 'here')
          t.equal(told[1], 'ERR_COROIPC_HANDLER_FAILED', 'nobody is lent memory that is not there')
          await warm()
        })

      await t.test('dispatches', async (t) => {
        await warm()
        const seen: number[] = []
        const missed: unknown[] = []
        client.on('error', (error) => missed.push(error))
        client.on('dispatch', ({ id, payload: got }) => {
          seen.push(id)
          if (id === 0) transfer(got.buffer)
        })
        await client.request(2, payload).catch(() => {})
        await until(() => seen.length + missed.length === 4)
        t.equal(seen[0], 0)
        t.match(missed[0], { code: 'ERR_COROIPC_ABORTED', cause: { message: /was transferred/ } })
        await warm()
      })
      await client.close()
      await server.close({ timeoutMs: 100 })
    },
  )
}

t.test(
  'a payload whose buffer cannot be transferred',
  { skip: possible && 'this Node.js transfers it' },
  async (t) => {
    const server = new Server()
    server.addService({ id: 1, handlers: { 0: ({ payload }) => payload } })
    const name = freshName()
    await server.listen(name)
    const client = await connect(name, { service: 1 })
    let shared = 0
    for (const bytes of [64, ...Array<number>(20).fill(65536)]) {
      const payload = Buffer.alloc(bytes, 7)
      const answer = await client.request(0, payload)
      if (answer.buffer.byteLength === bytes) continue // alone in it: the first large ones
      shared++
      t.throws(() => transfer(answer.buffer), TypeError)
      t.ok(payload.equals(answer), 'it is still there')
    }
    t.ok(shared >= 10)
    await client.close()
    await server.close({ timeoutMs: 100 })
  },
)

for (const trusted of [true, false])
  t.test(
    `a buffer whose memory was transferred away is not sent, ${trusted ? 'with' : 'without'} trust`,
    async (t) => {
      const server = new Server()
      const errors: IpcError[] = []
      server.on('error', (error) => errors.push(error))
      const emptied = (connection: { allocate(bytes: number): SharedBuffer }): SharedBuffer => {
        const buffer = connection.allocate(100_000)
        transfer(buffer.bytes.buffer)
        return buffer
      }
      server.addService({
        id: 1,
        trust: () => trusted,
        handlers: {
          0: ({ payload }) => payload.slice(),
          1: (_, connection) => emptied(connection),
          2: (request, connection) => {
            request.respond(emptied(connection))
          },
          3: (_, connection) => {
            connection.dispatch(emptied(connection))
          },
        },
      })
      const name = freshName()
      await server.listen(name)
      const client = await connect(name, { service: 1, trustServer: trusted })
      const wrong = {
        name: 'TypeError',
        code: 'ERR_COROIPC_INVALID_ARGUMENT',
        message: /^payload: expected a buffer whose memory was not transferred away/,
      }
      const buffer = await client.allocate(100_000)
      const part = buffer.part(10, 20)
      t.equal((await client.request(0, buffer)).length, 100_000)
      transfer(buffer.bytes.buffer)
      for (const payload of [buffer, part]) {
        await t.rejects(client.request(0, payload), wrong)
        t.throws(() => client.request(0, payload, () => {}), wrong)
        t.throws(() => client.requestSync(0, payload), wrong)
        t.throws(() => client.send(0, payload), wrong)
      }
      buffer.release()
      await t.rejects(client.request(1), { code: 'ERR_COROIPC_ANSWER_INVALID' })
      for (const id of [2, 3])
        await t.rejects(client.request(id), { code: 'ERR_COROIPC_HANDLER_FAILED' })
      t.match(errors, [{ cause: wrong }, { cause: wrong }, { cause: wrong }])
      t.equal((await client.request(0, 'as ever')).length, 7)
      await client.close()
      await server.close({ timeoutMs: 100 })
    },
  )
