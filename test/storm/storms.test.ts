// More than a server should have to bear, of each kind at a time: connections, half-open sockets, peers that are stopped,
// that do not read (endless.test.ts has those that ring, or send descriptors, without end). A client that behaves goes on beside
// each, and afterwards the server holds what it held before. Figures are printed; what is asserted is what was promised, that
// nothing fails and nothing is left. `npm run storm` has the large ones.
import t, { type Test } from 'tap'
import { rssBytes } from '../support/gauge.js'
import { runtimeDirectory } from '../support/runtime.js'
import { until } from '../support/wait.js'
import { Crew, type Role } from './crew.js'
import { halfOpen, halves, keptPercent, stopHalf, Storm } from './storms.js'

const directory = runtimeDirectory(t)
const asRoot = process.getuid?.() === 0
/** Of the rate beside clients that are merely idle. */
const KEPT_PERCENT = 90
const witness: Role = { kind: 'blocking', runtime: 'c' }
const slow = (service: number): Role => ({ kind: 'slow', runtime: 'c', service })
const HANDSHAKES_PER_UID = 16
const CONNECT_US = 100_000
const GROWTH_BYTES = 64 << 20 // far above what slow readers may make a server keep

/** With a server and clients that behave; afterwards all is as it has to be. */
async function beside(
  t: Test,
  options: { roles?: readonly Role[]; server?: 'c' | 'node' },
  storm: (crew: Crew) => Promise<void>,
): Promise<void> {
  await using crew = await Crew.start({ directory, roles: [witness], ...options })
  await storm(crew)
  await crew.progress()
  t.equal(await crew.quiet(), '', 'nothing is left of it')
  t.strictSame(crew.faults(), [])
  t.equal(await crew.end(), '')
}

/** Long enough for all that is on its way to a stopped client to be there. */
const STOPPED_MS = 1000
const IDLE_MS = 400

/** What is left of the rate of ten clients when the other ten are stopped, by the median of so many windows: no more are added. */
async function kept(t: Test, crew: Crew, windows: number): Promise<number> {
  const part = keptPercent(await stopHalf(crew, windows, STOPPED_MS, IDLE_MS))
  t.comment(`${part.toFixed(1)} % of the rate beside idle ones, by ${windows} windows`)
  return part
}

t.test('a server that turns some away is told by the storm', async (t) => {
  await using crew = await Crew.start({ directory, roles: [witness], mutant: 'turns-away' })
  const { failed = 0 } = await Storm.of('sequential', crew.name, 500)
  t.ok(failed > 0, `${failed} failed`)
  const { answered = 0 } = await Storm.of('at-once', crew.name, 200)
  t.ok(answered < 200, `${answered} of 200 at once were answered`)
})

t.test('500 connections at once, and 5000 in a row', async (t) => {
  await beside(t, {}, async ({ name, server }) => {
    t.match(await Storm.of('at-once', name, 500), { 'at-once': 500, answered: 500, failed: 0 })
    const rss = rssBytes(server.pid)
    const row = await Storm.of('sequential', name, 5000)
    t.comment(`connect: p50 ${row['p50']}, p99 ${row['p99']}, max ${row['max']} us`)
    t.match(row, { sequential: 5000, failed: 0 })
    const grown = rssBytes(server.pid) - rss
    t.ok(grown <= 1 << 20, `the server grew by ${grown >> 10} KiB in the row`)
  })
})

const two = { skip: !asRoot && 'only root can be two users' }

t.test('10 000 half-open sockets of one user, while another one connects', two, async (t) => {
  await beside(t, {}, async (crew) => {
    const { opened, kept, failed, p50, p99, max } = await halfOpen(crew, 500, 10_000)
    t.comment(`${opened} opened, ${kept} kept; connect: p50 ${p50}, p99 ${p99}, max ${max} us`)
    t.equal(opened, 10_000)
    t.equal(failed, 0)
    t.ok(p99 <= CONNECT_US, `p99 ${p99} us, of the worst row of connects`)
    t.ok(kept > 1 && kept <= HANDSHAKES_PER_UID + 1, `${kept} of both users were waited for`)
    await until('their end', () => crew.ledger.server('handshakesPending') === 0)
  })
})

t.test(
  'a server that admits half-open sockets without bound is told by its account',
  two,
  async (t) => {
    await using crew = await Crew.start({ directory, roles: [witness], mutant: 'admits' })
    const { kept } = await halfOpen(crew, 50, 500)
    t.ok(kept > HANDSHAKES_PER_UID + 1, `${kept} were waited for`)
  },
)

t.test('10 of 20 clients are stopped in the middle of everything', async (t) => {
  const roles = halves(20)
  await beside(t, { roles }, async (crew) => {
    const rss = rssBytes(crew.server.pid)
    const part = await kept(t, crew, 21)
    t.ok(part >= KEPT_PERCENT, `the rest keep ${part.toFixed(1)} % of their rate`)
    const grown = rssBytes(crew.server.pid) - rss
    t.ok(grown < 10 * (9 << 20), `the server grew by ${grown >> 10} KiB: within their limits`)
  })
})

t.test(
  'a server that waits for those who do not read is told by the rate of the rest',
  async (t) => {
    await using crew = await Crew.start({ directory, roles: halves(20), mutant: 'waits' })
    const part = await kept(t, crew, 3)
    t.ok(part < KEPT_PERCENT, `the rest keep ${part.toFixed(1)} % of their rate`)
  },
)

for (const server of ['c', 'node'] as const)
  t.test(`readers that are 100 times too slow, by each policy (server: ${server})`, async (t) => {
    const roles = [witness, slow(3), slow(4), slow(5), slow(6)]
    await using crew = await Crew.start({ directory, roles, server })
    const rss = rssBytes(crew.server.pid)
    const done = (): boolean =>
      crew.ledger.get(2, 'skipped') > 1000 &&
      crew.ledger.get(3, 'skipped') > 1000 &&
      crew.ledger.get(4, 'epoch') > 3
    await until('every policy to be needed', done, 60_000)
    await crew.progress()
    const grown = rssBytes(crew.server.pid) - rss
    t.comment(
      `dispatches read ${crew.column('dispatches').join(', ')}; left out ${crew.column('skipped').join(', ')}; ` +
        `the server grew by ${(grown / 1024).toFixed(0)} KiB`,
    )
    t.strictSame(crew.faults(), [], 'none again, none out of order, none torn')
    t.equal(crew.ledger.get(1, 'skipped'), 0, "'error' loses none that was taken")
    t.equal(crew.ledger.get(1, 'epoch'), 1)
    t.ok(grown < GROWTH_BYTES, 'and no memory without end')
    t.equal(await crew.quiet(), '', 'nor is anything held that no connection explains')
    t.equal(await crew.end(), '')
  })

t.test('a server that hoards what a slow reader does not read is told by its memory', async (t) => {
  await using crew = await Crew.start({ directory, roles: [slow(4)], mutant: 'hoards' })
  const rss = rssBytes(crew.server.pid)
  await until('growth', () => rssBytes(crew.server.pid) - rss > GROWTH_BYTES)
  t.pass()
})
