// Runs the tests: native programs, the models of the protocol, the core under relacy, emitted TypeScript, the system tests on other Node.js versions.
// Each is a program that writes TAP, by check.h or by tap, and gets a process group of its own and a time limit:
// a crash or a hang is a failure with a name, and leaves no process behind. (tap's own runner also works,
// `npx tap build/test/ipcs/server.test.js`; but after a file that hangs it loses the result of the next one.)
//
//   npm test                             everything; builds first
//   npm test -- ring system/             only files whose path contains one of these
//   npm test -- --no-build --jobs=1      options; --native, --models, --js, --matrix choose a part
//   npm run test:sanitize                native tests under ASan+UBSan, then TSan
//   npm test -- --addon=asan ipcs/       emitted TypeScript with the addon under ASan+UBSan and LSan (lsan: LSan alone)
//   npm test -- --addon=copying          the same without external buffers, as in Electron (refused: said no when asked)
//   npm run coverage                     lines and branches of the native code that tests go through
//   npm test -- --ci                     everything, and of the sanitizers and of copying what takes minutes
//
// The last line is `N passed, N failed`, with `, N skipped` when some were; skipped ones are listed above it.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import {
  clearCoverage,
  coverage,
  coverageEnvironment,
  coverageTools,
  coverMore,
} from './coverage.mjs'
import { addonKinds, SanitizedAddon } from './sanitized-addon.mjs'
import { Count, countTap } from './tap-count.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    'no-build': { type: 'boolean', default: false },
    native: { type: 'boolean', default: false },
    models: { type: 'boolean', default: false },
    js: { type: 'boolean', default: false },
    matrix: { type: 'boolean', default: false },
    asan: { type: 'boolean', default: false },
    tsan: { type: 'boolean', default: false },
    coverage: { type: 'boolean', default: false },
    addon: { type: 'string' },
    ci: { type: 'boolean', default: false },
    // Timing matters to tests that talk across processes: never more of them than CPUs, and never more than two.
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    timeout: { type: 'string', default: '120' },
  },
})
const timeout_ms = Number(options.timeout) * 1000
const everything = !['native', 'models', 'js', 'matrix', 'asan', 'tsan', 'coverage', 'addon'].some(
  (part) => options[part],
)
// Of the Node suite what shows most of the addon in a minute; all of it is npm run test:sanitize:node, npm test -- --addon=copying.
const ciAddonTests = {
  asan: /^test\/(?:addon|failure|ipcc|ipcs)\//,
  lsan: /^test\/addon\//,
  copying: /^test\/(?:addon|ipcc|ipcs)\//,
}
if (options.ci) Object.assign(options, { asan: true, tsan: true })
if (options.addon !== undefined && !addonKinds.includes(options.addon)) {
  console.error(`--addon is one of ${addonKinds.join(', ')}`)
  process.exit(1)
}

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

/** Runs one test program and counts its TAP. */
async function runTest(label, command, args, env = {}, limit_ms = timeout_ms) {
  const started = performance.now()
  if (!existsSync(args.at(-1) ?? command)) {
    const count = new Count()
    count.failed.push({ name: `${label}: not built`, details: '' })
    return finish(label, count, 0)
  }
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: options.timeout, ...env },
    detached: true, // a process group of its own
  })
  const killGroup = () => {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL')
    } catch {} // nobody left in it
  }
  let late = false
  // tap itself gives up at the limit and says where it stood; whoever has not by then does not get to.
  const timer = setTimeout(() => {
    late = true
    killGroup()
  }, limit_ms + 5000)
  const stop = () => {
    killGroup()
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop)
  const exit = new Promise((resolve) => {
    child.on('error', (error) => resolve({ why: error.message }))
    child.on('exit', (code, signal) => {
      killGroup() // what it left running would keep its output open
      resolve({ code, signal })
    })
  })
  const [count, output, stderr, { code, signal, why }] = await Promise.all([
    countTap(child.stdout, { label }),
    text(child.stdout),
    text(child.stderr),
    exit,
  ])
  clearTimeout(timer)
  for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, stop)
  const bad =
    why ??
    (late ? `killed after ${options.timeout} s` : signal ? `died by ${signal}` : undefined) ??
    (![0, 1, 77].includes(code) || (code === 1 && count.failed.length === 0)
      ? `exit code ${code}`
      : undefined)
  const comments = output.split('\n').filter((line) => /^# (?!Subtest|time=|\{)/.test(line))
  const running = comments.findLast((line) => line.startsWith('# test: '))
  if (bad !== undefined) {
    const where = running?.replace('# test: ', ' in: ') ?? ''
    count.failed.push({ name: `${label}: ${bad}${where}`, details: '' })
  }
  const last = count.failed.at(-1)
  if (last !== undefined) {
    const said = comments.filter((line) => !line.startsWith('# test: '))
    last.details = [last.details, ...said, stderr.trim()].filter(Boolean).join('\n')
  }
  return finish(label, count, (performance.now() - started) / 1000)
}

function finish(label, count, seconds) {
  ran++
  total.add(count)
  report(label, count, seconds)
}

/** Runs the given tests, `jobs` at a time. */
async function runEach(names, run, jobs = Number(options.jobs)) {
  const waiting = [...names]
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await run(name)
  }
  await Promise.all(Array.from({ length: jobs }, worker))
}

// What a build with a sanitizer has to say of test/support/planted_native.c.
const planted = {
  asan: {
    overflow: /heap-buffer-overflow/,
    leak: /LeakSanitizer: detected memory leaks/,
    undefined: /signed integer overflow/,
  },
  tsan: { race: /ThreadSanitizer: data race/ },
}

function showPlanted(sanitizer, env) {
  const program = join('build', sanitizer, 'test/support/planted_native')
  const count = new Count()
  for (const [what, said] of Object.entries(planted[sanitizer])) {
    const run = spawnSync(program, [what], { encoding: 'utf8', env: { ...process.env, ...env } })
    if (run.status !== 0 && said.test(run.stderr)) count.passed++
    else
      count.failed.push({
        name: `${sanitizer}: a planted ${what} was not seen`,
        details: `${run.status} ${run.stderr}`,
      })
  }
  finish(`${sanitizer}: planted errors are seen`, count, 0)
}

const runNative = (prefix = '', env = {}) =>
  runEach(tests(/_test\.(cc|c)$/, 'test/native'), (name) =>
    runTest(join(prefix, name), join('build', prefix, name), [], env),
  )

// A state space, or so many executions, take as long as the machine makes them: not a hang before five times the usual limit.
const slow = /^test\/fuzz\//
const slow_s = 5 * Number(options.timeout)

const runScripts = (names, { node = process.execPath, label = '', env = {}, jobs } = {}) =>
  runEach(
    names,
    (name) => {
      const args = ['--enable-source-maps', join('build', `${name}.js`)]
      return slow.test(name)
        ? runTest(label + name, node, args, { ...env, TAP_TIMEOUT: slow_s }, slow_s * 1000)
        : runTest(label + name, node, args, env)
    },
    jobs,
  )

/** Both halves of the suite once more, built to be counted. */
async function runCoverage() {
  const missing = coverageTools.filter((tool) => spawnSync(tool, ['--version']).error !== undefined)
  if (missing.length > 0) {
    total.skipped.push({
      name: 'coverage',
      reason: `no ${missing.join(', ')}: apt-get install clang-14 llvm-14`,
    })
    return
  }
  clearCoverage()
  make('coverage')
  await runNative('coverage', coverageEnvironment)
  await runWithAddon('coverage')
  const failed = coverMore()
  if (failed !== undefined) total.failed.push({ name: `coverage: ${failed}`, details: '' })
  if (filters.length > 0) return // what a part of the suite goes through is no verdict
  const { table, verdicts } = coverage()
  console.log(table)
  const count = new Count()
  for (const { what, seen, held } of verdicts) {
    if (held) count.passed++
    else count.failed.push({ name: `coverage, ${what}: ${seen}`, details: '' })
    console.log(`${held ? 'ok  ' : 'FAIL'} ${what}: ${seen}`)
  }
  finish('coverage', count, 0)
}

// What measures itself or builds things has nothing to do with the addon, and takes long.
const withoutAddon =
  /^test\/(?:fuzz\/fuzz|hostile\/|house\/|matrix\/|packaging\/|scribble\/|storm\/|sweep\/)/

async function runWithAddon(kind) {
  const addon = new SanitizedAddon(kind)
  if (!addon.build()) {
    total.failed.push({ name: `the addon under ${kind}: build`, details: '' })
    return
  }
  for (const plant of addon.plants)
    if (!addon.sees(plant))
      total.failed.push({ name: `${kind}: a planted ${plant} was not seen`, details: '' })
  addon.clear()
  const names = tests(/\.test\.ts$/).filter((name) =>
    options.ci && kind !== 'coverage' ? ciAddonTests[kind].test(name) : !withoutAddon.test(name),
  )
  await runScripts(names, { label: `${kind} `, env: addon.environment() })
  if (kind === 'coverage') return
  const count = new Count()
  const findings = addon.findings()
  if (findings.length === 0) count.passed++
  for (const details of findings)
    count.failed.push({ name: `${kind}: ${details.split('\n')[0]}`, details })
  finish(`${kind}: ${addon.verdict}`, count, 0)
}

// scripts/models.mjs checks one model and its mutants; memory.pml is a part of others.
const runModels = () =>
  runEach(
    tests(/\.pml$/, 'test/models').filter((name) => basename(name) !== 'memory'),
    (name) =>
      runTest(
        name,
        process.execPath,
        ['scripts/models.mjs', '--tap', `${name}.pml`],
        {},
        slow_s * 1000,
      ),
  )

const runRelacy = () =>
  runEach(tests(/mutants\.json$/, 'test/relacy'), (name) =>
    runTest(
      name,
      process.execPath,
      ['scripts/relacy.mjs', '--tap', `${name}.json`],
      {},
      slow_s * 1000,
    ),
  )

async function runMatrix() {
  const files = tests(/\.test\.ts$/, 'test/system')
  if (files.length === 0) return
  const { optionalDependencies } = JSON.parse(readFileSync('test/matrix/package.json', 'utf8'))
  for (const name of Object.keys(optionalDependencies)) {
    const node = join(root, 'test/matrix/node_modules', name, 'bin/node')
    const version = existsSync(node)
      ? spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout
      : ''
    if (version) await runScripts(files, { node, label: `Node.js ${version.trim()} ` })
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

/** A tree of its own beside build/: the core and the native tests. */
function make(target) {
  const jobs = String(availableParallelism())
  build('make', '-C', 'native', '--no-print-directory', '--keep-going', '-j', jobs, target)
}

if (!options['no-build']) build(process.execPath, 'scripts/build.mjs')
if (everything || options.native) await runNative()
for (const sanitizer of ['asan', 'tsan']) {
  if (!options[sanitizer]) continue
  make(sanitizer)
  const env = {
    ASAN_OPTIONS: 'detect_leaks=1',
    TSAN_OPTIONS: 'halt_on_error=1',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  }
  showPlanted(sanitizer, env)
  await runNative(sanitizer, env)
}
if (options.addon !== undefined) await runWithAddon(options.addon)
else if (options.ci) for (const kind of Object.keys(ciAddonTests)) await runWithAddon(kind)
if (options.coverage || options.ci) await runCoverage()
// Here and not in the tests, whose time is limited; without clang the fuzzer's test says so.
for (const name of ['fuzz', 'sweep', 'hostile', 'storm']) {
  const wanted = tests(/\.test\.ts$/, `test/${name}`).length > 0
  if (!(everything || options.js) || options['no-build'] || !wanted) continue
  const built = spawnSync(process.execPath, [`scripts/${name}.mjs`, '--build'], {
    stdio: 'inherit',
  })
  if (![0, 77].includes(built.status))
    total.failed.push({ name: `${name} programs: build`, details: '' })
}
if (everything || options.models) await runModels()
if (everything || options.models) await runRelacy()
if (everything || options.js) {
  const scripts = tests(/\.test\.ts$/)
  const storms = scripts.filter((name) => name.startsWith('test/storm/'))
  await runScripts(scripts.filter((name) => !storms.includes(name)))
  // A storm is all that the machine can bear: beside another test each would measure the other.
  await runScripts(storms, { jobs: 1 })
}
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
