// The verdicts of a soak: servers that do wrong are told within seconds, and runs add up. Without these the answer might always
// be yes.
import t from 'tap'
import { runtimeDirectory } from '../support/runtime.js'
import { random, seed } from './crew.js'
import {
  type collected,
  judge,
  kept,
  line,
  type Piece,
  type Point,
  type Series,
  soak,
  watched,
} from './soak.js'

const directory = runtimeDirectory(t)

for (const [mutant, what] of [
  ['tears', 'each message once'],
  ['keeps', 'each message once'],
  ['leaks', 'server, C: descriptors'],
] as const)
  t.test(`a server that ${mutant} is told`, async (t) => {
    const done = await soak({ seconds: 10, directory, draw: random(seed), mutant })
    const said = done.verdicts.find((verdict) => verdict.what.startsWith(what))
    t.equal(said?.held, false, `${said?.what}: ${said?.seen}`)
  })

/** A run of so many minutes in which the RSS of everybody who is watched grew so fast, from so high. */
function run(
  minutes: number,
  kibHourly: number,
  but: Partial<Piece['watched']['server, C']> = {},
): Piece {
  const points = Array.from({ length: minutes * 6 }, (_, i): Point => {
    const seconds = i * 10
    // What comes and goes beside it.
    const other = ((i * 37) % 11) * 4096
    return [seconds, (40 << 20) + other + (kibHourly * 1024 * seconds) / 3600]
  })
  const range = { least: 7, most: 7, times: points.length }
  const kept = {
    fds: range,
    maps: range,
    rss: line(points),
    own: line(points),
    ...but,
  }
  const reported = <Kept>(kept: Kept): Record<(typeof collected)[number], Kept> => ({
    'server, Node.js': kept,
    'client, Node.js': kept,
  })
  return {
    seconds: minutes * 60,
    interpreted: false,
    messages: minutes * 2e6,
    kills: 1,
    restarts: 1,
    faults: [],
    deaths: 1,
    lateMs: 1,
    watched: Object.fromEntries(watched.map((who) => [who, kept])) as unknown as Piece['watched'],
    live: reported(line(points)),
    leastRss: reported(points),
    leastBeside: reported(points),
  }
}

t.test('one mapping more is told, unless the warm-up had it', async (t) => {
  /** All that is kept of a run in which one of those who are watched has mapped so much, a value a second. */
  const constant = (maps: readonly number[], from: number): boolean => {
    const points = (values: readonly number[]): Point[] => values.map((value, at) => [at, value])
    const each = (values: readonly number[]): Record<(typeof watched)[number], Point[]> =>
      Object.fromEntries(watched.map((who) => [who, points(values)])) as Record<
        (typeof watched)[number],
        Point[]
      >
    const level = each(maps.map(() => 1))
    const series: Pick<Series, 'rss' | 'own' | 'fds' | 'maps'> = {
      rss: level,
      own: level,
      fds: level,
      maps: { ...level, 'client, C': points(maps) },
    }
    const { maps: others } = kept(series, 'server, C', from)
    t.equal(others.least, others.most, 'of somebody else')
    const { maps: own } = kept(series, 'client, C', from)
    return own.least === own.most
  }
  t.equal(constant([5, 5, 5, 5], 0), true)
  t.equal(constant([5, 5, 5, 6], 0), false)
  t.equal(constant([5, 5, 4, 5], 0), false)
  t.equal(constant([1, 2, 3, 4, 7, 7, 7, 7], 4), true, 'a warm-up does not count')
  t.equal(constant([9, 9, 9, 9, 7, 7, 8, 8], 4), false, 'nor does it hide anything')
})

t.test('a page of a heap that comes and goes hides no growth, and is none', async (t) => {
  const draw = random(seed)
  /** What a run of an hour would say of a process that grows so fast, and of whose heap a page is given back now and then. */
  const level = (kibHourly: number): boolean | undefined => {
    let away = 0
    const points = Array.from({ length: 120 }, (_, i): Point => {
      const seconds = 1200 + i * 20
      away = away > 0 ? away - 1 : draw() < 0.04 ? Math.ceil(draw() * 8) : 0
      const grown = Math.floor((kibHourly * seconds) / 3600 / 4) * 4096
      return [seconds, (75 << 20) + grown - (away > 0 ? 262_144 : 0)]
    })
    const piece = { ...run(60, 0), interpreted: true }
    const said = judge([{ ...piece, leastRss: { ...piece.leastRss, 'client, Node.js': points } }])
    return said.find(({ what }) => what.startsWith('client, Node.js: RSS after'))?.held
  }
  const runs = Array.from({ length: 100 })
  const told = (kibHourly: number): number => runs.filter(() => level(kibHourly) === false).length
  const [none, little, more] = [told(0), told(20), told(40)]
  t.equal(none, 0, `${none} of 100 runs that did not grow are said to`)
  t.ok(little >= 90, `growth of 20 KiB an hour is told in ${little} of 100 runs`)
  t.ok(more >= 99, `growth of 40 KiB an hour is told in ${more} of 100 runs`)
})

t.test('verdicts over several runs', async (t) => {
  const of = (pieces: readonly Piece[], what: string): boolean | undefined =>
    judge(pieces).find((verdict) => verdict.what.startsWith(what))?.held
  const [c, node] = ['server, C: RSS', 'client, Node.js: RSS']
  t.equal(of([run(60, 5)], c), true)
  t.equal(of([run(60, 15)], c), false)
  t.equal(of([run(60, -100)], c), true)
  t.equal(of([run(60, 5)], node), undefined, 'a heap takes longer to tell')
  t.equal(of([run(9 * 60, 5)], node), true)
  t.equal(of([run(9 * 60, 15)], node), false)
  const live = 'server, Node.js: in use'
  t.equal(of([run(60, 300)], live), false, 'what no collection frees tells soon that it is much')
  t.equal(of([run(60, 200)], live), undefined)
  t.equal(of([run(9 * 60, 5)], live), true)
  t.equal(of([run(9 * 60, 15)], live), false, 'and late exactly')
  t.equal(of([run(20, 15)], live), undefined)
  const interpreted = (minutes: number, kibHourly: number): Piece => ({
    ...run(minutes, kibHourly),
    interpreted: true,
  })
  const level = `${live} after a collection, 10.0 KiB an hour more at most, interpreted`
  t.equal(of([interpreted(40, 5)], level), true, 'soon, where nothing is compiled')
  t.equal(of([interpreted(40, 15)], level), false)
  t.equal(of([interpreted(20, 5)], level), undefined)
  for (const which of ['rings apart', "rings and V8's heap apart"]) {
    const resident = `server, Node.js: RSS after a collection, ${which},`
    t.equal(of([interpreted(40, 5)], resident), true)
    t.equal(of([interpreted(40, 15)], resident), false)
    t.equal(of([run(60, 5)], resident), undefined, 'only of such runs')
  }
  t.equal(of([interpreted(40, 15), run(60, 5)], level), false, 'each for itself')
  t.equal(of([run(60, 5)], level), undefined, 'only of such runs')
  t.equal(of([run(20, 5)], c), undefined, 'too short alone')
  t.equal(of([run(20, 5), run(20, 5)], c), true, 'two of them are long enough')
  t.equal(of([run(20, 15), run(20, 15)], c), false)
  t.equal(
    of([run(20, 5), run(20, 35)], c),
    false,
    'one that grew is not hidden by one that did not',
  )
  t.equal(of(Array(20).fill(run(10, 15)), c), undefined, 'warm-up is most of these')
  t.equal(of([run(20, 5), run(20, 5)], '1e+8 messages'), undefined)
  t.equal(of([run(20, 5), run(20, 5), run(20, 5)], '1e+8 messages'), true)
  const well = run(60, 5)
  t.equal(
    of([well, run(60, 5, { fds: { least: 7, most: 8, times: 9 } })], 'server, C: desc'),
    false,
  )
  t.equal(
    of([well, run(60, 5, { maps: { least: 7, most: 8, times: 9 } })], 'client, C: mappings'),
    false,
  )
  t.equal(of([well, { ...well, faults: ['lane 3: torn 1'] }], 'each message'), false)
  t.equal(of([well, { ...well, lateMs: 1000 }], 'a death'), false)
  t.equal(of([well, { ...well, lateMs: 999 }], 'a death'), true)
})
