// test/programs/load-server.c in Node.js: load-server <name> <ledger> [mutant]. The same services and request ids; what each
// does is said there. SIGUSR2 has it start its successor, hand the socket over, and leave in order; mutants of this: it
// `hurries` away as soon as the other listens, or it `lets-go` of the socket before there is another.
import { spawn } from 'node:child_process'
import { type Connection, handOver, type Handlers, inherited, Server } from '@coroipc/ipcs'
import { endWithParent, Ledger, nowNs, readMessage, SMALL_BYTES, writeMessage } from './ledger.js'
import { reportLive } from './live.js'

const [name = '', path = '', mutant = ''] = process.argv.slice(2)
const DISPATCHES = 16
const TURN_MS = 5

/** What a connection has done so far. */
interface Progress {
  lane: number | undefined
  number: number
  publish: number
}

const ledger = Ledger.open(path)
const env = endWithParent()

function run(payload: Uint8Array, progress: Progress): void {
  const message = readMessage(payload)
  if (message === undefined) {
    if (progress.lane !== undefined) ledger.add(progress.lane, 'torn')
    return
  }
  const { lane, number } = message
  if (number <= ledger.get(lane, 'executed')) ledger.add(lane, 'doubled')
  if (progress.lane !== undefined && number > progress.number + 1) ledger.add(lane, 'lost')
  progress.lane = lane
  progress.number = number
  ledger.set(lane, 'executed', number)
  ledger.add(lane, 'executions')
}

const handlers: Handlers<Progress> = {
  0: ({ payload }, { context }) => {
    run(payload, context)
    return payload
  },
  1: ({ payload }, connection) => {
    const { context } = connection
    run(payload, context)
    for (let i = 0; i < DISPATCHES; i++) {
      if (!connection.dispatch(writeMessage(SMALL_BYTES, 0, 0, context.publish), { id: 1 })) break
      context.publish++
      if (context.lane !== undefined) ledger.add(context.lane, 'dispatched')
    }
    return payload
  },
  2: ({ payload }, connection) => {
    run(payload, connection.context)
    try {
      const buffer = connection.allocate(payload.length)
      buffer.bytes.set(payload)
      return buffer
    } catch (error) {
      // All are with the client, and this one is copied; or it has gone meanwhile.
      if (!/_(FULL|DISCONNECTED|PEER_DEAD)$/.test((error as { code?: string }).code ?? ''))
        throw error
      return payload.slice()
    }
  },
  3: (request) => {
    run(request.payload, request.connection.context)
    request.defer()
  },
}

const server = new Server<Progress>({
  authorize: () => true, // storms have users of their own
  limits: { connections: 8192, connectionsPerUid: 8192, bytesPerUid: 64 * 2 ** 30 },
})
server.on('error', (error) => console.error('load-server:', error.message, error.cause ?? ''))

function gone(connection: Connection<Progress>): void {
  for (let lane = 0; lane < lanes; lane++)
    if (ledger.get(lane, 'pid') === connection.credentials.pid) ledger.set(lane, 'goneNs', nowNs())
}

const policies = ['error', 'drop-oldest', 'drop-newest', 'disconnect'] as const
const lanes = ledger.lanes
for (const id of [1, 2, 3, 4, 5, 6])
  server.addService({
    id,
    context: () => ({ lane: undefined, number: 0, publish: 0 }),
    trust: () => id === 2,
    onDisconnect: gone,
    handlers,
    ...(id < 3 ? {} : { backlogPolicy: policies[id - 3] ?? 'error', backlogBytes: 65_536 }),
  })

function count(): void {
  const stats = server.stats()
  ledger.setServer('pid', process.pid)
  for (const word of [
    'connections',
    'connectionsTotal',
    'handshakesPending',
    'inFlight',
    'unsentResponses',
    'backlogMessages',
    'backlogBytes',
    'segments',
    'segmentBytes',
    'protocolErrors',
  ] as const)
    ledger.setServer(word, stats[word])
  ledger.setServer('turns', ledger.server('turns') + 1)
}

await server.listen(inherited(name) ?? name)
count()
const timer = setInterval(count, TURN_MS)
reportLive(({ bytes, rss, beside }) => {
  ledger.setServer('leastRss', rss)
  ledger.setServer('leastBeside', beside)
  ledger.setServer('liveBytes', bytes)
})
process.once('SIGTERM', () => {
  clearInterval(timer)
  void server.close({ timeoutMs: 0 }).then(() => process.exit())
})
process.once('SIGUSR2', () => {
  clearInterval(timer)
  if (mutant === 'lets-go') {
    void server.close().then(() => {
      spawn(process.execPath, process.argv.slice(1), { env, stdio: 'inherit' }).unref()
      process.exit()
    })
    return
  }
  if (mutant === 'hurries')
    setInterval(() => ledger.server('pid') !== process.pid && process.kill(process.pid, 'SIGKILL'))
  void handOver(server, { env }).then(() => process.exit())
})
console.log('ready')
