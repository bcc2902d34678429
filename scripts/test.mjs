// Runs the tests: native programs, then tap over the emitted TypeScript, then the system tests on other Node.js versions.
//
//   npm test                             everything; builds first
//   npm test -- ring system/             only files whose path contains one of these
//   npm test -- --no-build --jobs=1      options; --native, --js, --matrix choose a part
//   npm run test:sanitize                native tests under ASan+UBSan, then TSan
//
// The last line is `N passed, N failed`, with `, N skipped` when some were; skipped ones are listed above it.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Count, countTap } from './tap-count.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    'no-build': { type: 'boolean', default: false },
    native: { type: 'boolean', default: false },
    js: { type: 'boolean', default: false },
    matrix: { type: 'boolean', default: false },
    asan: { type: 'boolean', default: false },
    tsan: { type: 'boolean', default: false },
    // Timing matters to tests that talk across processes: never more of them than CPUs, and never more than two.
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    timeout: { type: 'string', default: '120' },
  },
})
const timeout_ms = Number(options.timeout) * 1000
const everything =
  !options.native && !options.js && !options.matrix && !options.asan && !options.tsan

/** Sources below test/ whose names match, as paths without extension. */
function tests(pattern, below = 'test') {
  if (!existsSync(below)) return []
  return readdirSync(below, { recursive: true })
    .map((name) => join(below, name))
    .filter((name) => pattern.test(name) && !name.includes('node_modules'))
    .filter((name) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
    .map((name) => name.replace(/\.[a-z]+$/, ''))
    .sort()
}

const total = new Count()
let ran = 0

function report(name, count, seconds) {
  const verdict = count.failed.length > 0 ? 'FAIL' : count.passed === 0 ? 'skip' : 'ok  '
  console.log(
    `${verdict} ${name}  ${count.passed}${count.failed.length > 0 ? `, ${count.failed.length} failed` : ''}  ${seconds.toFixed(1)} s`,
  )
  for (const { name, details } of count.failed)
    console.log(`     not ok ${name}\n${details.replace(/^/gm, '       ')}`.trimEnd())
}

/** Runs a native test and counts its TAP; a crash or a hang is a failure with a name. */
async function runNative(program, label, env = {}) {
  const started = performance.now()
  const child = spawn(program, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: true,
  })
  let late = false
  const timer = setTimeout(() => {
    late = true
    if (child.pid) process.kill(-child.pid, 'SIGKILL') // the test and what it started
  }, timeout_ms)
  const exit = new Promise((resolve) => {
    child.on('error', (error) => resolve({ why: error.message }))
    child.on('close', (code, signal) => resolve({ code, signal }))
  })
  const [count, stderr, output, { code, signal, why }] = await Promise.all([
    countTap(child.stdout, { label }),
    text(child.stderr),
    new Promise((resolve) => {
      let seen = ''
      child.stdout.on('data', (chunk) => (seen += chunk))
      child.stdout.on('end', () => resolve(seen))
    }),
    exit,
  ])
  clearTimeout(timer)
  const diagnostics = [...output.split('\n').filter((line) => line.startsWith('#')), stderr.trim()]
    .filter(Boolean)
    .join('\n')
  const bad =
    why ??
    (late
      ? `killed after ${options.timeout} s`
      : signal
        ? `died by ${signal}`
        : ![0, 1, 77].includes(code)
          ? `exit code ${code}`
          : undefined)
  if (bad !== undefined) count.failed.push({ name: `${label}: ${bad}`, details: '' })
  if (count.failed.length > 0) count.failed[0].details = diagnostics
  ran++
  total.add(count)
  report(label, count, (performance.now() - started) / 1000)
}

async function runAllNative(prefix = '', env = {}) {
  const waiting = tests(/_test\.(cc|c)$/, 'test/native')
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      await runNative(join('build', prefix, name), join(prefix, name), env)
    }
  }
  await Promise.all(Array.from({ length: Number(options.jobs) }, worker))
}

/** Runs emitted tests with tap under a given Node. */
async function runTap(files, { node = process.execPath, label = '' } = {}) {
  if (files.length === 0) return
  const emitted = files.map((name) => join('build', `${name}.js`))
  const child = spawn(
    node,
    [
      join(root, 'node_modules/tap/dist/esm/run.mjs'),
      'run',
      '--reporter=tap',
      `--jobs=${options.jobs}`,
      `--timeout=${options.timeout}`,
      ...emitted,
    ],
    // npm's settings are npm's; tests see what a program started by hand would see.
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, TAP_RCFILE: join(root, '.taprc') },
    },
  )
  const exit = new Promise((resolve) => child.on('close', resolve))
  const count = await countTap(child.stdout, {
    label,
    onGroup: (file, counted) => {
      ran++
      report(`${label === '' ? '' : `${label} `}${file.name}`, counted, (file.time ?? 0) / 1000)
    },
  })
  if ((await exit) !== 0 && count.failed.length === 0)
    count.failed.push({ name: `${label} tap itself failed`.trim(), details: '' })
  total.add(count)
}

async function runMatrix() {
  const files = tests(/\.test\.ts$/, 'test/system')
  if (files.length === 0) return
  const { optionalDependencies } = JSON.parse(
    await import('node:fs').then((fs) => fs.readFileSync('test/matrix/package.json', 'utf8')),
  )
  for (const name of Object.keys(optionalDependencies)) {
    const node = join(root, 'test/matrix/node_modules', name, 'bin/node')
    const version = existsSync(node)
      ? spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout
      : ''
    if (version) await runTap(files, { node, label: `Node.js ${version.trim()}` })
    else
      total.skipped.push({
        name: `system tests on ${name}`,
        reason: 'not installed: npm ci, in test/matrix',
      })
  }
}

function build(command, ...args) {
  const result = spawnSync(command, args, { stdio: 'inherit' })
  // Whatever was built is still tested, so that one broken file does not hide the rest.
  if (result.status !== 0)
    total.failed.push({ name: `${basename(command)} ${args.join(' ')}`, details: '' })
}

if (!options['no-build']) build(process.execPath, 'scripts/build.mjs')
if (everything || options.native) await runAllNative()
for (const sanitizer of ['asan', 'tsan']) {
  if (!options[sanitizer]) continue
  build(
    'make',
    '-C',
    'native',
    '--no-print-directory',
    '--keep-going',
    '-j',
    String(availableParallelism()),
    sanitizer,
  )
  await runAllNative(sanitizer, {
    ASAN_OPTIONS: 'detect_leaks=1',
    TSAN_OPTIONS: 'halt_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  })
}
if (everything || options.js) await runTap(tests(/\.test\.ts$/))
if (everything || options.matrix) await runMatrix()

if (ran === 0 && total.failed.length === 0) total.failed.push({ name: 'no test ran', details: '' })
if (total.failed.length > 0)
  console.log(`\nfailed:\n${total.failed.map(({ name }) => `  ${name}`).join('\n')}`)
if (total.skipped.length > 0)
  console.log(
    `\nskipped:\n${total.skipped.map(({ name, reason }) => `  ${name}: ${reason}`).join('\n')}`,
  )
console.log(
  `\n${total.passed} passed, ${total.failed.length} failed${total.skipped.length > 0 ? `, ${total.skipped.length} skipped` : ''}`,
)
process.exitCode = total.failed.length > 0 ? 1 : 0
