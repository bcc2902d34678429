// Codecs alone: what goes in comes out, and bytes of a stranger end in a value or an exception, never in a crash. Rows of
// a fixed seed, so that a run repeats.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { bytes, type Codec, Encoded, json, structured, utf8 } from '@coroipc/contract'
import { msgpackr } from '@coroipc/contract/msgpackr'
import { protobuf } from '@coroipc/contract/protobuf'
import { StructSchema, TimestampSchema } from '@bufbuild/protobuf/wkt'
import * as fc from 'fast-check'
import t from 'tap'
import { point } from './contracts.js'

const run = promisify(execFile)

function encoded<Value>(codec: Codec<Value, unknown>, value: Value): Uint8Array {
  const payload = new Encoded(codec, value).payload()
  return typeof payload === 'string' ? Buffer.from(payload) : (payload as Uint8Array)
}
const thereAndBack = <Value>(codec: Codec<Value, unknown>, value: Value): unknown =>
  codec.decode(encoded(codec, value))

t.test('what goes in comes out', async () => {
  const text = fc.string({ unit: 'grapheme' })
  fc.assert(fc.property(text, (value) => thereAndBack(utf8, value) === value))
  fc.assert(
    fc.property(fc.json(), (value) => {
      const parsed: unknown = JSON.parse(value)
      return JSON.stringify(thereAndBack(json(), parsed)) === JSON.stringify(parsed)
    }),
  )
  const anything = fc.anything({ withMap: true, withSet: true, withDate: true, withBigInt: true })
  const cloned = (value: unknown): boolean =>
    fc.stringify(thereAndBack(structured(), value)) === fc.stringify(value)
  fc.assert(fc.property(anything, cloned))
  fc.assert(
    fc.property(fc.uint8Array(), (value) => Buffer.compare(encoded(bytes, value), value) === 0),
  )
  fc.assert(
    fc.property(fc.double(), fc.double(), (x, y) => {
      const found = thereAndBack(point, { x, y }) as { x: number; y: number }
      return Object.is(found.x, x) && Object.is(found.y, y)
    }),
  )
})

t.test('values that a codec has no form of', async (t) => {
  for (const value of [() => 1, Symbol('x')]) t.throws(() => encoded(json(), value), /no form of a/)
  t.throws(() => encoded(json(), 1n))
  t.throws(() => encoded(structured(), () => 1))
  t.throws(() => encoded(utf8, 5 as never), /strings only/)
  t.equal(thereAndBack(json(), undefined), undefined)
  t.equal(encoded(json(), undefined).length, 0)
})

/** Bytes that are right but for a few, bytes that begin right, and bytes that are anything. */
const hostile = (seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.nat(),
      )
      .map(([seed, changes, end]) => {
        const copy = Uint8Array.from(seed)
        for (const [at, value] of changes) copy[at % copy.length] = value
        return end % 3 === 0 ? copy.subarray(0, end % copy.length) : copy
      }),
  )

const value = {
  a: [1, -2.5, 'ü', null, true, { deep: [[[]]] }],
  long: 'x'.repeat(40),
  big: 2 ** 40,
}
const seeds: readonly [Codec<never, unknown>, Uint8Array[]][] = [
  [utf8, [Buffer.from('grüße €𝄞')]],
  [json(), [encoded(json(), value)]],
  [
    msgpackr(),
    [encoded(msgpackr(), value), encoded(msgpackr(), { d: new Date(0), b: Buffer.from([1]) })],
  ],
  [
    protobuf(StructSchema),
    [
      encoded(protobuf(StructSchema), {
        fields: { a: { kind: { case: 'stringValue', value: 'x' } } },
      }),
    ],
  ],
  [protobuf(TimestampSchema), [encoded(protobuf(TimestampSchema), { seconds: 5n, nanos: 7 })]],
]

for (const [codec, some] of seeds)
  t.test(`hostile bytes for ${codec.name}`, async (t) => {
    let refused = 0
    let read = 0
    fc.assert(
      fc.property(hostile(some), (payload) => {
        const before = Uint8Array.from(payload)
        try {
          codec.decode(payload)
          read++
        } catch (error) {
          if (!(error instanceof Error)) throw error
          refused++
        }
        return Buffer.compare(before, payload) === 0
      }),
      { numRuns: 3000, seed: 7 },
    )
    t.ok(refused > 100 && read > 0, `${refused} refused, ${read} read`)
  })

t.test('what JSON and MessagePack may not reach', async (t) => {
  const text = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'
  json().decode(Buffer.from(text))
  const { pack } = await import('msgpackr')
  msgpackr().decode(pack(new Map([['__proto__', { polluted: true }]])))
  t.equal(({} as Record<string, unknown>)['polluted'], undefined)
  const deep = Buffer.from('['.repeat(100_000))
  t.throws(() => json().decode(deep))
  t.throws(() => msgpackr().decode(Buffer.alloc(100_000, 0x91)))
  const records = [
    [0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01],
    [0xd5, 0x72, 0x40, 0x01, 0x91, 0xa1, 0x61, 0x01],
  ]
  for (const record of records) t.throws(() => msgpackr().decode(Buffer.from(record)), 'a record')
  t.equal(encoded(msgpackr(), { a: 1 })[0], 0xde, 'what is sent is a plain map')
  t.throws(() => msgpackr().decode(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])), 'a list of 2^32')
})

t.test('hostile bytes for structured-clone, in a process that may die', async (t) => {
  const program = `
    import * as fc from 'fast-check'
    import { serialize } from 'node:v8'
    import { structured } from '@coroipc/contract'
    const value = new Map([['a', [1, -2.5, 'ü', 1n << 80n, new Date(0)]], [{ deep: [[]] }, new Set([/x/g])],
      ['bytes', new Uint16Array([1, 2])], ['error', new TypeError('x')]])
    const seed = serialize(value)
    const change = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
    let refused = 0, read = 0
    fc.assert(fc.property(change, fc.nat(), (changes, end) => {
      const copy = Buffer.from(seed)
      for (const [at, byte] of changes) copy[at] = byte
      try {
        structured().decode(end % 3 === 0 ? copy.subarray(0, end % copy.length) : copy)
        read++
      } catch (error) {
        if (!(error instanceof Error)) throw error
        refused++
      }
    }), { numRuns: 5000, seed: 7 })
    console.log(JSON.stringify({ refused, read }))`
  const args = ['--max-old-space-size=256', '--input-type=module', '--eval', program]
  const { stdout } = await run(process.execPath, args)
  const { refused, read } = JSON.parse(stdout) as { refused: number; read: number }
  t.ok(refused > 1000 && read > 0, `${refused} refused, ${read} read`)
})
