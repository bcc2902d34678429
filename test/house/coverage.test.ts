// What `npm run coverage` holds is judged by scripts/coverage.mjs: here on numbers with one thing wrong each, which has to be told.
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

interface Part {
  readonly covered: number
  readonly count: number
}
interface Seen {
  readonly name: string
  readonly lines: Part
  readonly branches: Part
}
const { verdictsOn } = (await import(join(root, 'scripts/coverage.mjs'))) as {
  verdictsOn(files: Seen[], sources: string[]): { what: string; seen: string; held: boolean }[]
}

const sources = ['ring', 'handshake', 'server'].map((name) => `native/src/${name}.cc`)
sources.push('native/addon/module.cc')
const all = { covered: 100, count: 100 }
const enough: Seen[] = [...sources, 'native/src/ring.h'].map((name) => ({
  name,
  // 95 % of the lines and 90 % of the branches, in all; those of the ring and of the handshake whole.
  ...(name.endsWith('server.cc')
    ? { lines: { covered: 75, count: 100 }, branches: { covered: 50, count: 100 } }
    : { lines: all, branches: all }),
}))
const failed = (files: Seen[]): string[] =>
  verdictsOn(files, sources)
    .filter(({ held }) => !held)
    .map(({ what, seen }) => `${what}: ${seen}`)
/** The same, but for one file. */
const but = (ending: string, other: Partial<Seen>): Seen[] =>
  enough.map((file) => (file.name.endsWith(ending) ? { ...file, ...other } : file))

t.test('what just reaches the bounds is enough', async (t) => {
  t.strictSame(failed(enough), [])
})

for (const [what, files, told] of [
  [
    'a line less',
    but('server.cc', { lines: { covered: 74, count: 100 } }),
    /^lines: at least 95 %/,
  ],
  [
    'a branch less',
    but('server.cc', { branches: { covered: 49, count: 100 } }),
    /^branches: at least 90 %/,
  ],
  [
    'a branch of the ring, made up for elsewhere',
    but('ring.cc', { branches: { covered: 199, count: 200 } }),
    /^native\/src\/ring\.cc: every branch: 99\.5 %/,
  ],
  [
    'a branch of the handshake, made up for elsewhere',
    but('handshake.cc', { branches: { covered: 199, count: 200 } }),
    /^native\/src\/handshake\.cc: every branch/,
  ],
  [
    'a source of the core that is not counted',
    enough.filter(({ name }) => !name.endsWith('server.cc')),
    /^native\/src\/: each of its 3 sources is counted: all but native\/src\/server\.cc/,
  ],
  [
    'a source of the addon that is not counted',
    but('module.cc', { name: 'native/addon/module.h' }),
    /^native\/addon\/: each of its 1 sources is counted/,
  ],
] as const)
  t.test(`${what} is told by the verdict`, async (t) => {
    const said = failed([...files])
    t.equal(said.length, 1, said.join('; '))
    t.match(said[0] ?? '', told)
  })

t.test('nothing at all is not enough', async (t) => {
  t.ok(failed([]).length >= 6)
})
