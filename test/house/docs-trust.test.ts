// The table of threats in docs/internals/trust.md is whole, and each test that it names exists.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'
import { page } from './docs-blocks.js'

const THREATS = 31

interface Threat {
  readonly id: string
  readonly promised: string
  readonly tests: readonly { readonly file: string; readonly title: string }[]
}

function threatsOf(text: string): Threat[] {
  return text
    .split('\n')
    .filter((line) => /^\| T\d+ \|/.test(line))
    .map((line) => {
      const [, id = '', , promised = '', shown = ''] = line.split('|').map((cell) => cell.trim())
      const tests = [...shown.matchAll(/`([^`]+)` \*([^*]+)\*/g)]
      return { id, promised, tests: tests.map(([, file = '', title = '']) => ({ file, title })) }
    })
}

/** Tests that a table names and that do not exist. */
const missing = (threats: readonly Threat[]): string[] =>
  threats.flatMap(({ id, tests }) =>
    tests
      .filter(({ file, title }) => {
        const path = join(root, 'test', file)
        // Quotes are escaped where the title stands.
        return (
          !existsSync(path) || !readFileSync(path, 'utf8').replaceAll("\\'", "'").includes(title)
        )
      })
      .map(({ file, title }) => `${id}: ${file}: ${title}`),
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
  // The first stands in this very file.
  t.strictSame(missing(threatsOf(invented)), ['T1: house/none.test.ts: x'])
  const other = '| T1 | a | b | `house/clocks.test.ts` *a title that nobody wrote* |'
  t.strictSame(missing(threatsOf(other)), ['T1: house/clocks.test.ts: a title that nobody wrote'])
})
