// Builds the addon for the platforms that the package brings it for, into native/prebuilds, and checks what came out.
//
//   node scripts/prebuild.mjs                        all of them; what is missing for that is named
//   node scripts/prebuild.mjs linux-x64 ...          these only
//
// native/prebuild/Makefile says how; the compilers are Debian's. musl for arm64 is no package for this machine: its headers
// and its libc.so are taken out of Debian's package for arm64, which is fetched by apt-get and not installed.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { nodeHeaders } from './check-tools.mjs'

const root = resolve(import.meta.dirname, '..')
const build = join(root, 'build/prebuild')

/** What each target needs here beyond g++: a command and the Debian package that brings it. */
export const targets = {
  'linux-x64': [],
  'linux-arm64': [['aarch64-linux-gnu-g++', 'g++-aarch64-linux-gnu']],
  'linux-x64-musl': [['/usr/lib/x86_64-linux-musl/libc.so', 'musl-dev']],
  'linux-arm64-musl': [['aarch64-linux-gnu-g++', 'g++-aarch64-linux-gnu']],
}

/** Node.js 20 needs as much itself. */
const newestGlibc = [2, 28]

const run = (command, args, options) =>
  spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 26, ...options })
const there = (tool) =>
  tool.startsWith('/') ? existsSync(tool) : run(tool, ['--version']).status === 0

export const addonFile = (target) => join(root, 'native/prebuilds', target, 'coroipc.node')

/** The Debian packages that are missing for a target. */
export const missingFor = (target) =>
  targets[target].filter(([tool]) => !there(tool)).map(([, name]) => name)

/** musl of arm64, as Debian has it, unpacked. */
function muslForArm64() {
  const place = join(build, 'musl-arm64')
  if (existsSync(join(place, 'usr/include/aarch64-linux-musl'))) return
  const apt = join(build, 'apt')
  for (const folder of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(apt, folder), { recursive: true })
  const settings = [
    'APT::Architecture=arm64',
    'APT::Architectures=arm64',
    'APT::Sandbox::User=root',
  ]
  settings.push(`Dir::State::Lists=${apt}/lists`, `Dir::Cache=${apt}/cache`)
  const options = ['-qq', ...settings.flatMap((setting) => ['-o', setting])]
  for (const what of [['update'], ['download', 'musl', 'musl-dev']]) {
    const { status, stderr } = run('apt-get', [...options, ...what], { cwd: apt })
    if (status !== 0) throw new Error(`apt-get ${what.join(' ')} (arm64): ${stderr}`)
  }
  for (const name of readdirSync(apt).filter((file) => file.endsWith('.deb')))
    run('dpkg-deb', ['--extract', join(apt, name), place])
  rmSync(apt, { recursive: true })
}

const processor = (target) => (target.includes('arm64') ? 'aarch64' : 'x86_64')
const isMusl = (target) => target.endsWith('-musl')

/** Names in a dynamic symbol table: of what is needed (`-u`) or offered (`--defined-only`). */
function symbols(target, file, which) {
  const { status, stdout, stderr } = run(`${processor(target)}-linux-gnu-nm`, ['-D', which, file])
  if (status !== 0) throw new Error(stderr)
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [kind, name] = line.trim().split(/\s+/).slice(-2)
      return { weak: kind === 'w', name }
    })
}

/** What keeps a binary from being loaded by every Node.js of its target; nothing if all is well. */
export function faults(target, file = addonFile(target)) {
  const found = []
  const { stdout } = run(`${processor(target)}-linux-gnu-readelf`, ['-hdW', file])
  const machine = { x86_64: 'X86-64', aarch64: 'AArch64' }[processor(target)]
  if (!stdout.includes(machine)) found.push(`it is not for ${machine}`)
  const libraries = [...stdout.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name)
  const allowed = isMusl(target)
    ? /^libc\.musl-/
    : /^(?:libc\.so\.6|libpthread\.so\.0|ld-linux-[\w-]+\.so\.\d)$/
  for (const name of libraries) if (!allowed.test(name)) found.push(`it needs ${name}`)

  const offered = symbols(target, file, '--defined-only').map(({ name }) => name)
  for (const name of offered)
    if (!/^(?:napi|node_api)_/.test(name)) found.push(`it exports ${name}`)
  if (!offered.includes('napi_register_module_v1')) found.push('Node.js finds no module in it')

  const libc = isMusl(target)
    ? new Set(
        symbols(
          target,
          join(build, target, 'lib', `libc.musl-${processor(target)}.so.1`),
          '--defined-only',
        ).map(({ name }) => name),
      )
    : undefined
  for (const { weak, name } of symbols(target, file, '-u')) {
    if (weak || /^(?:napi|node_api|uv)_/.test(name)) continue
    if (libc !== undefined) {
      if (!libc.has(name)) found.push(`musl has no ${name}`)
      continue
    }
    const version = /@GLIBC_(\d+)\.(\d+)/.exec(name)
    if (version === null) found.push(`glibc has no ${name}`)
    else if (
      Number(version[1]) > newestGlibc[0] ||
      (Number(version[1]) === newestGlibc[0] && Number(version[2]) > newestGlibc[1])
    )
      found.push(`${name} is newer than glibc ${newestGlibc.join('.')}`)
  }
  return found
}

/** Runs native/prebuild/Makefile, and throws if it fails. Goals are relative to it. */
export function make(goals, stdio = 'inherit') {
  const headers = nodeHeaders()
  if (headers === undefined) throw new Error('no headers of Node.js: set npm_config_nodedir')
  const given = [`NODE_DIR=${headers}`, `ADDON_API=${join(root, 'node_modules/node-addon-api')}`]
  const jobs = String(availableParallelism())
  const where = ['--no-print-directory', '-C', join(root, 'native/prebuild'), '-j', jobs]
  const { status, stderr } = run('make', [...where, ...given, ...goals], { stdio })
  if (status !== 0) throw new Error(['make failed', stderr].filter(Boolean).join(': '))
}

/** Builds and checks; throws with what is wrong. */
export function prebuild(wanted) {
  for (const target of wanted) {
    if (targets[target] === undefined)
      throw new Error(`${target} is none of ${Object.keys(targets).join(', ')}`)
    const missing = missingFor(target)
    if (missing.length > 0) throw new Error(`${target} needs: apt-get install ${missing.join(' ')}`)
  }
  if (wanted.includes('linux-arm64-musl')) muslForArm64()
  make(wanted)
  for (const target of wanted) {
    const found = faults(target)
    if (found.length > 0) throw new Error(`${target}:\n  ${found.join('\n  ')}`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const wanted = process.argv.slice(2)
  try {
    prebuild(wanted.length > 0 ? wanted : Object.keys(targets))
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}
