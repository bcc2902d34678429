// The option `log` with the real pino: its levels, its children, and errors as its serializer writes them.
import { Writable } from 'node:stream'
import { connect } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import { pino } from 'pino'
import t from 'tap'
import { freshName } from '../ipcc/harness.js'
import { outcome } from '../support/wait.js'

t.test('what a server tells pino', async (t) => {
  const lines: Record<string, unknown>[] = []
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>)
      done()
    },
  })
  const log = pino({ level: 'debug', base: null, timestamp: false }, stream)
  const server = new Server({ log: log.child({ server: 'demo' }), authorize: (_, id) => id === 7 })
  server.addService({
    id: 7,
    handlers: {
      0: () => {
        throw new Error('no such file')
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: 7 })
  t.equal(await outcome(connection.request(0)), 'ERR_COROIPC_HANDLER_FAILED')
  t.equal(await outcome(connect(name, { service: 8 })), 'ERR_COROIPC_DENIED')
  const { id } = connection
  await connection.close()
  await server.close()
  t.match(lines, [
    { level: 30, server: 'demo', address: name, msg: 'listening' },
    { level: 20, connection: id, service: 7, pid: process.pid, msg: 'client connected' },
    { level: 50, connection: id, err: { type: 'IpcError', code: 'ERR_COROIPC_HANDLER_FAILED' } },
    { level: 40, service: 8, uid: process.getuid?.(), msg: 'client refused' },
    { level: 20, connection: id, code: 'ERR_COROIPC_DISCONNECTED', msg: 'client gone' },
    { level: 30, msg: 'closed' },
  ])
  t.match(lines[2], { err: { stack: /no such file/ } }, 'the cause as well')
})
