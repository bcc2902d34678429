// A host that allows no ArrayBuffer over memory that is not V8's (Electron): trust that both sides declared is not made use of, and
// the same calls work on copies. What native code does then is run by npm test -- --addon=copying, or refused.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { freshName } from '../support/runtime.js'
import { root } from '../support/paths.js'
import { sharedMemory } from '../support/shared-memory.js'

const host = join(root, 'test/support/refusing-host.cjs')
const bytes = 100_000

/** What a client in such a host says: of its own buffer, of the server's, of a lease. */
const client = (name: string): string => `
  import { connect } from '@coroipc/ipcc'
  const connection = await connect('${name}', { service: 1, trustServer: true })
  const buffer = await connection.allocate(${bytes})
  buffer.bytes.fill(7)
  const seen = new TextDecoder().decode(await connection.request(0, buffer))
  const lease = connection.requestSync(1, '', { inPlace: true })
  console.log(buffer.inPlace, seen, lease.inPlace, lease.payload.length, lease.payload.at(-1))
  await connection.close()`

t.test('the client is in such a host', sharedMemory, async (t) => {
  await using server = new Server()
  server.addService({
    id: 1,
    trust: () => true,
    handlers: {
      0: (request) => `${request.inPlace} ${request.payload.length} ${request.payload.at(-1)}`,
      1: (_, connection) => {
        const buffer = connection.allocate(bytes)
        buffer.bytes.fill(8)
        return buffer
      },
    },
  })
  const name = freshName()
  await server.listen(name)
  const start = async (...flags: string[]): Promise<string> => {
    const args = [...flags, '--input-type=module', '-e', client(name)]
    return (await promisify(execFile)(process.execPath, args, { cwd: root })).stdout.trim()
  }
  t.equal(await start(), `true true ${bytes} 7 true ${bytes} 8`, 'in Node.js itself')
  t.equal(await start('--require', host), `false false ${bytes} 7 false ${bytes} 8`)
})
