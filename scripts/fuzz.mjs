// `npm run fuzz -- --seconds N [--target T]`: builds the fuzz targets of test/fuzz, shows that their mutants are found,
// and runs each target for its share of the seconds. Ends with 1 on a finding, or when a mutant goes unnoticed.
// docs/internals/fuzzing.md tells what is fuzzed and how.
//
//   --seconds N     of fuzzing in all, each job by itself [60]
//   --executions N  goes on without sanitizers until there were so many, of all targets together [0]
//   --target T      only this one, and its mutants; may be given several times
//   --jobs N        targets that run at the same time [1]
//   --build         builds and does nothing else; --no-build: the other way round
//   --no-mutants    long runs need not be told again what a short one has shown
//   --ledger        adds what was run to build/fuzz/ledger.json, and says what is there by now
//   --keep          puts what was learnt into test/fuzz/corpus, made as small as possible, and what showed each mutant
//   --json          the result as one line for test/fuzz/fuzz.test.ts
//
// Each run prints its seed and takes one from COROIPC_FUZZ_SEED.
// Targets that need no kernel run twice: under libFuzzer with sanitizers, then bare (volley.cc), for which a third of the
// seconds is kept. What is learnt on the way stays in build/fuzz/corpus, where the next run starts.
import { spawn, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { plant } from './mutants.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    executions: { type: 'string', default: '0' },
    ledger: { type: 'boolean', default: false },
    target: { type: 'string', multiple: true, default: [] },
    jobs: { type: 'string', default: '1' },
    build: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    'no-mutants': { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
})

const allTargets = ['ring_reader', 'ring_writer', 'handshake', 'server', 'client', 'api']
const bareTargets = ['ring_reader', 'ring_writer', 'handshake']
const unknown = options.target.filter((name) => !allTargets.includes(name))
if (
  unknown.length > 0 ||
  !(Number(options.seconds) > 0) ||
  !(Number(options.executions) >= 0) ||
  !(Number(options.jobs) > 0)
) {
  console.error(
    `--target is one of ${allTargets.join(', ')}; --seconds, --jobs and --executions are numbers`,
  )
  process.exit(1)
}
const targets = options.target.length > 0 ? options.target : allTargets
const mutants = JSON.parse(readFileSync('test/fuzz/mutants.json', 'utf8')).filter(({ target }) =>
  targets.includes(target),
)
// Long inputs find nothing that short ones do not, and take longer.
const inputBytes = { ring_reader: 160, ring_writer: 160, handshake: 96, api: 160 }
const bareBytes = 32
const mutantSeconds = 60
const keptMax = 200 // inputs of a target, in the repository

const isBare = (target) => bareTargets.includes(target)
const filesIn = (directory) => (existsSync(directory) ? readdirSync(directory) : [])
const say = (line) => options.json || console.log(line)

// A compiler that has libFuzzer beside it: Debian packs that apart.
const hasFuzzer = (name) => {
  const asked = spawnSync(name, ['-print-runtime-dir'], { encoding: 'utf8' })
  return (
    asked.status === 0 &&
    filesIn(asked.stdout.trim()).some((file) => file.startsWith('libclang_rt.fuzzer'))
  )
}
const clang = ['clang++', 'clang++-14'].find(hasFuzzer)
if (clang === undefined) {
  const reason = 'no clang with libFuzzer: apt-get install clang-14 libclang-rt-14-dev'
  console.log(options.json ? JSON.stringify({ skipped: reason }) : `skipped: ${reason}`)
  process.exit(77)
}

function build() {
  const make = (...args) =>
    spawnSync(
      'make',
      [
        '-C',
        'test/fuzz',
        '--silent',
        '--no-print-directory',
        `CLANGXX=${clang}`,
        '-j',
        options.jobs,
        ...args,
      ],
      { stdio: ['ignore', options.json ? 2 : 1, 2] },
    ).status === 0
  const programs = [...targets, ...targets.filter(isBare).map((target) => `bare/${target}`)]
  if (!make(...programs.map((program) => `../../build/fuzz/${program}`))) return false
  for (const mutant of mutants) {
    const { name, target, file } = mutant
    if (!plant(mutant, `build/fuzz/mutants/${name}`)) return false
    const goals = isBare(target) ? ['mutant', 'bare-mutant'] : ['mutant']
    if (!make(...goals, `MUTANT=${name}`, `FILE=${file}`, `TARGET=${target}`)) return false
  }
  return true
}

/** Runs a fuzz program; its own words, and how it ended. */
async function fuzz(program, seconds, options, folders, prefix) {
  mkdirSync(dirname(prefix), { recursive: true })
  for (const folder of folders) mkdirSync(folder, { recursive: true })
  const started = performance.now()
  const child = spawn(
    'nice',
    // biome-ignore format: a line for what belongs together
    [
      '-n', '10', program,
      `-max_total_time=${seconds}`, `-artifact_prefix=${prefix}`, ...options, ...folders,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const stop = () => {
    child.kill('SIGKILL')
    process.exit(1)
  }
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop)
  const exit = new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (code, signal) => resolve(signal ?? code))
  })
  const [said, code] = await Promise.all([text(child.stderr), exit])
  for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, stop)
  return {
    code,
    said,
    seconds: (performance.now() - started) / 1000,
    executions: Number(/number_of_executed_units: (\d+)/.exec(said)?.[1] ?? 0),
    input: /Test unit written to (\S+)/.exec(said)?.[1],
    seed: /^(?:INFO: Seed|seed): (\d+)/m.exec(said)?.[1],
    why:
      /^.*MUST\(.*$|^.*runtime error: .*$|^SUMMARY: .*$|^.*was left open.*$/m
        .exec(said)?.[0]
        .replace(/^SUMMARY: /, '') ?? `ended with ${code}`,
  }
}

const seedGiven = process.env.COROIPC_FUZZ_SEED
const seeded = seedGiven ? [`-seed=${seedGiven}`] : []
const guided = (target) => [
  `-max_len=${inputBytes[target] ?? 512}`,
  ...seeded,
  '-rss_limit_mb=1024',
  '-timeout=10',
  '-print_final_stats=1',
]
const bare = (runs) => [
  `-max_len=${bareBytes}`,
  ...seeded,
  ...(runs === undefined ? [] : [`-runs=${runs}`]),
]

async function runMutant({ name, target, what }, isBareRun) {
  const place = `build/fuzz/mutants/${name}/`
  // From the repository's corpus, nothing learnt: what is found now is found in every clone.
  rmSync(`${place}learnt`, { recursive: true, force: true })
  const result = await fuzz(
    `${place}${isBareRun ? 'bare/' : ''}${target}`,
    mutantSeconds,
    isBareRun ? bare() : guided(target),
    [`${place}learnt`, `test/fuzz/corpus/${target}`],
    `${place}found-`,
  )
  const found = result.code !== 0 && result.input !== undefined
  if (found && options.keep && !isBareRun)
    copyFileSync(result.input, `test/fuzz/corpus/${target}/shows-${name}`)
  const how = `${name}${isBareRun ? ', bare' : ''}`
  say(
    `${found ? 'ok  ' : 'FAIL'} mutant ${how.padEnd(32)} ${found ? `found in ${result.seconds.toFixed(1)} s, ${result.executions} executions` : 'was not found'}: ${found ? result.why : what}`,
  )
  return {
    name: `mutant ${how}: ${what}`,
    ok: found,
    seconds: result.seconds,
    details: result.why,
  }
}

async function runTarget(target, seconds, isBareRun, runs) {
  const program = `build/fuzz/${isBareRun ? 'bare/' : ''}${target}`
  const result = await fuzz(
    program,
    seconds,
    isBareRun ? bare(runs) : guided(target),
    [`build/fuzz/corpus/${target}`, `test/fuzz/corpus/${target}`],
    `build/fuzz/findings/${target}-`,
  )
  const ok = result.code === 0
  const name = `${target}${isBareRun ? ', bare' : ''}`
  const rate = Math.round(result.executions / result.seconds)
  const replay = result.input && `${program} ${result.input}`
  say(
    `${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(18)} ${String(result.executions).padStart(11)} executions  ${String(rate).padStart(7)}/s  ${ok ? 0 : 1} findings  seed ${result.seed}`,
  )
  if (!ok) {
    say(`     ${result.why}`)
    say(replay ? `     again: ${replay}` : result.said.trim().replace(/^/gm, '     '))
  }
  return {
    name,
    ok,
    executions: result.executions,
    seconds: result.seconds,
    seed: result.seed,
    details: ok ? '' : [result.why, replay && `again: ${replay}`].filter(Boolean).join('\n'),
  }
}

/** Sums over runs, so that a long one can be made of pieces. */
function addToLedger(results) {
  const path = 'build/fuzz/ledger.json'
  const ledger = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
  for (const { name, executions, seconds, ok } of results) {
    if (executions === undefined) continue
    const entry = (ledger[name] ??= { executions: 0, seconds: 0, runs: 0, findings: 0 })
    entry.executions += executions
    entry.seconds += Math.round(seconds)
    entry.runs++
    entry.findings += ok ? 0 : 1
  }
  writeFileSync(path, `${JSON.stringify(ledger, undefined, 2)}\n`)
  const entries = Object.values(ledger)
  const total = (what) => entries.reduce((sum, entry) => sum + entry[what], 0)
  say(
    `${path}: ${total('executions').toExponential(2)} executions in ${total('seconds')} s, ${total('findings')} findings`,
  )
}

/** What covers most with least, into the repository. */
function keep(target) {
  const existing = (argument) => argument.startsWith('-') || existsSync(argument)
  const kept = `test/fuzz/corpus/${target}`
  const fresh = `build/fuzz/kept/${target}`
  rmSync(fresh, { recursive: true, force: true })
  mkdirSync(fresh, { recursive: true })
  const merged = spawnSync(
    `build/fuzz/${target}`,
    ['-set_cover_merge=1', fresh, kept, `build/fuzz/corpus/${target}`].filter(existing),
    { stdio: 'ignore' },
  )
  if (merged.status !== 0) return false
  // What shows a mutant, or showed a defect, stays, whatever else it covers.
  for (const name of filesIn(kept)) if (!name.startsWith('shows-')) rmSync(join(kept, name))
  // The merge writes those first that add most.
  const age = (name) => statSync(join(fresh, name), { bigint: true }).mtimeNs
  const best = filesIn(fresh).sort((a, b) => (age(a) < age(b) ? -1 : 1))
  for (const name of best.slice(0, keptMax))
    writeFileSync(join(kept, name), readFileSync(join(fresh, name)))
  say(`     ${target}: ${filesIn(kept).length} inputs in ${kept}`)
  return true
}

if (!options['no-build'] && !build()) process.exit(1)
if (options.build) process.exit(0)

const results = []
if (!options['no-mutants'])
  for (const mutant of mutants)
    for (const isBareRun of isBare(mutant.target) ? [false, true] : [false])
      results.push(await runMutant(mutant, isBareRun))

const jobs = Number(options.jobs)
const bareRuns = targets.filter(isBare)
const wanted = Number(options.executions)
const seconds = Number(options.seconds) * jobs
const bareSeconds = bareRuns.length > 0 ? seconds / 3 : 0
const share = (of, among) => Math.max(1, Math.round(of / among.length))
const waiting = [
  ...targets.map((name) => () => runTarget(name, share(seconds - bareSeconds, targets), false)),
  ...bareRuns.map(
    (name) => () =>
      wanted > 0
        ? runTarget(name, 3600, true, Math.ceil(wanted / bareRuns.length))
        : runTarget(name, share(bareSeconds, bareRuns), true),
  ),
]
await Promise.all(
  Array.from({ length: jobs }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      results.push(await next())
  }),
)
if (options.ledger) addToLedger(results)
if (options.keep && results.every(({ ok }) => ok)) {
  for (const target of targets) if (!keep(target)) process.exitCode = 1
}
const sum = results.reduce((total, { executions = 0 }) => total + executions, 0)
const bad = results.filter(({ ok }) => !ok)
if (options.json) console.log(JSON.stringify({ results }))
else console.log(`${sum} executions, ${bad.length} findings`)
if (bad.length > 0) process.exitCode = 1
