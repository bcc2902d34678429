// A camera: fills two buffers in turn, so that one can be drawn while the other is on its way.
//
//   node build/examples/camera-relay/camera.js <name> [--frames 100] [--rate 60]
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connect, type SharedBuffer } from '@coroipc/ipcc'
import { CAMERA, draw, FRAME, FRAME_BYTES, type Relayed } from './protocol.js'

const { values, positionals } = parseArgs({
  options: {
    frames: { type: 'string', default: '100' },
    rate: { type: 'string', default: '60' },
  },
  allowPositionals: true,
})
const [name] = positionals
const frames = Number(values.frames)
const pause_ms = 1000 / Number(values.rate)
if (name === undefined || !(frames > 0) || !(pause_ms > 0)) {
  console.error('usage: node camera.js <name> [--frames N] [--rate FRAMES-PER-SECOND]')
  process.exit(2)
}

await using connection = await connect(name, { service: CAMERA, trustServer: true })
using even = await connection.allocate(FRAME_BYTES)
using odd = await connection.allocate(FRAME_BYTES)
let late = 0
const send = async (frame: SharedBuffer): Promise<void> => {
  const answer = await connection.request(FRAME, frame)
  late += (JSON.parse(Buffer.from(answer).toString()) as Relayed).late
}
let last: Promise<void> | undefined
for (let number = 1; number <= frames; number++) {
  const buffer = number % 2 === 0 ? even : odd
  draw(buffer.bytes, number)
  await last // then the other buffer is ours again
  last = send(buffer)
  await sleep(pause_ms)
}
await last
console.log(`${frames} frames, ${late} passed by a viewer that was late`)
