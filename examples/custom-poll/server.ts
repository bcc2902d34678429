// A simulation with a loop of its own, 60 frames a second, that serves clients between the frames. The event loop of
// Node.js does not run meanwhile: the server lives on a poll system written for this loop (frame-poll.ts).
//
//   node build/examples/custom-poll/server.js <name>       ends when a client says so
import { Server } from '@coroipc/ipcs'
import { FramePoll } from './frame-poll.js'
import { BALL, FRAME, PUSH, type State, STOP } from './protocol.js'

const FRAME_MS = 1000 / 60

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}

const ball = { frame: 0, position: 0.5, speed: 0, stopped: false }
const state = (): string =>
  JSON.stringify({ frame: ball.frame, position: ball.position } satisfies State)

const poll = new FramePoll()
const server = new Server({ poll })
server.addService({
  id: BALL,
  backlogPolicy: 'drop-oldest',
  handlers: {
    [PUSH]: ({ payload }) => {
      const push = Buffer.from(payload).readDoubleLE()
      // Anything else would make the ball vanish.
      if (Math.abs(push) <= 10) ball.speed += push
      return state()
    },
    [STOP]: () => {
      ball.stopped = true
    },
  },
})
await server.listen(name)
console.log(`listening on ${server.address}`)

/** Rolls on, back from the walls, slower and slower. */
function simulate(): void {
  ball.frame++
  const way = (((ball.position + ball.speed / 60) % 2) + 2) % 2
  if (way > 1) ball.speed = -ball.speed
  ball.position = way > 1 ? 2 - way : way
  ball.speed *= 0.99
}

const pause = new Int32Array(new SharedArrayBuffer(4))
for (let next = performance.now() + FRAME_MS; !ball.stopped; next += FRAME_MS) {
  simulate()
  for (const connection of server.connections()) connection.dispatch(state(), { id: FRAME })
  poll.look(server, next)
  const left = next - performance.now()
  if (left > 0) Atomics.wait(pause, 0, 0, left)
  else next = performance.now() // late: frames are left out, not made up for
}
await server.close()
console.log(`${poll.size} sources left after ${ball.frame} frames`)
