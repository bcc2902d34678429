// A small configuration store in the manner of corosync's cmap: keys with values, iteration by prefix, and watches that
// tell of each change by dispatch. In memory only.
//
//   node build/examples/key-value/server.js <name>         ends on SIGTERM
import { type Connection, type FullAnswer, type Request, Server } from '@coroipc/ipcs'
import {
  CHANGED,
  DELETE,
  DELETED,
  GET,
  KEY,
  LIST,
  type Page,
  PAGE_KEYS,
  SET,
  Status,
  STORE,
  VALUE_BYTES,
  WATCH,
} from './protocol.js'

const KEYS = 10000
const WATCHES = 100

/** What a client watches. */
interface Client {
  readonly prefixes: Set<string>
}

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}

const values = new Map<string, string>()
const server = new Server<Client>()
const text = ({ payload }: Request<Client>): string => Buffer.from(payload).toString()
const failed = (status: number): FullAnswer => ({ status })

function tellWatchers(id: number, key: string, payload: string): void {
  for (const connection of server.connections()) {
    for (const prefix of connection.context.prefixes)
      if (key.startsWith(prefix)) {
        // Never false: whoever does not read is disconnected, and so knows that it has missed something.
        connection.dispatch(payload, { id })
        break
      }
  }
}

server.addService({
  id: STORE,
  context: () => ({ prefixes: new Set() }),
  backlogPolicy: 'disconnect',
  backlogBytes: 1 << 20,
  handlers: {
    [GET]: (request) => values.get(text(request)) ?? failed(Status.notFound),

    [SET]: (request) => {
      const payload = text(request)
      const end = payload.indexOf('\0')
      const key = payload.slice(0, end)
      if (end < 0 || !KEY.test(key)) return failed(Status.badKey)
      if (request.payload.length - end - 1 > VALUE_BYTES) return failed(Status.tooLarge)
      if (!values.has(key) && values.size >= KEYS) return failed(Status.full)
      values.set(key, payload.slice(end + 1))
      tellWatchers(CHANGED, key, payload)
      return undefined
    },

    [DELETE]: (request) => {
      const key = text(request)
      if (!values.delete(key)) return failed(Status.notFound)
      tellWatchers(DELETED, key, key)
      return undefined
    },

    [LIST]: (request) => {
      const { prefix, after } = JSON.parse(text(request)) as Page
      const keys = [...values.keys()].filter((key) => key.startsWith(prefix) && key > after).sort()
      return JSON.stringify(keys.slice(0, PAGE_KEYS))
    },

    [WATCH]: (request, { context }: Connection<Client>) => {
      if (context.prefixes.size >= WATCHES) return failed(Status.full)
      context.prefixes.add(text(request))
      return undefined
    },
  },
})

process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
