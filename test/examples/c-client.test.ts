// A C client asks a Node.js server in every way there is.
import t from 'tap'
import { Place, run, start } from './support.js'

t.test('every way to ask and to be told', async (t) => {
  using place = new Place()
  await using server = start(place, 'c-client/server.js', 'demo')
  await server.line(/^listening/)
  const { code, stdout, stderr } = await run(place, 'c-client/client', 'demo')
  t.equal(code, 0, stderr)
  t.strictSame(stdout.trimEnd().split('\n'), [
    `server: pid ${server.child.pid}`,
    'blocking: GATHERED FROM PIECES',
    `too small: 60 bytes, status 6: ${'again '.repeat(10)}`,
    'in place: IN PLACE',
    'refused: REFUSED',
    'not handled: NO_HANDLER',
    ...Array.from({ length: 8 }, (_, index) => `pipelined ${index}: ANSWER ${index}`),
    'dispatch 3: 3',
    'dispatch 2: 2',
    'dispatch 1: 1',
  ])
  t.equal((await server.stop()).code, 0)
  t.strictSame(place.left, [], 'nothing is left')
})

t.test('a name that nobody listens to', async (t) => {
  using place = new Place()
  const { code, stderr } = await run(place, 'c-client/client', 'nobody')
  t.equal(code, 1)
  t.match(stderr, 'connect: CONNECT_REFUSED')
})
