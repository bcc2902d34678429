// The Node.js server of the C client in this folder: text in, text out, and a count-down by dispatch.
//
//   node build/examples/c-client/server.js <name>         ends on SIGTERM
import { Server } from '@coroipc/ipcs'

const SERVICE = 7
const UPPER_CASE = 0
const REPEAT = 1
const COUNT_DOWN = 2
const REFUSE = 3

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}
const text = (payload: Uint8Array): string => Buffer.from(payload).toString()

const server = new Server()
server.addService({
  id: SERVICE,
  // 'retry' and 'refuse' are answers of their own, COROIPC_RETRY and COROIPC_REFUSED.
  admit: ({ id }) => (id === REFUSE ? 'refuse' : 'accept'),
  handlers: {
    [UPPER_CASE]: ({ payload }) => text(payload).toUpperCase(),
    // With a status of the application's own: how long it was.
    [REPEAT]: ({ payload }) => ({ status: payload.length, payload: text(payload).repeat(10) }),
    [COUNT_DOWN]: ({ payload }, connection) => {
      for (let left = Number(text(payload)); left > 0; left--)
        connection.dispatch(`${left}`, { id: left })
    },
    [REFUSE]: () => 'never',
  },
})
process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
