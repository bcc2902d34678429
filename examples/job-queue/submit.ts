// Submits jobs, all at once, and prints their results in the order of the questions.
//
//   node build/examples/job-queue/submit.js <name> 84 1001 x
//
// Exit code: 0 all done, 1 at least one failed, 2 wrong usage.
import { connect } from '@coroipc/ipcc'
import { JOBS, Status, SUBMIT } from './protocol.js'

const [name, ...numbers] = process.argv.slice(2)
if (name === undefined || numbers.length === 0) {
  console.error('usage: node submit.js <name> <number>...')
  process.exit(2)
}

await using connection = await connect(name, { service: JOBS, requestTimeoutMs: Infinity })
const outcomes = await Promise.all(
  numbers.map((number) => connection.request(SUBMIT, number, { full: true })),
)
outcomes.forEach(({ status, payload }, index) => {
  const text = Buffer.from(payload).toString()
  console.log(`${numbers[index]}: ${status === Status.done ? text : `failed, ${text}`}`)
  if (status !== Status.done) process.exitCode = 1
})
