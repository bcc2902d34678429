// Installs the other Node.js versions that the tests run with (test/matrix). They are a convenience:
// whatever goes wrong here, the tests say which versions they could not run with.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const directory = fileURLToPath(new URL('../test/matrix/', import.meta.url))
const npm = process.env.npm_execpath
const wanted = process.env.COROIPC_NO_MATRIX === undefined && process.arch === 'x64'

if (
  wanted &&
  npm &&
  existsSync(`${directory}package-lock.json`) &&
  !existsSync(`${directory}node_modules`)
) {
  // Not the surrounding npm's idea of where it works.
  const { npm_config_local_prefix: _, npm_config_prefix: __, ...env } = process.env
  const result = spawnSync(process.execPath, [npm, 'ci', '--silent'], {
    cwd: directory,
    env,
    timeout: 300_000,
    encoding: 'utf8',
  })
  if (result.status !== 0)
    console.log(
      `the other Node.js versions could not be installed: ${(result.stderr || result.error?.message || '').trim()}`,
    )
}
