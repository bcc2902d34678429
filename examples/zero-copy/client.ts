// Sends pictures through memory that both processes map: filled here, read by the server where it is, and the answer
// likewise. The same program works without trust, where everything is copied.
//
//   node build/examples/zero-copy/server.js <name> --trust
//   node build/examples/zero-copy/client.js <name> --trust
//
// Exit code 0 if all negatives are right.
import { parseArgs } from 'node:util'
import { connect } from '@coroipc/ipcc'
import { LIMIT, NEGATE, PICTURES } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { trust: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const [name] = positionals
if (name === undefined) {
  console.error('usage: node client.js <name> [--trust]')
  process.exit(2)
}

await using connection = await connect(name, { service: PICTURES, trustServer: values.trust })
using picture = await connection.allocate(LIMIT)
for (const size of [1, 640 * 480, LIMIT]) {
  // A buffer is made once and used as often as one likes, in whole or in part.
  const { bytes } = picture
  for (let at = 0; at < size; at++) bytes[at] = at % 251

  // The answer is lent: it goes back to the server at the end of this block.
  using answer = await connection.request(NEGATE, picture.part(0, size), { inPlace: true })
  const right =
    answer.payload.length === size &&
    answer.payload.every((pixel, at) => pixel === 255 - (at % 251))
  const places = `question in place: ${picture.inPlace}, answer in place: ${answer.inPlace}`
  console.log(`${size} bytes, ${places}, ${right ? 'right' : 'wrong'}`)
  if (!right) process.exitCode = 1
}
