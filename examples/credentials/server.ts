// Decides by the kernel's word who may connect to what: uid, gid, supplementary groups and pid of the peer, never by what
// it says of itself. Refused peers have not seen any memory of the server.
//
//   node build/examples/credentials/server.js <name> [uid or @gid ...]      ends on SIGTERM
//
// The uids and groups given are let in to the public service; without any, everybody is.
import { type Credentials, Server } from '@coroipc/ipcs'
import { ADMIN, PUBLIC, READ, WHO_AM_I, WRITE } from './protocol.js'

const [name, ...allowed] = process.argv.slice(2)
if (name === undefined || !allowed.every((each) => /^@?\d+$/.test(each))) {
  console.error('usage: node server.js <name> [uid or @gid ...]')
  process.exit(2)
}

const isAdmin = ({ uid }: Credentials): boolean => uid === 0 || uid === process.geteuid?.()

const isAllowed = ({ uid, gid, groups }: Credentials): boolean =>
  allowed.length === 0 ||
  allowed.includes(`${uid}`) ||
  [gid, ...groups].some((each) => allowed.includes(`@${each}`))

const text = { written: 'nothing yet', by: -1 }

const server = new Server({
  authorize: (peer, service) => isAdmin(peer) || (service === PUBLIC && isAllowed(peer)),
  log: {
    debug: () => {},
    info: (_, message) => console.log(message),
    warn: (details, message) => console.log(`${message}: ${JSON.stringify(details)}`),
    error: (_, message) => console.error(message),
  },
})

server.addService({
  id: PUBLIC,
  handlers: {
    [WHO_AM_I]: (_, { credentials: { uid, gid, groups, pid } }) =>
      JSON.stringify({ uid, gid, groups, pid }),
    [READ]: () => JSON.stringify(text),
  },
})
server.addService({
  id: ADMIN,
  handlers: {
    [WRITE]: ({ payload }, { credentials }) => {
      text.written = Buffer.from(payload).toString()
      text.by = credentials.uid
    },
  },
})
process.once('SIGTERM', () => void server.close())
await server.listen(name)
