// Negates pictures: large payloads that no side copies. The request's payload is the client's buffer itself, mapped here
// as well; the answer is a buffer that the client will read where it is.
//
//   node build/examples/zero-copy/server.js <name> [--trust]      ends on SIGTERM
import { parseArgs } from 'node:util'
import { Server } from '@coroipc/ipcs'
import { LIMIT, NEGATE, PICTURES } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { trust: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const [name] = positionals
if (name === undefined) {
  console.error('usage: node server.js <name> [--trust]')
  process.exit(2)
}

const server = new Server({ limits: { messageBytes: LIMIT } })
server.addService({
  id: PICTURES,
  // Who is trusted can change a picture while we read it. Negating cannot crash by that; decoding a file format could.
  trust: ({ uid }) => values.trust && uid === process.getuid?.(),
  handlers: {
    [NEGATE]: ({ payload, inPlace }, connection) => {
      const answer = connection.allocate(payload.length)
      const { bytes } = answer
      for (let at = 0; at < payload.length; at++) bytes[at] = 255 - (payload[at] as number)
      console.log(
        `${payload.length} bytes, question in place: ${inPlace}, answer in place: ${answer.inPlace}`,
      )
      return answer
    },
  },
})
process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
