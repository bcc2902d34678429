// `npm run storm -- WHAT ...`: what the tests of this folder do, for longer. Each run adds to build/storm/totals.json, so that
// large numbers can be had in pieces; `npm run storm -- totals` prints what has come together, and ends with 1 if a bound does not hold.
//
//   kills       random SIGKILLs under load       --count 10000
//   restarts    of a server under load           --count 500
//   hand-overs  hot restarts of it               --count 1000
//   races       of two servers for a name        --count 1000
//   connects    in a row; and --at-once 4096     --count 100000
//   half-open   sockets of one user, while another one connects (as root)   --count 10000
//   stopped     half of --clients 200            --count 20 windows of a second
//
//   --seconds N   stop after so long, whatever is left; the next run goes on from there
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { rssBytes } from '../support/gauge.js'
import { built } from '../support/paths.js'
import { Program } from '../support/program.js'
import {
  Crew,
  eight,
  handOverOften,
  killRandomly,
  type Knowledge,
  PROMISED_MS,
  random,
  restartOften,
  seed,
} from './crew.js'
import { halfOpen, halves, keptPercent, stopHalf, Storm } from './storms.js'
import { DEATHS, include, judgeTotal, KNOWN_MS, quantile, type Total } from './totals.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    count: { type: 'string' },
    'at-once': { type: 'string', default: '4096' },
    clients: { type: 'string', default: '200' },
    seconds: { type: 'string', default: 'Infinity' },
  },
})
const started = performance.now()
const over = (): boolean => performance.now() - started > Number(values.seconds) * 1000
const count = (standard: number): number => Number(values.count ?? standard)

let failed = false

// -- what has come together over the runs --------------------------------------------------------------

const path = built('storm/totals.json')

function totals(): Record<string, Total> {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, Total>
  } catch {
    return {}
  }
}

function add(
  what: string,
  sums: Record<string, number>,
  worst: Record<string, number> = {},
  times: readonly number[] = [],
): void {
  const all = totals()
  const total = (all[what] ??= { sums: {}, worst: {}, times: {} })
  include(total, { ...sums, 'not held': failed ? 1 : 0 }, worst, times)
  mkdirSync(built('storm'), { recursive: true })
  writeFileSync(path, JSON.stringify(all, null, 2))
  show(what, total)
}

function show(what: string, { sums, worst, times }: Total): void {
  const told = [
    ...Object.entries(sums).map(([name, value]) => `${name} ${value}`),
    ...Object.entries(worst).map(([name, value]) => `${name} ${value} at worst`),
  ]
  const ms = (part: number): string => quantile(times, part).ms.toFixed(1)
  const { deaths } = quantile(times, 1)
  if (deaths > 0)
    told.push(`a death is known after p50 ${ms(0.5)}, p99 ${ms(0.99)}, max ${ms(1)} ms (${deaths})`)
  console.log(`${what}, all runs: ${told.join(', ')}`)
}

// -- the storms ----------------------------------------------------------------------------------------

function must(held: boolean, what: string): void {
  if (held) return
  failed = true
  console.log(`FAIL ${what}`)
}

/** The last thing that each storm asks: has nobody done wrong, and is nothing left? */
async function ended(crew: Crew, faults: readonly string[] = crew.faults()): Promise<void> {
  must(faults.length === 0, faults.join('; '))
  if (faults.length > 0) return
  const said = await crew.end()
  must(said === '', said)
}

const ledgerOf = (crew: Crew): Record<string, number> => ({
  answers: crew.total('answers'),
  dispatches: crew.total('dispatches'),
  unknown: crew.total('unknown'),
  never: crew.total('never'),
})

const late = ({ lateMs }: Knowledge): Record<string, number> => {
  must(lateMs < PROMISED_MS, `a death was known ${lateMs} ms after it`)
  return { 'ms after the end': Math.ceil(lateMs) }
}

/** With enough of them for a p99. */
const soonEnough = ({ all }: Knowledge): void => {
  if (all.length < DEATHS) return
  const sorted = [...all].sort((a, b) => a - b)
  const p99 = sorted[Math.ceil(0.99 * sorted.length) - 1] ?? 0
  must(p99 <= KNOWN_MS.p99, `a death was known after ${p99.toFixed(1)} ms (p99)`)
  const max = sorted.at(-1) ?? 0
  must(max <= KNOWN_MS.max, `a death was known after ${max.toFixed(1)} ms`)
}

const storms: Record<string, (directory: string) => Promise<void>> = {
  async kills(directory) {
    await using crew = await Crew.start({ directory, roles: eight })
    const { server, client, knowledge, faults } = await killRandomly(
      crew,
      count(20_000),
      random(seed),
      over,
    )
    await ended(crew, faults)
    console.log(`${server} servers and ${client} clients killed; ${knowledge.text}`)
    add(
      'kills',
      { server, client, faults: faults.length, ...ledgerOf(crew) },
      late(knowledge),
      knowledge.all,
    )
    soonEnough(knowledge)
  },

  async restarts(directory) {
    await using crew = await Crew.start({ directory, roles: eight })
    const { server, knowledge, faults } = await restartOften(crew, count(500), random(seed), over)
    await ended(crew, faults)
    const unsettled = [...crew.roles.keys()].map((lane) => crew.unsettled(lane)).filter(Boolean)
    must(unsettled.length === 0, unsettled.join('; '))
    console.log(`${server} restarts; ${knowledge.text}`)
    add(
      'restarts',
      { server, faults: faults.length, ...ledgerOf(crew) },
      late(knowledge),
      knowledge.all,
    )
  },

  async 'hand-overs'(directory) {
    await using crew = await Crew.start({ directory, roles: eight, server: 'node' })
    const rounds = count(1000)
    const faults = await handOverOften(crew, rounds, over)
    await ended(crew, faults)
    const unsettled = [...crew.roles.keys()].map((lane) => crew.unsettled(lane)).filter(Boolean)
    must(unsettled.length === 0, unsettled.join('; '))
    must(crew.total('unknown') === 0, `${crew.total('unknown')} unknown`)
    must(crew.total('refused') === 0, `${crew.total('refused')} connects refused`)
    const connections = crew.total('epoch')
    console.log(`${rounds} hot restarts, ${connections} connections`)
    add('hand-overs', { rounds, connections, faults: faults.length, ...ledgerOf(crew) })
  },

  async races(directory) {
    const race = Program.start('listen-race', join(directory, 'raced'), String(count(1000)))
    must((await race.end()) === 0, 'a race was not fair')
    const [rounds = 0, fair = 0, planted = 0, kept = 0] =
      race.lines[0]?.match(/\d+/g)?.map(Number) ?? []
    add('races', { rounds, fair, planted, kept })
  },

  async connects(directory) {
    await using crew = await Crew.start({
      directory,
      roles: [{ kind: 'blocking', runtime: 'c' }],
    })
    const wanted = Number(values['at-once'])
    const { answered = 0 } = await Storm.of('at-once', crew.name, wanted)
    const rss = rssBytes(crew.server.pid)
    const row = await Storm.of('sequential', crew.name, count(100_000))
    const grown = Math.max(0, rssBytes(crew.server.pid) - rss) >> 10
    must(grown <= 1024, `the server grew by ${grown} KiB in the row`)
    must(row['failed'] === 0, `${row['failed']} connects failed`)
    must(answered === wanted, `${answered} of ${wanted} at once were answered`)
    await ended(crew)
    const { sequential = 0, p50 = 0, p99 = 0, max = 0 } = row
    console.log(
      `${sequential} in a row: p50 ${p50}, p99 ${p99}, max ${max} us; ${answered} at once`,
    )
    add(
      'connects',
      { sequential, 'at once': answered },
      { 'p99 (us)': p99, 'max (us)': max, 'KiB grown': grown },
    )
  },

  async 'half-open'(directory) {
    await using crew = await Crew.start({
      directory,
      roles: [{ kind: 'blocking', runtime: 'c' }],
    })
    const { opened, failed: refused, p50, p99, max } = await halfOpen(crew, 500, count(10_000))
    must(opened >= count(10_000), `only ${opened} half-open sockets`)
    must(refused === 0, `${refused} connects failed`)
    must(p99 <= 100_000, 'p99 above 100 ms')
    await ended(crew)
    console.log(`${opened} half-open sockets; connect: p50 ${p50}, p99 ${p99}, max ${max} us`)
    add('half-open', { opened }, { 'p99 (us)': p99, 'max (us)': max })
  },

  async stopped(directory) {
    await using crew = await Crew.start({ directory, roles: halves(Number(values.clients)) })
    const windows = await stopHalf(crew, count(20), 1000)
    const part = Math.round(10 * keptPercent(windows)) / 10
    must(part >= 90, `only ${part} % of the rate`)
    await ended(crew)
    console.log(`${values.clients} clients, half of them stopped: ${part} % of the rate`)
    add('stopped', { windows: count(20) }, { 'lost (%)': 100 - part })
  },
}

const [what = 'totals'] = positionals
const storm = storms[what]
if (what === 'totals') {
  must(Object.keys(totals()).length > 0, `nothing was recorded in ${path}`)
  for (const [name, total] of Object.entries(totals())) {
    show(name, total)
    for (const wrong of judgeTotal(total)) must(false, `${name}: ${wrong}`)
  }
  process.exitCode = failed ? 1 : 0
} else if (storm === undefined) {
  console.error(`npm run storm -- ${Object.keys(storms).join(' | ')} | totals`)
  process.exitCode = 2
} else {
  console.log(`${what}, COROIPC_SEED=${seed}`)
  const directory = mkdtempSync(join(os.tmpdir(), 'coroipc-'))
  chmodSync(directory, 0o755) // storms of other users come here
  process.env['COROIPC_RUNTIME_DIR'] = directory
  try {
    await storm(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  process.exitCode = failed ? 1 : 0
}
