// Eight clients, in C and in Node.js, keep a server busy; SIGKILL ends a random one of the nine, again and again. Every
// message is in a ledger: no answer without execution, nothing executed twice or left out, nothing torn. Each death is
// known within the second that the README promises, everybody goes on, and the server holds nothing for the dead.
// `npm run storm -- kills` does the same for longer.
import { rmSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { runtimeDirectory } from '../support/runtime.js'
import { Crew, eight, killRandomly, PROMISED_MS, random, seed } from './crew.js'

const directory = runtimeDirectory(t)
const KILLS = 300
const LIMIT_MS = 90_000 // says how far a machine came that is too slow for it

t.test(
  `${KILLS} kills of a random side under load (COROIPC_SEED=${seed})`,
  { timeout: 0 },
  async (t) => {
    await using crew = await Crew.start({ directory, roles: eight })
    const late = performance.now() + LIMIT_MS
    const over = (): boolean => performance.now() > late
    const { server, client, knowledge, faults } = await killRandomly(
      crew,
      KILLS,
      random(seed),
      over,
    )
    t.strictSame(faults, [])
    t.equal(server + client, KILLS, `${server + client} of ${KILLS}`)
    t.ok(server > KILLS / 4 && client > KILLS / 4, `${server} of the server, ${client} of clients`)
    t.comment(knowledge.text)
    t.ok(knowledge.lateMs < PROMISED_MS, `within 1 s of the end: ${knowledge.text}`)
    t.comment(
      ['answers', 'unknown', 'never', 'dispatches', 'epoch']
        .map((word) => `${word} ${crew.total(word as 'answers')}`)
        .join(', '),
    )
    t.comment(`longest call: ${(Math.max(...crew.column('longestNs')) / 1e6).toFixed(1)} ms`)
    t.ok(crew.total('unknown') > 0, 'some were in flight')
    t.equal(await crew.end(), '')
  },
)

// Without these the ledger might see nothing.
for (const mutant of ['forgets', 'repeats', 'tears', 'skips'])
  t.test(`a server that ${mutant} a message is told by the ledger`, async (t) => {
    await using crew = await Crew.start({
      directory,
      mutant,
      roles: [
        { kind: 'pipelined', runtime: 'c' },
        { kind: 'dispatch', runtime: 'c' },
      ],
    })
    while (crew.faults().length === 0) await crew.progress()
    const [first = ''] = crew.faults()
    t.match(first, mutant === 'repeats' ? /doubled/ : mutant === 'forgets' ? /lost|wrong/ : /wrong/)
  })

t.test('a server that keeps what the dead had is told by the gauge', async (t) => {
  await using crew = await Crew.start({
    directory,
    mutant: 'keeps',
    roles: [{ kind: 'blocking', runtime: 'c' }],
  })
  t.equal(await crew.quiet(), '')
  await crew.killMember(0)
  crew.startMember(0)
  await crew.progress()
  t.match(await crew.quiet(200), /mapped connections: 2 instead of 1/)
})

for (const [mutant, told] of [
  ['leaks', /fd \/dev\/null: \d+ -> \d+/],
  ['threads', /thread: 1 -> \d/],
  ['forks', /child: 0 -> \d/],
  ['swells', /rss: \d+ -> \d+/],
] as const)
  t.test(`what a dead client leaves is told by the gauge: a server that ${mutant}`, async (t) => {
    const roles = [{ kind: 'blocking', runtime: 'c' }] as const
    await using crew = await Crew.start({ directory, mutant, roles })
    t.equal(await crew.quiet(), '')
    await crew.killMember(0)
    crew.startMember(0)
    await crew.progress()
    t.match(await crew.quiet(200), told)
    t.match(await crew.end(200), told, 'also at the end')
  })

t.test('names that are left are told by the gauge', async (t) => {
  const roles = [{ kind: 'blocking', runtime: 'c' }] as const
  await using crew = await Crew.start({ directory, roles })
  t.equal(await crew.quiet(), '')
  for (const file of [`${directory}/left`, `/dev/shm/coroipc-${process.pid}`]) {
    writeFileSync(file, '')
    const said = await crew.quiet(200)
    rmSync(file)
    t.match(said, /^(file |\/dev\/shm\/).*: 0 -> 1$/)
  }
  t.equal(await crew.quiet(), '')
  t.equal(await crew.end(), '')
})
