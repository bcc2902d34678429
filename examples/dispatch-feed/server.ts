// Feeds the lines of a growing file to subscribers, like `tail -f` for many. Each subscriber says what is to become of
// lines that it is too slow for:
//
//   error        nothing is lost: the server reads the file again from where this one stopped, when it has room
//   drop-oldest  it misses the oldest lines that wait for it, and is always near the end of the file
//   drop-newest  it misses the newest ones
//   disconnect   it is disconnected, so that it knows
//
//   node build/examples/dispatch-feed/server.js <name> <file>      ends on SIGTERM
import { closeSync, fstatSync, openSync, readSync, watch } from 'node:fs'
import { type BacklogPolicy, type Connection, Server } from '@coroipc/ipcs'
import { CAUGHT_UP, FEED, LINE, SUBSCRIBE } from './protocol.js'

const CHUNK_BYTES = 64 << 10
const NEW_LINE = 0x0a

const [name, path] = process.argv.slice(2)
if (name === undefined || path === undefined) {
  console.error('usage: node server.js <name> <file>')
  process.exit(2)
}
const file = openSync(path, 'r')

/** Position in the file of the next line that a subscriber has not been sent; undefined before it subscribes. */
interface Subscriber {
  position: number | undefined
}

// The file is the buffer that lines wait in; what else waits for a subscriber is kept small.
const server = new Server<Subscriber>({ limits: { backlogBytes: 16 << 10 } })
const policies: readonly string[] = ['error', 'drop-oldest', 'drop-newest', 'disconnect']

server.addService({
  id: FEED,
  context: () => ({ position: undefined }),
  onConnect: (connection) => void connection.on('drain', () => feed(connection)),
  handlers: {
    [SUBSCRIBE]: (request, connection) => {
      const policy = Buffer.from(request.payload).toString()
      if (!policies.includes(policy)) throw new Error(`no such policy: ${policy}`)
      connection.setBacklogPolicy(policy as BacklogPolicy)
      connection.context.position ??= 0
      // The answer first, then lines.
      request.respond()
      feed(connection)
    },
    [CAUGHT_UP]: () => {
      const bytes = fstatSync(file).size
      for (const { context, closed, flowControl } of server.connections())
        if (!closed && (flowControl || (context.position ?? bytes) < bytes)) return '0'
      return '1'
    },
  },
})

/** Sends what is new in the file: all of it, or as much as there is room for. */
function feed(subscriber: Connection<Subscriber>): void {
  const { context } = subscriber
  if (context.position === undefined) return
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES)
  for (;;) {
    const bytes = readSync(file, chunk, 0, CHUNK_BYTES, context.position)
    let start = 0
    for (let end = chunk.indexOf(NEW_LINE); end !== -1 && end < bytes; ) {
      // False: no room ('drain' will call us), or it is gone.
      if (!subscriber.dispatch(chunk.subarray(start, end), { id: LINE })) return
      context.position += end + 1 - start
      start = end + 1
      end = chunk.indexOf(NEW_LINE, start)
    }
    if (start > 0) continue
    // A line that fills the chunk is sent in pieces; an unfinished one waits for its end.
    if (bytes < CHUNK_BYTES) return
    if (!subscriber.dispatch(chunk, { id: LINE })) return
    context.position += bytes
  }
}

const watcher = watch(path, () => {
  for (const connection of server.connections()) feed(connection)
})

process.once('SIGTERM', () => {
  watcher.close()
  void server.close().then(() => closeSync(file))
})
await server.listen(name)
console.log(`listening on ${server.address}`)
