// `npm run check`: formatting, lint, types, API reports, clang-tidy. All of them run, so that one round shows everything.
// With a name, only that one: `node scripts/check.mjs clang-format --write`.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const [only, ...rest] = process.argv.slice(2)
process.chdir(root)

const run = (command, ...args) => spawnSync(command, args, { stdio: 'inherit' }).status === 0
const bin = (name) => `${root}node_modules/.bin/${name}`

/** Tracked and new files of ours that end so. */
const files = (...patterns) =>
  spawnSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate', ...patterns],
    {
      encoding: 'utf8',
    },
  )
    .stdout.split('\n')
    .filter(Boolean)

const checks = {
  biome: () => run(bin('biome'), 'format'),
  oxlint: () => run(bin('oxlint'), '--type-aware'),
  types: () => run(process.execPath, 'scripts/build.mjs', 'ts'),
  api: () => run(process.execPath, 'scripts/api.mjs', '--check'),
  'clang-format': () => {
    const sources = files('*.c', '*.cc', '*.h')
    const how = rest.includes('--write') ? ['-i'] : ['--dry-run', '-Werror']
    return sources.length === 0 || run(bin('clang-format'), ...how, ...sources)
  },
  'clang-tidy': () => {
    if (spawnSync('clang-tidy', ['--version']).error !== undefined) {
      console.log('clang-tidy: not installed, not run (apt-get install clang-tidy)')
      return true
    }
    const flags = ['-std=c++20', '-fno-exceptions', '-fno-rtti', '-Inative/include', '-Inative/src']
    const sources = files('native/src/*.cc')
    if (sources.length === 0) return true
    const tidy = spawnSync('clang-tidy', ['--quiet', ...sources, '--', ...flags], {
      encoding: 'utf8',
    })
    // Its count of what it did not show is of no use.
    const said = `${tidy.stdout}${tidy.stderr}`.replace(/^\d+ warnings.* generated\.\n/gm, '')
    if (tidy.status !== 0) console.log(said.trimEnd())
    return tidy.status === 0
  },
}

let ok = true
for (const [name, check] of Object.entries(checks)) {
  if (only !== undefined && only !== name) continue
  const held = check()
  console.log(`${held ? 'ok  ' : 'FAIL'} ${name}`)
  ok &&= held
}
process.exitCode = ok ? 0 : 1
