// Who is let in to what: as ourselves, and as root also as another user with and without a group.
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import t from 'tap'
import { built } from '../support/paths.js'
import { type Outcome, Place, run, Running, start } from './support.js'

const uid = process.geteuid?.() ?? -1

t.test('as the same user', async (t) => {
  using place = new Place()
  await using server = start(place, 'credentials/server.js', 'who')
  await server.line(/^listening/)
  const client = (...args: string[]): Promise<Outcome> =>
    run(place, 'credentials/client.js', 'who', ...args)

  const { code, stdout } = await client()
  t.equal(code, 0)
  t.match(stdout, `the server is uid ${uid}, pid ${server.child.pid}`)
  t.match(stdout, new RegExp(`us for {"uid":${uid},"gid":${process.getegid?.()},`))
  t.match(stdout, 'the text is {"written":"nothing yet","by":-1}')
  t.match(await client('hello'), {
    code: 0,
    stdout: `the text is {"written":"hello","by":${uid}}`,
  })
  t.equal((await client('--server-uid', `${uid}`)).code, 0)
  t.match(await client('--server-uid', `${uid + 1}`), {
    code: 1,
    stdout: /is not the server that was demanded/,
  })
  t.equal((await server.stop()).code, 0)
})

/** Runs the client as uid 1234, gid 4321. */
function stranger(place: Place, groups: string, ...args: string[]): Promise<Outcome> {
  const all = [...as1234, groups, '--', process.execPath, script, ...args]
  return new Running(spawn('setpriv', all, { env: place.env, cwd: '/' })).outcome
}

const as1234 = ['--reuid=1234', '--regid=4321']
const script = built('examples/credentials/client.js')
const check = [...as1234, '--clear-groups', '--', process.execPath, '--check', script]
const reachable = uid === 0 && spawnSync('setpriv', check).status === 0
const skip = !reachable && 'needs root, setpriv (util-linux) and a clone that others can read'

t.test('as another user', { skip }, async (t) => {
  using place = new Place()
  chmodSync(place.path, 0o755)
  const address = `${place.path}/socket`

  await t.test('everybody is welcome, but not as an administrator', async (t) => {
    await using server = start(place, 'credentials/server.js', address)
    await server.line(/^listening/)
    const { code, stdout, stderr } = await stranger(place, '--clear-groups', address)
    t.equal(code, 0, stderr)
    t.match(stdout, /us for {"uid":1234,"gid":4321,"groups":\[\],"pid":\d+}/)
    t.match(await stranger(place, '--clear-groups', address, 'mine'), {
      code: 1,
      stdout: /the server refused this process/,
    })
    await server.line(/^client refused: {"pid":\d+,"uid":1234,"gid":4321,"service":2}/)
    t.equal((await server.stop()).code, 0)
  })

  await t.test('by uid, gid or supplementary group', async (t) => {
    for (const [allowed, groups, code] of [
      ['1234', '--clear-groups', 0],
      ['1235', '--clear-groups', 1],
      ['@4321', '--clear-groups', 0],
      ['@77', '--clear-groups', 1],
      ['@77', '--groups=76,77', 0],
    ] as const) {
      await using server = start(place, 'credentials/server.js', address, allowed)
      await server.line(/^listening/)
      t.equal((await stranger(place, groups, address)).code, code, `${allowed}, ${groups}`)
      await server.stop()
    }
  })
})
