// No block of the manual is left to itself: what is not run has right types, or says why neither can be.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'
import { type Block, blocksOf, comment, manual, Workshop, word } from './docs-blocks.js'

const all = manual().flatMap(blocksOf)
const isCode = ({ language }: Block): boolean => language === 'js' || language === 'ts'
const isRun = (block: Block): boolean =>
  block.words.includes('run') || word(block, 'file') !== undefined
const fragments = all.filter((block) => isCode(block) && !isRun(block))
const place = ({ page, line }: Block): string => `${page}:${line}`

/** What a part of a program needs around it to be one. */
function whole(block: Block): string {
  const around = comment(block, 'with') ?? ''
  const imports = /^import .*$/gm
  return `${[...`${around}\n${block.text}`.matchAll(imports)].map(([line]) => line).join('\n')}
${around.replace(imports, '')}
async function part() {
${block.text.replace(imports, '')}
}
void part
`
}

/** What the compiler says of programs, by the number of their file. */
function diagnose(programs: readonly string[]): string[] {
  const workshop = new Workshop()
  try {
    programs.forEach((text, index) => workshop.write(`${index}.ts`, text))
    workshop.write(
      'tsconfig.json',
      JSON.stringify({
        extends: join(root, 'tsconfig.base.json'),
        compilerOptions: {
          noEmit: true,
          composite: false,
          declaration: false,
          declarationMap: false,
          // A reader of a part takes out of it what is of use.
          noUnusedLocals: false,
          noImplicitReturns: false,
          noImplicitAny: false,
        },
        include: ['*.ts'],
      }),
    )
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { stdout } = spawnSync(process.execPath, [tsc, '-p', workshop.directory], {
      cwd: workshop.directory,
      encoding: 'utf8',
    })
    return stdout.split('\n').filter((line) => line.includes('error'))
  } finally {
    workshop.remove()
  }
}

t.test('parts of programs have right types', async (t) => {
  t.ok(fragments.length > 5)
  const said = diagnose(fragments.map(whole)).map((line) =>
    line.replace(/^(\d+)\.ts/, (_, index: string) => place(fragments[Number(index)] as Block)),
  )
  t.same(said, [])
})

t.test('a part that has not is found', async (t) => {
  const [server] = fragments.filter(({ page }) => page === 'docs/reference/server.md')
  const program = whole(server as Block)
  t.ok(program.includes('server.listen('))
  const said = diagnose([program, program.replace('server.listen(', 'server.lissten(')])
  t.equal(said.length, 1)
  t.match(said[0], /^1\.ts.*lissten/)
})

t.test('every other block is run, a drawing, or says why it is not run', async (t) => {
  const left = all.filter(
    (block) =>
      !isCode(block) &&
      !isRun(block) &&
      block.words.length === 0 &&
      block.language !== '' &&
      comment(block, 'not run') === undefined,
  )
  t.same(left.map(place), [])
})

t.test('every npm script that the manual names exists', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
  for (const path of manual()) {
    const named = [...readFileSync(join(root, path), 'utf8').matchAll(/\bnpm run ([\w:]+)/g)]
    t.same(
      named.map(([, name = '']) => name).filter((name) => scripts[name] === undefined),
      [],
      path,
    )
  }
})
