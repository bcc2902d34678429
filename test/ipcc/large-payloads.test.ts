// Payloads of 8 KiB and more: each the receiver's own, whatever comes behind it, and what is kept for it has a bound.
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, until } from './harness.js'
import { pattern } from '../support/wait.js'

const KIB = 1024

/** Server and client, and everything that either has received since. */
async function keepers(): Promise<
  AsyncDisposable & {
    readonly received: Uint8Array[]
    readonly answered: Uint8Array[]
    readonly dispatched: Uint8Array[]
    exchange(sizes: readonly number[]): Promise<void>
  }
> {
  const [received, answered, dispatched]: Uint8Array[][] = [[], [], []]
  const server = new Server({ limits: { messageBytes: 2 << 20 } })
  server.addService({
    id: 1,
    handlers: {
      0: ({ payload }, connection) => {
        received?.push(payload)
        connection.dispatch(payload)
        return payload
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  const client = await connect(name, { service: 1 })
  client.on('dispatch', ({ payload }) => dispatched?.push(payload))
  let seed = 0
  return {
    received: received as Uint8Array[],
    answered: answered as Uint8Array[],
    dispatched: dispatched as Uint8Array[],
    async exchange(sizes: readonly number[]) {
      const requests = sizes.map((size) => client.request(0, pattern(size, seed++ & 0xff)))
      answered?.push(...(await Promise.all(requests)))
      await until(() => dispatched?.length === answered?.length)
    },
    async [Symbol.asyncDispose]() {
      await client.close()
      await server.close({ timeoutMs: 100 })
    },
  }
}

t.test('all stay what they were, and keep 64 KiB or 64 times their size at most', async (t) => {
  await using all = await keepers()
  const sizes = [1, 8191, 8192, 8193, 65536, 20_000, 300_000, 1_100_000, 64, 2 << 20, 9000, 0]
  for (let round = 0; round < 12; round++)
    // By turns of one size and of all, so that slabs of each size see payloads of the others.
    await all.exchange(round % 2 === 0 ? sizes : Array(12).fill(sizes[round]))
  globalThis.gc?.()
  for (const [who, payloads] of Object.entries({
    received: all.received,
    answered: all.answered,
    dispatched: all.dispatched,
  })) {
    t.equal(payloads.length, 144, who)
    const wrong = payloads.filter(
      (payload, seed) => !Buffer.from(pattern(payload.length, seed & 0xff)).equals(payload),
    )
    t.equal(wrong.length, 0, `${who}: nothing was written over`)
    const wasteful = payloads.filter(
      ({ length, buffer }) => buffer.byteLength > Math.max(64 * KIB, 64 * length),
    )
    t.same(
      wasteful.map(({ length, buffer }) => [length, buffer.byteLength]),
      [],
      `${who}: what is kept`,
    )
  }
})

t.test('many of a size lie together', async (t) => {
  await using all = await keepers()
  const size = 64 * KIB
  for (let round = 0; round < 12; round++) await all.exchange(Array(10).fill(size))
  for (const payloads of [all.received, all.answered, all.dispatched]) {
    // Those before the first slab that was made for them have memory of their own.
    const late = payloads.slice(20)
    const pieces = new Set(late.map(({ buffer }) => buffer))
    t.ok(pieces.size < late.length / 8, `${late.length} in ${pieces.size} pieces`)
  }
  const before = new Set(all.received.map(({ buffer }) => buffer))
  await all.exchange(Array(50).fill(100))
  const small = new Set(all.received.slice(-50).map(({ buffer }) => buffer))
  t.ok([...small].every((buffer) => !before.has(buffer) && buffer.byteLength <= 64 * KIB))
})

t.test('a slab that cannot be written to any more is replaced', async (t) => {
  await using all = await keepers()
  for (let round = 0; round < 4; round++) await all.exchange(Array(4).fill(64 * KIB))
  const last = all.received.at(-1)?.buffer as ArrayBuffer & { transfer?: () => ArrayBuffer }
  if (last.transfer === undefined) {
    t.pass('no ArrayBuffer.prototype.transfer', { skip: 'Node.js 20' })
    return
  }
  const moved = last.transfer()
  const copy = Buffer.from(moved).toString('latin1')
  const from = all.answered.length
  for (let round = 0; round < 4; round++) await all.exchange(Array(4).fill(64 * KIB))
  t.equal(Buffer.from(moved).toString('latin1'), copy, 'it is somebody else’s')
  for (const payloads of [all.received, all.answered, all.dispatched])
    t.ok(payloads.slice(from).every(({ length }) => length === 64 * KIB))
})
