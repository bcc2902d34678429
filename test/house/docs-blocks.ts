// Fenced blocks of the manual, for the tests that run them and compare them with the code.
//
// What stands behind the language says what a block is:
//   ```js run              a whole program: it runs by itself and ends with code 0
//   ```js file=server.mjs  a whole program that another one needs; the test says how they run
//   ```text output         what the program before it prints
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
  let open: { line: number; info: string; text: string[] } | undefined
  page(path)
    .split('\n')
    .forEach((line, index) => {
      const fence = /^```(.*)$/.exec(line)
      if (fence === null) open?.text.push(line)
      else if (open === undefined) open = { line: index + 1, info: fence[1] ?? '', text: [] }
      else {
        const [language = '', ...words] = open.info.split(/\s+/)
        const text = `${open.text.join('\n')}\n`
        blocks.push({ page: path, line: open.line, language, words, text })
        open = undefined
      }
    })
  if (open !== undefined) throw new Error(`${path}: the block of line ${open.line} never ends`)
  return blocks
}

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
