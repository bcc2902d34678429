// The pages about the command line: docs/reference/cli.md has the help of each command as it is, and the exit codes; the
// sessions of docs/guide/command-line.md run as they stand there ('…' is whatever comes).
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { bin, coroipc, type Result } from '../cli/cli.js'
import { root } from '../support/paths.js'
import { blocksOf, fileBlock, page, tableRows, Workshop } from './docs-blocks.js'

const REFERENCE = 'docs/reference/cli.md'
const GUIDE = 'docs/guide/command-line.md'

t.test('the reference has the help of each command', async (t) => {
  const { stdout } = await coroipc(['completion', '--line', 'coroipc help '])
  const names = stdout.trim().split('\n')
  t.ok(names.includes('call') && names.includes('doctor'))
  const blocks = new Map(
    blocksOf(REFERENCE).map(({ words, text }) => [
      words.find((word) => word.startsWith('help='))?.slice('help='.length),
      text,
    ]),
  )
  const helps = await Promise.all(names.map((name) => coroipc([name, '--help'])))
  for (const [index, name] of names.entries()) {
    const help = helps[index] as Result
    t.equal(blocks.get(name), help.stdout, `${name}; npm run generate:cli writes it anew`)
    const long = help.stdout.split('\n').filter((line) => line.length > 120)
    t.same(long, [], `${name}: lines that fit`)
  }
  t.same(
    [...blocks.keys()].filter((name) => name !== undefined && !names.includes(name)),
    [],
    'no help of a command that is gone',
  )
})

t.test('the exit codes are those of the table', async (t) => {
  const source = readFileSync(join(root, 'packages/cli/src/command.ts'), 'utf8')
  const body = /export const Exit = \{([^}]*)\}/.exec(source)?.[1] ?? ''
  const codes = [...body.matchAll(/^ {2}\w+: (\d+),$/gm)].map(([, code]) => code)
  t.ok(codes.length >= 6)
  t.same(
    tableRows(REFERENCE, 'Exit codes').map(([code]) => code),
    codes,
  )
  t.match(page(REFERENCE), '`NO_COLOR`')
})

interface Step {
  readonly line: string
  readonly expected: string
}

/** `$ COMMAND` and what follows it. */
function steps(session: string): Step[] {
  return session
    .split(/^\$ /m)
    .slice(1)
    .map((each) => {
      const end = each.indexOf('\n')
      return { line: each.slice(0, end), expected: each.slice(end + 1) }
    })
}

const pattern = (expected: string): RegExp =>
  new RegExp(
    `^${expected
      .split('…')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
  )

t.test('the sessions of the guide', async (t) => {
  const workshop = new Workshop()
  const path = join(workshop.directory, 'bin')
  mkdirSync(path)
  symlinkSync(bin, join(path, 'coroipc'))
  const env = { ...workshop.env, PATH: `${path}${delimiter}${process.env['PATH']}` }
  const script = workshop.write('server.mjs', fileBlock(GUIDE, 'server.mjs').text)
  const server = spawn(process.execPath, [script], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  // One shell for all: `$?` is that of the command before.
  const shell = spawn('bash', ['--norc', '--noprofile', '-s'], {
    env: { ...env, LC_ALL: 'C.UTF-8' },
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: workshop.directory,
  })
  t.teardown(async () => {
    shell.kill()
    if (server.kill()) await once(server, 'exit')
    workshop.remove()
  })
  await once(server.stdout, 'data')
  const all = blocksOf(GUIDE)
    .filter(({ language }) => language === 'console')
    .flatMap((block) => steps(block.text))
  t.ok(all.length > 10)
  const MARK = 'end of the step'
  shell.stdin.end(
    all.map(({ line }) => `{ ${line}\n} 2>&1; code=$?; echo "${MARK}"; (exit $code)\n`).join(''),
  )
  const said = (await text(shell.stdout)).split(`${MARK}\n`)
  all.forEach(({ line, expected }, index) => {
    t.match(said[index] ?? '', pattern(expected), line)
  })
})
