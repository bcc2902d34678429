// A job queue: submitters wait for results, workers wait for jobs, both by requests that are answered later. A job whose
// worker dies goes to another one; a job that nobody waits for any more is not begun.
//
//   node build/examples/job-queue/server.js <name>         ends on SIGTERM
import { type Request, Server } from '@coroipc/ipcs'
import { ATTEMPTS, DEPTH, type Depth, DONE, FAILED, JOBS, jobOf, numbered } from './protocol.js'
import { Status, SUBMIT, TAKE, WORK } from './protocol.js'

interface Job {
  readonly number: number
  readonly request: Request
  attempts: number
}
interface Worker {
  /** What it has taken and not finished, by number. */
  readonly taken: Map<number, Job>
}

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node server.js <name>')
  process.exit(2)
}

const queue: Job[] = []
const idle: Request<Worker>[] = [] // of workers that wait for a job
let workers = 0
let taken = 0
let last = 0

/** Gives jobs to workers for as long as there are both. */
function match(): void {
  for (;;) {
    // Deferred requests whose client has given up, or is gone, are answered already.
    while (queue[0]?.request.signal.aborted) queue.shift()
    while (idle[0]?.signal.aborted) idle.shift()
    const [job, worker] = [queue[0], idle[0]]
    if (job === undefined || worker === undefined) return
    queue.shift()
    idle.shift()
    job.attempts++
    taken++
    worker.connection.context.taken.set(job.number, job)
    worker.respond(numbered(job.number, job.request.payload))
  }
}

function again(job: Job): void {
  if (job.attempts < ATTEMPTS) queue.unshift(job)
  else job.request.respond(`given up after ${ATTEMPTS} attempts`, { status: Status.failed })
}

/** Takes a job back from a worker that says something about it. */
function finish({ connection, payload }: Request<Worker>): { job?: Job; bytes: Uint8Array } {
  const { number, bytes } = jobOf(payload)
  const job = connection.context.taken.get(number)
  if (job === undefined) return { bytes }
  connection.context.taken.delete(number)
  taken--
  return { job, bytes }
}

const server = new Server()
server.addService({
  id: JOBS,
  handlers: {
    [SUBMIT]: (request) => {
      request.defer()
      queue.push({ number: ++last, request, attempts: 0 })
      match()
    },
    [DEPTH]: () => JSON.stringify({ queued: queue.length, taken, workers } satisfies Depth),
  },
})
server.addService({
  id: WORK,
  context: (): Worker => ({ taken: new Map() }),
  onConnect: () => void workers++,
  onDisconnect: ({ context }) => {
    workers--
    for (const job of context.taken.values()) {
      taken--
      again(job)
    }
    match()
  },
  handlers: {
    [TAKE]: (request) => {
      request.defer()
      idle.push(request)
      match()
    },
    [DONE]: (request) => {
      const { job, bytes } = finish(request)
      if (job === undefined) return { status: Status.notYours }
      job.request.respond(bytes)
      return undefined
    },
    [FAILED]: (request) => {
      const { job } = finish(request)
      if (job === undefined) return { status: Status.notYours }
      again(job)
      match()
      return undefined
    },
  },
})
process.once('SIGTERM', () => void server.close({ timeoutMs: 0 }))
await server.listen(name)
console.log(`listening on ${server.address}`)
