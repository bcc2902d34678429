// However an environment ends, natives end with it: no abort, no crash, no hang; see ending.ts.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const program = fileURLToPath(new URL('./ending.js', import.meta.url))

async function run(
  where: string,
  scenario: string,
): Promise<{ code: unknown; out: string; err: string }> {
  const child = spawn(process.execPath, [program, where, scenario])
  const [out, err, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number | null, string | null]>,
  ])
  return { code: signal ?? code, out, err }
}

const inMain: [scenario: string, code: number, err: RegExp][] = [
  ['idle', 0, /^$/],
  ['unreferenced', 0, /^$/],
  ['exit while all is held', 7, /^$/],
  ['exit inside onBatch', 7, /^$/],
  ['throw inside onBatch', 1, /thrown inside onBatch/],
]
for (const [scenario, expected, stderr] of inMain) {
  t.test(`the main thread: ${scenario}`, async (t) => {
    const { code, err } = await run('main', scenario)
    t.equal(code, expected)
    t.match(err, stderr)
  })
}

const inWorker: [scenario: string, ended: string][] = [
  ['idle', 'worker ended 0'],
  ['unreferenced', 'worker ended 0'],
  ['exit while all is held', 'worker ended 7'],
  ['exit inside onBatch', 'worker ended 7'],
  ['throw inside onBatch', 'error thrown inside onBatch\nworker ended 1'],
  ['be terminated while all is held', 'worker ended 1'],
  ['be terminated inside onBatch', 'worker ended 1'],
  ['be terminated in wait', 'worker ended 1'],
  ['be terminated in dispatchReceive', 'worker ended 1'],
  ['be terminated in call', 'worker ended 1'],
  ['be terminated in connectSync', 'worker ended 1'],
]
for (const [scenario, ended] of inWorker) {
  t.test(`a worker: ${scenario}`, async (t) => {
    const { code, out, err } = await run('worker', scenario)
    t.equal(err, '')
    t.equal(code, 0)
    t.equal(out, `${ended}\n`.repeat(3) + 'survived\n')
  })
}
