/** The process behind `OwnServer`: serves the measures of `doctor` and `bench` until its parent lets go of it. */
import { type Connection, Server } from '@coroipc/ipcs'
import { ownRequests, ownService, type Volley } from './own-server.js'

/** Sends all of a volley; where there is no room it goes on after 'drain'. */
function volley(connection: Connection, { messages, bytes }: Volley): void {
  const payload = new Uint8Array(bytes)
  let left = messages
  const go = (): void => {
    while (left > 0) {
      if (!connection.dispatch(payload, { id: 0 })) return
      left--
    }
    connection.off('drain', go)
  }
  connection.on('drain', go)
  go()
}

const server = new Server()
server.addService({
  id: ownService,
  handlers: {
    [ownRequests.echo]: (request) => request.payload,
    [ownRequests.size]: (request) => `${request.payload.length}`,
    [ownRequests.volley]: (request, connection) => {
      const wanted = JSON.parse(new TextDecoder().decode(request.payload)) as Volley
      setImmediate(() => volley(connection, wanted)) // after the answer
    },
  },
})
await server.listen(process.argv[2] as string)
process.on('disconnect', () => process.exit())
process.send?.('listening')
