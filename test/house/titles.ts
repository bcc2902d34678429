// The titles that a file below test/ really gives to its tests, for the pages that name them: what is said in a comment, or inside of
// a test, is none. Where a title is put together while the test runs, its fixed parts are what can be named.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../support/paths.js'

const string = String.raw`'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|` + '`(?:[^`\\\\]|\\\\.)*`'

/** What a string literal says, in its fixed parts: one, if nothing is put into it. */
const partsOf = (literal: string): string[] =>
  literal
    .slice(1, -1)
    .replace(/\\(['"`\\])/g, '$1')
    .split(literal.startsWith('`') ? /\$\{[^}]*\}/ : /(?!)/)

interface Titles {
  /** Whole titles. */
  readonly whole: readonly string[]
  /** Fixed parts of titles that are put together. */
  readonly parts: readonly string[]
}

/** Of a text of that name. */
export function titlesIn(name: string, source: string): Titles {
  const literals = (before: RegExp): string[][] =>
    [...source.matchAll(new RegExp(`${before.source}(${string})`, 'gm'))].map(([, literal = '']) =>
      partsOf(literal),
    )
  const whole = (found: string[]): Titles => ({ whole: found, parts: [] })
  if (name.endsWith('.json'))
    return whole((JSON.parse(source) as { name: string }[]).map(({ name }) => name))
  // TEST("..." "..."): C puts them together.
  if (name.endsWith('.cc'))
    return whole(
      [...source.matchAll(/^TEST\(((?:\s*"(?:[^"\\]|\\.)*")+)\s*\)/gm)].map(([, said = '']) =>
        [...said.matchAll(/"(?:[^"\\]|\\.)*"/g)].flatMap(([literal]) => partsOf(literal)).join(''),
      ),
    )
  // Programs with a planted mistake: the argument, or the variable, that asks for it.
  if (name.endsWith('.c')) return whole(literals(/(?:strcmp\(what, |getenv\()/).flat())
  const found = literals(/^\s*(?:await )?t\.test\(\s*/)
  // What other programs run and report: a kind of sweep, or a target of the fuzzers.
  const kinds = [...source.matchAll(/^sweep\(t, (.*)\)$/gm)].flatMap(([, said = '']) =>
    [...said.matchAll(/'(\w+)'/g)].map(([, kind = '']) => kind),
  )
  const targets = source.includes("'scripts/fuzz.mjs'") ? fuzzTargets() : []
  return {
    whole: [...found.filter(({ length }) => length === 1).flat(), ...kinds, ...targets],
    parts: found.filter(({ length }) => length > 1).flat(),
  }
}

/** The targets of scripts/fuzz.mjs, each a result of its own. */
const fuzzTargets = (): string[] => {
  const script = readFileSync(join(root, 'scripts/fuzz.mjs'), 'utf8')
  const [, listed = ''] = /^const allTargets = \[([^\]]*)\]/m.exec(script) ?? []
  return [...listed.matchAll(/'(\w+)'/g)].map(([, target = '']) => target)
}

export interface Named {
  readonly file: string
  readonly title: string
}

/** What a text names, as `file` *title*. */
export const namedIn = (text: string): Named[] =>
  [...text.matchAll(/`([^`]+)` \*([^*]+)\*/g)].map(([, file = '', title = '']) => ({ file, title }))

/** Whether there is no such test: a title is named whole, or by a fixed part of it. */
export function isMissing({ file, title }: Named): boolean {
  const path = join(root, 'test', file)
  if (!existsSync(path)) return true
  const { whole, parts } = titlesIn(file, readFileSync(path, 'utf8'))
  return !whole.includes(title) && !parts.some((part) => part.includes(title))
}
