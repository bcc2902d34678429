// Works: a job is a number, its result the number's prime factors. One that cannot be factored has failed.
//
//   node build/examples/job-queue/worker.js <name> [--die-at NUMBER]      ends on SIGTERM, or with the queue
import { parseArgs } from 'node:util'
import { connect, IpcError } from '@coroipc/ipcc'
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

const connection = await connect(name, { service: WORK })
process.once('SIGTERM', () => void connection.close())
try {
  for (;;) {
    const { number, bytes } = jobOf(await connection.request(TAKE, '', { timeoutMs: Infinity }))
    const question = Buffer.from(bytes).toString()
    if (question === values['die-at']) process.kill(process.pid, 'SIGKILL')
    const integer = Number(question)
    if (Number.isSafeInteger(integer) && integer > 0)
      await connection.request(DONE, numbered(number, Buffer.from(factors(integer).join(' x '))))
    else await connection.request(FAILED, numbered(number, new Uint8Array()))
  }
} catch (error) {
  if (!connection.closed || !IpcError.is(error)) throw error // it was closed, or the queue is gone
}
