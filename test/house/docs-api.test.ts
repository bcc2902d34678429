// docs/api shows what is public as it is now, so that a change of it cannot pass a review unseen.
import { execFile } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'

const check = (...args: string[]) =>
  promisify(execFile)(process.execPath, [join(root, 'scripts/api.mjs'), '--check', ...args], {
    cwd: root,
  }).then(
    ({ stdout }) => ({ held: true, said: stdout }),
    (error: { stdout: string; stderr: string }) => ({
      held: false,
      said: error.stdout + error.stderr,
    }),
  )

t.test('the reports are those of this build', async (t) => {
  t.same(await check(), { held: true, said: '' })
})

t.test('a report that is not is named, with the line', async (t) => {
  const folder = mkdtempSync(join(root, 'build/api-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  cpSync(join(root, 'docs/api'), folder, { recursive: true })
  for (const [file, line] of [
    ['ipcs.api.md', '    stop(): void;\n'],
    ['c.api.md', 'coroipcs_close@@COROIPC_0\n'],
  ] as const) {
    const path = join(folder, file)
    const report = readFileSync(path, 'utf8')
    t.ok(report.includes(line), file)
    writeFileSync(path, report.replace(line, ''))
  }
  writeFileSync(join(folder, 'gone.api.md'), '')
  const { held, said } = await check(`--folder=${relative(root, folder)}`)
  t.notOk(held)
  t.match(said, /ipcs\.api\.md is stale, line \d+: {5}stop\(\): void;/)
  t.match(said, /c\.api\.md is stale, line \d+: coroipcs_close@@COROIPC_0/)
  t.match(said, /gone\.api\.md is of no package/)
  t.notMatch(said, /ipcc\.api\.md/)
})
