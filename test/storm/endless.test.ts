// A client that rings without end, and one that sends descriptors: a turn takes so much of it and no more, a neighbour is
// served, and nothing is left. What it costs the neighbour is compared by turns with a process that burns as much CPU.
import os from 'node:os'
import t from 'tap'
import { held } from '../support/gauge.js'
import { runtimeDirectory } from '../support/runtime.js'
import { sleep, until } from '../support/wait.js'
import { Crew, type CrewOptions, type Role } from './crew.js'
import { latencyUs } from './ledger.js'
import { median, Storm } from './storms.js'

const directory = runtimeDirectory(t)
const witness: Role = { kind: 'blocking', runtime: 'c' }
/** Of the socket of each connection, in what this server calls a turn. */
const MESSAGES_A_TURN = 16
/** Of each kind; what is said of descriptors needs no figure. */
const TURNS = { doorbells: 7, fds: 3 } as const
const TURN_MS = 200
/**
 * Of the neighbour's p99. Of doorbells it is 1 to 1.5 where nobody else wants the two CPUs; where a turn read 16 of them that were
 * rung for nothing it was 8. Without a bound the neighbour is not answered at all while others ring.
 */
const RATIO = { doorbells: 10, fds: 100 } as const
/** SCM_MAX_FD: so many descriptors can come with a message. */
const FDS_A_MESSAGE = 253
const [major = 0, minor = 0] = os.release().split('.').map(Number)
/** SO_PASSRIGHTS. */
const fdsAreRefused = major > 6 || (major === 6 && minor >= 16)

/** The most doorbells that one turn of such a server has taken, of both connections, when it is `over`. */
async function mostATurn(
  mutant: Pick<CrewOptions, 'coreMutant'>,
  over: (most: number, answers: number) => boolean,
): Promise<number> {
  await using crew = await Crew.start({ directory, roles: [witness], mutant: 'counts', ...mutant })
  const storm = await Storm.begin('doorbells', crew.name)
  const most = (): number => crew.ledger.server('doorbellsATurn')
  const answers = crew.total('answers')
  await until('enough turns', () => over(most(), crew.total('answers') - answers))
  const { doorbells = 0 } = await storm.stop()
  t.comment(`${doorbells} doorbells, ${most()} in one turn at most`)
  return most()
}

t.test('a turn takes few doorbells of a connection, however often it is rung', async (t) => {
  const most = await mostATurn({}, (most, answers) => most > 1 && answers > 5000)
  t.ok(most <= 2 * MESSAGES_A_TURN, `${most} of two connections`)
})

t.test('a core that takes all doorbells there are is told by its turns', async (t) => {
  const all = { coreMutant: 'rung-without-end' }
  const most = await mostATurn(all, (most) => most > 2 * MESSAGES_A_TURN)
  t.ok(most > 2 * MESSAGES_A_TURN, `${most} of two connections`)
})

for (const server of ['c', 'node'] as const)
  for (const what of ['doorbells', 'fds'] as const)
    t.test(`${what} without end (server: ${server})`, async (t) => {
      await using crew = await Crew.start({ directory, roles: [witness], server })
      const devices = async (): Promise<number> =>
        (await held({ pid: crew.server.pid }))['fd /dev/null'] ?? 0
      const empty = await devices()
      let most = 0
      const sums: Record<string, number> = {}
      /** p99 of the neighbour's calls, in us, beside such a storm; endless if it had no answer. */
      const p99 = async (kind: string): Promise<number> => {
        const storm = await Storm.begin(kind, crew.name)
        const before = crew.ledger.latency(0)
        for (let i = 0; i < TURN_MS / 10; i++) {
          await sleep(10)
          most = Math.max(most, await devices())
        }
        const calls = crew.ledger.latency(0).map((count, i) => count - (before[i] ?? 0))
        for (const [word, count] of Object.entries(await storm.stop()))
          sums[word] = (sums[word] ?? 0) + count
        return calls.some((count) => count > 0) ? latencyUs(calls, 0.99) : Number.POSITIVE_INFINITY
      }
      const beside = { burn: [] as number[], storm: [] as number[] }
      for (let turn = 0; turn < TURNS[what]; turn++) {
        beside.burn.push(await p99('burn'))
        beside.storm.push(await p99(what))
      }
      const us = (times: readonly number[]): string =>
        `${median(times).toFixed(0)} us (${times.map((time) => time.toFixed(0)).join(', ')})`
      t.comment(JSON.stringify(sums))
      t.comment(
        `a neighbour's p99: ${us(beside.burn)} beside one that burns CPU, ${us(beside.storm)} beside the storm: ` +
          `${(median(beside.storm) / median(beside.burn)).toFixed(1)} times`,
      )
      t.ok(median(beside.storm) < 100_000, 'the neighbour is served all the time')
      t.ok(median(beside.storm) <= RATIO[what] * median(beside.burn), `within ${RATIO[what]} times`)
      if (what === 'fds') {
        const { 'fds sent': sent = 0, refused = 0 } = sums
        t.comment(
          fdsAreRefused
            ? `shown: Linux ${os.release()} keeps them from the server (SO_PASSRIGHTS)`
            : `shown: before Linux 6.16 they arrive, and are closed`,
        )
        t.ok(sent + refused > 100, `${sent + refused} messages with descriptors`)
        if (fdsAreRefused) {
          t.equal(sent, 0, 'each was refused at its sender')
          t.equal(most, empty, 'none has arrived')
        } else {
          t.ok(sent > 0, `${sent} were sent`)
          t.ok(most - empty <= FDS_A_MESSAGE, 'no more descriptors than one message brings')
        }
      } else t.equal(most, empty)
      await crew.progress()
      t.equal(await crew.quiet(), '', 'nothing is left of it')
      t.strictSame(crew.faults(), [])
      t.equal(await crew.end(), '')
    })
