// Frames by zero copy: whole, in place, in order; a slow viewer misses some and holds up nobody.
import t from 'tap'
import { sharedMemory } from '../support/shared-memory.js'
import { Place, run, start } from './support.js'

t.test('a quick viewer and a slow one', sharedMemory, async (t) => {
  using place = new Place()
  await using relay = start(place, 'camera-relay/relay.js', 'camera')
  await relay.line(/^listening/)
  await using quick = start(place, 'camera-relay/viewer.js', 'camera', '--until', '40')
  await using slow = start(
    place,
    'camera-relay/viewer.js',
    'camera',
    '--until',
    '10',
    '--pause',
    '60',
  )
  await quick.line(/^watching/)
  await slow.line(/^watching/)
  const camera = await run(
    place,
    'camera-relay/camera.js',
    'camera',
    '--frames',
    '150',
    '--rate',
    '200',
  )
  t.equal(camera.stderr, '', 'no frame failed, though viewers left')
  t.match(camera.stdout, /^150 frames, \d+ passed by/)
  t.match((await slow.outcome).stdout, /, 0 wrong\n$/)
  const { code, stdout, stderr } = await quick.outcome
  t.equal(stderr, '')
  t.equal(code, 0)
  t.match(stdout, /\d+ frames, the last \d+, 0 wrong\n$/)
  t.equal((await relay.stop()).code, 0)
  t.strictSame(place.left, [], 'nothing is left')
})

t.test('a viewer that stands still is passed by', sharedMemory, async (t) => {
  using place = new Place()
  await using relay = start(place, 'camera-relay/relay.js', 'camera')
  await relay.line(/^listening/)
  await using viewer = start(place, 'camera-relay/viewer.js', 'camera')
  await viewer.line(/^watching/)
  viewer.child.kill('SIGSTOP')
  const { stdout } = await run(
    place,
    'camera-relay/camera.js',
    'camera',
    '--frames',
    '12',
    '--rate',
    '500',
  )
  t.equal(stdout, '12 frames, 8 passed by a viewer that was late\n')
  viewer.child.kill('SIGCONT')
})
