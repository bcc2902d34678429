// A server without an event loop, on a poll system in JavaScript that calls everything ready, always.
import t from 'tap'
import { Place, run, start } from './support.js'

t.test('clients come and go between the frames', async (t) => {
  using place = new Place()
  await using server = start(place, 'custom-poll/server.js', 'demo')
  await server.line(/^listening/)
  for (const args of [[], [], ['--stop']]) {
    const { code, stdout, stderr } = await run(place, 'custom-poll/client.js', 'demo', ...args)
    t.equal(code, 0, stderr)
    const [pushed, ...frames] = stdout.trimEnd().split('\n')
    t.match(pushed, /^pushed in frame \d+$/)
    const first = Number(pushed?.split(' ').at(-1))
    t.ok(frames.length > 0)
    t.ok(frames.every((line) => Number(line.split(/[ :]/)[1]) > first))
    t.match(frames.at(-1), /^frame \d+: [01]\.\d{3}$/)
  }
  const { code, stdout } = await server.outcome
  t.equal(code, 0)
  t.match(stdout, /^0 sources left after \d+ frames$/m)
  t.strictSame(place.left, [], 'nothing is left')
})

t.test('a killed client is noticed', async (t) => {
  using place = new Place()
  await using server = start(place, 'custom-poll/server.js', 'demo')
  await server.line(/^listening/)
  await using client = start(place, 'custom-poll/client.js', 'demo')
  await client.line(/^pushed/)
  await client.stop('SIGKILL')
  t.equal((await run(place, 'custom-poll/client.js', 'demo', '--stop')).code, 0)
  const { code, stdout } = await server.outcome
  t.equal(code, 0)
  t.match(stdout, '0 sources left')
})
