// A server that goes and comes back, in order or by SIGKILL, in C or in Node.js, under the load of clients that stay: every
// request is acknowledged once or reported as unknown, by a ledger. And the name that it comes back to: raced for, stale,
// or taken by something that is nobody's to remove. `npm run storm -- restarts` and `-- races` do more of it.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Program } from '../support/program.js'
import { left, runtimeDirectory } from '../support/runtime.js'
import { until } from '../support/wait.js'
import { Crew, eight, PROMISED_MS, random, restartOften, type Role, seed } from './crew.js'

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

// Without these nobody might be told.
const two: readonly Role[] = [
  { kind: 'pipelined', runtime: 'c' },
  { kind: 'blocking', runtime: 'c' },
]

t.test('a server that does a request twice is told among restarts', async (t) => {
  await using crew = await Crew.start({ directory, roles: two, mutant: 'repeats' })
  const { faults } = await restartOften(crew, 100, random(seed))
  t.match(faults.join('; '), /doubled/)
})

t.test('a client that says nothing of what nobody knows is told by its sums', async (t) => {
  await using crew = await Crew.start({ directory, roles: two, clientMutant: 'hides' })
  /** Between two of its calls, when nothing is in flight: what the server has answered may still be on its way to be counted. */
  const unsettled = async (limitMs: number): Promise<string> => {
    let said = ''
    const settled = (): boolean => (said = crew.unsettled(0)) === ''
    const wait = (): Promise<unknown> => until('the sums', settled, limitMs).catch(() => {})
    t.equal(await crew.quiet(5000, wait), '')
    return said
  }
  let said = await unsettled(5000)
  t.equal(said, '', 'before any server has died')
  // Until one has died with something of the client's in its hands.
  for (let round = 0; round < 50 && said === ''; round++) {
    await crew.endServer('SIGKILL')
    await crew.startServer()
    await crew.progress()
    said = await unsettled(1000)
  }
  t.match(said, /sent, but .* answered/)
})

/** Removes what races for this name have left. */
function sweep(raced: string): void {
  for (const name of left(directory).filter((each) => each.startsWith(raced)))
    rmSync(join(directory, name), { recursive: true, force: true })
}

t.test('a server that removes what stands in its way is told by the races', async (t) => {
  const path = join(directory, 'careless')
  const race = Program.start('listen-race', path, '50', 'careless')
  t.equal(await race.end(), 1)
  t.match(race.lines[0], /^rounds 45 fair \d+ planted 5 kept [0-4] both \d+$/)
  sweep('careless')
})

t.test('two servers that both believe they have won are told by the races', async (t) => {
  const path = join(directory, 'lockless')
  const race = Program.start('listen-race', path, '9', 'lockless') // nothing is planted in these
  t.equal(await race.end(), 1)
  t.match(race.lines[0], /^rounds 9 fair \d planted 0 kept 0 both [1-9]$/)
  sweep('lockless')
})

t.test(`${RACES} races for a name`, async (t) => {
  const before = left(directory)
  const race = Program.start('listen-race', join(directory, 'raced'), String(RACES))
  t.equal(await race.end(), 0)
  const fair = (RACES * 9) / 10
  t.equal(
    race.lines[0],
    `rounds ${fair} fair ${fair} planted ${RACES / 10} kept ${RACES / 10} both 0`,
  )
  t.strictSame(
    left(directory).filter((name) => name !== 'raced.lock'),
    before,
  )
})
