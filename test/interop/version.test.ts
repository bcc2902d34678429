// Peers of another ABI version: refused by both sides, with both versions in the message, before any memory is made.
import { connect, connectSync } from '@coroipc/ipcc'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Peer } from '../support/peer.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { failure, text } from '../support/wait.js'

const directory = runtimeDirectory(t)
const ABI = 1
const VERSION = 8

for (const version of [0, 2, 3, 65535]) {
  t.test(`a server of version ${version}: the client names both versions`, async (t) => {
    const path = `${directory}/${freshName()}.sock`
    for (const blocking of [false, true]) {
      const stranger = Program.start('stranger', 'server', path, 'version', String(version))
      await stranger.line('ready')
      const error = await failure(
        blocking ? () => connectSync(path, { service: 1 }) : connect(path, { service: 1 }),
      )
      t.equal(error.code, 'ERR_COROIPC_VERSION')
      t.match(error.message, `ABI version ${version}, this package ${ABI}`)
      t.equal(await stranger.end(), 0)
      const { unlinkSync } = await import('node:fs')
      unlinkSync(path)
    }
  })
}

t.test(
  'clients of other versions are told ours and get no memory; the server lives on',
  async (t) => {
    const name = `${directory}/${freshName()}.sock`
    await using server = new Server()
    server.addService({ id: 1, handlers: { 0: (request) => request.payload } })
    await server.listen(name)
    for (const version of [0, 2, 65535]) {
      const stranger = Program.start('stranger', 'client', name, 'version', String(version))
      t.equal(await stranger.end(), 0)
      t.strictSame(stranger.lines, ['said it', `answered status ${VERSION} version ${ABI} fd no`])
    }
    t.equal(server.stats().connections, 0)
    t.equal(server.stats().connectionsRefused, 3)
    t.equal(server.stats().segmentBytes, 0)
    await using connection = await connect(name, { service: 1 })
    t.equal(text(await connection.request(0, 'ours')), 'ours')
  },
)

t.test('a C program that meets another version reads it from coroipcc_peer_version', async (t) => {
  const path = `${directory}/${freshName()}.sock`
  const stranger = Program.start('stranger', 'server', path, 'version', '7')
  await stranger.line('ready')
  const client = Program.start('interop-client', path, '1', 'sizes')
  t.equal(await client.end(), 0)
  t.strictSame(client.lines, ['connect: VERSION, peer version 7'])
  t.equal(await stranger.end(), 0)
})

t.test('our own version connects: the tests above can fail', async (t) => {
  await using peer = await Peer.open()
  const name = freshName()
  await peer.run(async ({ ipcs, state }, name) => {
    state.server = new ipcs.Server()
    state.server.addService({ id: 1 })
    await state.server.listen(name)
  }, name)
  const stranger = Program.start(
    'stranger',
    'client',
    `${directory}/${name}`,
    'version',
    String(ABI),
  )
  t.equal(await stranger.end(), 0)
  t.strictSame(stranger.lines, ['said it', `answered status 0 version ${ABI} fd yes`])
})
