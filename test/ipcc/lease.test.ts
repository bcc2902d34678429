// Leases of answers and zero-copy buffers, with and without trust: the same calls, the same results.
import { type AnswerTooLarge, connect, connectSync, Lease, SharedBuffer } from '@coroipc/ipcc'
import t from 'tap'
import { startServer, text, until } from './harness.js'
import { sharedMemory } from '../support/shared-memory.js'

const server = await startServer()
t.teardown(() => server.kill())

for (const [service, trustServer, title] of [
  [7, false, 'without trust'],
  [8, true, 'with trust on both sides'],
  [8, false, 'trusted by the server only'],
  [7, true, 'trusting the server only'],
] as const) {
  t.test(title, trustServer ? sharedMemory : {}, async (t) => {
    await using connection = await connect(server.name, { service, trustServer })

    const allocated = async (
      bytes: number,
      value: number,
      by = connection,
    ): Promise<SharedBuffer> => {
      const buffer = await by.allocate(bytes)
      buffer.bytes.fill(value)
      return buffer
    }

    await t.test('a leased answer is valid until it is disposed of', async (t) => {
      const lease = connection.requestSync(4, 'hello', { inPlace: true })
      t.ok(lease instanceof Lease)
      t.equal(lease.inPlace, trustServer)
      t.equal(lease.status, -7)
      t.equal(lease.id, 4)
      t.equal(text(lease.payload), 'hello')
      t.throws(() => connection.requestSync(0, 'x', { inPlace: true }), {
        code: 'ERR_COROIPC_LEASE_HELD',
      })
      t.equal(text(connection.requestSync(0, 'other')), 'other', 'reading goes on past it')
      t.equal(connection.requestSync(17, '40000').length, 40000, 'large ones too')
      t.equal(text(await connection.request(0, 'other')), 'other')
      t.equal(text(lease.payload), 'hello')
      const { payload } = lease
      lease.release()
      lease.release()
      lease[Symbol.dispose]()
      t.equal(lease.payload.length, 0)
      if (trustServer) t.equal(payload.length, 0, 'the view is detached')
      using again = connection.requestSync(0, 'again', { inPlace: true })
      t.equal(text(again.payload), 'again')
    })

    await t.test(
      'beside a lease an answer is copied where it should go, and never lost',
      async (t) => {
        using lease = connection.requestSync(0, 'held', { inPlace: true })
        const into = new Uint8Array(8)
        const filled = connection.requestSync(0, 'fits', { into })
        t.equal(filled.buffer, into.buffer)
        t.equal(text(filled), 'fits')
        const full = connection.requestSync(4, 'full', { into, full: true })
        t.equal(full.payload.buffer, into.buffer)
        t.match(full, { status: -7, payload: Buffer.from('full') })
        for (const bytes of [9, 3000, 100000]) {
          try {
            connection.requestSync(17, String(bytes), { into })
            t.fail('it does not fit')
          } catch (error) {
            const { code, answer } = error as AnswerTooLarge
            t.equal(code, 'ERR_COROIPC_TOO_LARGE')
            t.equal(answer.length, bytes)
            t.ok(
              answer.every((byte) => byte === 1),
              'the whole answer',
            )
          }
        }
        t.equal(text(into.subarray(0, 4)), 'full', 'what does not fit changes nothing')
        t.equal(text(lease.payload), 'held')
      },
    )

    await t.test('leases of every size', async (t) => {
      for (const bytes of [0, 1, 5000, 100000, 1 << 20]) {
        using lease = connection.requestSync(17, String(bytes), { inPlace: true })
        t.equal(lease.payload.length, bytes)
        t.ok(lease.payload.every((byte) => byte === 1))
        using later = await connection.request(17, String(bytes), { inPlace: true })
        t.equal(later.payload.length, bytes)
        t.ok(later.payload.every((byte) => byte === 1))
      }
    })

    await t.test('a failed request leaves no lease', async (t) => {
      t.throws(() => connection.requestSync(2, 'x', { inPlace: true }), {
        code: 'ERR_COROIPC_HANDLER_FAILED',
      })
      using lease = connection.requestSync(0, 'x', { inPlace: true })
      t.equal(text(lease.payload), 'x')
    })

    await t.test('a buffer is filled, sent and used again', async (t) => {
      using buffer = await connection.allocate(100000)
      t.ok(buffer instanceof SharedBuffer)
      t.equal(buffer.inPlace, trustServer)
      t.equal(buffer.bytes.length, 100000)
      for (let round = 1; round < 4; round++) {
        buffer.bytes.fill(round)
        const seen = JSON.parse(text(await connection.request(13, buffer))) as object
        t.same(seen, { inPlace: service === 8 && trustServer, bytes: 100000, last: round })
        const sync = JSON.parse(text(connection.requestSync(13, buffer))) as object
        t.same(sync, seen)
      }
      const part = JSON.parse(text(connection.requestSync(13, buffer.part(5, 10)))) as object
      t.match(part, { bytes: 10, last: 3 })
      t.equal(text(connection.requestSync(0, buffer.part(99990))).length, 10)
      t.throws(() => buffer.part(1, 100000), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
      t.throws(() => buffer.part(-1), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
      buffer.release()
      buffer[Symbol.dispose]()
      t.equal(buffer.bytes.length, 0)
      t.equal(buffer.disposed, true)
      t.throws(() => connection.requestSync(13, buffer), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
      await t.rejects(connection.request(13, buffer), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
    })

    await t.test('a buffer that is released while its request waits is sent', async (t) => {
      // More rounds than there can be buffers at once: what was given up or sent is given back.
      for (let round = 0; round < 40; round++) {
        const buffers = [
          await allocated(5000, round),
          await allocated(5000, round),
          await allocated(5000, round),
        ] as const
        const before = Array.from({ length: connection.requestsInFlight }, () =>
          connection.request(0, 'x'),
        )
        const giveUp = new AbortController()
        const whole = connection.request(13, buffers[0])
        const part = connection.request(13, buffers[1].part(10, 20))
        const never = connection.request(13, buffers[2], { signal: giveUp.signal })
        for (const buffer of buffers) {
          buffer.release()
          t.ok(buffer.disposed)
          t.throws(() => connection.send(13, buffer), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
        }
        giveUp.abort()
        await t.rejects(never, { code: 'ERR_COROIPC_ABORTED', sent: false })
        const inPlace = trustServer && service === 8
        t.same(JSON.parse(text(await whole)), { inPlace, bytes: 5000, last: round })
        t.same(JSON.parse(text(await part)), { inPlace, bytes: 20, last: round })
        await Promise.all(before)
      }
      const other = await connect(server.name, { service, trustServer })
      const buffer = await allocated(5000, 1, other)
      const waits = Array.from({ length: other.requestsInFlight }, () => other.request(8))
      const last = other.request(13, buffer)
      buffer.release()
      await other.close()
      await t.rejects(last, { code: 'ERR_COROIPC_DISCONNECTED', sent: false })
      t.ok((await Promise.allSettled(waits)).every(({ status }) => status === 'rejected'))
    })

    await t.test('many buffers one after the other, and a bound on those at once', async (t) => {
      for (let i = 0; i < 100; i++) {
        using buffer = connection.allocateSync(8192)
        buffer.bytes.fill(i)
        t.match(JSON.parse(text(connection.requestSync(13, buffer))), { bytes: 8192, last: i })
      }
      const buffers: SharedBuffer[] = []
      try {
        for (let i = 0; i < 30; i++) buffers.push(connection.allocateSync(8192))
        t.equal(trustServer, false, 'private memory is not limited')
      } catch (error) {
        t.equal((error as { code: string }).code, 'ERR_COROIPC_LIMIT')
        await t.rejects(connection.allocate(8192), { code: 'ERR_COROIPC_LIMIT' })
      }
      for (const buffer of buffers) buffer[Symbol.dispose]()
      using again = await connection.allocate(8192)
      t.equal(again.byteLength, 8192)
    })

    await t.test('an answer in a buffer', async (t) => {
      for (const bytes of [10, 3000, 200000]) {
        t.ok(connection.requestSync(12, String(bytes)).every((byte) => byte === 42))
        const owned = await connection.request(12, String(bytes))
        t.equal(owned.length, bytes)
        using lease = connection.requestSync(12, String(bytes), { inPlace: true })
        t.equal(lease.payload.length, bytes)
        t.ok(lease.payload.every((byte) => byte === 42))
        using later = await connection.request(12, String(bytes), { inPlace: true })
        t.equal(later.payload.length, bytes)
        t.ok(later.payload.every((byte) => byte === 42))
      }
    })

    await t.test('a dispatch in a buffer', async (t) => {
      for (const bytes of [10, 3000, 200000]) {
        t.equal(text(connection.requestSync(20, String(bytes))), 'true')
        const message = connection.dispatchSync(1000)
        t.equal(message?.id, 5)
        t.equal(message?.payload.length, bytes)
        t.ok(message?.payload.every((byte) => byte === 9))
        t.equal(text(await connection.request(20, String(bytes))), 'true')
        using lease = connection.dispatchSync({ timeoutMs: 1000, inPlace: true })
        t.equal(lease?.payload.length, bytes)
        t.ok(lease?.payload.every((byte) => byte === 9))
      }
    })

    await t.test('wrong sizes', async (t) => {
      for (const bytes of [0, -1, 1.5, connection.messageBytes + 1, '10' as unknown as number]) {
        await t.rejects(connection.allocate(bytes), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
        t.throws(() => connection.allocateSync(bytes), { code: 'ERR_COROIPC_INVALID_ARGUMENT' })
      }
    })
  })
}

t.test('buffers outlive the connection and the server', async (t) => {
  await using own = await startServer()
  const connection = connectSync(own.name, { service: 8, trustServer: true })
  using buffer = connection.allocateSync(10000)
  buffer.bytes.fill(5)
  using lease = connection.requestSync(0, 'leased', { inPlace: true })
  await own.kill()
  await until(() => connection.closed)
  t.equal(text(lease.payload), 'leased', 'a lease outlives the server')
  await connection.close()
  t.equal(lease.payload.length, 0, 'and ends with the connection')
  t.ok(buffer.bytes.every((byte) => byte === 5))
  buffer.bytes.fill(6)
  t.ok(buffer.bytes.every((byte) => byte === 6))
})

t.test('a buffer can be asked with beside a lease, whatever is trusted', async (t) => {
  for (const trustServer of [true, false]) {
    await using connection = await connect(server.name, { service: 8, trustServer })
    using lease = connection.requestSync(0, 'held', { inPlace: true })
    using buffer = await connection.allocate(5000)
    buffer.bytes.fill(6)
    const answer = connection.requestSync(0, buffer)
    t.ok(answer.length === 5000 && answer.every((byte) => byte === 6))
    t.equal(text(lease.payload), 'held')
  }
})
