// Mutants of the core: a table of mistakes, each a text in native/src and what takes its place. The core itself has no switch
// for them, so that it reads as it is. A text that is not there once, and once only, has moved: that is said, not passed over.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** The source of `file` with its mistake; or `why` there is none. */
export function mutate(file, { name, from, to }) {
  const source = readFileSync(file, 'utf8')
  if (source.split(from).length !== 2)
    return { why: `${name}: ${file} does not say so once, and once only: ${from}` }
  return { source: source.replace(from, () => to) }
}

/**
 * Writes `mutant.file` into `place`, with its mistake, or with the mistake in a header `mutant.header` beside it, which is to be
 * included first; false, and says so, when there is none.
 */
export function plant(mutant, place) {
  const { header, file } = mutant
  const wrong = header === undefined ? `${file}.cc` : `${header}.h`
  const { source, why } = mutate(`native/src/${wrong}`, mutant)
  if (why !== undefined) {
    console.error(why)
    return false
  }
  write(`${place}/${wrong}`, source)
  if (header !== undefined)
    write(`${place}/${file}.cc`, readFileSync(`native/src/${file}.cc`, 'utf8'))
  return true
}

/** What is there already keeps its date, so that nothing is made again. */
function write(path, source) {
  mkdirSync(dirname(path), { recursive: true })
  if (!existsSync(path) || readFileSync(path, 'utf8') !== source) writeFileSync(path, source)
}
