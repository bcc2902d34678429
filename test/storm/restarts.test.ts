// A server that goes and comes back, in order or by SIGKILL, in C or in Node.js, under the load of clients that stay: every
// request is acknowledged once or reported as unknown, by a ledger. And the name that it comes back to: raced for, stale,
// or taken by something that is nobody's to remove. `npm run storm -- restarts` and `-- races` do more of it.
import { join } from 'node:path'
import t from 'tap'
import { Program } from '../support/program.js'
import { left, runtimeDirectory } from '../support/runtime.js'
import { Crew, eight, PROMISED_MS, random, restartOften, seed } from './crew.js'

const directory = runtimeDirectory(t)
const RESTARTS = 120
const RACES = 300

t.test(`${RESTARTS} restarts under load (COROIPC_SEED=${seed})`, async (t) => {
  await using crew = await Crew.start({ directory, roles: eight })
  const { knowledge, faults } = await restartOften(crew, RESTARTS, random(seed))
  t.strictSame(faults, [])
  t.comment(knowledge.text)
  t.ok(knowledge.lateMs < PROMISED_MS, `within 1 s of the end: ${knowledge.text}`)
  t.ok(
    crew.total('unknown') > 0 && crew.total('never') > 0,
    'the servers left while they were asked',
  )
  t.ok(
    crew.column('epoch').every((connections) => connections > RESTARTS),
    'each client has connected again each time',
  )
  t.equal(await crew.end(), '')
  t.strictSame(
    [...crew.roles.keys()].map((lane) => crew.unsettled(lane)).filter((said) => said !== ''),
    [],
    'each request has one outcome, and those that were answered were executed once',
  )
})

t.test(`${RACES} races for a name`, async (t) => {
  const before = left(directory)
  const race = Program.start('listen-race', join(directory, 'raced'), String(RACES))
  t.equal(await race.end(), 0)
  const fair = (RACES * 9) / 10
  t.equal(race.lines[0], `rounds ${fair} fair ${fair} planted ${RACES / 10} kept ${RACES / 10}`)
  t.strictSame(
    left(directory).filter((name) => name !== 'raced.lock'),
    before,
  )
})
