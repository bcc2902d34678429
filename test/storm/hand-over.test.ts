// Hot restarts: a server that starts its successor, hands the listening socket over and leaves in order, again and again,
// under the load of clients in C and Node.js. By the ledger: nothing is unknown, lost or done twice, and no connect is
// refused. `npm run storm -- hand-overs` does more of it.
import t from 'tap'
import { runtimeDirectory } from '../support/runtime.js'
import { Crew, eight, handOverOften } from './crew.js'

const directory = runtimeDirectory(t)
const HAND_OVERS = 8

t.test(`${HAND_OVERS} hot restarts under load`, async (t) => {
  await using crew = await Crew.start({ directory, roles: eight, server: 'node' })
  t.strictSame(await handOverOften(crew, HAND_OVERS), [])
  t.comment(`${crew.total('answers')} answers, ${crew.total('never')} asked again`)
  t.equal(crew.total('unknown'), 0, 'of every request it is known what became of it')
  t.equal(crew.total('refused'), 0, 'no connect was refused')
  t.ok(
    crew.column('epoch').every((connections) => connections > HAND_OVERS),
    'each client has connected again each time',
  )
  t.equal(await crew.end(), '')
  t.strictSame(
    [...crew.roles.keys()].map((lane) => crew.unsettled(lane)).filter((said) => said !== ''),
    [],
    'each request has one outcome, and those that were answered were executed once',
  )
})

for (const [mutant, what] of [
  ['hurries', 'unknown'],
  ['lets-go', 'refused'],
] as const)
  t.test(`a server that ${mutant} is told`, async (t) => {
    await using crew = await Crew.start({ directory, roles: eight, server: 'node', mutant })
    const faults = await handOverOften(crew, HAND_OVERS, () => crew.total(what) > 0)
    t.ok(
      faults.length > 0 || crew.total(what) > 0,
      `${what}: ${crew.total(what)}; ${faults.join('; ')}`,
    )
    await crew.end()
  })
