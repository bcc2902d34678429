// The cache: what one client sets others get; what is no longer right is forgotten; nothing grows without a bound.
import t from 'tap'
import { Cache } from '../../examples/key-value-cache/cache.js'
import { Place, run, start } from './support.js'

t.test('as its manual shows it', async (t) => {
  using place = new Place()
  await using server = start(place, 'key-value-cache/server.js', 'cache')
  await server.line(/^listening/)
  const { code, stdout, stderr } = await run(place, 'key-value-cache/main.js', 'cache')
  t.equal(stderr, '')
  t.equal(code, 0)
  t.same(stdout.trimEnd().split('\n'), [
    'colour: missing',
    'colour: red',
    'colour: red',
    '1 hit, 1 miss, 1 near',
    'colour: blue',
    'blocking: blue',
    'short: missing',
    'true false',
  ])
  t.equal((await server.stop()).code, 0)
  t.strictSame(place.left, [], 'nothing is left')
})

t.test(
  'the entry that was used longest ago goes first, and a value may be too large',
  async (t) => {
    using place = new Place()
    await using server = start(place, 'key-value-cache/server.js', 'cache', '--bytes', '1000')
    await server.line(/^listening/)
    await using cache = await Cache.connect(`${place.path}/cache`)
    for (const key of ['a', 'b', 'c']) await cache.set(key, Buffer.alloc(300, key))
    t.ok(cache.getSync('a'))
    await cache.set('d', Buffer.alloc(300, 'd'))
    t.equal(cache.getSync('b'), undefined, 'b was used longest ago')
    t.equal(Buffer.from(cache.getSync('a') ?? '').toString(), 'a'.repeat(300))
    t.match(await cache.figures(), { entries: 3, bytes: 903, evicted: 1 })
    await t.rejects(cache.set('e', Buffer.alloc(1000)), RangeError)
  },
)

t.test('questions for one key at once are one question', async (t) => {
  using place = new Place()
  await using server = start(place, 'key-value-cache/server.js', 'cache')
  await server.line(/^listening/)
  await using cache = await Cache.connect(`${place.path}/cache`)
  await cache.set('key', Buffer.from('value'))
  await Promise.all(Array.from({ length: 50 }, () => cache.get('key')))
  t.match(await cache.figures(), { hits: 1 })
})
