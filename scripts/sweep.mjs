// `npm run sweep`: kills one side of a session at every instruction and every system call, lets every system call and every
// allocation fail, and checks that the other side loses, doubles and tears nothing and that all is cleaned up.
// Ends with 1 on a violation, or when a mutant goes unnoticed. docs/internals/sweeps.md tells what is swept and how.
//
//   --only KIND     instructions, calls, errors, descriptors, allocations or mutants; may be given several times [all]
//   --points N      instructions at which to kill, in all [500]; all: each of them, so far as the time suffices
//   --section S     only this one, as victim:section (client:connect); may be given several times
//   --rounds N      messages of each kind in the sessions whose calls are swept [1]
//   --seed N        of the choice of instructions; COROIPC_SEED does the same [random]
//   --minutes N     stops after that long; what was not reached is said
//   --ledger F      adds the points of this run to those of earlier ones in F, and prints the sum: no instruction is
//                   taken twice, and calls go on where the last run had to stop. One run at a time has it
//   --jobs N        sessions at the same time [2, or the number of CPUs]
//   --build         builds and does nothing else; --no-build: the other way round
//   --programs DIR  programs that were built elsewhere, with --no-build
//   --json          the result as one line for test/sweep/sweep.test.ts
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { plant } from './mutants.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    points: { type: 'string', default: '500' },
    section: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    minutes: { type: 'string', default: '1440' },
    ledger: { type: 'string' },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    build: { type: 'boolean', default: false },
    'no-build': { type: 'boolean', default: false },
    programs: { type: 'string', default: 'build/sweep' },
    json: { type: 'boolean', default: false },
  },
})
const kinds = ['instructions', 'calls', 'errors', 'descriptors', 'allocations', 'mutants']
const allPoints = options.points === 'all'
if (!allPoints && !(Number(options.points) >= 1)) {
  console.error('--points is a number, or all')
  process.exit(1)
}
for (const kind of options.only) {
  if (kinds.includes(kind)) continue
  console.error(`--only is one of ${kinds.join(', ')}`)
  process.exit(1)
}
const chosen = (kind) => options.only.length === 0 || options.only.includes(kind)
const seed = Number(options.seed ?? process.env.COROIPC_SEED ?? Math.floor(Math.random() * 2 ** 31))
const giveUpAt = performance.now() + Number(options.minutes) * 60_000
const say = (line) => options.json || console.log(line)

const HANG_MS = 30_000 // longer than any deadline of a session
const SLOW_MS = 100_000 // what a victim may take that goes step by step on a busy machine
const LEDGER_BYTES = 4096
const JUST_THE_PROGRAM = 78 // kOutside of session.h
const directory = mkdtempSync(join(tmpdir(), 'coroipc-sweep-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** Numbers from 0 to 1, always the same from one seed: mulberry32. */
function randomFrom(start) {
  let state = start >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

// -- one session ------------------------------------------------------------------------------------

const stillRunning = new Set()
process.on('exit', () => {
  for (const program of stillRunning) {
    program.signal('SIGKILL')
    program.child.kill('SIGKILL')
  }
})

/** A program of a session: what it says, and how it ends. */
class Program {
  violations = []
  /** Its last line. */
  report = undefined
  #pid
  #announce = () => {}

  constructor(command) {
    stillRunning.add(this)
    this.listening = new Promise((resolve) => (this.#announce = resolve))
    this.child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'ignore'] })
    createInterface({ input: this.child.stdout }).on('line', (line) => this.#take(line))
    this.ended = new Promise((resolve) => {
      const end = (code) => {
        stillRunning.delete(this)
        this.code = code
        this.#announce()
        resolve()
      }
      this.child.on('error', (error) => end(error.message))
      this.child.on('close', (code, signal) => end(signal ?? code))
    })
  }

  #take(line) {
    if (line.startsWith('violation: ')) this.violations.push(line.slice(11))
    if (line.startsWith('listening ')) this.#announce((this.#pid = Number(line.slice(10))))
    if (!line.startsWith('{')) return
    const said = JSON.parse(line)
    if (said.steps === undefined) this.report = said
    else this.step = said
  }

  /** The pid of a server, which may run under another program. */
  get pid() {
    return this.#pid ?? this.child.pid
  }

  signal(name) {
    try {
      process.kill(this.pid, name)
    } catch {} // it is gone
  }

  /** Why it did not end as it should. */
  get failure() {
    if (this.violations.length > 0) return this.violations.join('; ')
    return this.code === 0 ? undefined : `ended with ${this.code}`
  }
}

let sessions = 0
/**
 * A server and a client, one of them the victim, which runs under `through`. Then, if asked for, a witness: another client
 * that looks whether the server still serves. Gives the programs that ran, and what is wrong with any of them.
 */
async function session({
  victim,
  through = [],
  args = [],
  own = [],
  programs = {},
  witness,
  more = 0,
}) {
  const place = join(directory, String(sessions++))
  const ledger = `${place}.ledger`
  writeFileSync(ledger, Buffer.alloc(LEDGER_BYTES))
  const running = []
  const start = (role, before, after) => {
    const program = new Program([
      ...before,
      programs[role] ?? join(options.programs, role),
      '--name',
      `${place}.sock`,
      '--ledger',
      ledger,
      ...args,
      ...after,
    ])
    running.push(program)
    return program
  }
  const startOne = (role) => (role === victim ? start(role, through, own) : start(role, [], []))
  let hung = false
  const hang = setTimeout(() => {
    hung = true
    for (const program of running) {
      program.signal('SIGKILL')
      program.child.kill('SIGKILL')
    }
  }, HANG_MS + more)
  const server = startOne('server')
  await Promise.race([server.listening, server.ended])
  const client = startOne('client')
  await client.ended
  const witnessed = async () => {
    if (!witness || server.code !== undefined) return undefined
    const next = start('client', [], ['--witness'])
    await next.ended
    return next
  }
  let next = await witnessed()
  // Where the server's calls fail it may be the witness that meets it: the one after that does not.
  if (next?.failure !== undefined && victim === 'server') next = await witnessed()
  server.signal('SIGTERM')
  await server.ended
  clearTimeout(hang)
  for (const suffix of ['.ledger', '.sock', '.sock.lock']) rmSync(place + suffix, { force: true })
  const wrong = hung ? ['a hang'] : []
  if (next?.failure !== undefined) wrong.push(`next client: ${next.failure}`)
  const survivor = victim === 'server' ? client : server
  if (survivor.failure !== undefined) wrong.push(`survivor: ${survivor.failure}`)
  else if (survivor.report === undefined) wrong.push('survivor: no report')
  return { server, client, survivor, dead: victim === 'server' ? server : client, wrong }
}

/** Runs `work` for each of `items`, some at the same time; what is left when time is up is not run. */
async function each(items, work) {
  const waiting = [...items]
  const worker = async () => {
    while (waiting.length > 0 && performance.now() < giveUpAt) await work(waiting.shift())
  }
  await Promise.all(Array.from({ length: Number(options.jobs) }, worker))
  return waiting.length
}

const results = []

/** One line of the result: what was run, how often, and what was wrong. */
function report(name, { wrong, said }) {
  const ok = wrong.length === 0
  results.push({ name: `${name}: ${said}`, ok, details: wrong.slice(0, 10).join('\n') })
  say(`${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(24)} ${said}`)
  for (const text of wrong.slice(0, 10)) say(`     ${text}`)
}

// -- every instruction ------------------------------------------------------------------------------

const STEP = join(options.programs, 'step')
const SLEEP = ['--wait', 'sleep'] // who looks for a moment runs another number of instructions each time
// The share is of the points. Where all of them are wanted, these come in turn.
const sections = [
  { name: 'client:connect', share: 6 },
  { name: 'server:accept', share: 5, args: ['--small'] },
  { name: 'server:listen', share: 2, args: ['--small'] },
  { name: 'client:put', share: 8, args: ['--small'] },
  { name: 'client:call', share: 4, args: ['--small'] },
  { name: 'client:get', share: 5, args: ['--small'] },
  { name: 'client:close', share: 4, args: ['--small'] },
  { name: 'server:close', share: 4, args: ['--small', '--closer', 'server'] },
  { name: 'server:serve', share: 3, args: ['--small', '--closer', 'server'] },
  { name: 'client:large', share: 1 },
  // serve, in a session with segments.
  { name: 'server:large', share: 0.5, section: 'serve', args: ['--closer', 'server'] },
].map(({ name, share, section, args = [] }) => ({
  name,
  share,
  victim: name.split(':')[0],
  own: ['--section', section ?? name.split(':')[1]],
  args: [...args, ...SLEEP, '--timeout', String(SLOW_MS)],
}))

/**
 * The way through a section, as its address before each instruction: to come to a place in it, most of the way can be run up to a
 * breakpoint (step.cc), instead of going singly.
 */
class Way {
  #addresses
  /** How often the address of each instruction has come by then. */
  #hits = []

  constructor(path) {
    const bytes = existsSync(path) ? readFileSync(path) : Buffer.alloc(0)
    this.#addresses = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3)
    const seen = new Map()
    for (const address of this.#addresses) {
      const hits = (seen.get(address) ?? 0) + 1
      seen.set(address, hits)
      this.#hits.push(hits)
    }
  }

  /** What `step` has to be told: the cheapest way, one that is run for a few hits and gone singly from there. */
  to(steps) {
    let best = -1
    let cost = steps
    for (let at = Math.min(steps, this.#hits.length - 1); at >= 0 && steps - at < cost; at--) {
      // What is not the program's own, as the kernel's page of calls, cannot be written to.
      if (this.#addresses[at] > PROGRAM_MOST) continue
      const each = steps - at + 2 * this.#hits[at]
      if (each >= cost) continue
      best = at
      cost = each
    }
    return best < 0
      ? String(steps)
      : `${steps},${this.#addresses[best]},${this.#hits[best]},${best}`
  }

  /** Whether `step` has killed where it was to. */
  led({ missed, at }, steps) {
    return !missed && (steps >= this.#addresses.length || BigInt(at) === this.#addresses[steps])
  }
}
const PROGRAM_MOST = 0x7fff_ffffn // static programs lie low

/** The whole of a section, instruction by instruction: what is wrong, how many there are, and the way through. */
async function walk(section) {
  const path = join(directory, `trace-${sessions}`)
  const whole = await killAt(section, 100_000_000, {
    through: [STEP, '--trace', path, '100000000'],
  })
  const way = new Way(path)
  rmSync(path, { force: true })
  return { ...whole, way }
}

/** As killAt, most of the way at full speed; singly if the program went another way this time. */
async function killOnWay(section, steps, way) {
  const run = await killAt(section, steps, { through: [STEP, way.to(steps)] })
  if (run.step === undefined || way.led(run.step, steps)) return run
  const singly = await killAt(section, steps)
  return { ...singly, wrong: [...run.wrong, ...singly.wrong], singly: true }
}

/** Kills after `steps` instructions of a section: what is wrong, and when the survivor knew. */
async function killAt({ victim, own, args }, steps, { programs, through } = {}) {
  const run = await session({
    victim,
    through: through ?? [STEP, String(steps)],
    args,
    own,
    programs,
    witness: victim === 'client',
    more: Math.min(steps, SLOW_MS), // 1 ms a step
  })
  const { server, client, survivor, dead, wrong } = run
  const { step } = dead
  if (step === undefined) return { wrong: ['step told nothing', ...wrong], steps: 0 }
  if (!step.begun) wrong.push('the section was not reached')
  const must = (what, published, came) => {
    if (published >= 0 && published !== came)
      wrong.push(`${published} ${what} were published, ${came} came`)
  }
  // Whole, and no less and no more than what the victim had made visible when it died.
  if (victim === 'client' && server.report?.why === 'PEER_DEAD') {
    const { notes, calls } = server.report // after an orderly close the memory is the server's, which empties it
    must('requests', step.published.requests, notes + calls)
  } else if (survivor.report?.connect === 'OK') {
    must('answers', step.published.responses, client.report.responses)
    must('dispatches', step.published.dispatches, client.report.dispatches)
  }
  const noticed = survivor.report?.noticed_ns ?? 0
  const told = victim === 'client' ? survivor.report?.why : survivor.report?.ended
  const ms =
    step.killed && told === 'PEER_DEAD' && noticed > step.killed_ns
      ? (noticed - step.killed_ns) / 1e6
      : undefined
  return {
    wrong: wrong.map((text) => `after ${steps}: ${text}`),
    steps: step.steps,
    step,
    ms,
  }
}

const percentile = (values, share) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))]

/** Points spread over the whole section, each at random within its part. */
function* pointsOf(length, count, random) {
  for (let i = 0; i < count; i++) yield Math.floor(((i + random()) / count) * (length + 1))
}

/** In random order. */
function shuffled(items, random) {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[items[i], items[j]] = [items[j], items[i]]
  }
  return items
}

/** The instructions to kill at: spread over the section, or, with a ledger or when all are wanted, those that are not in it. */
function instructionsOf(length, count, done, random) {
  if (options.ledger === undefined && !allPoints) return [...pointsOf(length, count, random)]
  const left = Array.from({ length: length + 1 }, (_, at) => at).filter((at) => !done.has(at))
  return shuffled(left, random).slice(0, allPoints ? undefined : count)
}

async function sweepInstructions() {
  const random = randomFrom(seed)
  const named = (name) => sections.find((section) => section.name === name)
  for (const name of options.section)
    if (named(name) === undefined) throw new RangeError(`--section: there is no ${name}`)
  const swept = options.section.length === 0 ? sections : options.section.map(named)
  const shares = swept.reduce((sum, { share }) => sum + share, 0)
  for (const section of swept) {
    if (performance.now() > giveUpAt) return
    const whole = await walk(section)
    const count = Math.max(1, Math.round((Number(options.points) * section.share) / shares))
    const wrong = [...whole.wrong]
    const times = []
    const done = numbersOf(sums()[section.name]?.done)
    const before = done.size
    let points = 0
    let singly = 0
    let told = 0
    /** Now and then, so that not all is lost with a run that is stopped. */
    const note = () => {
      tally(section.name, {
        violations: wrong.length - told,
        seed,
        done: rangesOf(done),
        length: Math.max(whole.steps + 1, sums()[section.name]?.length ?? 0),
      })
      told = wrong.length
    }
    await each(instructionsOf(whole.steps, count, done, random), async (steps) => {
      const run = await killOnWay(section, steps, whole.way)
      points++
      if (run.singly) singly++
      done.add(steps)
      wrong.push(...run.wrong)
      if (run.ms !== undefined) times.push(run.ms)
      if (points % 500 === 0) note()
    })
    const known =
      times.length === 0
        ? ''
        : `, death known after ${percentile(times, 0.5).toFixed(2)} ms (p50), ${Math.max(...times).toFixed(1)} ms (max)`
    report(section.name, {
      wrong,
      said: `killed at ${points} of ${whole.steps} instructions${singly > 0 ? ` (${singly} of them by another way)` : ''}${known}`,
    })
    if (options.ledger === undefined) continue
    note()
    // One more than there are instructions: before the first, and after the last. They are a few more or less each time.
    const { violations, length } = sums()[section.name]
    say(
      `     ${section.name}: ${done.size} of ${length} points, ${done.size - before} of them new; ${violations} violations`,
    )
  }
}

// -- the sum over several runs ----------------------------------------------------------------------

const sums = () =>
  options.ledger !== undefined && existsSync(options.ledger)
    ? JSON.parse(readFileSync(options.ledger, 'utf8'))
    : {}

/** Whole numbers as text, and back: '0-17,20'. */
function rangesOf(numbers) {
  const ranges = []
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last !== undefined && last[1] === number - 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',')
}
function numbersOf(text = '') {
  const numbers = new Set()
  for (const range of text.split(',').filter(Boolean)) {
    const [from, to = from] = range.split('-').map(Number)
    for (let number = from; number <= to; number++) numbers.add(number)
  }
  return numbers
}

/** Adds to what the ledger has of `name`: violations are summed up, seeds listed, the rest takes the place of what was there. */
function tally(name, { violations, seed, ...where }) {
  if (options.ledger === undefined) return
  const all = sums()
  const before = all[name] ?? {}
  const seeds = before.seeds ?? []
  all[name] = {
    ...before,
    ...where,
    violations: (before.violations ?? 0) + violations,
    ...(seed === undefined ? {} : { seeds: seeds.includes(seed) ? seeds : [...seeds, seed] }),
  }
  // Whole, or as it was.
  writeFileSync(`${options.ledger}.new`, `${JSON.stringify(all, null, 2)}\n`)
  renameSync(`${options.ledger}.new`, options.ledger)
}

/** Two runs that go on where the same one stopped would take the same points. */
function lockLedger() {
  if (options.ledger === undefined) return
  mkdirSync(dirname(options.ledger), { recursive: true })
  const lock = `${options.ledger}.lock`
  const holder = existsSync(lock) ? Number(readFileSync(lock, 'utf8')) : 0
  if (holder > 0 && existsSync(`/proc/${holder}`)) {
    console.error(`process ${holder} has ${options.ledger}`)
    process.exit(1)
  }
  rmSync(lock, { force: true })
  const fd = openSync(lock, 'wx')
  writeFileSync(fd, String(process.pid))
  closeSync(fd)
  process.on('exit', () => rmSync(lock, { force: true }))
}

/** What all runs of this ledger come to. */
function sayLedger() {
  if (options.ledger === undefined) return
  const kinds = { instructions: [], calls: [] }
  for (const each of Object.values(sums()))
    kinds[each.done === undefined ? 'calls' : 'instructions'].push(each)
  const sum = (list, of) => list.reduce((total, each) => total + of(each), 0)
  for (const [kind, list] of Object.entries(kinds)) {
    if (list.length === 0) continue
    const points = sum(list, ({ done, points }) =>
      done === undefined ? points : numbersOf(done).size,
    )
    const length = sum(list, ({ length = 0 }) => length)
    say(
      `${options.ledger}: ${points} different points of ${length} (${kind}), ${sum(list, ({ violations }) => violations)} violations`,
    )
  }
}

// -- every system call ------------------------------------------------------------------------------

/** A session whose victim runs under strace, which does `what` to a call; whether it did, too. */
async function underStrace(victim, call, what, more) {
  const log = join(directory, `strace-${sessions}`)
  const through = ['strace', '-f', '-qq', '-o', log, '-e', `trace=${call}`]
  const run = await session({ victim, through: [...through, ...what], ...more })
  const text = existsSync(log) ? readFileSync(log, 'utf8') : ''
  rmSync(log, { force: true })
  return { ...run, text, injected: /\(INJECTED\)|killed by SIGKILL/.test(text) }
}

/** The calls that a victim's session makes after its start, and how many of each there were before. */
async function callsOf(victim, more) {
  const { text, wrong } = await underStrace(victim, 'all', [], more)
  if (wrong.length > 0) return { wrong }
  const names = text
    .split('\n')
    .map((line) => /^\d+ +(\w+)\(.*/.exec(line))
    .filter((match) => match !== null)
  const start = names.findIndex(([line]) => line.includes('.ledger'))
  const calls = new Map()
  names.forEach(([, name], at) => {
    const counted = calls.get(name) ?? { before: 0, during: 0 }
    if (at <= start) counted.before++
    else counted.during++
    calls.set(name, counted)
  })
  for (const [name, { during }] of calls) if (during === 0) calls.delete(name)
  return { calls, wrong }
}

const strace = spawnSync('strace', ['-V'], { encoding: 'utf8' }).status === 0

// Segments, which cost time under `step`, are here in each session.
const callsIn = (victim) => ({
  args: [
    ...SLEEP,
    '--rounds',
    options.rounds,
    '--asleep',
    ...(victim === 'server' ? ['--closer', 'server'] : []),
  ],
  witness: victim === 'client',
})

const killAtCall = (victim, call, n, programs) =>
  underStrace(victim, call, ['-e', `inject=${call}:signal=SIGKILL:when=${n}`], {
    ...callsIn(victim),
    programs,
  })

async function sweepCalls() {
  for (const victim of ['client', 'server']) {
    const { calls, wrong } = await callsOf(victim, callsIn(victim))
    const missesMost = options.ledger === undefined ? 1 : 8
    let points = 0
    let left = 0
    for (const [call, { before, during }] of calls ?? []) {
      // Until there is no n-th one any more; `jobs` at a time, so some of the last ones are beyond it. A ledger says where
      // an earlier run had to stop; with one the sessions are long, and have a few doorbells more or less each time.
      const name = `${victim} ${call}, ${options.rounds} rounds`
      let { n = before, over = false } = sums()[name] ?? {}
      const already = { points, wrong: wrong.length, said: sums()[name]?.points ?? 0 }
      let misses = 0
      const worker = async () => {
        while (!over) {
          if (performance.now() > giveUpAt) {
            left++
            return
          }
          const value = ++n
          const run = await killAtCall(victim, call, value)
          wrong.push(...run.wrong.map((text) => `${call} ${value}: ${text}`))
          misses = run.injected ? 0 : misses + 1
          if (run.injected) points++
          else over ||= misses >= missesMost
        }
      }
      const fresh = !over
      await Promise.all(Array.from({ length: Number(options.jobs) }, worker))
      if (fresh)
        tally(name, {
          points: already.said + points - already.points,
          length: during,
          violations: wrong.length - already.wrong,
          n,
          over,
        })
    }
    if (points === 0 && options.ledger === undefined) wrong.push('nobody was killed')
    report(`${victim}: system calls`, {
      wrong,
      said: `killed at each of ${points} calls of ${calls?.size ?? 0} kinds${left > 0 ? ', stopped before the last' : ''}`,
    })
  }
}

// -- every failure ----------------------------------------------------------------------------------

// What each call may come to when the n-th one fails, for each n there is:
//   unnoticed  the session goes on as if nothing had been
//   code       it goes on, or ends with a code that the documentation names; the next session is as if nothing had been
//   late       the same, and a deadline may pass: what was not sent cannot arrive. (EAGAIN of a doorbell says that one
//              lies there already, which is not so here: the peer sleeps on until the session ends.)
const failures = {
  client: {
    unnoticed: {
      EINTR: ['connect', 'sendmsg', 'recvmsg', 'sendto', 'ppoll'],
      EAGAIN: ['connect'],
      ENOBUFS: ['sendto'],
      ENOMEM: ['sendto'],
    },
    code: {
      ENOMEM: [
        'mmap',
        'madvise',
        'socket',
        'connect',
        'recvmsg',
        'sendmsg',
        'epoll_ctl',
        'getsockopt',
      ],
      EMFILE: ['socket', 'epoll_create1', 'timerfd_create', 'eventfd2'],
      ENFILE: ['socket', 'epoll_create1', 'eventfd2'],
      ENOSPC: ['epoll_ctl'],
      ENOBUFS: ['sendmsg', 'recvmsg'],
    },
    late: { EAGAIN: ['sendmsg', 'sendto'], short: ['sendmsg'] },
  },
  server: {
    unnoticed: {
      EINTR: ['accept4', 'sendmsg', 'recvmsg', 'sendto', 'ppoll', 'epoll_wait', 'fallocate'],
      ECONNABORTED: ['accept4'],
      EMFILE: ['accept4'],
      ENFILE: ['accept4'],
      ENOMEM: ['accept4', 'sendto'],
      ENOBUFS: ['accept4', 'sendto'],
    },
    code: {
      ENOMEM: [
        'memfd_create',
        'mmap',
        'madvise',
        'recvmsg',
        'sendmsg',
        'epoll_ctl',
        'getsockopt',
        'fallocate',
      ],
      EMFILE: ['memfd_create', 'socket', 'epoll_create1', 'timerfd_create', 'eventfd2'],
      ENFILE: ['memfd_create', 'socket'],
      ENOSPC: ['fallocate', 'ftruncate', 'epoll_ctl', 'bind'],
      ENOBUFS: ['sendmsg', 'recvmsg'],
    },
    late: { EAGAIN: ['sendmsg', 'sendto'], short: ['sendmsg'] },
  },
}

const ERRORS_IN = [...SLEEP, '--rounds', options.rounds, '--prefault', '--asleep']

/** The n-th `call` fails so: what is wrong, what it came to, and whether there is an n-th one. */
async function failAt(victim, expected, error, call, n, programs) {
  const lenient = {
    unnoticed: programs === undefined ? [] : ['--timeout', '1500'], // a mutant's deadline need not be long
    code: ['--injected'],
    late: ['--injected', '--timeout', '100', ...(error === 'short' ? ['--short'] : [])],
  }
  const run = await underStrace(
    victim,
    call,
    ['-e', `inject=${call}:${error === 'short' ? 'retval=1' : `error=${error}`}:when=${n}`],
    {
      args: [...ERRORS_IN, ...lenient[expected]],
      programs,
      witness: true,
    },
  )
  const { server, client, dead, wrong, injected } = run
  if (dead.code !== JUST_THE_PROGRAM && dead.failure !== undefined)
    wrong.push(`victim: ${dead.failure}`)
  const codes = [client.report?.code, server.report?.listen, server.report?.refused]
    .flatMap((said) => said?.split(' ') ?? [])
    .map((code) => code.replace(/^\w+:/, '')) // "close:NO_MEMORY"
    .filter((code) => code && code !== 'OK')
  return { wrong, codes, injected }
}

const NEVER_MADE = ['planted', 'EINTR', 'pause']

/** Cases of which no call was failed: they have shown nothing. */
const neverInjected = (injections) =>
  [...injections].filter(([, count]) => count === 0).map(([[, error, call]]) => `${call} ${error}`)

async function sweepErrors() {
  report('server: accept4', await starve())
  for (const [victim, expectations] of Object.entries(failures)) {
    const { calls = new Map(), wrong } = await callsOf(victim, {
      args: ERRORS_IN,
      witness: true,
    })
    report(`${victim}: recording`, { wrong, said: `${calls.size} kinds of calls` })
    const cases = Object.entries(expectations).flatMap(([expected, errors]) =>
      Object.entries(errors).flatMap(([error, names]) =>
        names.map((call) => [expected, error, call]),
      ),
    )
    const sums = Object.fromEntries(
      Object.keys(expectations).map((expected) => [expected, { wrong: [], codes: new Set() }]),
    )
    const injections = new Map([...cases, NEVER_MADE].map((each) => [each, 0]))
    await each(cases, async (swept) => {
      const [expected, error, call] = swept
      const sum = sums[expected]
      for (let n = (calls.get(call)?.before ?? 0) + 1; performance.now() < giveUpAt; n++) {
        const { wrong, codes, injected } = await failAt(victim, expected, error, call, n)
        sum.wrong.push(...wrong.map((text) => `${call} ${n} ${error}: ${text}`))
        for (const code of codes) sum.codes.add(code)
        if (!injected) break
        injections.set(swept, injections.get(swept) + 1)
      }
    })
    for (const [expected, { wrong, codes }] of Object.entries(sums)) {
      const own = new Map([...injections].filter(([[of]]) => of === expected))
      const points = [...own.values()].reduce((sum, count) => sum + count, 0)
      for (const name of neverInjected(own)) {
        if (performance.now() < giveUpAt) wrong.push(`${name} was never injected`)
        else
          skipped.push({
            name: `${victim}: ${name}`,
            reason: `${options.minutes} minutes were over`,
          })
      }
      report(`${victim}: errors, ${expected}`, {
        wrong,
        said: `${points} failed calls in ${own.size} cases${codes.size > 0 ? `; ${[...codes].sort().join(', ')}` : ''}`,
      })
    }
    report(`${victim}: errors, planted`, {
      wrong: neverInjected(injections).includes('pause EINTR')
        ? []
        : ['a case that cannot be injected was taken for one that held'],
      said: 'a call that no session makes is told: pause EINTR',
    })
  }
}

// -- no descriptors left ----------------------------------------------------------------------------

/** A program with a real limit: what fails is whatever comes to it, also the fds that a message brings. */
const limited = (limit) => ['bash', '-c', `ulimit -n ${limit} && exec "$0" "$@"`]
const DESCRIPTORS = 24 // more than either side has in a session

const limits = Array.from({ length: DESCRIPTORS - 3 }, (_, i) => i + 4)

/** A session whose victim may have so many descriptors: what is wrong, and what it came to. */
async function limitTo(limit, victim, programs) {
  const { wrong, dead, client, server } = await session({
    victim,
    through: limited(limit),
    args: [...SLEEP, '--injected', '--timeout', '500'],
    programs,
    witness: victim === 'client',
  })
  if (dead.code !== JUST_THE_PROGRAM && dead.failure !== undefined)
    wrong.push(`victim: ${dead.failure}`)
  const code = server.report?.listen === 'OK' ? client.report?.code : server.report?.listen
  if (limit === DESCRIPTORS && client.report?.code !== 'OK')
    wrong.push('the highest limit is too low')
  return { wrong: wrong.map((text) => `ulimit -n ${limit}: ${text}`), code }
}

async function sweepDescriptors() {
  for (const victim of ['client', 'server']) {
    const wrong = []
    const codes = new Set()
    await each(limits, async (limit) => {
      const run = await limitTo(limit, victim)
      wrong.push(...run.wrong)
      codes.add(run.code)
    })
    report(`${victim}: descriptors`, {
      wrong,
      said: `${limits.length} limits of fds; ${[...codes].sort().join(', ')}`,
    })
  }
}

const TICK_MS = 10
/** CPU time of a process in milliseconds. */
function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS
}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** T9: a server that may never accept again, with clients at the door and one inside. */
async function starve(programs = {}) {
  const wrong = []
  const place = join(directory, String(sessions++))
  const ledgers = [`${place}.ledger`, `${place}-waiting.ledger`]
  for (const ledger of ledgers) writeFileSync(ledger, Buffer.alloc(LEDGER_BYTES))
  const start = (role, ledger, before, ...more) =>
    new Program([
      ...before,
      programs[role] ?? join(options.programs, role),
      '--name',
      `${place}.sock`,
      '--ledger',
      ledgers[ledger],
      '--injected',
      ...SLEEP,
      ...more,
    ])
  // The first client is let in.
  const traced = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=accept4', '-e']
  const server = start('server', 0, [...traced, 'inject=accept4:error=EMFILE:when=2+'])
  await Promise.race([server.listening, server.ended])
  const inside = start('client', 0, [], '--linger', '2500')
  await sleep(300) // connected, and at rest
  const waiting = [1, 2, 3].map(() => start('client', 1, [], '--timeout', '1500'))
  await sleep(100)
  const before = cpuMs(server.pid)
  const started = performance.now()
  await sleep(1000)
  const share = ((cpuMs(server.pid) - before) / (performance.now() - started)) * 100
  if (!(share < 5)) wrong.push(`${share.toFixed(1)} % of a CPU while nothing can be accepted`)
  for (const client of waiting) {
    await client.ended
    if (client.report?.connect !== 'TIMED_OUT') wrong.push(`at the door: ${client.report?.connect}`)
  }
  await inside.ended
  if (inside.failure !== undefined || inside.report?.code !== 'OK')
    wrong.push(`inside: ${inside.failure ?? inside.report?.code}`)
  server.signal('SIGTERM')
  const hang = setTimeout(() => server.signal('SIGKILL'), 5000)
  await server.ended
  clearTimeout(hang)
  if (server.failure !== undefined) wrong.push(`server: ${server.failure}`)
  return { wrong, said: `EMFILE for ever: ${share.toFixed(1)} % of a CPU` }
}

// -- no memory left ---------------------------------------------------------------------------------

/** Fails each allocation of a side in turn: what is wrong, and what the program counted. */
async function exhaust(side, program = join(options.programs, 'exhaust')) {
  const run = new Program([program, side])
  await run.ended
  return {
    wrong: run.failure === undefined ? [] : run.violations.concat(run.failure),
    counted: run.report,
  }
}

async function sweepAllocations() {
  for (const side of ['client', 'server']) {
    const { wrong, counted } = await exhaust(side)
    if (wrong.length === 0 && !(counted?.failed > 0)) wrong.push('nothing was failed')
    report(`${side}: allocations`, {
      wrong,
      said: `${counted?.failed} failed; ${counted?.throwing} of C++ containers not, at most ${counted?.largest} bytes each`,
    })
  }
}

// -- mutants ----------------------------------------------------------------------------------------

const mutants = JSON.parse(readFileSync('test/sweep/mutants.json', 'utf8'))
const placeOf = ({ name }) => `build/sweep/mutants/${name}`

/** What the sweep that is to find a mutant says is wrong: nothing, and it was not found. */
async function hunt(mutant) {
  const programs = { [mutant.target]: `${placeOf(mutant)}/${mutant.target}` }
  const { section, points, victim, call, error, signal, starved, allocations, descriptors } =
    mutant.sweep
  if (allocations !== undefined) return (await exhaust(allocations, programs.exhaust)).wrong
  if (starved) return (await starve(programs)).wrong
  if (section !== undefined) {
    const swept = sections.find(({ name }) => name === section)
    const { steps, wrong } = await killAt(swept, 100_000_000, { programs })
    await each(pointsOf(steps, points, randomFrom(seed)), async (at) => {
      if (wrong.length === 0) wrong.push(...(await killAt(swept, at, { programs })).wrong)
    })
    return wrong
  }
  if (descriptors !== undefined) {
    const wrong = []
    await each(limits, async (limit) => {
      if (wrong.length === 0) wrong.push(...(await limitTo(limit, descriptors, programs)).wrong)
    })
    return wrong
  }
  if (signal !== undefined)
    for (let n = 1; ; n++) {
      const { wrong, injected } = await killAtCall(victim, call, n, programs)
      if (wrong.length > 0 || !injected) return wrong.map((text) => `${call} ${n}: ${text}`)
    }
  const expected = Object.keys(failures[victim]).find((key) =>
    failures[victim][key][error]?.includes(call),
  )
  for (let n = 1; ; n++) {
    const { wrong, injected } = await failAt(victim, expected, error, call, n, programs)
    if (wrong.length > 0 || !injected) return wrong
  }
}

async function sweepMutants() {
  for (const mutant of mutants) {
    const found = await hunt(mutant)
    report(`mutant ${mutant.name}`, {
      wrong: found.length > 0 ? [] : [`not found: ${mutant.what}`],
      said: found[0] ?? mutant.what,
    })
  }
}

function build() {
  const make = (...args) =>
    spawnSync(
      'make',
      ['-C', 'test/sweep', '--silent', '--no-print-directory', '-j', options.jobs, ...args],
      { stdio: ['ignore', options.json ? 2 : 1, 2] },
    ).status === 0
  if (!make('all')) return false
  return mutants.every(
    (mutant) =>
      plant(mutant, placeOf(mutant)) &&
      make('mutant', `MUTANT=${mutant.name}`, `FILE=${mutant.file}`, `TARGET=${mutant.target}`),
  )
}

if (!options['no-build'] && !build()) process.exit(1)
lockLedger()
if (options.build) process.exit(0)
say(`seed ${seed}`)
const skipped = []
/** Runs a kind that was asked for, if `missing` says nothing against it. */
async function run(kind, sweep, missing) {
  if (!chosen(kind)) return
  if (missing === undefined) await sweep()
  else {
    skipped.push({ name: kind, reason: missing })
    say(`skipped ${kind}: ${missing}`)
  }
}
const noTracing = spawnSync(STEP, ['0', '/bin/true'], { encoding: 'utf8' }).stdout.includes('error')
  ? 'ptrace(2) is not allowed here'
  : undefined
const noStrace = strace ? noTracing : 'no strace: apt-get install strace'

await run('allocations', sweepAllocations)
await run('descriptors', sweepDescriptors)
await run('mutants', sweepMutants, noStrace)
await run('errors', sweepErrors, noStrace)
await run('calls', sweepCalls, noStrace)
await run('instructions', sweepInstructions, noTracing)

if (performance.now() > giveUpAt) {
  skipped.push({ name: 'the rest of the sweep', reason: `${options.minutes} minutes were over` })
  say(`skipped the rest: ${options.minutes} minutes were over`)
}

sayLedger()
const bad = results.filter(({ ok }) => !ok)
if (options.json) console.log(JSON.stringify({ seed, results, skipped }))
else console.log(`${results.length - bad.length} held, ${bad.length} did not`)
if (bad.length > 0) process.exitCode = 1
