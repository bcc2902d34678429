// Extra segments when there are few of them: what waits for one waits for something that happens.
import { Server } from '@coroipc/ipcs'
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { freshName, runtimeDirectory } from '../support/runtime.js'

runtimeDirectory(t)

const ring = 16_384

t.test(
  'a large answer that no segment is left for is told so, and those behind it arrive',
  async (t) => {
    const server = new Server({
      limits: {
        requestRingBytes: ring,
        responseRingBytes: ring,
        dispatchRingBytes: ring,
        // Room for one segment of 64 KiB beside the rings, not for one of 128 KiB.
        segmentBytes: 1 << 17,
      },
    })
    server.on('error', () => {})
    server.addService({
      id: 7,
      handlers: { 0: (request) => new Uint8Array(Number(Buffer.from(request.payload).toString())) },
    })
    const name = freshName()
    await server.listen(name)
    const connection = await connect(name, { service: 7, requestTimeoutMs: 20_000 })
    const seen: (number | string)[] = []
    for (const bytes of [20_000, 100_000, 60_000, 20_000, 100]) {
      await connection.request(0, String(bytes)).then(
        ({ length }) => seen.push(length),
        ({ code }: { code: string }) => seen.push(code),
      )
    }
    t.same(seen, [20_000, 'ERR_COROIPC_LIMIT', 60_000, 20_000, 100])
    await connection.close()
    await server.close()
  },
)

t.test('segments of two sizes come back while messages wait for one', async (t) => {
  const server = new Server({
    limits: { requestRingBytes: 4096, responseRingBytes: 4096, segments: 4 },
  })
  server.addService({ id: 7, handlers: { 0: (request) => request.payload } })
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: 7, requestTimeoutMs: 20_000 })
  const sizes = Array.from({ length: 60 }, (_, i) => [8, 200_000, 30, 5000, 1500][i % 5] as number)
  const answers = await Promise.all(
    sizes.map((bytes) => connection.request(0, new Uint8Array(bytes).fill(bytes))),
  )
  t.same(
    answers.map(({ length }) => length),
    sizes,
  )
  t.ok(answers.every((answer) => answer.every((byte) => byte === (answer.length & 255))))
  await connection.close()
  await server.close()
})
