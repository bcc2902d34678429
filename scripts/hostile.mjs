// The mutants of the hostile tables: mistakes planted in copies of the core (test/hostile/mutants.json), each linked with the native
// test that has to tell it. A mutant that passes ends this with 1. The tests themselves run as all native tests do.
//
//   --build      builds and does nothing else; --no-build: the other way round
//   --json       the result as one line, for test/hostile/hostile.test.ts
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { plant } from './mutants.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const { values: options } = parseArgs({
  options: {
    build: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})
/** What check.h and the tables say of what is not as it should be. */
const FAILED = /^# .*(?:does not hold| instead of ).*\n/m
const LIMIT_MS = 30_000 // a server that hangs is told as well
const place = 'build/hostile'
const core = 'native/build/Release/obj.target/coroipc_core.a'
const mutants = JSON.parse(readFileSync('test/hostile/mutants.json', 'utf8'))
const placeOf = ({ name }) => `${place}/${name}`

/** Runs a program to its end; or, when it is `enough` that it says so, until then. */
async function run(command, args, { limitMs, enough } = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let late = false
  let said = ''
  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {} // it has ended
  }
  if (enough !== undefined)
    child.stdout.on('data', (bytes) => {
      said += bytes
      if (enough.test(said)) killGroup()
    })
  const timer =
    limitMs === undefined
      ? undefined
      : setTimeout(() => {
          late = true
          killGroup()
        }, limitMs)
  const exit = new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('exit', (code, signal) => resolve(signal ?? code))
  })
  const [out, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), exit])
  clearTimeout(timer)
  return { out, errors, code, late }
}

/** Runs `work` for each of `items`, as many at a time as there are CPUs. */
async function each(items, work) {
  const waiting = [...items]
  const worker = async () => {
    while (waiting.length > 0) await work(waiting.shift())
  }
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker))
}

/** make, since it knows what is new: a rule for each test, each mutated file and each program. */
async function build() {
  mkdirSync(place, { recursive: true })
  if (!mutants.every((mutant) => plant(mutant, placeOf(mutant)))) return false
  const flags =
    '-std=c++20 -fno-exceptions -fno-rtti -pthread -D_GNU_SOURCE -MMD -MP -Inative/include -Inative/src -Itest/native'
  const tests = [...new Set(mutants.map(({ test }) => test))]
  const rules = [
    `all: ${mutants.map((mutant) => `${placeOf(mutant)}/${mutant.test}`).join(' ')}`,
    // Checked and told as they are: what the compiler has to say about them is no matter here.
    ...tests.map(
      (test) =>
        `${place}/${test}.o: test/native/${test}.cc\n\t@echo "  CXX hostile ${test}"\n\t@$(CXX) ${flags} -O1 -w -c -o $@ $<`,
    ),
    ...mutants.map((mutant) => {
      const header = mutant.header ? `-include ${placeOf(mutant)}/${mutant.header}.h` : ''
      const [from, to] = [`${placeOf(mutant)}/${mutant.file}`, `${placeOf(mutant)}/${mutant.test}`]
      return `${from}.o: ${from}.cc\n\t@echo "  CXX hostile mutant ${mutant.name}"\n\t@$(CXX) ${flags} ${header} -O2 -w -c -o $@ $<\n${to}: ${place}/${mutant.test}.o ${from}.o ${core}\n\t@$(CXX) -pthread -o $@ $^`
    }),
    ...[...tests, ...mutants.map(({ name, file }) => `${name}/${file}`)].map(
      (name) => `-include ${place}/${name}.d`,
    ),
  ]
  const makefile = `${place}/Makefile`
  writeFileSync(makefile, `MAKEFLAGS += --no-builtin-rules\n${rules.join('\n')}\n`)
  const jobs = String(Math.min(2, availableParallelism()))
  const made = await run('make', ['-f', makefile, '--no-print-directory', '-j', jobs])
  if (!options.json) process.stdout.write(made.out)
  if (made.code !== 0) process.stderr.write(made.errors)
  return made.code === 0
}

if (!options['no-build'] && !(await build())) process.exit(1)
if (options.build) process.exit(0)

const results = []
await each(mutants, async (mutant) => {
  const { name, what, test, title } = mutant
  if (mutant.root && process.getuid() !== 0) {
    results.push({ name, ok: true, skipped: 'needs root, for a second uid', details: '' })
    return
  }
  const { out, errors, code, late } = await run(`${placeOf(mutant)}/${test}`, [title], {
    limitMs: LIMIT_MS,
    enough: FAILED, // a whole table of such rows takes minutes
  })
  // Told by the test itself, by a crash of its process, or since it hangs: never by a test that did not run.
  const ran = out.includes(`# test: ${title}`)
  const failed = out.split('\n').find((line) => FAILED.test(`${line}\n`))
  const told = failed?.slice(2) ?? (late ? 'it hangs' : typeof code === 'string' ? code : '')
  const ok = ran && told !== ''
  results.push({
    name: `${name}: ${what}: ${ok ? `told by "${title}" (${told})` : 'NOT told'}`,
    ok,
    details: ok ? '' : `${out}\n${errors}\n${ran ? '' : `did not run: ${code}`}`.trim(),
  })
})
if (options.json) console.log(JSON.stringify({ results }))
else
  for (const { name, ok, skipped } of results)
    console.log(`${skipped ? 'skip' : ok ? 'ok  ' : 'FAIL'} ${name}`)
if (results.some(({ ok }) => !ok)) process.exitCode = 1
