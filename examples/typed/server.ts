// The stock: handlers get values that are what the contract says, and return values.
//
//   node build/examples/typed/server.js <name>         ends on SIGTERM
import { StatusError } from '@coroipc/contract'
import { dispatcher, implement } from '@coroipc/contract/server'
import { Server } from '@coroipc/ipcs'
import { NOT_ENOUGH, stock } from './contract.js'

/** What each connection has. */
interface Watcher {
  watches: boolean
}

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}

const counts = new Map<string, number>()
const server = new Server<Watcher>()
const send = dispatcher(stock)

function change(item: string, count: number): number {
  counts.set(item, count)
  for (const connection of server.connections())
    if (connection.context.watches) send.changed(connection, { item, count })
  return count
}

server.addService(
  implement(stock, {
    context: (): Watcher => ({ watches: false }),
    backlogPolicy: 'disconnect', // whoever does not read its changes is to know that it has missed some
    handlers: {
      add: ({ item, count }) => change(item, (counts.get(item) ?? 0) + count),
      take: ({ item, count }) => {
        const left = (counts.get(item) ?? 0) - count
        if (left < 0) throw new StatusError(NOT_ENOUGH, `there are ${left + count} of ${item}`)
        return change(item, left)
      },
      list: () => [...counts].map(([item, count]) => ({ item, count })),
      watch: (_, { connection }) => {
        connection.context.watches = true
      },
    },
  }),
)

process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
