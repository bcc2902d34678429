// This library by its public TypeScript API, as its users call it: safe mode, private copies, defaults. Rows
// `in-place` and `zero-copy` are of two sides that trust each other; large payloads and many connections
// need larger limits, which are set for them alone.
import type {
  ClientSide,
  Feed,
  ServerWork,
  Serving,
  SharedMemory,
  SidesSubject,
} from '../subject.js'
import type * as Library from '@coroipc/ipcc'
import type { SharedBuffer, TransientCallback } from '@coroipc/ipcc'
import type { Limits, Request } from '@coroipc/ipcs'
import { type Task, waysOf } from '../task.js'

const SERVICE = 7
const CALL = 0
const SUBSCRIBE = 1
const DISPATCH = 3

/** Larger payloads are written to the ring directly (native/lib/loop.ts). */
const OUTBOX_BYTES = 2048

/** A peer that is silent for so long has failed; generous, for busy machines. */
const TIMEOUT_MS = 10_000

/** Messages of these rows do not fit the default of 1 MiB. */
const LARGE_CASES: readonly string[] = ['bandwidth', 'zero-copy']

export const coroipc: SidesSubject = {
  kind: 'sides',
  name: 'coroipc',
  about: '@coroipc/ipcs and @coroipc/ipcc of this repository, safe mode (private copies), defaults',
  refuses: (task) =>
    task.wait === 'adaptive' || task.wait === 'sleep'
      ? undefined
      : 'adaptive and sleep are measured',
  takes: () => true,
  copies,
  serve,
  connect,
}

/**
 * Into the ring and out of it, for each direction. Small messages go through the outbox first, which
 * spares a native call for each; a blocking request does not. A dispatch that finds the ring full is
 * copied once more, into the backlog.
 */
function copies(task: Task): number {
  if (task.case === 'zero-copy' || waysOf(task) === 0) return 0
  if (task.case === 'bandwidth') return task.variant === 'in-place' ? 1 : 2
  const outbox = task.payloadBytes <= OUTBOX_BYTES ? 1 : 0
  if (task.case === 'dispatch') return (task.variant === 'in-place' ? 1 : 2) + outbox
  return task.form === 'sync' ? 4 + outbox : 4 + 2 * outbox
}

function trusts(task: Task): boolean {
  return task.case === 'zero-copy' || task.variant === 'in-place'
}

/** Requests and answers that are lent; dispatches are so by the client alone. */
function byOffset(task: Task): boolean {
  return task.case === 'pipelined' && task.variant === 'offset'
}

function waitOf(task: Task): 'adaptive' | 'sleep' {
  return task.wait === 'sleep' ? 'sleep' : 'adaptive'
}

function limitsOf(task: Task): Partial<Limits> {
  if (LARGE_CASES.includes(task.case))
    return { messageBytes: Math.max(1 << 20, task.payloadBytes), segmentBytes: 1 << 30 }
  if (task.case === 'many-connections')
    return { connections: 20_000, connectionsPerUid: 20_000, bytesPerUid: 2 ** 40 }
  return {}
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const { Server } = await import('@coroipc/ipcs')
  const server = new Server<Feed>({ wait: waitOf(task), limits: limitsOf(task) })
  const dispatchOptions = { id: DISPATCH }
  server.addService({
    id: SERVICE,
    ...(trusts(task) ? { trust: () => true } : {}),
    // A backlog of large messages would only be another copy of each.
    ...(task.case === 'bandwidth' ? { backlogBytes: task.payloadBytes } : {}),
    context: (connection) => {
      const feed = work.feed({
        publish: (payload) => connection.dispatch(payload, dispatchOptions),
      })
      connection.on('drain', () => feed.drained())
      return feed
    },
    onDisconnect: (connection) => connection.context.stop(),
    ...(byOffset(task) ? { transientHandlers: { [CALL]: work.answerAt } } : {}),
    handlers: {
      ...(byOffset(task)
        ? {}
        : {
            [CALL]:
              task.case === 'server-death'
                ? (request: Request<Feed>) => {
                    request.defer()
                  }
                : (request: Request<Feed>) => work.answer(request.payload),
          }),
      [SUBSCRIBE]: (_request, connection) => connection.context.start(),
    },
  })
  await server.listen(path)
  return { close: () => server.close({ timeoutMs: 1000 }) }
}

/** Kept: what `connect` measures is not what Node.js does to find a module again. */
let library: Promise<typeof Library> | undefined

async function connect(task: Task, path: string): Promise<ClientSide> {
  const client = await (library ??= import('@coroipc/ipcc'))
  const connection = await client.connect(path, {
    service: SERVICE,
    wait: waitOf(task),
    timeoutMs: TIMEOUT_MS,
    trustServer: trusts(task),
  })
  let options: { timeoutMs: number; into: Uint8Array } | undefined
  const requestSync = (payload: Uint8Array | SharedBuffer, into: Uint8Array): Uint8Array => {
    // One object for all calls, as a hot loop of a user has it.
    if (options?.into !== into) options = { timeoutMs: TIMEOUT_MS, into }
    return connection.requestSync(CALL, payload, options)
  }
  const subscribe = (): void => {
    connection.send(SUBSCRIBE, new Uint8Array(0))
  }
  const lend = { timeoutMs: TIMEOUT_MS, inPlace: true } as const
  let subscribed = false
  return {
    greeted: true,
    requestSync,
    request: (payload) => connection.request(CALL, payload),
    requestCallback: (done) => {
      const answered = (error: Error | null, answer: Uint8Array): void => {
        if (error !== null) throw error
        done(answer)
      }
      return (payload) => connection.request(CALL, payload, answered)
    },
    requestTransient: (done) => {
      const answered: TransientCallback = (error, memory, offset, length) => {
        if (error !== null) throw error
        done(memory, offset, length)
      }
      return (payload) => connection.requestTransient(CALL, payload, answered)
    },
    subscribe: (onPayload) => {
      connection.on('dispatch', (message) => onPayload(message.payload))
      subscribe()
    },
    subscribeTransient: (use) => {
      connection.transientDispatches(use)
      subscribe()
    },
    receiveInPlace: (use) => {
      if (!subscribed) subscribe()
      subscribed = true
      const lease = connection.dispatchSync(lend)
      if (lease === undefined) throw new Error(`no dispatch within ${TIMEOUT_MS} ms`)
      if (!lease.inPlace) throw new Error('a dispatch was copied')
      use(lease.payload)
      lease.release()
    },
    share: (bytes): SharedMemory => {
      const buffer = connection.allocateSync(bytes)
      if (!buffer.inPlace) throw new Error('the buffer is private')
      return {
        bytes: buffer.bytes,
        requestSync: (into) => requestSync(buffer, into),
        release: () => buffer.release(),
      }
    },
    close: () => connection.close(),
  }
}
