// Compiles a program as a user's tsc does, as strictly as they may ask for, with what the packages declare.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { Workshop } from '../house/docs-blocks.js'
import { root } from './paths.js'

const run = promisify(execFile)
const config = {
  compilerOptions: {
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable'],
    module: 'NodeNext',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    skipLibCheck: false, // what the packages declare is looked at as well
  },
}

/** What tsc says of programs, by their names; empty if nothing. All at once: most of the time goes into libraries. */
export async function compile(
  t: Test,
  programs: Readonly<Record<string, string>>,
): Promise<string> {
  const workshop = new Workshop()
  t.teardown(() => workshop.remove())
  for (const [name, text] of Object.entries(programs)) workshop.write(`${name}.mts`, text)
  const project = workshop.write('tsconfig.json', JSON.stringify(config))
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  return run(process.execPath, [tsc, '-p', project], { cwd: workshop.directory }).then(
    ({ stdout }) => stdout,
    (error: { stdout: string }) => error.stdout,
  )
}
