// A server as operators run it: server <name> [command and arguments of its successor]. Takes an inherited socket where there is one, tells its
// pid on request 0, works for a while on request 1, closes on SIGTERM, hands over on SIGUSR2.
import { setTimeout as delay } from 'node:timers/promises'
import { handOver, inherited, Server } from '@coroipc/ipcs'

const [name = '', command, ...args] = process.argv.slice(2)
const server = new Server()
server.addService({
  id: 1,
  handlers: {
    0: () => String(process.pid),
    1: async ({ payload }) => {
      await delay(Number(Buffer.from(payload).toString()))
      return String(process.pid)
    },
    2: () => JSON.stringify({ ...process.env }),
    3: () => JSON.stringify(server.health()),
  },
})
const socket = inherited(name)
await server.listen(socket ?? name)
console.log(`${socket === undefined ? 'own' : 'inherited'} ${process.pid} ${server.address}`)
process.once('SIGTERM', () => void server.close({ handOver: true }))
process.on('SIGUSR2', () => {
  const options = command === undefined ? {} : { command, args, readyTimeoutMs: 2000 }
  handOver(server, options).then(
    () => console.log('handed over'),
    (error: { code?: string }) => console.log('not handed over', error.code),
  )
})
