// How much of the native code the C++ tests and the Node suite go through, for `npm run coverage`: both are built by clang, which
// counts in the source (docs: clang.llvm.org, SourceBasedCodeCoverage), and run as always. A process that is killed leaves no
// counts: what only those went through is missing here.
//
// Held: the totals, and whole files of which every branch must be taken: what parses what a peer can write.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const place = join(root, 'build', 'coverage')
const profiles = join(place, 'profiles')
const list = join(place, 'profiles.txt')
const merged = join(place, 'all.profdata')

const LINES = 95
const BRANCHES = 90
const PARTS = ['native/src/', 'native/addon/']
const NATIVE = /^native\/(?:src|addon|include)\//
const WHOLE = ['native/src/ring.h', 'native/src/ring.cc', 'native/src/handshake.cc']

export const coverageFlags = '-fprofile-instr-generate -fcoverage-mapping'
export const coverageTools = ['clang-14', 'clang++-14', 'llvm-profdata-14', 'llvm-cov-14']

/** Of one process and one program each (%m: a program's signature), so that parallel ones do not meet. */
export const coverageEnvironment = { LLVM_PROFILE_FILE: join(profiles, '%p-%m.profraw') }

export function clearCoverage() {
  rmSync(profiles, { recursive: true, force: true })
  mkdirSync(profiles, { recursive: true })
}

const sweepPrograms = ['client', 'server', 'exhaust']
const fuzzTargets = ['ring_reader', 'ring_writer', 'handshake', 'server', 'client', 'api']

/**
 * What goes where no other test does: every system call and allocation of a session fails, and hostile peers do what the fuzzers
 * have found. Gives the command that failed, if one did.
 */
export function coverMore() {
  const compiler = `clang++-14 ${coverageFlags}`
  const fails = (command, ...args) => {
    const env = { ...process.env, ...coverageEnvironment }
    const stdio = ['ignore', 'ignore', 'inherit']
    return spawnSync(command, args, { cwd: root, env, stdio }).status === 0
      ? undefined
      : [command, ...args].join(' ')
  }
  const make = (folder, ...settings) =>
    fails('make', '-C', folder, '--silent', '--no-print-directory', '-j2', ...settings)
  const [sweepPlace, fuzzPlace] = ['sweep', 'fuzz'].map((name) => join(place, name))
  const kinds = ['errors', 'descriptors', 'allocations'].flatMap((kind) => ['--only', kind])
  return (
    make('test/sweep', `OUT=${sweepPlace}`, `CXX=${compiler}`) ??
    fails(
      process.execPath,
      'scripts/sweep.mjs',
      '--no-build',
      '--programs',
      sweepPlace,
      ...kinds,
    ) ??
    make('test/fuzz', `OUT=${fuzzPlace}`, `CLANGXX=${compiler}`, 'all') ??
    fuzzTargets
      .map((name) =>
        fails(join(fuzzPlace, name), '-runs=0', '-verbosity=0', `test/fuzz/corpus/${name}`),
      )
      .find((failed) => failed !== undefined)
  )
}

const llvm = (tool, args) => spawnSync(`${tool}-14`, args, { encoding: 'utf8', maxBuffer: 1 << 28 })

/** What was seen, as `{ what, seen, held }`, and a table of the files. */
export function coverage() {
  const raw = readdirSync(profiles).map((name) => join(profiles, name))
  writeFileSync(list, raw.join('\n'))
  const merge = llvm('llvm-profdata', [
    'merge',
    '--failure-mode=all',
    '-sparse',
    '-f',
    list,
    '-o',
    merged,
  ])
  if (merge.status !== 0)
    return { table: merge.stderr, verdicts: [{ what: 'profiles', seen: 'none', held: false }] }
  const programs = join(place, 'test', 'native')
  const objects = readdirSync(programs)
    .filter((name) => name.endsWith('_test'))
    .map((name) => join(programs, name))
  for (const name of [
    'node/libcoroipc.so',
    'node/coroipc.node',
    ...sweepPrograms.map((each) => `sweep/${each}`),
    ...fuzzTargets.map((each) => `fuzz/${each}`),
  ])
    if (existsSync(join(place, name))) objects.unshift(join(place, name))
  const exported = llvm('llvm-cov', [
    'export',
    '-instr-profile',
    merged,
    '-skip-expansions',
    '-skip-functions',
    ...objects.flatMap((object, at) => (at === 0 ? [object] : ['-object', object])),
  ])
  // node-gyp compiles native/build/../src/x.cc, native/Makefile native/src/x.cc: one file has two names here. A branch is taken if it
  // was by either; of lines, which are only summed up, the better of the two is what can be said.
  const found = new Map()
  for (const { filename, summary, branches } of JSON.parse(exported.stdout).data[0].files) {
    const name = relative(root, resolve(filename))
    if (!NATIVE.test(name)) continue
    const seen = found.get(name) ?? { lines: summary.lines, taken: new Map() }
    found.set(name, seen)
    if (summary.lines.covered > seen.lines.covered) seen.lines = summary.lines
    for (const [line, column, lineEnd, columnEnd, yes, no] of branches) {
      const at = [line, column, lineEnd, columnEnd].join(':')
      const before = seen.taken.get(at)
      seen.taken.set(at, [line, yes > 0 || before?.[1] === true, no > 0 || before?.[2] === true])
    }
  }
  const files = [...found]
    .map(([name, { lines, taken }]) => {
      const all = [...taken.values()]
      return {
        name,
        lines,
        branches: {
          count: 2 * all.length,
          covered: all.reduce((sum, [, yes, no]) => sum + Number(yes) + Number(no), 0),
        },
        missing: [...new Set(all.filter(([, yes, no]) => !(yes && no)).map(([line]) => line))],
      }
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
  writeFileSync(join(place, 'report.json'), JSON.stringify(files))
  return {
    table: files
      .map(
        (file) =>
          `${file.name}: lines ${part(file.lines)}, branches ${part(file.branches)}${file.missing.length === 0 ? '' : `; not both ways: ${file.missing.join(' ')}`}`,
      )
      .join('\n'),
    verdicts: verdictsOn(files, sources()),
  }
}

/** Names of all that is to be counted. */
const sources = () =>
  PARTS.flatMap((part) =>
    readdirSync(join(root, part))
      .filter((name) => name.endsWith('.cc'))
      .map((name) => part + name),
  )

const part = ({ covered, count }) =>
  `${((100 * covered) / Math.max(1, count)).toFixed(1)} % of ${count}`

/** Whether what was seen of the files is enough. */
export function verdictsOn(files, sources) {
  const sum = (of) => {
    const [covered, count] = ['covered', 'count'].map((key) =>
      files.reduce((all, file) => all + file[of][key], 0),
    )
    return { covered, count, percent: (100 * covered) / Math.max(1, count) }
  }
  const [lines, branches] = [sum('lines'), sum('branches')]
  return [
    { what: `lines: at least ${LINES} %`, seen: part(lines), held: lines.percent >= LINES },
    {
      what: `branches: at least ${BRANCHES} %`,
      seen: part(branches),
      held: branches.percent >= BRANCHES,
    },
    // A source that is not counted at all would raise the rest.
    ...PARTS.map((part) => {
      const wanted = sources.filter((name) => name.startsWith(part))
      const missing = wanted.filter((name) => files.every((file) => file.name !== name))
      return {
        what: `${part}: each of its ${wanted.length} sources is counted`,
        seen: missing.length === 0 ? 'all' : `all but ${missing.join(', ')}`,
        held: wanted.length > 0 && missing.length === 0,
      }
    }),
    ...WHOLE.map((name) => {
      const file = files.find((each) => each.name === name)
      const held = file !== undefined && file.branches.covered === file.branches.count
      return {
        what: `${name}: every branch`,
        seen: file === undefined ? 'not there' : part(file.branches),
        held,
      }
    }),
  ]
}
