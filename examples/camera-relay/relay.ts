// Relays frames of a camera to viewers. The frame is read where the camera wrote it, and written once into memory that the
// viewer reads where it is: one copy for each viewer, by this process, and none by anybody else. A viewer that is slow
// misses frames and never holds up the others.
//
//   node build/examples/camera-relay/relay.js <name>         ends on SIGTERM
import { IpcError, Server } from '@coroipc/ipcs'
import { CAMERA, FRAME, FRAME_BYTES, type Relayed, VIEWERS } from './protocol.js'

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node relay.js <name>')
  process.exit(2)
}

const server = new Server({
  limits: {
    messageBytes: 1 << 20, // a frame and its head
    segments: 4, // of a connection: so many frames may be with a viewer at once, later ones pass it by
  },
})

function relay(frame: Uint8Array): Relayed {
  let [viewers, late] = [0, 0]
  for (const viewer of server.connections()) {
    if (viewer.service !== VIEWERS || viewer.closed) continue
    viewers++
    try {
      const copy = viewer.allocate(frame.length)
      copy.bytes.set(frame)
      if (!viewer.dispatch(copy)) copy.release() // it has just gone
    } catch (error) {
      if (!IpcError.is(error)) throw error
      if (error.code === 'ERR_COROIPC_FULL') late++ // else it has just gone, and allocate was the first to see it
    }
  }
  return { viewers, late }
}

// Both sides have to say that they trust each other: who is trusted can change a frame while it is read.
const trust = ({ uid }: { uid: number }): boolean => uid === process.getuid?.()
server.on('error', (error) => console.error(error))
server.addService({
  id: CAMERA,
  trust,
  handlers: {
    [FRAME]: ({ payload, inPlace }) => {
      if (payload.length !== FRAME_BYTES || !inPlace)
        throw new RangeError('not a frame in a buffer')
      return JSON.stringify(relay(payload))
    },
  },
})
server.addService({ id: VIEWERS, trust })
process.once('SIGTERM', () => void server.close())
await server.listen(name)
console.log(`listening on ${server.address}`)
