// Where things are, for tests and the processes they start. Emitted files and native programs share one tree, build/,
// which has the shape of the sources: examples/c-client/main.c is build/examples/c-client/main.
import { join } from 'node:path'

/** The root of the repository. */
export const root: string = join(import.meta.dirname, '../../..')

/** A built file, by the path of its source without extension (program) or with .js (emitted script). */
export const built = (path: string): string => join(root, 'build', path)
