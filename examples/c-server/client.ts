// A Node.js client of the C servers in this folder: adds each number to their counter, prints the
// answers and what comes by dispatch.
//
//   node build/examples/c-server/client.js <name> 5 -2
import { connect } from '@coroipc/ipcc'

const SERVICE = 7
const ADD = 0

const [name, ...numbers] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node client.js <name> <number> ...')
  process.exit(2)
}
const valueOf = (payload: Uint8Array): bigint =>
  new DataView(payload.buffer, payload.byteOffset).getBigInt64(0, true)

await using connection = await connect(name, { service: SERVICE })
const values = connection.dispatches()
for (const number of numbers) {
  const answer = await connection.request(ADD, new BigInt64Array([BigInt(number)]))
  console.log(`added ${number}: ${valueOf(answer)}`)
  // Each addition is followed by a dispatch to everybody: one is ours.
  const { value: message } = await values.next()
  if (message !== undefined) console.log(`everybody hears: ${valueOf(message.payload)}`)
}
