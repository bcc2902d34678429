// A cache that the processes of a machine share: bounded in bytes, the entry that was used longest ago goes first, each may
// have a time to live. Clients keep what they got and are told when it is no longer right.
//
//   node build/examples/key-value-cache/server.js <name> [--bytes 1048576]         ends on SIGTERM
import { parseArgs } from 'node:util'
import { type Request, Server } from '@coroipc/ipcs'
import {
  CACHE,
  DELETE,
  type Figures,
  FIGURES,
  GET,
  SET,
  STALE,
  Status,
  unpacked,
} from './protocol.js'

interface Stored {
  readonly value: Uint8Array
  readonly expires: number
  /** Who has it, and has to be told. */
  readonly holders: Set<string>
}
/** What a client got and was not yet told to forget. */
interface Client {
  readonly held: Set<string>
}

const { values, positionals } = parseArgs({
  options: { bytes: { type: 'string', default: String(1 << 20) } },
  allowPositionals: true,
})
const [name] = positionals
const bytesMax = Number(values.bytes)
if (name === undefined || !(bytesMax > 0)) {
  console.error('usage: node server.js <name> [--bytes N]')
  process.exit(2)
}

const entries = new Map<string, Stored>() // in the order of their last use
let bytes = 0
let [hits, misses, evicted] = [0, 0, 0]

const server = new Server<Client>()
const text = ({ payload }: Request<Client>): string => Buffer.from(payload).toString()
const sizeOf = (key: string, value: Uint8Array): number => key.length + value.length

function drop(key: string): boolean {
  const stored = entries.get(key)
  if (stored === undefined) return false
  entries.delete(key)
  bytes -= sizeOf(key, stored.value)
  for (const connection of server.connections()) {
    if (!stored.holders.has(connection.id)) continue
    connection.context.held.delete(key)
    connection.dispatch(key, { id: STALE })
  }
  return true
}

function fresh(key: string): Stored | undefined {
  const stored = entries.get(key)
  if (stored === undefined || stored.expires > performance.now()) return stored
  drop(key)
  return undefined
}

server.addService({
  id: CACHE,
  context: () => ({ held: new Set() }),
  // A client that missed a key which is no longer right would go on using it: better that it loses its connection.
  backlogPolicy: 'disconnect',
  onDisconnect: ({ id, context }) => {
    for (const key of context.held) entries.get(key)?.holders.delete(id)
  },
  handlers: {
    [GET]: (request) => {
      const key = text(request)
      const stored = fresh(key)
      if (stored === undefined) {
        misses++
        return { status: Status.missing }
      }
      hits++
      entries.delete(key)
      entries.set(key, stored) // used last
      stored.holders.add(request.connection.id)
      request.connection.context.held.add(key)
      return stored.value
    },

    [SET]: (request) => {
      const { key, value, ttl_ms } = unpacked(request.payload)
      const size = sizeOf(key, value)
      if (size > bytesMax) return { status: Status.tooLarge }
      drop(key)
      for (const oldest of entries.keys()) {
        if (bytes + size <= bytesMax) break
        drop(oldest)
        evicted++
      }
      const expires = ttl_ms === 0 ? Infinity : performance.now() + ttl_ms
      // A payload is ours for ever, but a slice of it would keep all of it, and what lies beside it.
      entries.set(key, { value: value.slice(), expires, holders: new Set() })
      bytes += size
      return undefined
    },

    [DELETE]: (request) => (drop(text(request)) ? undefined : { status: Status.missing }),

    [FIGURES]: () =>
      JSON.stringify({ entries: entries.size, bytes, hits, misses, evicted } satisfies Figures),
  },
})
process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
