// Nothing of the product looks at a wall clock: deadlines are durations, and a wall clock jumps.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

const wall =
  /\bDate\b|\btime\((nullptr|NULL|0|&)|gettimeofday|CLOCK_REALTIME|CLOCK_TAI|system_clock|high_resolution_clock|pthread_cond_timedwait|sem_timedwait|mtx_timedlock|SO_TIMESTAMP/

const sources = [
  'native/src',
  'native/addon',
  'native/lib',
  'packages/ipcs/src',
  'packages/ipcc/src',
]
  .flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, String(name))),
  )
  .filter((name) => /\.(cc|h|ts)$/.test(name))

/** Lines of code, without comments, that name such a clock. */
const found = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.replace(/\/\/.*$/, ''))
    .filter((line) => !/^\s*(\/?\*|\*)/.test(line) && wall.test(line))
    .map((line) => line.trim())

t.test('no source of the product names a wall clock', async (t) => {
  t.ok(sources.length > 50, `${sources.length} files`)
  for (const name of sources) {
    // A condition variable may be told to use the monotonic clock: client.cc does.
    const lines = found(readFileSync(join(root, name), 'utf8')).filter(
      (line) => !line.includes('pthread_cond_timedwait'),
    )
    t.strictSame(lines, [], name)
  }
})

t.test('condition variables wait by the monotonic clock', async (t) => {
  const users = sources.filter((name) =>
    readFileSync(join(root, name), 'utf8').includes('pthread_cond_timedwait'),
  )
  t.ok(users.length > 0)
  t.match(
    readFileSync(join(root, 'native/src/client.cc'), 'utf8'),
    /pthread_condattr_setclock\(&attributes, CLOCK_MONOTONIC\)/,
  )
})

t.test('it would be found', async (t) => {
  const examples = [
    'const now = Date.now()',
    'clock_gettime(CLOCK_REALTIME, &now);',
    'const auto now = std::chrono::system_clock::now();',
    'time(nullptr)',
  ]
  for (const line of examples) t.strictSame(found(line), [line])
  t.strictSame(found('// not Date.now(): it jumps\n * nor time(nullptr)'), [])
})
