// The table of threats in docs/internals/trust.md is whole, and each test that it names exists.
import t from 'tap'
import { page } from './docs-blocks.js'
import { isMissing, type Named, namedIn, titlesIn } from './titles.js'

const THREATS = 31

interface Threat {
  readonly id: string
  readonly promised: string
  readonly tests: readonly Named[]
}

function threatsOf(text: string): Threat[] {
  return text
    .split('\n')
    .filter((line) => /^\| T\d+ \|/.test(line))
    .map((line) => {
      const [, id = '', , promised = '', shown = ''] = line.split('|').map((cell) => cell.trim())
      return { id, promised, tests: namedIn(shown) }
    })
}

/** Tests that a table names and that do not exist. */
const missing = (threats: readonly Threat[]): string[] =>
  threats.flatMap(({ id, tests }) =>
    tests.filter(isMissing).map(({ file, title }) => `${id}: ${file}: ${title}`),
  )

const threats = threatsOf(page('docs/internals/trust.md'))

t.test('each threat has one row, a promise and a test', async (t) => {
  t.strictSame(
    threats.map(({ id }) => id),
    Array.from({ length: THREATS }, (_, i) => `T${i + 1}`),
  )
  for (const { id, promised, tests } of threats) {
    t.not(promised, '', id)
    t.ok(tests.length > 0, `${id}: ${tests.length} tests`)
  }
})

t.test('each test that is named exists', async (t) => {
  t.strictSame(missing(threats), [])
})

t.test('one that does not would be found', async (t) => {
  const invented =
    '| T1 | a | b | `house/docs-trust.test.ts` *a title that nobody wrote*; `house/none.test.ts` *x* |'
  t.strictSame(missing(threatsOf(invented)), [
    'T1: house/docs-trust.test.ts: a title that nobody wrote',
    'T1: house/none.test.ts: x',
  ])
  // What stands in a file, and is no title: of a comment, and the beginning of one.
  const others =
    '| T1 | a | b | `house/clocks.test.ts` *a wall clock jumps*; `native/ring_test.cc` *a ring can be filled*; `sweep/sweep.test.ts` *instructions* |'
  t.equal(missing(threatsOf(others)).length, 3)
})

t.test('titles are read as they are given', async (t) => {
  const script = [
    "// t.test('a comment')",
    "t.test('it\\'s whole', async (t) => {",
    '  await t.test(',
    '    `on ${place}: it goes on`,',
    "  t.equal(a, 'no title')",
  ].join('\n')
  t.strictSame(titlesIn('x.test.ts', script), {
    whole: ["it's whole"],
    parts: ['on ', ': it goes on'],
  })
  const program = 'TEST("in two "\n     "halves") {\n  CHECK("x");\n// TEST("a comment") {'
  t.strictSame(titlesIn('x_test.cc', program).whole, ['in two halves'])
  t.strictSame(titlesIn('mutants.json', '[{"name":"a","what":"b"}]').whole, ['a'])
})
