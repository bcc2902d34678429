// A scribbler rewrites all that it may write, at full speed, in either role: nobody beside it gets a wrong answer, an error
// or keeps anything of it. What it costs is printed; `npm run scribble` measures it.
import t from 'tap'
import { runtimeDirectory } from '../support/runtime.js'
import { Distribution } from './distribution.js'
import { type Mutant, Scene } from './scene.js'
import { type Turn, turnOf, verdict } from './verdict.js'

runtimeDirectory(t)
const SECONDS = 4
const seed = Number(process.env['COROIPC_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
t.comment(`COROIPC_SEED=${seed}`)

for (const role of ['client', 'server'] as const) {
  t.test(`a ${role} that scribbles at full speed costs others nothing but CPU`, async (t) => {
    await using scene = await Scene.open(role)
    for (const manner of ['burn', 'scribble'] as const) {
      const { latency, faults, connections, cutOff, outcomes } = await scene.slice(
        manner,
        SECONDS,
        seed,
      )
      const us = (part: number): string => latency.quantile(part).toFixed(0)
      t.comment(
        `${manner}: ${latency.count} calls, p50 ${us(0.5)} us, p99 ${us(0.99)} us, longest ${us(1)} us; ${connections} connections, ${cutOff} cut off`,
      )
      t.strictSame(faults, [], `${manner}: every honest call was answered with its own bytes`)
      t.ok(latency.count > 50, `${latency.count} calls`)
      if (manner === 'burn') continue
      t.ok(connections > 10, `${connections} connections were scribbled over`)
      t.ok(cutOff > 0, `${cutOff} of them were cut off`)
      // An answer can be a lie that nobody can see; but whatever becomes of a call has a code.
      t.comment(JSON.stringify(outcomes))
      for (const what of Object.keys(outcomes)) t.match(what, /^(OK|(connect )?ERR_COROIPC_\w+)$/)
      if (role === 'client') t.ok((await scene.protocolErrors()) > 0, 'the server has counted lies')
    }
    t.equal(await scene.left(), '', 'and nothing of it is kept')
  })
}

// Without these the verdict might always be yes.
for (const [mutant, told] of [
  ['tears', /[1-9]\d* faults/],
  ['keeps', /left: .*fd \/dev\/null/],
  ['slows', /p99 beside the scribbler/],
] as const)
  t.test(`a server that ${mutant} beside a scribbler is told by the verdict`, async (t) => {
    await using scene = await Scene.open('client', mutant satisfies Mutant)
    const judged = async (): Promise<ReturnType<typeof verdict>> => {
      const turns: Turn[] = []
      for (const manner of ['burn', 'scribble'] as const) {
        const seen = await scene.slice(manner, 2, seed)
        turns.push(turnOf('client', seed, seen, mutant === 'keeps' ? await scene.left() : ''))
      }
      return verdict('client', turns)
    }
    let { well, ratioOfTime, lines } = await judged()
    // When the machine stands still beside the burner, as long as the mutant beside the scribbler, there is nothing to compare.
    const tries = mutant === 'slows' ? 3 : 0
    for (let again = 0; again < tries && ratioOfTime <= 2; again++) {
      t.comment(lines.join('\n'))
      ;({ well, ratioOfTime, lines } = await judged())
    }
    t.notOk(well, lines.join('\n'))
    t.match(lines.join('\n'), told)
    if (mutant === 'slows') t.ok(ratioOfTime > 2, `${ratioOfTime}`)
  })

t.test('turns of several runs add up', async (t) => {
  const turn = (manner: 'burn' | 'scribble', bucket: number, over: Partial<Turn> = {}): Turn => ({
    role: 'server',
    manner,
    seconds: 5,
    seed,
    counts: [[bucket, 100]],
    faults: 0,
    left: '',
    connections: 1,
    cutOff: 1,
    ...over,
  })
  const well = [turn('burn', 160), turn('scribble', 176)]
  t.match(verdict('server', well), { well: true, ratio: 2 })
  t.match(verdict('server', [turn('burn', 160), turn('scribble', 177)]), { well: false })
  t.match(verdict('server', [...well, turn('scribble', 177)]), { well: false })
  t.match(verdict('server', [...well, turn('burn', 160, { faults: 1 })]), { well: false })
  t.match(verdict('server', [...well, turn('burn', 160, { left: 'fd' })]), { well: false })
  t.match(verdict('client', well), { well: false }, 'of the other role there is nothing')
  const idle = [turn('burn', 160), turn('scribble', 160, { connections: 0 })]
  t.match(verdict('server', idle), { well: false }, 'a scribbler that never got in')
})

t.test('distributions add up', async (t) => {
  const all = new Distribution()
  all.add([[160, 99]])
  all.add(new Distribution())
  all.add([
    [320, 1],
    [160, 100],
  ])
  t.equal(all.count, 200)
  t.equal(all.quantile(0.5), 1024)
  t.equal(all.quantile(0.99), 1024)
  t.equal(all.quantile(1), 2 ** 20)
  // 199 calls of a ms and one of a second: it is most of the time.
  t.equal(all.quantileOfTime(0.15), 1024)
  t.equal(all.quantileOfTime(0.5), 2 ** 20)
})
