// Dispatches: by event, by iterator, blocking, leased; back-pressure and flow control.
import { connect, connectSync, type Connection, type Message } from '@coroipc/ipcc'
import t from 'tap'
import { startServer, text, until } from './harness.js'
import { sharedMemory } from '../support/shared-memory.js'

const server = await startServer()
t.teardown(() => server.kill())

const open = (options?: object): Promise<Connection> =>
  connect(server.name, { service: 7, ...options })
const order = (count: number, bytes = 8, id = 3): string => JSON.stringify({ count, bytes, id })
const number = ({ payload }: Message): number => Buffer.from(payload).readUInt32LE()

t.test('a blocking receive overtakes nobody', async (t) => {
  await using connection = await open()
  const seen: number[] = []
  let blocked = 0
  const listener = (message: Message): void => {
    seen.push(number(message))
    if (connection.dispatchSync(50) !== undefined) blocked = Number.NaN // there is a listener
    if (seen.length % 7 !== 3) return
    connection.off('dispatch', listener)
    const next = connection.dispatchSync(0)
    if (next !== undefined) seen.push(number(next))
    if (next !== undefined) blocked++
    connection.on('dispatch', listener)
  }
  connection.on('dispatch', listener)
  await connection.request(9, order(2000))
  await until(() => seen.length === 2000)
  t.ok(
    seen.every((each, i) => each === i),
    'each in its place',
  )
  t.ok(blocked >= 0, `${blocked} of them by a blocking receive`)
})

t.test('events come in order, with their ids', async (t) => {
  await using connection = await open()
  const seen: Message[] = []
  connection.on('dispatch', (message) => seen.push(message))
  t.equal(text(await connection.request(9, order(1000))), '1000')
  await until(() => seen.length === 1000)
  t.ok(seen.every((message, i) => number(message) === i && message.id === 3))
  t.ok(seen.every(({ sequence }, i) => i === 0 || sequence > (seen[i - 1]?.sequence ?? 0)))
})

t.test('without a listener they stay for dispatchSync', async (t) => {
  await using connection = await open()
  await connection.request(9, order(10))
  for (let i = 0; i < 10; i++) t.equal(number(connection.dispatchSync(1000) as Message), i)
  t.equal(connection.dispatchSync(0), undefined)
  t.equal(connection.dispatchSync(5), undefined)
  t.equal(connection.dispatchSync({ timeoutMs: 5 }), undefined)
  await connection.request(9, order(3))
  const seen: Message[] = []
  connection.once('dispatch', (message) => seen.push(message))
  await until(() => seen.length === 1)
  connection.once('dispatch', (message) => seen.push(message))
  await until(() => seen.length >= 2)
  t.equal(number(seen[0] as Message), 0)
  t.throws(() => connection.dispatchSync(-1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
})

t.test('sizes around every border arrive whole', async (t) => {
  await using connection = await open()
  for (const bytes of [4, 2048, 2049, 8191, 8192, 70000, 300000, 2 << 20]) {
    await connection.request(9, order(3, bytes))
    for (let i = 0; i < 3; i++) {
      const message = connection.dispatchSync(5000) as Message
      t.equal(message.payload.length, bytes)
      t.equal(number(message), i)
    }
  }
})

t.test('an iterator gets them all, however slow it is', async (t) => {
  await using connection = await open({ dispatchRingBytes: 65536 })
  const asked = connection.request(9, order(5000, 100))
  let count = 0
  for await (const message of connection.dispatches()) {
    if (number(message) !== count) throw new Error('out of order')
    if (count++ % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    if (count === 5000) break
  }
  t.equal(text(await asked), '5000')
  t.equal(connection.dispatchSync(0), undefined)
})

t.test('several iterators and listeners each get every message', async (t) => {
  await using connection = await open()
  let heard = 0
  connection.on('dispatch', () => heard++)
  const read = async (): Promise<number> => {
    let count = 0
    for await (const _ of connection.dispatches()) if (++count === 100) break
    return count
  }
  const both = Promise.all([read(), read()])
  await connection.request(9, order(100))
  t.same(await both, [100, 100])
  t.equal(heard, 100)
})

t.test('a signal ends an iterator', async (t) => {
  await using connection = await open()
  const controller = new AbortController()
  const reason = new Error('enough')
  setTimeout(() => controller.abort(reason), 10)
  const read = async (): Promise<void> => {
    for await (const _ of connection.dispatches({ signal: controller.signal }));
  }
  await t.rejects(read(), { code: 'ERR_COROIPC_ABORTED', cause: reason })
  await t.rejects(connection.dispatches({ signal: controller.signal }).next(), {
    code: 'ERR_COROIPC_ABORTED',
  })
})

t.test('an iterator ends with its connection', async (t) => {
  const connection = await open()
  const iterator = connection.dispatches()
  const next = iterator.next()
  await connection.close()
  t.same(await next, { done: true, value: undefined })
  t.same(await iterator.next(), { done: true, value: undefined })
  t.same(await connection.dispatches().next(), { done: true, value: undefined })
})

t.test('an iterator that is disposed of gives back what it held', async (t) => {
  await using connection = await open()
  {
    await using messages = connection.dispatches()
    await connection.request(9, order(3))
    const first = await messages.next()
    t.equal(first.done === true ? -1 : number(first.value), 0)
  }
  const rest: number[] = []
  for await (const message of connection.dispatches()) if (rest.push(number(message)) === 2) break
  t.same(rest, [1, 2])
})

t.test(
  'an iterator that is left lying stalls the others when it is full, until it is ended',
  async (t) => {
    await using connection = await open({ dispatchRingBytes: 4096 })
    const left = connection.dispatches()
    let heard = 0
    connection.on('dispatch', () => heard++)
    const taken = Number(text(await connection.request(9, order(2000, 1000))))
    t.ok(taken > 1024)
    await until(() => heard >= 1024)
    await until(() => connection.flowControl)
    t.ok(heard < taken)
    await left.return()
    await until(() => heard === taken)
    t.equal(heard, taken)
  },
)

t.test('flow control is seen, and ends when they are read', async (t) => {
  await using connection = await open({ dispatchRingBytes: 4096 })
  t.equal(connection.flowControl, false)
  const states: boolean[] = []
  connection.on('flowControl', (on) => states.push(on))
  const taken = Number(text(await connection.request(9, order(2000, 1000))))
  await until(() => connection.flowControl)
  await until(() => states.length === 1)
  for (let i = 0; i < taken; i++)
    if (number(connection.dispatchSync(5000) as Message) !== i) throw new Error('lost')
  await until(() => !connection.flowControl)
  await until(() => states.length === 2)
  t.same(states, [true, false])
})

t.test('a blocking request meanwhile loses none', async (t) => {
  using connection = connectSync(server.name, { service: 7 })
  for (let round = 0; round < 20; round++) {
    t.equal(text(connection.requestSync(9, order(5, 3000))), '5')
    t.equal(text(connection.requestSync(0, 'x')), 'x')
    for (let i = 0; i < 5; i++) t.equal(number(connection.dispatchSync(5000) as Message), i)
  }
})

t.test('a lease is one at a time, and the next is behind it', sharedMemory, async (t) => {
  for (const [service, trustServer] of [
    [7, false],
    [7, true],
    [8, true],
  ] as const) {
    using connection = connectSync(server.name, { service, trustServer })
    connection.requestSync(9, order(3, 500))
    const lease = connection.dispatchSync({ timeoutMs: 1000, inPlace: true })
    t.equal(lease?.inPlace, trustServer)
    t.equal(lease?.id, 3)
    t.equal(lease?.payload.length, 500)
    t.throws(() => connection.dispatchSync({ timeoutMs: 0, inPlace: true }), {
      code: 'ERR_COROIPC_LEASE_HELD',
    })
    lease?.[Symbol.dispose]()
    lease?.[Symbol.dispose]()
    t.equal(lease?.payload.length, 0)
    t.equal(number(connection.dispatchSync(1000) as Message), 1)
    using last = connection.dispatchSync({ timeoutMs: 1000, inPlace: true })
    t.equal(Buffer.from(last?.payload ?? []).readUInt32LE(), 2)
  }
})

t.test('by position: in order, whole, in memory that is used again', async (t) => {
  await using connection = await open({ dispatchRingBytes: 65536 })
  const sizes = [4, 100, 8191, 8192, 70000]
  const places = new Map<Uint8Array, number>()
  let next = 0
  let length = 0
  let wrong = 0
  const stop = connection.transientDispatches((bytes, offset, count, id) => {
    const at = Buffer.from(bytes.buffer, bytes.byteOffset + offset, count)
    if (at.readUInt32LE() !== next || count !== length || id !== 3) wrong++
    next++
    places.set(bytes, (places.get(bytes) ?? 0) + 1)
  })
  for (const bytes of sizes) {
    next = 0
    length = bytes
    await connection.request(9, order(50, bytes))
    await until(() => next === 50)
  }
  t.equal(wrong, 0)
  next = 0
  length = 100
  places.clear()
  await connection.request(9, order(5000, 100))
  await until(() => next === 5000)
  // 5000 messages of 104 bytes would fill eight slabs.
  t.ok(places.size < 4, `${places.size} pieces of memory`)
  stop()
  await connection.request(9, order(2))
  t.equal(number(connection.dispatchSync(1000) as Message), 0, 'when it is over they stay')
  stop()
})

t.test('by position: what is kept for ever stays what it was', async (t) => {
  await using connection = await open()
  const answers: Uint8Array[] = []
  let count = 0
  const stop = connection.transientDispatches(() => {
    // An answer lies in the same memory, and is the caller's own.
    if (count++ % 3 === 0) answers.push(connection.requestSync(0, `answer ${answers.length}`))
  })
  await connection.request(9, order(300, 64))
  await until(() => count === 300)
  t.equal(answers.length, 100)
  t.ok(answers.every((answer, i) => text(answer) === `answer ${i}`))
  stop()
})

t.test('by position: one listener, no other reader, and it may throw', async (t) => {
  await using connection = await open()
  for (const wrong of [undefined, 7, {}])
    t.throws(() => connection.transientDispatches(wrong as never), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
    })
  await connection.request(9, order(2))
  const seen: number[] = []
  const errors: unknown[] = []
  const caught = (error: unknown): unknown => errors.push(error)
  process.once('uncaughtException', caught)
  let others = 0
  connection.on('dispatch', () => others++)
  await until(() => others === 2)
  const stop = connection.transientDispatches((bytes, offset) => {
    seen.push(Buffer.from(bytes.buffer, bytes.byteOffset + offset).readUInt32LE())
    if (seen.length === 2) throw new Error('of the listener')
    if (seen.length === 4) stop()
  })
  t.throws(() => connection.transientDispatches(() => {}), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
  await connection.request(9, order(6))
  await until(() => others === 4)
  t.strictSame(seen, [0, 1, 2, 3], 'each message once')
  t.match(errors, [{ message: 'of the listener' }])
  process.off('uncaughtException', caught)
})

t.test(
  'by position: memory is not turned back in another slab than the one it was lent from',
  async (t) => {
    await using connection = await open()
    const answers: Uint8Array[] = []
    let done = false
    // Calls until the slab is another one and stands exactly where this one stood.
    const stop = connection.transientDispatches((bytes, offset, length) => {
      const end = offset + ((length + 7) & ~7)
      for (;;) {
        const answer = connection.requestSync(0, Buffer.alloc(8, 1))
        if (answer.buffer === bytes.buffer) continue
        answers.push(answer)
        if (answer.byteOffset + 8 === end) break
      }
      done = true
    })
    // One way: an answer beside it would be something that is kept.
    connection.send(9, order(1, 64))
    await until(() => done)
    for (let i = 0; i < 16; i++) connection.requestSync(0, Buffer.alloc(8, 2))
    t.ok(answers.length >= 8)
    t.ok(
      answers.every((answer) => answer.every((byte) => byte === 1)),
      'answers are the caller’s own',
    )
    stop()
  },
)
