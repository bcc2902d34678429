// The payloads of the benchmarks: C programs and JavaScript write the same bytes, and a byte that is not
// what was written is seen by both, wherever it is.
import { spawnSync } from 'node:child_process'
import t from 'tap'
import { Answerer, Caller, PayloadBuffer, PayloadCheck } from '../../bench/payload.js'
import { built } from '../support/paths.js'

const CHUNK_BYTES = 262144
/** Empty, small, both sides of where memcpy begins, of a chunk, and several chunks. */
const SIZES = [0, 8, 64, 1024, 4088, 4096, 65536, CHUNK_BYTES, CHUNK_BYTES + 8, 1 << 21]
const SEEDS = [0, 1, 60, 61, 0x7fffffff, 0xfffffff0]

/** Each byte; of large payloads some everywhere, which is enough to see a part that nobody looks at. */
const stepOf = (bytes: number): number => (bytes <= 4096 ? 1 : 251)

function program(...words: (string | number)[]): { status: number | null; stdout: Buffer } {
  return spawnSync(built('test/programs/payload'), words.map(String), { maxBuffer: 1 << 24 })
}

t.test('C and JavaScript write the same payloads', async (t) => {
  for (const touch of ['full', 'hand-over'] as const) {
    for (const bytes of SIZES) {
      const payload = new PayloadBuffer(bytes, touch)
      for (const seed of SEEDS) {
        payload.bytes.fill(0)
        payload.fill(seed | 0)
        const { stdout } = program('fill', touch, bytes, seed)
        t.ok(stdout.equals(payload.bytes), `${bytes} bytes, seed ${seed}, ${touch}`)
      }
    }
  }
})

t.test('C sees each byte that is wrong', async (t) => {
  for (const bytes of SIZES.filter((size) => size > 0))
    t.equal(program('flip', bytes, 0xfffffff0, stepOf(bytes)).status, 0, `${bytes} bytes`)
})

t.test('JavaScript sees each byte that is wrong', async (t) => {
  for (const bytes of SIZES.filter((size) => size > 0)) {
    const seed = 77
    const payload = new PayloadBuffer(bytes).fill(seed)
    const check = new PayloadCheck(bytes, 'full')
    t.ok(check.right(payload, seed), `${bytes} bytes: what was written is right`)
    t.notOk(check.right(payload, seed + 1), 'that of another message is wrong')
    t.notOk(check.right(payload.subarray(0, bytes - 8), seed), 'one that is cut off is wrong')
    const missed: number[] = []
    for (let at = 0; at < bytes; at += stepOf(bytes)) {
      payload[at] = (payload[at] as number) ^ 0x80
      if (check.right(payload, seed)) missed.push(at)
      payload[at] = (payload[at] as number) ^ 0x80
    }
    t.same(missed, [], 'whichever it is')
  }
})

t.test('a payload is right wherever it lies', async (t) => {
  for (const bytes of [64, 4096, CHUNK_BYTES + 8]) {
    const payload = new PayloadBuffer(bytes).fill(5)
    const moved = new Uint8Array(bytes + 3)
    moved.set(payload, 3)
    t.ok(new PayloadCheck(bytes, 'full').right(moved.subarray(3), 5), `${bytes} bytes, not aligned`)
  }
})

t.test('a part of an earlier message is a wrong payload', async (t) => {
  const bytes = 4 * CHUNK_BYTES
  const check = new PayloadCheck(bytes, 'full')
  for (let back = 1; back < 61; back++) {
    const payload = new PayloadBuffer(bytes).fill(1000)
    const earlier = new PayloadBuffer(bytes).fill(1000 - back)
    const stale = 2 * CHUNK_BYTES + 4096
    payload.set(earlier.subarray(stale, stale + 8), stale)
    t.notOk(check.right(payload, 1000), `8 bytes of ${back} messages ago`)
  }
})

t.test('a call: the answer proves that the request was read', async (t) => {
  for (const [requestBytes, answerBytes] of [
    [64, 64],
    [4096, 4096],
    [8, 1 << 19],
    [1 << 19, 8],
  ] as const) {
    const shape = { requestBytes, answerBytes, touch: 'full' } as const
    const caller = new Caller(shape)
    const answerer = new Answerer(shape)
    const name = `${requestBytes} bytes, answered by ${answerBytes}`
    caller.checkAnswer(answerer.answer(caller.nextRequest()))
    t.equal(caller.wrong, 0, name)
    const request = caller.nextRequest().slice()
    request[requestBytes - 1] = (request[requestBytes - 1] as number) ^ 1
    caller.checkAnswer(answerer.answer(request))
    t.equal(caller.wrong, 1, `${name}: the last byte of the request changed on its way`)
    caller.checkAnswer(caller.nextRequest())
    t.equal(caller.wrong, 2, `${name}: the request itself is no answer`)
  }
})
