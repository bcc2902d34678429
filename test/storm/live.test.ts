// What a soak sees of a heap: what is held is told within a few reports, however much comes and goes beside it.
import t from 'tap'
import { built } from '../support/paths.js'
import { Program } from '../support/program.js'
import { LIVE_FLAGS } from './live.js'

/** By how much what is reported grows from the third report to the eighth, in KiB, with this done once a ms. */
async function grownKib(each: string): Promise<number> {
  const script = `
    import { reportLive } from ${JSON.stringify(built('test/storm/live.js'))}
    const held = []
    let garbage
    setInterval(() => { ${each} }, 1)
    let reports = 0
    reportLive(({ bytes, rss, beside }) => { console.log('live', bytes, rss, beside); if (++reports === 8) process.exit() }, 20)
  `
  const program = Program.command(
    process.execPath,
    ...LIVE_FLAGS,
    '--input-type=module',
    '-e',
    script,
  )
  t.equal(await program.end(), 0)
  const bytes = program.lines.map((line) => Number(line.split(' ')[1]))
  t.equal(bytes.length, 8)
  const { rss } = process.memoryUsage()
  for (const line of program.lines) {
    const [resident = 0, beside = 0] = line.split(' ').slice(2).map(Number)
    t.ok(resident > rss / 8 && resident < rss * 8, `resident: ${resident}`)
    t.ok(beside > 0 && beside < resident, `of it beside V8's heap: ${beside}`)
  }
  return ((bytes[7] as number) - (bytes[2] as number)) / 1024
}

t.test('what is collected is not told, what is held is', async (t) => {
  const much = await grownKib('garbage = [new Uint8Array(100_000), Array(1000).fill({})]')
  t.ok(Math.abs(much) < 64, `${much.toFixed(0)} KiB`)
  const objects = await grownKib(
    'for (let i = 0; i < 50; i++) held.push({ a: [1, 2, 3, held.length] })',
  )
  t.ok(objects > 20, `objects: ${objects.toFixed(0)} KiB`)
  const outside = await grownKib('held.push(new Uint8Array(20_000))')
  t.ok(outside > 200, `outside of the heap: ${outside.toFixed(0)} KiB`)
})
