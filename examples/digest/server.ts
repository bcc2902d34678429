// The digest server: hashes what it is sent, and tells watchers how it is going.
//
//   node build/examples/digest/server.js /tmp/digest.sock      ends on SIGTERM
import { createHash, type Hash } from 'node:crypto'
import { type Connection, Server } from '@coroipc/ipcs'
import {
  DIGEST,
  FINAL,
  HEAD_BYTES,
  HELLO,
  type Progress,
  TIMES,
  type Times,
  UPDATE,
  WATCH,
  WHOLE,
} from './protocol.js'

const FEED_MS = 100

/** Private data of a connection: what this client has had, and its files of which parts have come. */
interface Client {
  name: string
  files: number
  bytes: number
  hash: number
  times: Times
  readonly unfinished: Map<number, Hash>
}

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}

const clients: Client[] = []
const watchers = new Set<Connection<Client>>()
// Bytes in a zero-copy buffer may change while they are hashed, if their client wants that: then it gets the wrong
// digest that it asked for. So there is nothing to fear from reading them in place.
const server = new Server<Client>({ limits: { unsentBytes: 1 << 20 } })

/** Runs a step of hashing and counts its time. */
function timed<T>(client: Client, bytes: number, step: () => T): T {
  const started = performance.now()
  const result = step()
  client.hash += performance.now() - started
  client.bytes += bytes
  return result
}

server.addService({
  id: DIGEST,
  trust: ({ uid }) => uid === process.getuid?.(),
  context: () => ({
    name: '',
    files: 0,
    bytes: 0,
    hash: 0,
    times: { read: 0, check: 0, wait: 0 },
    unfinished: new Map(),
  }),
  handlers: {
    [HELLO]: ({ payload }, { context }) => {
      context.name = Buffer.from(payload).toString()
      clients.push(context)
    },
    [WHOLE]: ({ payload }, { context }) => {
      context.files++
      return timed(context, payload.length, () => createHash('sha256').update(payload).digest())
    },
    [UPDATE]: ({ payload }, { context }) => {
      partOf(context, payload)
    },
    [FINAL]: ({ payload }, { context }) => {
      const hash = partOf(context, payload)
      context.unfinished.delete(fileNumber(payload))
      context.files++
      return timed(context, 0, () => hash.digest())
    },
    [TIMES]: ({ payload }, { context }) => {
      context.times = JSON.parse(Buffer.from(payload).toString()) as Times
    },
  },
})

function fileNumber(payload: Uint8Array): number {
  if (payload.length < HEAD_BYTES) throw new Error(`a part without a head: ${payload.length} bytes`)
  return new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
}

function partOf(client: Client, payload: Uint8Array): Hash {
  const file = fileNumber(payload)
  const hash = client.unfinished.get(file) ?? createHash('sha256')
  client.unfinished.set(file, hash)
  const part = payload.subarray(HEAD_BYTES)
  return timed(client, part.length, () => hash.update(part))
}

server.addService({
  id: WATCH,
  // Only the latest state matters: a slow watcher misses some.
  backlogPolicy: 'drop-oldest',
  backlogBytes: 64 << 10,
  onConnect: (connection) => void watchers.add(connection),
  onDisconnect: (connection) => void watchers.delete(connection),
})

const feed = setInterval(() => {
  const progress = clients.map<Progress>(({ name, files, bytes, hash, times }) => ({
    name,
    files,
    bytes,
    hash,
    times,
  }))
  for (const watcher of watchers) watcher.dispatch(JSON.stringify(progress))
}, FEED_MS)

process.once('SIGTERM', () => {
  clearInterval(feed)
  void server.close()
})
await server.listen(name)
console.log(JSON.stringify({ event: 'listening', address: server.address }))
