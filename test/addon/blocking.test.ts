// Natives that block: the server lives in a worker, so that this thread may wait for it.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { addon, Status, Word } from '@coroipc/native'
import t, { type Test } from 'tap'
import { connectOptions, freshName, openGroup, openServer, type Party, u32 } from './support.js'
import { sharedMemory } from '../support/shared-memory.js'

interface Client {
  group: Party
  handle: number
  connection: number
}

async function client(t: Test): Promise<Client> {
  const name = freshName()
  const worker = new Worker(new URL('./server-thread.js', import.meta.url), {
    workerData: { name },
  })
  await once(worker, 'message')
  const group = openGroup(() => {})
  const { handle } = group.loop
  const connection = addon.connectSync(handle, name, connectOptions, 5000)
  t.ok(connection >= 0, 'connected')
  t.teardown(async () => {
    addon.groupDestroy(handle)
    worker.postMessage('end')
    await once(worker, 'exit')
  })
  return { group, handle, connection }
}

const same = (t: Test, actual: ArrayBuffer | Uint8Array, expected: Uint8Array): void => {
  const view = actual instanceof Uint8Array ? actual : new Uint8Array(actual)
  t.ok(Buffer.from(view.buffer, view.byteOffset, view.length).equals(expected), 'same bytes')
}
const bytes = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill)

t.test('an answer goes to the slab, to `into`, or waits to be taken', async (t) => {
  const { group, handle, connection } = await client(t)
  const { words } = group.loop
  const call = (size: number, into?: Uint8Array): number =>
    addon.call(handle, connection, 1, u32(size), -1, into)

  for (const size of [0, 1, 13, 8191]) {
    const before = words[Word.slabPosition] as number
    t.equal(call(size), size)
    const offset = words[Word.offset] as number
    t.equal(offset, before, 'where the slab was free')
    t.equal(words[Word.slabPosition], before + ((size + 7) & ~7))
    t.same(new Uint8Array(group.slab, offset, size), bytes(size, size & 0xff))
  }
  for (const size of [8192, 100_000, 600_000]) {
    t.equal(call(size), size)
    t.equal(words[Word.offset], -1)
    same(t, addon.take(handle, connection, 0), bytes(size, size & 0xff))
  }
  const into = new Uint8Array(20)
  t.equal(call(20, into), 20)
  t.same(into, bytes(20, 20))
  t.equal(words[Word.offset], -2)
  t.equal(call(21, into), -Status.TOO_LARGE)
  t.equal(words[Word.offset], -1, 'the answer is kept')
  same(t, addon.take(handle, connection, 0), bytes(21, 21))
  t.equal(addon.take(handle, connection, 0).byteLength, 0, 'once')
  words[Word.slabPosition] = 65536 - 16
  t.equal(call(16), 16)
  t.equal(words[Word.slabPosition], 65536)
  t.equal(call(1), 1)
  t.equal(words[Word.offset], -1, 'no room in the slab')
  same(t, addon.take(handle, connection, 0), bytes(1, 1))
})

t.test('a gather list is one payload', async (t) => {
  const { group, handle, connection } = await client(t)
  const parts = Array.from({ length: 1024 }, (_, i) => bytes(i % 3, i & 0xff))
  const whole = Buffer.concat(parts)
  t.equal(addon.call(handle, connection, 0, parts, -1, undefined), whole.length)
  const offset = group.loop.words[Word.offset] as number
  t.ok(whole.equals(new Uint8Array(group.slab, offset, whole.length)))
  t.equal(addon.call(handle, connection, 0, [], -1, undefined), 0)
})

t.test('status words, and codes of what cannot be sent', async (t) => {
  const { group, handle, connection } = await client(t)
  t.equal(addon.call(handle, connection, 3, new Uint8Array(0), -1, undefined), 3)
  t.equal(group.loop.words[Word.status], -5)
  const most = addon.clientConnectionInfo(handle, connection)
  t.ok(typeof most === 'object')
  if (typeof most !== 'object') return
  t.match(most.id, /^[0-9a-f]{16}$/)
  t.match(most.serverId, /^[0-9a-f]{16}$/)
  t.match(most, {
    service: 7,
    credentials: { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() },
  })
  const tooLarge = new Uint8Array(most.messageBytes + 1)
  t.equal(addon.call(handle, connection, 0, tooLarge, -1, undefined), -Status.TOO_LARGE)
  t.equal(group.loop.words[Word.offset], -2, 'nothing is kept')
  t.equal(addon.call(handle, connection + 1, 0, u32(1), -1, undefined), -Status.DISCONNECTED)
  t.equal(addon.connectSync(handle, '@nobody', connectOptions, 1000), -Status.CONNECT_REFUSED)
  const stats = new BigUint64Array(addon.statsNames.length)
  t.equal(addon.stats(handle, connection, false, stats), 0)
  t.equal(stats[addon.statsNames.indexOf('responses')], 1n)
})

t.test('a lease is memory of the ring, and nothing after its release', sharedMemory, async (t) => {
  const { group, handle, connection } = await client(t)
  t.equal(addon.callInPlace(handle, connection, 0, bytes(100, 3), -1), 100)
  const array = addon.leaseBuffer(handle, connection, 0)
  t.equal(addon.leaseBuffer(handle, connection, 0), array, 'one ArrayBuffer')
  const view = new Uint8Array(array)
  t.same(view, bytes(100, 3))
  const copy = addon.leaseCopy(handle, connection, 0)
  t.equal(addon.callInPlace(handle, connection, 0, u32(0), -1), -Status.LEASE_HELD)
  addon.leaseRelease(handle, connection, 0)
  t.equal(view.length, 0)
  t.equal(array.byteLength, 0)
  t.same(new Uint8Array(copy), bytes(100, 3))
  addon.leaseRelease(handle, connection, 0)

  t.equal(addon.callInPlace(handle, connection, 0, new Uint8Array(0), -1), 0)
  t.equal(addon.leaseBuffer(handle, connection, 0).byteLength, 0)
  addon.leaseRelease(handle, connection, 0)

  t.equal(addon.callInPlace(handle, connection, 0, bytes(64, 5), -1), 64)
  const last = new Uint8Array(addon.leaseBuffer(handle, connection, 0))
  t.same(last, bytes(64, 5))
  addon.disconnect(handle, connection)
  t.equal(last.length, 0, 'disconnect takes it away')
  t.equal(addon.state(handle, connection), Status.DISCONNECTED)
  t.equal(group.loop.words[Word.inBatch], 0)
})

t.test('dispatches one by one', sharedMemory, async (t) => {
  const { group, handle, connection } = await client(t)
  const { words } = group.loop
  t.equal(addon.dispatchReceive(handle, connection, 0), -Status.AGAIN)
  t.equal(addon.dispatchReceive(handle, connection, 10), -Status.TIMED_OUT)
  for (const size of [5, 9000, 0])
    addon.call(handle, connection, 2, bytes(size, size & 0xff), -1, undefined)
  t.equal(addon.dispatchReceive(handle, connection, 1000), 5)
  t.equal(words[Word.id], 9)
  t.same(new Uint8Array(group.slab, words[Word.offset], 5), bytes(5, 5))
  t.equal(addon.dispatchReceive(handle, connection, 1000), 9000)
  t.equal(words[Word.offset], -1)
  same(t, addon.take(handle, connection, 1), bytes(9000, 9000 & 0xff))
  t.equal(addon.dispatchInPlace(handle, connection, 1000), 0)
  addon.leaseRelease(handle, connection, 1)
  addon.call(handle, connection, 2, bytes(70, 1), -1, undefined)
  t.equal(addon.dispatchInPlace(handle, connection, 1000), 70)
  const view = new Uint8Array(addon.leaseBuffer(handle, connection, 1))
  t.same(view, bytes(70, 1))
  addon.leaseRelease(handle, connection, 1)
  t.equal(view.length, 0)
})

t.test(
  'a buffer is shared memory until it is released, by whoever comes first',
  sharedMemory,
  async (t) => {
    const { handle, connection } = await client(t)
    const buffer = addon.clientBufferAlloc(handle, connection, 20_000, 1000)
    t.ok(buffer >= 0)
    t.ok(addon.bufferBytes(buffer) >= 20_000)
    const array = addon.bufferArray(buffer)
    t.equal(addon.bufferArray(buffer), array)
    const view = new Uint8Array(array)
    view.fill(4)
    const into = new Uint8Array(20_000)
    t.equal(addon.callBuffer(handle, connection, 0, buffer, 8, 19_992, -1, into), 19_992)
    t.ok(into.subarray(0, 19_992).every((byte) => byte === 4))
    addon.bufferRelease(buffer)
    t.equal(view.length, 0)
    addon.bufferRelease(buffer)
    t.equal(addon.bufferBytes(buffer), 0)
    for (let i = 0; i < 1000; i++) {
      const again = addon.clientBufferAlloc(handle, connection, 4096, 1000)
      if (again < 0) t.fail(addon.statusNames[-again] ?? '')
      new Uint8Array(addon.bufferArray(again)).fill(1)
      addon.bufferRelease(again)
    }
    const kept = addon.clientBufferAlloc(handle, connection, 4096, 1000)
    const memory = new Uint8Array(addon.bufferArray(kept))
    addon.disconnect(handle, connection)
    memory.fill(9)
    t.ok(
      memory.every((byte) => byte === 9),
      'usable after the connection is closed',
    )
    addon.bufferRelease(kept)
  },
)

t.test('an array that was moved elsewhere keeps its memory', async (t) => {
  const { handle, connection } = await client(t)
  const move = (array: ArrayBuffer): ArrayBuffer | undefined => {
    try {
      return (array as ArrayBuffer & { transfer?: () => ArrayBuffer }).transfer?.()
    } catch {
      return undefined
    }
  }
  const buffer = addon.clientBufferAlloc(handle, connection, 4096, 1000)
  const moved = move(addon.bufferArray(buffer))
  if (moved === undefined) {
    t.pass('this Node.js cannot move it')
    return
  }
  addon.bufferRelease(buffer)
  t.equal(addon.callInPlace(handle, connection, 0, bytes(100, 3), -1), 100)
  const lease = move(addon.leaseBuffer(handle, connection, 0))
  addon.leaseRelease(handle, connection, 0)
  addon.disconnect(handle, connection)
  addon.groupDestroy(handle)
  new Uint8Array(moved).fill(1)
  t.same(new Uint8Array(lease as ArrayBuffer), bytes(100, 3))
})

t.test('a blocking call flushes what other loops of this thread have queued', async (t) => {
  const { handle, connection } = await client(t)
  const told: number[] = []
  const other = openServer(
    freshName(),
    () => {},
    (rows) => told.push(rows),
  )
  t.teardown(() => addon.serverDestroy(other.loop.handle))
  other.post(3, 4, {})
  t.equal(addon.call(handle, connection, 0, u32(1), -1, undefined), 4)
  t.equal(other.loop.words[Word.outRows], 0)
  t.same(told, [1])
})

t.test('time passes, and the call ends', async (t) => {
  const name = freshName()
  const server = openServer(name, () => {})
  addon.attach(server.loop.handle)
  t.teardown(() => addon.serverDestroy(server.loop.handle))
  const group = openGroup(() => {})
  t.teardown(() => addon.groupDestroy(group.loop.handle))
  // Nobody answers while this thread blocks.
  t.equal(addon.connectSync(group.loop.handle, name, connectOptions, 120), -Status.TIMED_OUT)
  t.equal(addon.wait(group.loop.handle, 0), 0)
  t.equal(addon.wait(group.loop.handle, 60), 0)
})
