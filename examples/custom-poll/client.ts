// Pushes the ball of the server with a loop of its own, watches it for some frames, and says good-bye.
//
//   node build/examples/custom-poll/server.js <name>
//   node build/examples/custom-poll/client.js <name> [--stop]      the server, too
import { parseArgs } from 'node:util'
import { connect } from '@coroipc/ipcc'
import { BALL, PUSH, type State, STOP } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { stop: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const [name] = positionals
if (name === undefined) {
  console.error('usage: node client.js <name> [--stop]')
  process.exit(2)
}
const stateOf = (payload: Uint8Array): State => JSON.parse(Buffer.from(payload).toString()) as State

await using connection = await connect(name, { service: BALL })
const frames = connection.dispatches()
const pushed = stateOf(await connection.request(PUSH, new Float64Array([0.6])))
console.log(`pushed in frame ${pushed.frame}`)
for await (const { payload } of frames) {
  const { frame, position } = stateOf(payload)
  if (frame <= pushed.frame) continue
  console.log(`frame ${frame}: ${position.toFixed(3)}`)
  if (frame >= pushed.frame + 10) break
}
if (values.stop) await connection.request(STOP)
