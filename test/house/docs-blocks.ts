// Fenced blocks of the manual, for the tests that run them and compare them with the code.
//
// What stands behind the language says what a block is:
//   ```js run              a whole program: it runs by itself and ends with code 0
//   ```js run needs=zeromq the same, if this package is there
//   ```js file=server.mjs  a whole program that another one needs; the test says how they run
//   ```c file=x-server.c   with x-client.c: a pair of C programs; libs=libqb if they need more than ours
//   ```text output         what the program before it prints
// Other blocks of JavaScript or TypeScript are parts of a program and have to have right types. What the part needs from
// around it stands in a comment in front of it: <!-- with: declare const rows: string[] -->
// All others are drawings (no language), or say in such a comment why they are not run: <!-- not run: it asks for a password -->
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../support/paths.js'

export interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  /** `run`, `output`, `file=...`; empty for a block that is only to be read. */
  readonly words: readonly string[]
  readonly text: string
  /** The comments in front of the block: what is between their marks. */
  readonly comments: readonly string[]
}

/** A page of the manual, by its path from the root. */
export const page = (path: string): string => readFileSync(join(root, path), 'utf8')

/** Pages below a folder. */
export const pagesBelow = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name))
    .sort()

export function blocksOf(path: string): Block[] {
  const blocks: Block[] = []
  let open: { line: number; indent: string; info: string; text: string[] } | undefined
  let before = ''
  page(path)
    .split('\n')
    .forEach((line, index) => {
      const fence = /^(\s*)```(.*)$/.exec(line)
      if (fence === null) {
        if (open === undefined) before = line.trim() === '' ? before : `${before}${line}\n`
        else open.text.push(line.replace(open.indent, ''))
      } else if (open === undefined) {
        const [, indent = '', info = ''] = fence
        open = { line: index + 1, indent, info, text: [] }
      } else {
        const [language = '', ...words] = open.info.split(/\s+/)
        const text = `${open.text.join('\n')}\n`
        const comments = /(?:<!--(?:(?!-->)[\s\S])*-->\s*)+$/.exec(before)?.[0] ?? ''
        blocks.push({
          page: path,
          line: open.line,
          language,
          words,
          text,
          comments: [...comments.matchAll(/<!--\s*([\s\S]*?)\s*-->/g)].map(([, each = '']) => each),
        })
        open = undefined
        before = ''
      }
    })
  if (open !== undefined) throw new Error(`${path}: the block of line ${open.line} never ends`)
  return blocks
}

/** The value of `name=value` behind a block's language. */
export const word = (block: Block, name: string): string | undefined =>
  block.words.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1)

/** What a comment in front of a block says under this name. */
export const comment = (block: Block, name: string): string | undefined =>
  block.comments
    .find((each) => each.startsWith(`${name}:`))
    ?.slice(name.length + 1)
    .trim()

/** What stands in the tarballs, each by itself. */
export const packagePages = (): string[] => [
  'native/README.md',
  ...readdirSync(join(root, 'packages')).map((name) => join('packages', name, 'README.md')),
]

/** The pages whose blocks are for users: all but the reports, which a program writes. */
export const manual = (): string[] => [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'bench/README.md',
  ...packagePages(),
  ...pagesBelow('docs').filter((path) => !path.startsWith('docs/api/')),
]

/** The block that is the file `name`. */
export function fileBlock(path: string, name: string): Block {
  const found = blocksOf(path).find(({ words }) => words.includes(`file=${name}`))
  if (found === undefined) throw new Error(`${path} has no block file=${name}`)
  return found
}

/** A folder from which programs find our packages, and in which their sockets lie; gone afterwards. */
export class Workshop {
  readonly directory: string = mkdtempSync(join(root, 'build/docs-'))
  readonly env: NodeJS.ProcessEnv = { ...process.env, COROIPC_RUNTIME_DIR: this.directory }

  write(name: string, text: string): string {
    const path = join(this.directory, name)
    writeFileSync(path, text)
    return path
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Rows of the table under a heading, as cells without their back-ticks; the head and the rule left out. */
export function tableRows(path: string, heading: string): string[][] {
  const lines = page(path).split('\n')
  const at = lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading)
  if (at < 0) throw new Error(`${path} has no heading '${heading}'`)
  const rows: string[][] = []
  for (const line of lines.slice(at + 1)) {
    if (line.startsWith('#')) break
    if (line.startsWith('|'))
      rows.push(
        line
          .slice(1, line.lastIndexOf('|'))
          .split('|')
          .map((cell) => cell.trim().replaceAll('`', '')),
      )
  }
  return rows.slice(2)
}
