// The list of mutants in docs/internals/mutants.md: each mistake, or title of a test, that it names is there, and no table of mutants
// is left out.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'
import { page } from './docs-blocks.js'
import { isMissing, namedIn } from './titles.js'

const text = page('docs/internals/mutants.md')

/** What a page names and nobody has. */
const missing = (from: string): string[] =>
  namedIn(from)
    .filter(isMissing)
    .map(({ file, title }) => `${file}: ${title}`)

t.test('each mistake that is named exists', async (t) => {
  t.strictSame(missing(text), [])
  t.strictSame(missing('| `house/clocks.test.ts` *a title that nobody wrote* |'), [
    'house/clocks.test.ts: a title that nobody wrote',
  ])
})

t.test('each row has one', async (t) => {
  const rows = text.split('\n').filter((line) => /^\| (?!checks|-)/.test(line))
  t.ok(rows.length > 20, `${rows.length} rows`)
  for (const row of rows) t.match(row, /\| [^|]*`[^`]+`/, row)
})

// Found by luck, in a minute, or not: an input of its own is played at the start of each run.
t.test('each mutant of the fuzzers has an input that shows it', async (t) => {
  const table = JSON.parse(readFileSync(join(root, 'test/fuzz/mutants.json'), 'utf8')) as {
    name: string
    target: string
  }[]
  for (const { name, target } of table)
    t.ok(existsSync(join(root, 'test/fuzz/corpus', target, `shows-${name}`)), name)
})

t.test('each table of mutants is named', async (t) => {
  const tables = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('mutants.json') && !name.includes('node_modules'),
  )
  t.strictSame(
    tables.filter((name) => !text.includes(`\`${name}\``)),
    [],
  )
  t.ok(tables.length >= 4)
})
