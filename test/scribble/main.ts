// What a scribbler costs honest clients, measured: in turns beside it and beside a process that only burns as much CPU.
//
//   npm run scribble -- --seconds 3600            in all, both roles
//     --role client|server    one of them
//     --slice 5               seconds of one turn
//     --burn-every 4          only before each fourth turn of the scribbler a turn of the burner [1]
//     --ledger FILE           one line of JSON for each turn is added to it, and the verdict is over all that is in it:
//                             an hour can be made of pieces
//     --seed N                or COROIPC_SEED
//
// The verdict: no wrong answer, nothing left, p99 at most twice what it is beside the burner, of calls and of the time in them.
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { runtimeDirectory } from '../support/runtime.js'
import { type Role, Scene } from './scene.js'
import { turnOf, type Turn, verdict } from './verdict.js'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    slice: { type: 'string', default: '5' },
    'burn-every': { type: 'string', default: '1' },
    role: { type: 'string' },
    ledger: { type: 'string' },
    seed: { type: 'string' },
  },
})
const seed = Number(
  options.seed ?? process.env['COROIPC_SEED'] ?? Math.floor(Math.random() * 2 ** 31),
)
const roles = (['client', 'server'] as const).filter((role) => (options.role ?? role) === role)

const turns: Turn[] =
  options.ledger !== undefined && existsSync(options.ledger)
    ? readFileSync(options.ledger, 'utf8')
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Turn)
    : []

if (options.ledger !== undefined) mkdirSync(dirname(options.ledger), { recursive: true })

function writeDown(turn: Turn): void {
  turns.push(turn)
  if (options.ledger !== undefined) appendFileSync(options.ledger, `${JSON.stringify(turn)}\n`)
}

/** Turn after turn of one role, for `seconds`. */
async function run(role: Role, seconds: number): Promise<void> {
  await using scene = await Scene.open(role)
  const slice = Number(options.slice)
  const burnEvery = Number(options['burn-every'])
  for (let at = 0, turn = 0; at < seconds; turn++) {
    const burns = turn % burnEvery === 0
    for (const manner of burns ? (['burn', 'scribble'] as const) : (['scribble'] as const)) {
      at += slice
      const own = seed + turns.length
      const seen = await scene.slice(manner, slice, own)
      for (const fault of seen.faults) console.log(`${role}, ${manner}: ${fault}`)
      writeDown(turnOf(role, own, seen, await scene.left()))
    }
  }
}

runtimeDirectory({ teardown: (remove) => void process.on('exit', remove) })
console.log(`seed ${seed}`)
for (const role of roles) await run(role, Number(options.seconds) / roles.length)
const verdicts = roles.map((role) => verdict(role, turns))
for (const { lines } of verdicts) console.log(lines.join('\n'))
const well = verdicts.every((each) => each.well)
console.log(well ? 'as promised' : 'NOT as promised')
process.exitCode = well ? 0 : 1
