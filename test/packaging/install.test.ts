// The tarballs of `npm run pack`, installed as a user would: into an empty folder and offline; then used by every
// Node.js version and npm that is here.
import { execFile, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'

const run = promisify(execFile)
const target = `linux-${process.arch}`
const matrix = join(root, 'test/matrix/node_modules')
const node24 = join(matrix, 'node24/bin/node')
const without24 = existsSync(node24) ? {} : { skip: 'not installed: npm ci, in test/matrix' }
const work = mkdtempSync(join(tmpdir(), 'coroipc-pack-'))
t.teardown(() => rmSync(work, { recursive: true, force: true }))

const program = `const name = '@coroipc-pack-' + process.pid
const server = new Server()
server.addService({ id: 1, handlers: { 0: () => 'installed' } })
await server.listen(name)
const connection = await connect(name, { service: 1 })
console.log(new TextDecoder().decode(await connection.request(0)))
await connection.close()
await server.close()`
const asModule = `import { Server } from '@coroipc/ipcs'
import { connect } from '@coroipc/ipcc'
${program}`
const typed = `import { bytes, defineService } from '@coroipc/contract'
import { client } from '@coroipc/contract/client'
import { implement } from '@coroipc/contract/server'
import { Server } from '@coroipc/ipcs'
import { connect } from '@coroipc/ipcc'
import { ServerMetrics } from '@coroipc/observe/prometheus'
import { traceRequests } from '@coroipc/observe/opentelemetry'
import { register } from 'prom-client'
const name = '@coroipc-pack-' + process.pid
const contract = defineService({ id: 1, requests: { echo: { id: 0, request: bytes, response: bytes } } })
const server = new Server()
server.addService(implement(contract, { handlers: { echo: (value) => value } }))
await server.listen(name)
new ServerMetrics().add(server, 'packed')
const tracing = traceRequests()
const connection = await connect(name, { service: 1 })
console.log(new TextDecoder().decode(await client(connection, contract).echo(new TextEncoder().encode('typed'))))
console.log((await register.metrics()).match(/^coroipc_server_requests_total.*/m)[0])
tracing.stop()
await connection.close()
await server.close()`
const asScript = `const { Server } = require('@coroipc/ipcs')
const { connect } = require('@coroipc/ipcc')
;(async () => {
${program}
})()`

/** An npm of its own: nothing of the user's configuration or cache. */
const clean = {
  PATH: process.env.PATH,
  HOME: work,
  npm_config_userconfig: join(work, 'npmrc'),
  npm_config_cache: join(work, 'cache'),
  npm_config_update_notifier: 'false',
}

interface Tool {
  readonly label: string
  readonly node: string
  readonly npm: string
}

/** Each Node.js version, and each npm with one that it knows: npm 12 asks for Node.js 22. */
function tools(): Tool[] {
  const own = spawnSync('npm', ['root', '--global'], { encoding: 'utf8' }).stdout.trim()
  const npms = { 11: join(own, 'npm/bin/npm-cli.js'), 12: join(matrix, 'npm12/bin/npm-cli.js') }
  return [
    { label: 'Node.js 20, npm 11', node: process.execPath, npm: npms[11] },
    { label: 'Node.js 22, npm 12', node: join(matrix, 'node22/bin/node'), npm: npms[12] },
    { label: 'Node.js 24, npm 11', node: node24, npm: npms[11] },
    { label: 'Node.js 26, npm 12', node: join(matrix, 'node26/bin/node'), npm: npms[12] },
  ]
}

/** The tarballs of ours, and of what they depend on. */
let tarballs: string[] = []
/** All but the command line, which brings packages that are not here to be installed offline. */
const base = /(?:native|ipcs|ipcc|contract|observe|eventemitter3|standard-schema-spec)-[\d.]+\.tgz$/

function install({ node, npm }: Pick<Tool, 'node' | 'npm'>, folder: string): void {
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "private": true }')
  // The second time out of the lock file, where npm does not look into manifests. No script is forbidden: there is none.
  const packages = tarballs.filter((name) => base.test(name))
  for (const args of [['install', ...packages], ['ci']]) {
    const { status, stdout, stderr } = spawnSync(
      node,
      [npm, ...args, '--offline', '--no-audit', '--no-fund'],
      // The shell that npm itself starts finds the same node.
      {
        cwd: folder,
        env: { ...clean, PATH: `${dirname(node)}:${process.env.PATH}` },
        encoding: 'utf8',
      },
    )
    if (status !== 0) throw new Error(stderr)
    if (/script/.test(stdout + stderr)) throw new Error(`of scripts, npm says: ${stderr}`)
  }
}

t.test('npm run pack', async (t) => {
  const out = join(work, 'tarballs')
  await run(process.execPath, [join(root, 'scripts/pack.mjs'), '--target', target, '--out', out])
  const others = ['eventemitter3', '@standard-schema/spec'].map((name) =>
    join(root, 'node_modules', name),
  )
  const { stdout } = await run(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', out, ...others],
    { env: clean },
  )
  t.match(stdout, /eventemitter3[^]*standard-schema/)
  tarballs = readdirSync(out).map((name) => join(out, name))
  for (const tarball of tarballs.filter((name) => basename(name).startsWith('coroipc-'))) {
    const { stdout: listed } = await run('tar', ['tzf', tarball])
    const files = listed.trim().split('\n')
    t.same(
      files.filter((name) => /node_modules|tsbuildinfo|\.o$|\/build\//.test(name)),
      [],
      'nothing that was only lying about',
    )
    const { stdout: text } = await run('tar', ['xzOf', tarball, 'package/package.json'])
    const manifest = JSON.parse(text) as Record<string, unknown>
    const named = JSON.stringify([manifest['exports'], manifest['bin']])
    const entries = [...named.matchAll(/"(?:\.\/)?((?:dist|bin)\/[^"]+)"/g)].map(
      ([, path]) => path as string,
    )
    t.ok(entries.length >= 2, 'it can be imported, with types')
    for (const name of ['LICENSE', 'README.md', ...entries])
      t.ok(files.includes(`package/${name}`), `${tarball}: ${name}`)
    t.notOk(manifest['scripts'], 'no script of any kind')
    t.notOk(manifest['devDependencies'])
    t.equal(manifest['license'], 'BSD-3-Clause')
  }
})

t.test('installed by each npm, used by each Node.js', async (t) => {
  for (const [index, { label, node, npm }] of tools().entries()) {
    const here = existsSync(node) && existsSync(npm)
    const skip = here ? {} : { skip: 'not installed: npm ci, in test/matrix' }
    await t.test(label, skip, async (t) => {
      const folder = join(work, `program${index}`)
      install({ node, npm }, folder)
      writeFileSync(join(folder, 'program.mjs'), asModule)
      writeFileSync(join(folder, 'program.cjs'), asScript)
      for (const name of ['program.mjs', 'program.cjs']) {
        const { stdout } = await run(node, [join(folder, name)])
        t.equal(stdout, 'installed\n', name)
      }
      // Optional peers are a program's own: the clone's.
      for (const peer of ['prom-client', '@opentelemetry/api']) {
        mkdirSync(dirname(join(folder, 'node_modules', peer)), { recursive: true })
        symlinkSync(join(root, 'node_modules', peer), join(folder, 'node_modules', peer))
      }
      writeFileSync(join(folder, 'typed.mjs'), typed)
      const { stdout } = await run(node, [join(folder, 'typed.mjs')])
      t.equal(stdout, 'typed\ncoroipc_server_requests_total{server="packed"} 1\n')
    })
  }
})

t.test('under the permission model', without24, async (t) => {
  const folder = join(work, 'program0')
  const start = async (...flags: string[]): Promise<string> =>
    await run(node24, ['--permission', ...flags, join(folder, 'program.mjs')]).then(
      ({ stdout }) => stdout,
      ({ stderr }: { stderr: string }) => stderr,
    )
  const read = `--allow-fs-read=${folder}`
  t.equal(await start('--allow-addons', read), 'installed\n')
  t.match(await start(read), /ERR_COROIPC_BINARY_REFUSED/)
  t.match(await start(read), /With --permission, Node.js loads addons with --allow-addons/)
})

t.test('Bun and Deno are told what would help, which is no other binary', async (t) => {
  // Node.js that says it is one of them, with the addon that Deno cannot load for want of symbols.
  const folder = join(work, 'program0')
  const binary = join(folder, 'node_modules/@coroipc/native/prebuilds', target, 'coroipc.node')
  const whole = readFileSync(binary)
  t.teardown(() => writeFileSync(binary, whole))
  writeFileSync(binary, 'no library')
  for (const [host, said] of [
    ['bun', /^ERR_COROIPC_BINARY_REFUSED .*Bun has no event loop of libuv/],
    ['deno', /^ERR_COROIPC_BINARY_REFUSED .*could not be loaded/],
  ] as const) {
    const load = `Object.defineProperty(process, 'versions', { value: { ...process.versions, ${host}: '1' } })
import('@coroipc/ipcc').catch(({ code, message }) => console.log(code, message))`
    const { stdout } = await run(process.execPath, ['-e', load], { cwd: folder })
    t.match(stdout, said)
    t.match(stdout, /\nUse Node\.js\. /)
    t.notMatch(stdout, 'node-gyp')
  }
})

t.test('what is missing is told', async (t) => {
  const folder = join(work, 'program0')
  const binary = join(folder, 'node_modules/@coroipc/native/prebuilds', target, 'coroipc.node')
  const whole = readFileSync(binary)
  t.teardown(() => writeFileSync(binary, whole))
  const load = `import('@coroipc/ipcc').catch(({ code, message }) => console.log(code, message))`
  const start = async (): Promise<string> =>
    (await run(process.execPath, ['-e', load], { cwd: folder })).stdout
  writeFileSync(binary, 'no library')
  t.match(await start(), /^ERR_COROIPC_BINARY_REFUSED .*coroipc\.node could not be loaded/)
  rmSync(binary)
  const said = await start()
  t.match(said, /^ERR_COROIPC_NO_BINARY .*no binary for linux-\w+: neither .*build\/Release/)
  t.match(
    said,
    /cd .*@coroipc\/native\/ && cp sources\.gyp binding\.gyp && npx node-gyp rebuild/,
    'and how to build it',
  )
})

t.test('the command line runs out of its tarball', async (t) => {
  const cli = tarballs.find((name) => /coroipc-cli-[\d.]+\.tgz$/.test(name)) as string
  const modules = join(work, 'program0/node_modules')
  const folder = join(modules, '@coroipc/cli')
  mkdirSync(folder)
  await run('tar', ['xzf', cli, '--strip-components=1', '-C', folder])
  // What it needs beyond ours, from the clone.
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    bin: { coroipc: string }
    dependencies: Record<string, string>
  }
  for (const name of Object.keys(manifest.dependencies))
    if (!existsSync(join(modules, name)))
      symlinkSync(join(root, 'node_modules', name), join(modules, name))
  const { stdout } = await run(process.execPath, [join(folder, manifest.bin.coroipc), '--help'])
  t.match(stdout, /coroipc/)
})

t.test('TypeScript finds the types', async (t) => {
  const folder = join(work, 'program0')
  mkdirSync(join(folder, 'node_modules/@types'), { recursive: true })
  symlinkSync(join(root, 'node_modules/@types/node'), join(folder, 'node_modules/@types/node'))
  for (const [source, wrong] of [
    [asModule, false],
    [`${asModule}\nconst address: number = server.address`, true],
  ] as const) {
    writeFileSync(join(folder, 'typed.mts'), source)
    for (const [module, moduleResolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ] as const) {
      const { status, stdout } = spawnSync(
        process.execPath,
        [
          join(root, 'node_modules/typescript/bin/tsc'),
          '--noEmit',
          '--strict',
          '--target',
          'es2022',
          '--lib',
          'es2023,esnext.disposable',
          '--types',
          'node',
          '--module',
          module,
          '--moduleResolution',
          moduleResolution,
          'typed.mts',
        ],
        { cwd: folder, encoding: 'utf8' },
      )
      t.equal(status !== 0, wrong, `${moduleResolution}: ${stdout}`)
    }
  }
})
