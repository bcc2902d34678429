// Says who the server takes it for, and tries what it may do.
//
//   node build/examples/credentials/server.js <name>
//   node build/examples/credentials/client.js <name> [--server-uid <uid>] [text]
//
// With --server-uid it refuses to talk to a server of anybody else. With a text, it writes that as an administrator.
// Exit code: 0 done, 1 refused.
import { parseArgs } from 'node:util'
import { connect, type ConnectOptions, IpcError } from '@coroipc/ipcc'
import { ADMIN, PUBLIC, READ, WHO_AM_I, WRITE } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { 'server-uid': { type: 'string' } },
  allowPositionals: true,
})
const [name, text] = positionals
if (name === undefined) {
  console.error('usage: node client.js <name> [--server-uid <uid>] [text]')
  process.exit(2)
}
const uid = values['server-uid']
const demand: Partial<ConnectOptions> = uid === undefined ? {} : { server: { uid: Number(uid) } }

try {
  await using connection = await connect(name, { service: PUBLIC, ...demand })
  console.log(`the server is uid ${connection.server.uid}, pid ${connection.server.pid}`)
  console.log(`it takes us for ${Buffer.from(await connection.request(WHO_AM_I)).toString()}`)
  if (text !== undefined) {
    await using admin = await connect(name, { service: ADMIN, ...demand })
    await admin.request(WRITE, text)
  }
  console.log(`the text is ${Buffer.from(await connection.request(READ)).toString()}`)
} catch (error) {
  if (!IpcError.is(error, 'ERR_COROIPC_DENIED')) throw error
  console.log(error.message)
  process.exitCode = 1
}
