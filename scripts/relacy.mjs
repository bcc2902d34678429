// Runs the real ring and connection under relacy, which chooses schedules and, for each load, one of the values that the C++
// memory model lets it see (test/relacy). Their mutants must be caught in the same run.
//
//   npm run relacy                    200 000 schedules, and the mutants
//   npm run relacy -- --runs 5000000  more of them
//   npm test -- relacy/               the first, counted: this program with --tap
//
// A run is known by its number: the same one gives the same schedule.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { mutate } from './mutants.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '200000' },
    tap: { type: 'boolean', default: false },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
  },
})
const [list = 'test/relacy/mutants.json'] = positionals
const mutantRuns = '100000'
const core = 'native/build/Release/obj.target/coroipc_core.a'

const missing = existsSync('/usr/include/relacy/relacy.hpp') ? undefined : 'relacy-dev'
if (missing !== undefined || spawnSync('g++', ['--version']).error !== undefined) {
  const why = `not installed: apt-get install ${missing ?? 'g++'}`
  console.log(options.tap ? `TAP version 13\n1..1\nok 1 - relacy # SKIP ${why}` : `skipped: ${why}`)
  process.exit(options.tap ? 77 : 0)
}

async function execute(command, args) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise((done) => {
      child.on('error', () => done(-1))
      child.on('close', (code, signal) => done(signal ?? code))
    }),
  ])
  return { code, output: stdout + stderr }
}

/** Builds with what is in `place` before the core's own sources, and runs. */
async function check(place, optimized, runs) {
  mkdirSync(place, { recursive: true })
  const program = join(place, 'two_sides')
  // biome-ignore format: a line for what belongs together
  const compiled = await execute('g++', [
    '-std=c++20', optimized, '-g1', '-w', '-pthread', '-fno-strict-aliasing',
    '-iquote', place, '-Itest/relacy', '-Inative/src', '-Inative/include',
    '-o', program, 'test/relacy/two_sides.cc', core,
  ])
  if (compiled.code !== 0) return { why: compiled.output }
  const { code, output } = await execute('nice', ['timeout', '600', program, runs])
  const found = /^(DATA RACE|DEADLOCK|LIVELOCK|USER ASSERT FAILED|[A-Z][A-Z ]+)\b/m.exec(
    output,
  )?.[1]
  return {
    found,
    run: /^iteration: (\d+)/m.exec(output)?.[1],
    count: /^iterations: (\d+)/m.exec(output)?.[1],
    rate: /^throughput: (\d+)/m.exec(output)?.[1],
    why: code === 0 ? undefined : output,
  }
}

let passed = 0
let failed = 0
function report(name, why) {
  if (why === undefined) passed++
  else failed++
  const ok = why === undefined
  if (options.tap) console.log(`${ok ? 'ok' : 'not ok'} ${passed + failed} - ${name}`)
  else console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}`)
  const lines = why?.trim().split('\n').slice(0, 200).join('\n').replace(/^/gm, '    ')
  if (!ok) console.log(options.tap ? `  ---\n  why: |\n${lines}\n  ...` : lines)
}

async function checkHonest() {
  const { count, rate, why } = await check('build/relacy/core', '-O1', options.runs)
  report(`two sides: ${count ?? 'fewer'} schedules, ${rate ?? 0}/s, nothing found`, why)
}

async function checkMutant(mutant) {
  const place = join('build/relacy/mutants', mutant.name)
  rmSync(place, { recursive: true, force: true })
  mkdirSync(place, { recursive: true })
  const { source, why } = mutate(`native/src/${mutant.file}`, mutant)
  if (why !== undefined) return report(`mutant ${mutant.name}`, why)
  writeFileSync(join(place, mutant.file), source)
  const result = await check(place, '-O0', mutantRuns)
  const name = `mutant ${mutant.name}: ${mutant.what}: ${result.found ?? 'nothing'} in schedule ${result.run ?? '-'}`
  report(
    name,
    result.found === mutant.verdict ? undefined : (result.why ?? `not caught in ${mutantRuns}`),
  )
}

if (options.tap) console.log('TAP version 13')
const mutants = JSON.parse(readFileSync(list, 'utf8'))
const waiting = [checkHonest, ...mutants.map((mutant) => () => checkMutant(mutant))]
await Promise.all(
  Array.from({ length: Number(options.jobs) }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await next()
  }),
)
if (options.tap) console.log(`1..${passed + failed}`)
else console.log(`\n${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
