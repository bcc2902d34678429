// What the compiler says of both sides of a contract: nothing about what is right, something about each wrong line. Over
// the declarations that the packages publish, as in test/house/types.test.ts.
import t from 'tap'
import { compile } from '../support/compile.js'

const CONTRACT = `
import { bytes, checked, type Codec, defineService, json, structured } from '@coroipc/contract'
import { client } from '@coroipc/contract/client'
import { protobuf } from '@coroipc/contract/protobuf'
import { type ContractHandlers, dispatcher, implement } from '@coroipc/contract/server'
import { type Connection, reconnecting } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import { TimestampSchema } from '@bufbuild/protobuf/wkt'
import { type } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'

declare const reversed: Codec<string[]>
const service = defineService({
  id: 1,
  requests: {
    add: { id: 0, request: z.object({ a: z.number(), b: z.number().default(1) }), response: z.number() },
    length: { id: 1, request: z.string().transform((text) => text.length), response: v.pipe(v.string(), v.transform(Number)) },
    arktype: { id: 2, request: type({ name: 'string' }), response: type('number[]') },
    raw: { id: 3, request: bytes, response: bytes },
    own: { id: 4, request: reversed, response: json<{ ok: boolean }>() },
    both: { id: 5, request: checked(structured(), z.object({ at: z.date() })), response: structured<Map<string, bigint>>() },
    stamp: { id: 6, request: protobuf(TimestampSchema), response: protobuf(TimestampSchema) },
    ping: { id: 7 },
    optional: { id: 8, request: z.string().optional() },
    note: { id: 9, request: z.string(), oneWay: true },
  },
  dispatches: { tick: { id: 0, payload: z.object({ n: z.number() }) }, done: { id: 1 } },
})
type Service = typeof service
declare const connection: Connection
`

const RIGHT = `${CONTRACT}
const send = dispatcher(service)
const options = implement(service, {
  context: () => ({ calls: 0 }),
  onConnect: (connection) => void send.tick(connection, { n: connection.context.calls }),
  handlers: {
    add: ({ a, b }, { connection }) => a.valueOf() + b.valueOf() + connection.context.calls,
    length: async (length) => length.toFixed(),
    arktype: ({ name }, { signal }) => [name.length, signal.aborted ? 0 : 1],
    raw: (payload) => [payload.subarray(1), 'tail'],
    own: (list) => ({ ok: list.includes('x') }),
    both: ({ at }) => new Map([['time', BigInt(at.getTime())]]),
    stamp: ({ seconds }) => ({ seconds }),
    ping: () => {},
    optional: (text) => void text?.trim(),
    note: async (text) => void text.trim(),
  },
})
new Server().addService(options)
class Handlers { add(value: { a: number; b: number }): number { return value.a } }
const partial: Pick<ContractHandlers<Service>, 'add'> = new Handlers()
const calls = client(connection, service)
const sum: number = await calls.add({ a: 1 }, { timeoutMs: 5, signal: AbortSignal.timeout(5) })
const length: number = await calls.length('text')
const list: number[] = calls.sync.arktype({ name: '' }, { timeoutMs: 5 })
const raw: Uint8Array = await calls.raw('text')
const own: { ok: boolean } = calls.sync.own([''])
const map: Map<string, bigint> = await calls.both({ at: new Date() })
const seconds: bigint = (await calls.stamp({ nanos: 5 })).seconds
const nothing: void = await calls.ping()
await calls.ping(undefined, { timeoutMs: 5 })
await calls.optional()
const taken: boolean = calls.note('x')
for await (const message of calls.dispatches()) {
  if (message.name === 'tick') message.value.n.toFixed()
  else message.value satisfies void
}
const stop: () => void = calls.on('tick', ({ n }, sequence) => n.toFixed() + sequence.toFixed())
const believing = client(connection, service, { validate: false })
const text: string = await believing.length('x') // the answer's input
const again = client(reconnecting('x', { service: 1 }), service)
const later: number = await again.add({ a: 1, b: 2 })
console.log(partial, sum, length, list, raw, own, map, seconds, nothing, taken, stop, text, later)
`

const WRONG = `${CONTRACT}
const right = {
  add: () => 1, length: () => '', arktype: () => [1], raw: () => '', own: () => ({ ok: true }),
  both: () => new Map<string, bigint>(), stamp: () => ({}), ping: () => {}, optional: () => {}, note: () => {},
}
const { ping: _, ...missing } = right
// @ts-expect-error a handler is missing
implement(service, { handlers: missing })
// @ts-expect-error one that the contract does not have
implement(service, { handlers: { ...right, other: () => {} } } satisfies Parameters<typeof implement<Service>>[1])
// @ts-expect-error the answer has another type
implement(service, { handlers: { ...right, add: () => 'one' } })
// @ts-expect-error so has that of a promise
implement(service, { handlers: { ...right, add: async () => 'one' } })
// @ts-expect-error the input of the answer's schema is asked for, not its output
implement(service, { handlers: { ...right, length: () => 5 } })
// @ts-expect-error the value has another type
implement(service, { handlers: { ...right, add: ({ a }: { a: string }) => a.length } })
// @ts-expect-error no such member
implement(service, { handlers: { ...right, add: ({ c }) => c } })
// @ts-expect-error answers are returned
implement(service, { handlers: { ...right, ping: (_, request) => void request.respond('') } })
const calls = client(connection, service)
// @ts-expect-error a member is missing
await calls.add({ b: 1 })
// @ts-expect-error a member has another type
await calls.add({ a: '1' })
// @ts-expect-error a value is needed
await calls.add()
// @ts-expect-error a value is needed, blocking as well
calls.sync.add()
// @ts-expect-error the schema's input is asked for, not its output
await calls.length(5)
// @ts-expect-error it takes nothing
await calls.ping('x')
// @ts-expect-error no such request
await calls.subtract({ a: 1 })
// @ts-expect-error no such option
await calls.add({ a: 1 }, { timeout: 5 })
// @ts-expect-error a blocking call has no signal
calls.sync.add({ a: 1 }, { signal: AbortSignal.timeout(5) })
// @ts-expect-error the answer is a number
const text: string = await calls.add({ a: 1 })
// @ts-expect-error one way: there is nothing to wait for
calls.note('x').then(() => {})
// @ts-expect-error one way: not blocking
calls.sync.note('x')
// @ts-expect-error no such dispatch
calls.on('tock', () => {})
// @ts-expect-error the dispatch has another type
calls.on('tick', (value: string) => value)
const send = dispatcher(service)
// @ts-expect-error a value is needed
send.tick({} as never)
// @ts-expect-error another type
send.tick({} as never, { n: '1' })
// @ts-expect-error over a connection that comes back nothing blocks
client(reconnecting('x', { service: 1 }), service).sync
// @ts-expect-error neither schema nor codec
defineService({ id: 1, requests: { a: { id: 0, request: 'string' } } })
// @ts-expect-error one that is one way has no answer
defineService({ id: 1, requests: { a: { id: 0, response: z.string(), oneWay: true } } })
// @ts-expect-error an id is needed
defineService({ id: 1, requests: { a: { request: z.string() } } })
const { add, ...rest } = calls
console.log(text, _, add, rest)
`

t.test('types of both sides', async (t) => {
  const told = WRONG.replace("{ a: '1' }", '{ a: 1 }')
  t.not(told, WRONG)
  const said = await compile(t, { right: RIGHT, wrong: WRONG, told })
  t.match(said, /^told\.mts\(\d+,1\): error TS2578: Unused '@ts-expect-error' directive\.\n$/)
})
