// What users write compiles as strictly as they may ask for: the first programs of the manual as they stand there, and the
// forms that types have to bear. tsc says so, over the declarations that the packages publish.
import t from 'tap'
import { compile } from '../support/compile.js'
import { blocksOf, fileBlock } from './docs-blocks.js'

const first = blocksOf('docs/guide/getting-started.md').find(({ words }) => words.includes('run'))
const programs: [string, string][] = [
  ['the first program of the guide', first?.text ?? ''],
  ['the server of the README', fileBlock('README.md', 'server.mjs').text],
  ['the client of the README', fileBlock('README.md', 'client.mjs').text],
]
for (const [name, text] of programs) {
  t.test(`${name} is TypeScript`, async (t) => {
    t.ok(text.length > 100)
    t.equal(await compile(t, { program: text }), '')
  })
}

const SERVER = `
import { type Connection, Server, type ServerOptions } from '@coroipc/ipcs'
const server = new Server()
server.addService({ id: 1, context: () => ({ calls: 0 }), handlers: { 0: (_, { context }) => \`\${++context.calls}\` } })
server.addService({
  id: 2,
  context: (connection) => connection.credentials.uid,
  onConnect: ({ context }) => context.toFixed(),
  admit: ({ connection }) => (connection.context > 0 ? 'accept' : 'refuse'),
  handlers: {},
})
server.addService({ id: 3, handlers: { 0: (_, connection: Connection) => \`\${connection.context}\` } })
const typed = new Server<{ names: Set<string> }>()
typed.addService({
  id: 1,
  context: () => ({ names: new Set() }),
  handlers: { 0: (_, { context }) => [...context.names].join() },
})
const any = (each: Server): string | undefined => each.address
any(typed)
server.on('error', (error, { request }) => console.log(error.code, request?.id))
const maybe: { timeoutMs?: number | undefined } = {}
const options: ServerOptions = { log: undefined, limits: { connections: undefined }, authorize: undefined }
new Server(options)
server.addService({ id: 4, context: undefined, handlers: undefined, backlogBytes: undefined })
await server.close(maybe)
`

const CLIENT = `
import { connect, type DispatchIterator, type Lease, type Message, reconnecting, type Answer } from '@coroipc/ipcc'
declare const maybe: number | undefined
const c = await connect('x', { service: 1, timeoutMs: maybe, signal: undefined, server: { uid: maybe } })
const payload: Uint8Array = await c.request(0, 'x', { timeoutMs: maybe, signal: undefined })
const answer: Answer = await c.request(0, '', { full: true, inPlace: undefined, timeoutMs: maybe })
const lease: Lease = await c.request(0, '', { inPlace: true })
const opt: { full?: boolean } = {}
const open: Uint8Array | Answer | Lease = await c.request(0, '', opt)
const openSync: Uint8Array | Answer | Lease = c.requestSync(0, '', opt)
const there: Uint8Array = c.requestSync(0, '', { into: new Uint8Array(1), timeoutMs: maybe })
c.request(0, '', opt, (error, outcome) => console.log(error, outcome))
c.request(0, '', { full: true }, (_, outcome) => console.log(outcome?.status))
const place: { inPlace?: boolean } = {}
const next: Message | Lease | undefined = c.dispatchSync(place)
const message: Message | undefined = c.dispatchSync({ timeoutMs: maybe })
const again: Uint8Array | Answer | Lease = await reconnecting('x', { service: 1, pauseMs: maybe }).request(0, '', opt)
await c.allocate(1, { timeoutMs: maybe, signal: undefined })
{
  await using messages: DispatchIterator = c.dispatches({ signal: undefined })
  for await (const { id } of messages) console.log(id)
}
await c.close({ timeoutMs: maybe })
console.log(payload, answer, lease, open, openSync, there, next, message, again)
`

const WRONG = `
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
const c = await connect('x', { service: 1 })
// @ts-expect-error a payload has no status
c.requestSync(0, '').status
// @ts-expect-error which one it is, is open
;(await c.request(0, '', {} as { full?: boolean })).status
// @ts-expect-error an option that does not exist
await c.request(0, '', { timeout: 5 })
// @ts-expect-error not what context returned
new Server().addService({ id: 1, context: () => ({ a: 1 }), handlers: { 0: (_, { context }) => context.b } })
`

for (const [name, text] of [
  ['a server', SERVER],
  ['a client', CLIENT],
  ['what should not compile', WRONG],
] as const) {
  t.test(`types of ${name}`, async (t) => {
    t.equal(await compile(t, { program: text }), '')
  })
}
