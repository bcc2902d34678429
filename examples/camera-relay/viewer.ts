// A viewer: looks at each frame where it is, and gives it back. It has nothing else to do, so it may block.
//
//   node build/examples/camera-relay/viewer.js <name> [--until NUMBER] [--pause MS]
//
// Exit code 0 if every frame was whole, in place, and newer than the one before.
import { parseArgs } from 'node:util'
import { connectSync } from '@coroipc/ipcc'
import { numberOf, VIEWERS, whole } from './protocol.js'

const { values, positionals } = parseArgs({
  options: { until: { type: 'string', default: '100' }, pause: { type: 'string', default: '0' } },
  allowPositionals: true,
})
const [name] = positionals
const until = Number(values.until)
if (name === undefined || !(until > 0)) {
  console.error('usage: node viewer.js <name> [--until NUMBER] [--pause MS]')
  process.exit(2)
}

using connection = connectSync(name, { service: VIEWERS, trustServer: true })
console.log('watching')
let [seen, last, wrong] = [0, 0, 0]
while (last < until) {
  using frame = connection.dispatchSync({ timeoutMs: 10_000, inPlace: true })
  if (frame === undefined) throw new Error('no frame in 10 s')
  const number = numberOf(frame.payload)
  if (!frame.inPlace || number <= last || !whole(frame.payload)) wrong++
  last = number
  seen++
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(values.pause)) // as if it took so long
}
console.log(`${seen} frames, the last ${last}, ${wrong} wrong`)
process.exitCode = wrong === 0 ? 0 : 1
