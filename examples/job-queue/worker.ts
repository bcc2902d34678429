// Works: a job is a number, its result the number's prime factors. One that cannot be factored has failed. A worker may be
// there before the queue, and stays when the queue goes and comes back.
//
//   node build/examples/job-queue/worker.js <name> [--die-at NUMBER]      ends on SIGTERM
import { parseArgs } from 'node:util'
import { IpcError, reconnecting } from '@coroipc/ipcc'
import { DONE, FAILED, jobOf, numbered, TAKE, WORK } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { 'die-at': { type: 'string' } },
  allowPositionals: true,
})
const [name] = positionals
if (name === undefined) {
  console.error('usage: node worker.js <name> [--die-at NUMBER]')
  process.exit(2)
}

function factors(number: number): number[] {
  const found: number[] = []
  for (let divisor = 2; divisor * divisor <= number; divisor++)
    while (number % divisor === 0) {
      found.push(divisor)
      number /= divisor
    }
  return number > 1 ? [...found, number] : found
}

const queue = reconnecting(name, { service: WORK })
queue.on('error', (error) => {
  console.error(error.message) // it has closed itself: not allowed, or another version
  process.exitCode = 1
})
process.once('SIGTERM', () => void queue.close())

async function work(): Promise<void> {
  const { number, bytes } = jobOf(await queue.request(TAKE, '', { timeoutMs: Infinity }))
  const question = Buffer.from(bytes).toString()
  if (question === values['die-at']) process.kill(process.pid, 'SIGKILL')
  const integer = Number(question)
  if (Number.isSafeInteger(integer) && integer > 0)
    await queue.request(DONE, numbered(number, Buffer.from(factors(integer).join(' x '))))
  else await queue.request(FAILED, numbered(number, new Uint8Array()))
}

while (!queue.closed) {
  try {
    await work()
  } catch (error) {
    if (!IpcError.is(error)) throw error
    await queue.connected().catch(() => {}) // the queue has gone, and with it the job: its submitter knows
  }
}
