// This library by its public TypeScript API, as its users call it: safe mode, private copies, defaults.
import type { ClientSide, Feed, ServerWork, Serving, SidesSubject } from '../subject.js'
import type { Task } from '../task.js'

const SERVICE = 7
const CALL = 0
const SUBSCRIBE = 1
const DISPATCH = 3

/** Larger payloads are written to the ring directly (native/lib/loop.ts). */
const OUTBOX_BYTES = 2048

/** A peer that is silent for so long has failed; generous, for busy machines. */
const TIMEOUT_MS = 10_000

export const coroipc: SidesSubject = {
  kind: 'sides',
  name: 'coroipc',
  about: '@coroipc/ipcs and @coroipc/ipcc of this repository, safe mode (private copies), defaults',
  refuses: (task) =>
    task.wait === 'adaptive' || task.wait === 'sleep'
      ? undefined
      : 'adaptive and sleep are measured',
  copies,
  serve,
  connect,
}

/**
 * Into the ring and out of it, for each direction. Small messages go through the outbox first, which
 * spares a native call for each; a blocking request does not.
 */
function copies(task: Task): number {
  const outbox = task.payloadBytes <= OUTBOX_BYTES ? 1 : 0
  if (task.case === 'dispatch') return 2 + outbox
  return task.form === 'sync' ? 4 + outbox : 4 + 2 * outbox
}

function waitOf(task: Task): 'adaptive' | 'sleep' {
  return task.wait === 'sleep' ? 'sleep' : 'adaptive'
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const { Server } = await import('@coroipc/ipcs')
  const server = new Server<Feed>({ wait: waitOf(task) })
  const dispatchOptions = { id: DISPATCH }
  server.addService({
    id: SERVICE,
    context: (connection) => {
      const feed = work.feed({
        publish: (payload) => connection.dispatch(payload, dispatchOptions),
      })
      connection.on('drain', () => feed.drained())
      return feed
    },
    onDisconnect: (connection) => connection.context.stop(),
    handlers: {
      [CALL]: (request) => work.answer(request.payload),
      [SUBSCRIBE]: (_request, connection) => connection.context.start(),
    },
  })
  await server.listen(path)
  return { close: () => server.close({ timeoutMs: 1000 }) }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const client = await import('@coroipc/ipcc')
  const connection = await client.connect(path, {
    service: SERVICE,
    wait: waitOf(task),
    timeoutMs: TIMEOUT_MS,
  })
  let options: { timeoutMs: number; into: Uint8Array } | undefined
  return {
    requestSync: (payload, into) => {
      // One object for all calls, as a hot loop of a user has it.
      if (options?.into !== into) options = { timeoutMs: TIMEOUT_MS, into }
      return connection.requestSync(CALL, payload, options)
    },
    request: (payload) => connection.request(CALL, payload),
    requestCallback: (payload, done) => {
      connection.request(CALL, payload, (error, answer) => {
        if (answer === undefined) throw error
        done(answer)
      })
    },
    subscribe: (onPayload) => {
      connection.on('dispatch', (message) => onPayload(message.payload))
      connection.send(SUBSCRIBE, new Uint8Array(0))
    },
    close: () => connection.close(),
  }
}
