// The store from the command line, as several users at once.
import t from 'tap'
import { type Outcome, Place, run, start } from './support.js'

t.test('set, get, list, delete, watch', async (t) => {
  using place = new Place()
  await using server = start(place, 'key-value/server.js', 'store')
  await server.line(/^listening/)
  const store = (...args: string[]): Promise<Outcome> =>
    run(place, 'key-value/main.js', 'store', ...args)

  await using watcher = start(place, 'key-value/main.js', 'store', 'watch', 'totem.')
  await watcher.line(/^watching/)

  t.equal((await store('set', 'totem.token', '1000')).code, 0)
  t.equal((await store('set', 'totem.interface', 'ring 0, Ringnummer für Übung')).code, 0)
  t.equal((await store('set', 'quorum.votes', '2')).code, 0)
  t.equal((await store('get', 'totem.token')).stdout, '1000\n')
  t.equal((await store('get', 'totem.interface')).stdout, 'ring 0, Ringnummer für Übung\n')
  t.match(await store('get', 'totem.none'), { code: 1, stderr: 'no such key: totem.none\n' })
  t.equal(
    (await store('list')).stdout,
    'quorum.votes = 2\ntotem.interface = ring 0, Ringnummer für Übung\ntotem.token = 1000\n',
  )
  t.equal((await store('list', 'quorum')).stdout, 'quorum.votes = 2\n')
  t.equal((await store('list', 'x')).stdout, '')
  t.equal((await store('set', 'totem.token', '')).code, 0)
  t.equal((await store('get', 'totem.token')).stdout, '\n')
  t.equal((await store('delete', 'totem.token')).code, 0)
  t.equal((await store('delete', 'totem.token')).code, 1)

  await watcher.line(/deleted/)
  const { code, stdout } = await watcher.stop('SIGINT')
  t.equal(code, 0)
  t.strictSame(stdout.trimEnd().split('\n'), [
    'watching',
    'totem.token = 1000',
    'totem.interface = ring 0, Ringnummer für Übung',
    'totem.token = ',
    'totem.token deleted',
  ])
  t.equal((await server.stop()).code, 0)
  t.strictSame(place.left, [], 'nothing is left')
})

t.test('what cannot be', async (t) => {
  using place = new Place()
  t.match(await run(place, 'key-value/main.js', 'store', 'get', 'totem.token'), {
    code: 1,
    stderr: /no server listens/,
  })
  t.match(await run(place, 'key-value/main.js', 'store', 'steal'), { code: 2, stderr: /^usage/ })
  await using server = start(place, 'key-value/server.js', 'store')
  await server.line(/^listening/)
  for (const [key, value, reason] of [
    ['a', 'too short', /not a key/],
    ['a key', 'with a space', /not a key/],
    ['k'.repeat(256), 'too long', /not a key/],
    ['key', 'v'.repeat(65537), /value is too large/],
  ] as const)
    t.match(await run(place, 'key-value/main.js', 'store', 'set', key, value), {
      code: 1,
      stderr: reason,
    })
  t.equal((await run(place, 'key-value/main.js', 'store', 'list')).stdout, '')
})
