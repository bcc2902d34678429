// Builds everything, or only `native` or `ts`:
//   native  node-gyp: core, libcoroipc.so, coroipc.node -> native/build/Release; then native/Makefile: programs -> build/
//   ts      tsc: packages/*/dist, native/dist, and tests, examples and benchmarks -> build/
// Incremental and in parallel; says nothing but the names of what it compiles, and what went wrong.
// Two builds of one clone wait for each other.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { missingTools, nodeHeaders } from './check-tools.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const native = join(root, 'native')
const [what = 'all'] = process.argv.slice(2)
const jobs = String(availableParallelism())

process.chdir(root)
mkdirSync('build', { recursive: true })

// node-gyp is npm's own, and npm hands a configured nodedir to its scripts: so this has to be one.
if (what !== 'ts' && !process.env.npm_config_node_gyp) {
  process.exit(
    spawnSync('npm', ['run', '--silent', what === 'all' ? 'build' : `build:${what}`], {
      stdio: 'inherit',
    }).status ?? 1,
  )
}
if (!process.env.COROIPC_BUILD_LOCKED) {
  const locked = spawnSync('flock', ['build/.lock', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, COROIPC_BUILD_LOCKED: '1' },
  })
  if (locked.error === undefined) process.exit(locked.status ?? 1)
}

/** Runs a command; shows the lines that `interesting` picks, and everything if it fails. */
async function run(command, args, { cwd = root, interesting = () => undefined } = {}) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const lines = []
  const read = async (stream) => {
    for await (const line of createInterface({ input: stream })) {
      lines.push(line)
      const shown = interesting(line)
      if (shown !== undefined) console.log(shown)
    }
  }
  const exit = new Promise((resolve) => {
    child.on('error', (error) => {
      lines.push(error.message)
      resolve(1)
    })
    child.on('close', resolve)
  })
  await Promise.all([read(child.stdout), read(child.stderr)])
  const code = await exit
  if (code !== 0) {
    console.error(lines.filter((line) => interesting(line) === undefined).join('\n'))
    console.error(`failed: ${[command, ...args].join(' ')}`)
  }
  return code === 0
}

const sourcesIn = (directory, pattern) =>
  existsSync(directory)
    ? readdirSync(directory, { recursive: true })
        .filter((name) => pattern.test(name))
        .sort()
    : []

// gyp reads the list of sources when it configures, so it has to do so again when a file comes or goes.
function configuration(headers) {
  const hash = createHash('sha256').update(readFileSync(join(native, 'binding.gyp')))
  const files = ['src', 'addon'].flatMap((directory) => sourcesIn(join(native, directory), /\.cc$/))
  return hash
    .update(
      JSON.stringify([
        native, // what node-gyp writes leads from here to the headers: a clone that was moved is another one
        files,
        headers,
        process.version,
        process.env.CXX,
        process.env.npm_config_node_gyp,
      ]),
    )
    .digest('hex')
}

async function buildNative() {
  const headers = nodeHeaders()
  const gyp = (...args) => [
    process.env.npm_config_node_gyp,
    ...args,
    ...(headers ? [`--nodedir=${headers}`] : []),
  ]
  const compiled = (line) =>
    /^ {2}(CXX|CC|SOLINK|AR)\b/.test(line)
      ? line.replace('(target) Release/obj.target/', ' ')
      : undefined
  const stamp = join(native, 'build/configured')
  const wanted = configuration(headers)
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
    if (!(await run(process.execPath, gyp('configure'), { cwd: native }))) return false
    writeFileSync(stamp, wanted)
  }
  return (
    (await run(process.execPath, gyp('build', '--jobs', jobs), {
      cwd: native,
      interesting: compiled,
    })) &&
    (await run('make', ['--keep-going', '--no-print-directory', '-j', jobs], {
      cwd: native,
      interesting: compiled,
    }))
  )
}

async function buildTypeScript() {
  // tsc refuses a project without sources; one that has none yet is none of its business.
  const projects = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'))
    .references.map(({ path }) => path)
    .filter((path) => sourcesIn(path, /^(?!.*node_modules).*\.ts$/).length > 0)
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  if (!(await run(process.execPath, [tsc, '--build', ...projects]))) return false
  // tap's Test class is made of its plugins; .taprc drops the one for TypeScript, so it is made again, once.
  const tap = join(root, 'node_modules/tap')
  const built = join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js')
  if (existsSync(built) && readFileSync(built, 'utf8').includes('@tapjs/typescript')) {
    return run(process.execPath, [join(tap, 'dist/esm/run.mjs'), 'build'])
  }
  return true
}

let ok = true
if (what !== 'ts') ok = await buildNative()
if (what !== 'native') ok = (await buildTypeScript()) && ok
if (!ok) {
  for (const line of missingTools()) console.error(line)
  process.exit(1)
}
