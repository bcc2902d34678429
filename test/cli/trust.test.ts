// Structured clones: V8 reads those of our own user; those of another one are shown as bytes, until `--trust` says otherwise.
import t, { type Test } from 'tap'
import { Peer } from '../support/peer.js'
import { coroipc, newName, values } from './cli.js'

const own = process.geteuid?.() ?? 0
const STRANGER = 1234
const refused = `not read as a structured clone: the server is of another user (uid ${STRANGER}); --trust reads it all the same\n`

/** A server of that user whose description says `structured-clone`: service 7 answers and sends `{ a: 1 }`, cloned. */
async function serveClones(t: Test, uid: number): Promise<string> {
  const name = newName()
  const peer = await Peer.open()
  t.teardown(() => peer.end())
  await peer.run(
    async ({ ipcs, state, require }, name, uid) => {
      if (uid !== process.geteuid?.()) {
        process.setgroups?.([])
        process.setgid?.(uid)
        process.setuid?.(uid)
      }
      const { serialize } = require('node:v8') as { serialize(value: unknown): Uint8Array }
      const codec = 'structured-clone'
      const server = (state.server = new ipcs.Server({ inspect: true }))
      server.addService({
        id: 7,
        description: {
          name: 'clones',
          requests: { 0: { name: 'get', codec } },
          dispatches: { 5: { name: 'tick', codec } },
        },
        onConnect(connection) {
          for (const a of [1, 2]) connection.dispatch(serialize({ a }), { id: 5 })
        },
        handlers: { 0: () => serialize({ a: 1 }) },
      })
      await server.listen(name)
    },
    name,
    uid,
  )
  return name
}

t.test('of our own user: values', async (t) => {
  const name = await serveClones(t, own)
  t.same(await coroipc(['call', name, 'clones', 'get']), {
    code: 0,
    stdout: '{"a":1}\n',
    stderr: '',
  })
  const listening = await coroipc(['listen', name, 'clones', '-n', '2', '--json'])
  t.match(values(listening.stdout), [{ value: { a: 1 } }, { value: { a: 2 } }])
  t.equal(listening.stderr, '')
})

t.test(
  'of another user: bytes, and once why; with --trust values',
  { skip: own === 0 ? false : 'needs root, to become another user' },
  async (t) => {
    const name = await serveClones(t, STRANGER)
    const call = (...more: string[]) => coroipc(['call', name, '7', '0', ...more])
    const hex = /^ff..6f22016149..7b01$/
    for (const codec of [[], ['--codec', 'structured-clone']]) {
      const { code, stdout, stderr } = await call('--output', 'json', ...codec)
      t.equal(code, 0)
      t.match(values(stdout), [{ hex, value: undefined }], codec.join(' '))
      t.equal(stderr, refused)
    }
    t.match(await call(), { code: 0, stderr: refused, stdout: /^(?!\{)/ })
    t.match(await call('--output', 'hex'), { code: 0, stderr: '' }, 'nothing was to be read')
    const listening = ['listen', name, 'clones', '-n', '2', '--json']
    const listened = await coroipc(listening)
    t.match(values(listened.stdout), [
      { name: 'tick', hex },
      { name: 'tick', hex },
    ])
    t.equal(listened.stderr, refused)

    t.same(await call('--trust'), { code: 0, stdout: '{"a":1}\n', stderr: '' })
    const trusted = await coroipc([...listening, '--trust'])
    t.match(values(trusted.stdout), [{ value: { a: 1 } }, { value: { a: 2 } }])
    t.equal(trusted.stderr, '')
  },
)
