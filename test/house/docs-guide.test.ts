// The programs of the guide run as they stand there, and print what the page says they print.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'
import { blocksOf, fileBlock, pagesBelow, Workshop } from './docs-blocks.js'

const run = promisify(execFile)
const failed = (error: { stdout?: string; stderr?: string; message: string }): string =>
  `${error.message}\n${error.stdout}\n${error.stderr}`

for (const page of pagesBelow('docs/guide')) {
  const blocks = blocksOf(page)
  const programs = blocks.filter(({ words }) => words.includes('run'))
  if (programs.length === 0) continue
  t.test(page, async (t) => {
    const workshop = new Workshop()
    t.teardown(() => workshop.remove())
    for (const { words, text } of blocks) {
      const name = words.find((word) => word.startsWith('file='))?.slice('file='.length)
      if (name !== undefined) workshop.write(name, text)
    }
    for (const { line, text } of programs) {
      const program = workshop.write(`line-${line}.mjs`, text)
      const next = blocks[blocks.findIndex((block) => block.line === line) + 1]
      const expected = next?.words.includes('output') ? next.text : undefined
      const options = { cwd: workshop.directory, env: workshop.env, timeout: 30_000 }
      const result = await run(process.execPath, [program], options).catch(failed)
      if (typeof result === 'string') t.fail(`the program of line ${line}: ${result}`)
      else if (expected === undefined) t.pass(`the program of line ${line}`)
      else t.equal(result.stdout, expected, `the program of line ${line}`)
    }
  })
}

t.test('blocks of JavaScript that are only read are at least JavaScript', async (t) => {
  const workshop = new Workshop()
  t.teardown(() => workshop.remove())
  for (const page of ['README.md', ...pagesBelow('docs')]) {
    for (const { language, words, line, text } of blocksOf(page)) {
      if (language !== 'js' || words.length > 0) continue
      const file = workshop.write('block.mjs', text)
      const result = await run(process.execPath, ['--check', file]).catch(failed)
      if (typeof result === 'string') t.fail(`${page}:${line}: ${result}`)
    }
  }
  t.pass('all read')
})

t.test('the C server and the C client of the guide talk', async (t) => {
  const PAGE = 'docs/guide/c-api.md'
  const workshop = new Workshop()
  const release = join(root, 'native/build/Release')
  const programs = ['server.c', 'client.c'].map((name) => {
    const source = workshop.write(name, fileBlock(PAGE, name).text)
    const program = source.replace(/\.c$/, '')
    const warnings = ['-std=c11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror']
    const linked = [`-L${release}`, '-lcoroipc', `-Wl,-rpath,${release}`, '-pthread']
    const include = `-I${join(root, 'native/include')}`
    execFileSync('cc', [...warnings, include, '-o', program, source, ...linked])
    return program
  })
  const [serverFile = '', clientFile = ''] = programs
  const { env } = workshop
  const server = spawn(serverFile, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => workshop.remove())
  await once(server.stdout, 'data')
  const result = await run(clientFile, { env, timeout: 30_000 }).catch(failed)
  server.kill('SIGTERM')
  const [code] = (await once(server, 'exit')) as [number | null]
  const expected = blocksOf(PAGE).find(({ words }) => words.includes('output'))?.text
  t.equal(typeof result === 'string' ? result : result.stdout, expected)
  t.equal(code, 0, 'the server ends in order')
})
