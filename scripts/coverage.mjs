// How much of the native code the C++ tests and the Node suite go through, for `npm run coverage`: both are built by clang, which
// counts in the source (docs: clang.llvm.org, SourceBasedCodeCoverage), and run as always. A process that is killed leaves no
// counts: what only those went through is missing here.
//
// Held: the totals, and whole files of which every branch must be taken: what parses what a peer can write.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const place = join(root, 'build', 'coverage')
const profiles = join(place, 'profiles')
const list = join(place, 'profiles.txt')
const merged = join(place, 'all.profdata')

const LINES = 95
const BRANCHES = 90
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
    ...['src', 'addon', 'include'].map((folder) => join(root, 'native', folder)),
  ])
  const files = JSON.parse(exported.stdout).data[0].files.map(
    ({ filename, summary, branches }) => ({
      name: filename.slice(root.length + 1),
      lines: summary.lines,
      branches: summary.branches,
      missing: [
        ...new Set(branches.filter((each) => each[4] === 0 || each[5] === 0).map(([line]) => line)),
      ],
    }),
  )
  writeFileSync(join(place, 'report.json'), JSON.stringify(files))
  const sum = (of) => {
    const [covered, count] = ['covered', 'count'].map((key) =>
      files.reduce((all, file) => all + file[of][key], 0),
    )
    return { covered, count, percent: (100 * covered) / Math.max(1, count) }
  }
  const part = ({ covered, count }) =>
    `${((100 * covered) / Math.max(1, count)).toFixed(1)} % of ${count}`
  const [lines, branches] = [sum('lines'), sum('branches')]
  return {
    table: files
      .map(
        (file) =>
          `${file.name}: lines ${part(file.lines)}, branches ${part(file.branches)}${file.missing.length === 0 ? '' : `; not both ways: ${file.missing.join(' ')}`}`,
      )
      .join('\n'),
    verdicts: [
      { what: `lines: at least ${LINES} %`, seen: part(lines), held: lines.percent >= LINES },
      {
        what: `branches: at least ${BRANCHES} %`,
        seen: part(branches),
        held: branches.percent >= BRANCHES,
      },
      ...WHOLE.map((name) => {
        const file = files.find((each) => each.name === name)
        const held = file !== undefined && file.branches.covered === file.branches.count
        return {
          what: `${name}: every branch`,
          seen: file === undefined ? 'not there' : part(file.branches),
          held,
        }
      }),
    ],
  }
}
