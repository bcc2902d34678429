// The programs of the guide, of the pages on migration and of the packages run as they stand there, and print what the page says they print.
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'
import { blocksOf, packagePages, pagesBelow, Workshop, word } from './docs-blocks.js'

const run = promisify(execFile)
const failed = (error: { stdout?: string; stderr?: string; message: string }): string =>
  `${error.message}\n${error.stdout}\n${error.stderr}`

/** Lets programs of the workshop import a package that only the benchmarks have. */
function lend(workshop: Workshop, name: string): boolean {
  const from = join(root, 'bench/node_modules', name)
  const to = join(workshop.directory, 'node_modules', name)
  if (!existsSync(from)) return false
  mkdirSync(dirname(to), { recursive: true })
  if (!existsSync(to)) symlinkSync(from, to)
  return true
}

const pages = [...pagesBelow('docs/guide'), ...pagesBelow('docs/migration'), ...packagePages()]
for (const page of pages) {
  const blocks = blocksOf(page)
  const programs = blocks.filter(({ words }) => words.includes('run'))
  if (programs.length === 0) continue
  t.test(page, async (t) => {
    const workshop = new Workshop()
    t.teardown(() => workshop.remove())
    for (const block of blocks) {
      const name = word(block, 'file')
      if (name !== undefined) workshop.write(name, block.text)
    }
    for (const block of programs) {
      const { line, text } = block
      const title = `the program of line ${line}`
      const needs = word(block, 'needs')
      if (needs !== undefined && !lend(workshop, needs)) {
        t.pass(title, { skip: `${needs} is not installed: npm run bench:peers` })
        continue
      }
      const program = workshop.write(`line-${line}.mjs`, text)
      const next = blocks[blocks.indexOf(block) + 1]
      const expected = next?.words.includes('output') ? next.text : undefined
      const options = { cwd: workshop.directory, env: workshop.env, timeout: 30_000 }
      const result = await run(process.execPath, [program], options).catch(failed)
      if (typeof result === 'string') t.fail(`${title}: ${result}`)
      else if (expected === undefined) t.pass(title)
      else t.equal(result.stdout, expected, title)
    }
  })
}
