// The server of the tests: says 'ready' to its parent, and whatever its server reports as an error.
import { setTimeout as sleep } from 'node:timers/promises'
import { StatusError } from '@coroipc/contract'
import { dispatcher, implement } from '@coroipc/contract/server'
import { Server } from '@coroipc/ipcs'
import { everything } from './contracts.js'

const [name = ''] = process.argv.slice(2)
const send = dispatcher(everything)
const server = new Server()
server.on('error', ({ code, cause }) => process.send?.({ code, cause: String(cause) }, () => {}))
const notes: string[] = []
let hanging = 0

server.addService(
  implement(everything, {
    context: (connection) => ({ uid: connection.credentials.uid, calls: 0 }),
    handlers: {
      add: ({ a, b }, { connection }) => {
        connection.context.calls++
        return a + b
      },
      twice: ({ n }) => String(2 * n),
      unique: async (text) => text,
      find: (key) => {
        if (key === 'none') throw new StatusError(404, 'no such key')
        if (key === 'taken') throw new StatusError(-0x80000000, 'not for applications')
        return key === 'nothing' ? undefined : `value of ${key}`
      },
      fail: async (message) => {
        await sleep(1)
        if (message === 'status') throw new StatusError(-1)
        throw new Error(message)
      },
      wrong: () => 'no number' as never,
      cannot: () => (() => 1) as never,
      ping: () => {},
      hang: async (_, { signal }) => {
        hanging++
        signal.addEventListener('abort', () => hanging--)
        await new Promise(() => {})
      },
      note: (text) => {
        notes.push(text)
      },
      notes: () => [...notes.splice(0), `hanging ${hanging}`],
      feed: async (count, { connection, signal }) => {
        for (let n = 0; n < count; n++)
          while (!send.tick(connection, { n })) await connection.drain({ signal })
        send.late(connection, 'slow')
        send.done(connection)
        connection.dispatch('unknown to the contract', { id: 99 })
        send.odd(connection, 'no number' as never)
        connection.dispatch('no JSON', { id: 0 })
        connection.dispatch(`"${'x'.repeat(1000)}"`, { id: 2 })
        send.late(connection, 'bad')
        send.tick(connection, { n: -1 })
      },
      sort: (list) => list.sort((a, b) => a - b),
      raw: (value) => value,
      text: (value) => value.toUpperCase(),
      believed: ({ x, y }) => ({ x: y, y: x }),
      clone: (value) => value.set('answered', new Date(0)),
      date: ({ at }) => ({ at: new Date(at.getTime() + 1000) }),
      packed: (value) => value,
      message: (value) => value,
      point: ({ x, y }) => ({ x: y, y: x }),
      valibot: ({ name: text }) => text,
      arktype: ({ age }) => `${age}`,
    },
  }),
)
await server.listen(name)
process.send?.('ready')
process.on('disconnect', () => process.exit())
