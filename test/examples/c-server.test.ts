// C servers inside a libevent loop, in both ways, and Node.js clients.
import { existsSync } from 'node:fs'
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { built } from '../support/paths.js'
import { Place, run, start } from './support.js'

for (const way of ['one_fd', 'callbacks']) {
  const missing =
    !existsSync(built(`examples/c-server/${way}`)) &&
    'libevent is missing: apt-get install libevent-dev pkg-config'
  t.test(way, { skip: missing }, async (t) => {
    using place = new Place()
    const address = `${place.path}/socket`
    await using server = start(place, `c-server/${way}`, address)
    await server.line(/^listening/)

    await t.test('answers and dispatches', async (t) => {
      const { code, stdout, stderr } = await run(
        place,
        'c-server/client.js',
        address,
        '5',
        '-2',
        '40',
      )
      t.equal(code, 0, stderr)
      t.strictSame(stdout.trimEnd().split('\n'), [
        'added 5: 5',
        'everybody hears: 5',
        'added -2: 3',
        'everybody hears: 3',
        'added 40: 43',
        'everybody hears: 43',
      ])
    })

    await t.test('more than one turn takes, of several clients', async (t) => {
      const connections = await Promise.all(
        Array.from({ length: 5 }, () => connect(address, { service: 7 })),
      )
      const one = new BigInt64Array([1n])
      await Promise.all(
        connections.flatMap((connection) =>
          Array.from({ length: 500 }, () => connection.request(0, one)),
        ),
      )
      await Promise.all(connections.map((connection) => connection.close()))
      await using last = await connect(address, { service: 7 })
      t.equal(Buffer.from(await last.request(0, one)).readBigInt64LE(), 43n + 2501n)
      await t.rejects(last.request(0, 'no number'), { code: 'ERR_COROIPC_REFUSED' })
      await t.rejects(last.request(1), { code: 'ERR_COROIPC_NO_HANDLER' })
    })

    t.equal((await server.stop()).code, 0, 'ends in order, and every fd was given back')
    t.strictSame(place.left, [], 'nothing is left')
  })
}
