// Mutants of the core: a table of mistakes, each a text in native/src and what takes its place. The core itself has no switch
// for them, so that it reads as it is.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** Writes `file` with its mistake into `place`; false, and says so, when the text does not stand there exactly once. */
export function plant({ name, file, from, to }, place) {
  const source = readFileSync(`native/src/${file}.cc`, 'utf8')
  if (source.split(from).length !== 2) {
    console.error(`${name}: native/src/${file}.cc does not say so once, and once only: ${from}`)
    return false
  }
  const path = `${place}/${file}.cc`
  const mutated = source.replace(from, () => to)
  mkdirSync(dirname(path), { recursive: true })
  if (!existsSync(path) || readFileSync(path, 'utf8') !== mutated) writeFileSync(path, mutated)
  return true
}
