// What a scribbler costs honest clients, measured: in turns beside it and beside a process that only burns as much CPU.
//
//   npm run scribble -- --seconds 3600            in all, both roles
//     --role client|server    one of them
//     --slice 5               seconds of one turn
//     --ledger FILE           one line of JSON for each turn is added to it, and the verdict is over all that is in it:
//                             an hour can be made of pieces
//     --seed N                or COROIPC_SEED
//
// The verdict: no wrong answer, nothing left, p99 at most twice what it is beside the burner.
import { appendFileSync, existsSync, readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runtimeDirectory } from '../support/runtime.js'
import { Distribution } from './distribution.js'
import { type Manner, type Role, Scene } from './scene.js'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    slice: { type: 'string', default: '5' },
    role: { type: 'string' },
    ledger: { type: 'string' },
    seed: { type: 'string' },
  },
})
const seed = Number(
  options.seed ?? process.env['COROIPC_SEED'] ?? Math.floor(Math.random() * 2 ** 31),
)
const roles = (['client', 'server'] as const).filter((role) => (options.role ?? role) === role)
const RATIO = 2

/** One turn, as it is written down. */
interface Turn {
  readonly role: Role
  readonly manner: Manner
  readonly seconds: number
  readonly seed: number
  readonly counts: [number, number][]
  readonly faults: number
  readonly left: string
  readonly connections: number
  readonly cutOff: number
}

const turns: Turn[] =
  options.ledger !== undefined && existsSync(options.ledger)
    ? readFileSync(options.ledger, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Turn)
    : []

function writeDown(turn: Turn): void {
  turns.push(turn)
  if (options.ledger !== undefined) appendFileSync(options.ledger, `${JSON.stringify(turn)}\n`)
}

/** Turn after turn of one role, for `seconds`. */
async function run(role: Role, seconds: number): Promise<void> {
  await using scene = await Scene.open(role)
  const slice = Number(options.slice)
  for (let at = 0; at < seconds; at += 2 * slice) {
    for (const manner of ['burn', 'scribble'] as const) {
      const own = seed + turns.length
      const seen = await scene.slice(manner, slice, own)
      for (const fault of seen.faults) console.log(`${role}, ${manner}: ${fault}`)
      writeDown({
        role,
        manner,
        seconds: slice,
        seed: own,
        counts: seen.latency.toJSON(),
        faults: seen.faults.length,
        left: await scene.left(),
        connections: seen.connections,
        cutOff: seen.cutOff,
      })
    }
  }
}

/** Adds up; true if all is well. */
function verdict(role: Role): boolean {
  const p99: Record<Manner, number> = { burn: 0, scribble: 0 }
  let well = true
  for (const manner of ['burn', 'scribble'] as const) {
    const own = turns.filter((turn) => turn.role === role && turn.manner === manner)
    const all = new Distribution()
    for (const { counts } of own) all.add(counts)
    const sum = (of: 'seconds' | 'faults' | 'connections' | 'cutOff'): number =>
      own.reduce((total, turn) => total + turn[of], 0)
    const left = own.map((turn) => turn.left).filter((text) => text !== '')
    p99[manner] = all.quantile(0.99)
    const us = (part: number): string => all.quantile(part).toFixed(0)
    console.log(
      `${role}, ${manner}: ${sum('seconds')} s, ${all.count} honest calls, p50 ${us(0.5)} us, p99 ${us(0.99)} us, p99.9 ${us(0.999)} us; ` +
        `${sum('connections')} connections, ${sum('cutOff')} ended early; ${sum('faults')} faults; ${left.length === 0 ? 'nothing left' : `left: ${left.join('; ')}`}`,
    )
    well &&= sum('faults') === 0 && left.length === 0
  }
  const ratio = p99.scribble / p99.burn
  console.log(`${role}: p99 beside the scribbler is ${ratio.toFixed(2)} x that beside the burner`)
  return well && ratio <= RATIO
}

runtimeDirectory({ teardown: (remove) => void process.on('exit', remove) })
console.log(`seed ${seed}`)
for (const role of roles) await run(role, Number(options.seconds) / roles.length)
const well = roles.map(verdict).every(Boolean)
console.log(well ? 'as promised' : 'NOT as promised')
process.exitCode = well ? 0 : 1
