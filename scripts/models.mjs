// Checks the Promela models of the protocol with Spin: that each holds, and that each of its mutants is caught.
//
//   npm run models                 all of them, as a table
//   npm run models -- ring         only files whose path contains one of these
//   npm run models:long            the larger state spaces too (minutes, up to 2 GB)
//   npm test -- models/            the same, counted: this program with --tap, one file each
//
// A model says in comments what is to be run, one line each:
//
//   // HOLDS   [defines] [property]: what holds
//   // LONG    the same, only with --long
//   // MUTANT  M_NAME [defines] [property] verdict: the mistake
//
// property is nothing (no assertion fails, nobody hangs), `deaths` (the same where who is dead hangs: the model's Observer
// says who else does), `progress` (no cycle without a label progress), or `fair` (the model's ltl formula, weakly fair). verdict is what must be found: hangs, violates or spins.
// A run that was cut short by depth, memory or time proves nothing and fails.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)
const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    tap: { type: 'boolean', default: false },
    long: { type: 'boolean', default: false },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
  },
})
const memory_mb = options.long ? 2000 : 1500
const timeout_s = options.long ? 1200 : 100

const compilation = {
  safety: { gcc: ['-DSAFETY'], pan: [] },
  deaths: { gcc: ['-DSAFETY', '-DNOREDUCE'], pan: ['-E'] },
  progress: { gcc: ['-DNP'], pan: ['-l'] },
  fair: { gcc: [], pan: ['-a', '-f'] },
}
const verdicts = {
  hangs: /^pan:\d+: (invalid end state|assertion violated ended)/m,
  violates: /^pan:\d+: assertion violated(?! ended)/m,
  spins: /^pan:\d+: (non-progress|acceptance) cycle/m,
}

/** The mistakes that a model and what it includes can be told to make. */
function mutantsIn(file) {
  const source = readFileSync(file, 'utf8')
  const conditions = source.match(/^#(?:ifdef|ifndef|if|elif)\b.*$/gm) ?? []
  const included = [...source.matchAll(/^#include "(.*)"$/gm)].map(([, name]) =>
    join(file, '..', name),
  )
  return new Set([
    ...conditions.flatMap((line) => line.match(/\bM_\w+/g) ?? []),
    ...included.flatMap((name) => [...mutantsIn(name)]),
  ])
}

const listedAnywhere = new Set(
  readdirSync('test/models').flatMap((name) =>
    [...readFileSync(join('test/models', name), 'utf8').matchAll(/^\/\/ MUTANT (M_\w+)/gm)].map(
      ([, mutant]) => mutant,
    ),
  ),
)

/** What a model's comments say is to be run, and what is wrong with them. */
function runsOf(file) {
  const source = readFileSync(file, 'utf8')
  const runs = []
  const wrong = []
  for (const [, kind, how, what] of source.matchAll(
    /^\/\/ (HOLDS|LONG|MUTANT)\b([^:\n]*): *(.*)$/gm,
  )) {
    const words = how.split(' ').filter(Boolean)
    const mutant = kind === 'MUTANT' ? words.shift() : undefined
    const verdict = kind === 'MUTANT' ? words.pop() : undefined
    const property = words.at(-1) in compilation ? words.pop() : 'safety'
    if (kind === 'MUTANT' && (!mutant?.startsWith('M_') || !(verdict in verdicts)))
      wrong.push(`no mutant or no verdict: ${how}`)
    const defines = [...words, ...(mutant ? [`-D${mutant}`] : [])]
    if (kind !== 'LONG' || options.long)
      runs.push({ file, mutant, verdict, property, defines, what })
  }
  const planted = mutantsIn(file)
  for (const mutant of planted)
    if (!listedAnywhere.has(mutant)) wrong.push(`${mutant} is never run`)
  for (const { mutant } of runs)
    if (mutant && !planted.has(mutant)) wrong.push(`${mutant} changes nothing`)
  return { runs, wrong: [...new Set(wrong)] }
}

async function execute(command, args, cwd) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise((done) => {
      child.on('error', () => done(-1))
      child.on('exit', (code) => done(code ?? -1))
    }),
  ])
  return { code, output: stdout + stderr }
}

/** One run: its states and time, and `why` when it is not what it should be. */
async function check(run, directory) {
  const { gcc, pan } = compilation[run.property]
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const source = resolve(run.file)
  const generated = await execute('spin', ['-a', ...run.defines, source], directory)
  if (generated.code !== 0 || /Error/.test(generated.output))
    return { why: `spin: ${generated.output}` }
  // Compiling takes longer than the search for most mutants.
  const optimized = run.verdict === undefined ? '-O1' : '-O0'
  const compiled = await execute(
    'gcc',
    [
      optimized,
      '-w',
      ...(options.long ? ['-DCOLLAPSE'] : []), // half the memory, twice the time
      ...gcc,
      `-DMEMLIM=${memory_mb}`,
      '-DVECTORSZ=2048',
      '-o',
      'pan',
      'pan.c',
    ],
    directory,
  )
  if (compiled.code !== 0) return { why: `gcc: ${compiled.output}` }
  const started = performance.now()
  const limits = `ulimit -v ${(memory_mb + 500) * 1024}; ulimit -t ${timeout_s}; exec nice ./pan "$@"`
  const { output } = await execute('bash', ['-c', limits, 'pan', '-m2000000', ...pan], directory)
  const seconds = (performance.now() - started) / 1000
  const states = Number(/([\d.e+]+) states, stored/.exec(output)?.[1] ?? 0)
  const errors = /errors: (\d+)/.exec(output)?.[1]
  const found = Object.keys(verdicts).find((verdict) => verdicts[verdict].test(output))
  const result = { states, seconds, found }
  if (errors === undefined)
    return { ...result, why: `did not come to its end:\n${output.slice(-500)}` }
  if (run.verdict === undefined) {
    if (errors !== '0')
      return {
        ...result,
        why: `${output.split('\n')[0]}\nspin -p -t${run.defines.map((define) => ` ${define}`).join('')} ${run.file}, in ${directory}, shows how`,
      }
    if (/max search depth too small|out of memory|Search not completed/.test(output))
      return { ...result, why: `cut short:\n${output.slice(0, 500)}` }
    return result
  }
  if (errors === '0') return { ...result, why: 'not caught' }
  return found === run.verdict ? result : { ...result, why: `it ${found}, not ${run.verdict}` }
}

const files = filters.some((filter) => filter.endsWith('.pml'))
  ? filters
  : readdirSync('test/models')
      .filter((name) => name.endsWith('.pml') && name !== 'memory.pml')
      .map((name) => join('test/models', name))
      .filter((name) => filters.length === 0 || filters.some((filter) => name.includes(filter)))
      .sort()

const missing = ['spin', 'gcc'].filter((tool) => spawnSync(tool, ['-V']).error !== undefined)
if (missing.length > 0) {
  const why = `${missing.join(' and ')} is not installed: apt-get install ${missing.join(' ')}`
  if (options.tap)
    console.log(
      `TAP version 13\n1..1\nok 1 - ${files.map((file) => basename(file)).join(', ')} # SKIP ${why}`,
    )
  else console.log(`skipped: ${why}`)
  process.exit(options.tap ? 77 : 0)
}

let passed = 0
let failed = 0
function report(name, { states, seconds, found, why }) {
  if (why === undefined) passed++
  else failed++
  if (options.tap) {
    console.log(`${why === undefined ? 'ok' : 'not ok'} ${passed + failed} - ${name}`)
    if (why !== undefined)
      console.log(`  ---\n  why: |\n${why.trim().replace(/^/gm, '    ')}\n  ...`)
    return
  }
  const figures = `${states ?? 0}`.padStart(10) + (seconds ?? 0).toFixed(1).padStart(7)
  console.log(
    `${why === undefined ? 'ok  ' : 'FAIL'} ${(found ?? 'holds').padEnd(8)}${figures} s  ${name}`,
  )
  if (why !== undefined) console.log(why.trim().replace(/^/gm, '     '))
}

if (options.tap) console.log('TAP version 13')
for (const file of files) {
  const name = basename(file, '.pml')
  const { runs, wrong } = runsOf(file)
  for (const why of wrong) report(`${name}: its list of runs`, { why })
  if (runs.length === 0) report(name, { why: 'nothing to run' })
  const waiting = [...runs.entries()]
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, run] = next
      const result = await check(run, join('build/models', `${name}-${index}`))
      const how = [...run.defines, run.property].join(' ')
      report(`${name} (${how}): ${run.what}`, result)
    }
  }
  await Promise.all(Array.from({ length: options.tap ? 1 : Number(options.jobs) }, worker))
}
if (options.tap) console.log(`1..${passed + failed}`)
else console.log(`\n${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
