// test/programs/load-client.c in Node.js: load-client <name> <ledger> <lane> <kind> [service]. The kinds are those said
// there, and one that only Node.js has:
//
//   reconnecting   32 requests in flight over `reconnecting`, which finds the next server by itself
import { setImmediate as turn } from 'node:timers/promises'
import { type Connection, connect, reconnecting } from '@coroipc/ipcc'
import { sleep } from '../support/wait.js'
import {
  endWithParent,
  LARGE_BYTES,
  Ledger,
  nowNs,
  readMessage,
  SMALL_BYTES,
  writeMessage,
} from './ledger.js'
import { reportLive } from './live.js'

const [name = '', path = '', laneText = '', kind = '', serviceText = '1'] = process.argv.slice(2)
const lane = Number(laneText)
const service = Number(serviceText)
const ledger = Ledger.open(path)
endWithParent()
const WINDOW = 32
const TIMEOUT_MS = 10_000
const PAUSE_MS = 1

const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
ledger.set(lane, 'pid', process.pid)
reportLive(({ bytes, rss, beside }) => {
  ledger.set(lane, 'leastRss', rss)
  ledger.set(lane, 'leastBeside', beside)
  ledger.set(lane, 'liveBytes', bytes)
})

function wrong(what: string, number: number): void {
  console.error(`load-client ${lane}: ${what}: ${number}`)
  ledger.add(lane, 'wrong')
}

/** The codes that say that the connection is over, or has never been. */
const ends = new Set([
  'ERR_COROIPC_PEER_DEAD',
  'ERR_COROIPC_DISCONNECTED',
  'ERR_COROIPC_UNKNOWN_OUTCOME',
  'ERR_COROIPC_BACKLOG_OVERFLOW',
])
const codeOf = (error: unknown): string => (error as { code?: string }).code ?? String(error)

function failed(code: string): void {
  console.error(`load-client ${lane}: ${code}`)
  ledger.add(lane, 'failed')
}

async function goOn(): Promise<boolean> {
  for (let ms = PAUSE_MS; !stop.signal.aborted && ledger.paused(lane); ms = Math.min(ms * 2, 100))
    await sleep(ms)
  return !stop.signal.aborted
}

function nextNumber(): number {
  const number = ledger.get(lane, 'sent') + 1
  ledger.set(lane, 'sent', number)
  return number
}

function answered(number: number, answer: Uint8Array): void {
  const message = readMessage(answer)
  if (message === undefined) wrong('a torn answer', number)
  else if (message.number !== number || message.lane !== lane)
    wrong('the answer to another request', number)
  if (ledger.get(lane, 'executed') < number) wrong('answered and not executed', number)
  ledger.set(lane, 'answered', number)
  ledger.add(lane, 'answers')
}

/** Notes why a request has no answer, and whether the connection is over. */
function unanswered(number: number, error: unknown): boolean {
  const code = codeOf(error)
  const over = ends.has(code)
  if (over) ledger.set(lane, 'deathNs', nowNs())
  if (code === 'ERR_COROIPC_UNKNOWN_OUTCOME') ledger.add(lane, 'unknown')
  else if (over || code === 'ERR_COROIPC_RETRY') {
    if (ledger.get(lane, 'executed') >= number)
      wrong('executed, but said to be never handed over', number)
    ledger.add(lane, 'never')
  } else failed(code)
  return over
}

async function connectAgain(): Promise<Connection | undefined> {
  let told = ledger.get(lane, 'epoch') === 0
  while (await goOn()) {
    try {
      const connection = await connect(name, {
        service,
        timeoutMs: TIMEOUT_MS,
        requestTimeoutMs: TIMEOUT_MS,
        trustServer: service === 2,
        ...(kind === 'slow' ? { dispatchRingBytes: 4096, inboxBytes: 4096 } : {}),
      })
      ledger.add(lane, 'epoch')
      return connection
    } catch (error) {
      const code = codeOf(error)
      if (code === 'ERR_COROIPC_CONNECT_REFUSED') ledger.add(lane, 'refused')
      else if (!ends.has(code) && code !== 'ERR_COROIPC_RETRY') failed(code)
      if (!told) ledger.set(lane, 'deathNs', nowNs())
      told = true
      await sleep(PAUSE_MS)
    }
  }
  return undefined
}

const message = (bytes: number, number: number): Uint8Array<ArrayBuffer> =>
  writeMessage(bytes, lane, ledger.get(lane, 'epoch'), number)

/** One request after the other by `call`, until the connection is over. */
async function oneByOne(
  call: (number: number) => Uint8Array | Promise<Uint8Array>,
  between: () => void = () => {},
): Promise<void> {
  for (let count = 1; await goOn(); count++) {
    const number = nextNumber()
    const began = performance.now()
    try {
      const answer = call(number)
      answered(number, answer instanceof Promise ? await answer : answer)
      between()
    } catch (error) {
      if (unanswered(number, error)) return
    }
    ledger.time(lane, (performance.now() - began) * 1e6)
    if (count % 64 === 0) await turn() // a signal has to be heard
    if (kind === 'connects') return
  }
}

/** Many in flight, by whatever can be asked. */
async function pipelined(
  request: (payload: Uint8Array) => Promise<Uint8Array>,
  over: () => boolean,
): Promise<void> {
  const row = async (): Promise<void> => {
    while (!over() && (await goOn())) {
      const number = nextNumber()
      const began = performance.now()
      try {
        answered(number, await request(message(SMALL_BYTES, number)))
        ledger.time(lane, (performance.now() - began) * 1e6)
      } catch (error) {
        if (!unanswered(number, error)) await sleep(PAUSE_MS)
      }
    }
  }
  await Promise.all(Array.from({ length: WINDOW }, row))
}

let dispatchNext = 0

/** Reads what is there, at most so many. */
function readDispatches(connection: Connection, count: number): void {
  for (let i = 0; i < count; i++) {
    const dispatch = connection.dispatchSync(0)
    if (dispatch === undefined) return
    const number = readMessage(dispatch.payload)?.number
    if (number === undefined) wrong('a torn dispatch', dispatchNext)
    else if (number < dispatchNext) wrong('a dispatch again', number)
    else if (number > dispatchNext && service !== 4 && service !== 5)
      wrong('a dispatch is missing', number)
    ledger.add(lane, 'skipped', (number ?? dispatchNext) - dispatchNext)
    ledger.add(lane, 'dispatches')
    dispatchNext = (number ?? dispatchNext) + 1
  }
}

async function live(connection: Connection): Promise<void> {
  dispatchNext = 0
  let calls = 0
  if (kind === 'pipelined')
    return pipelined(
      (payload) => connection.request(0, payload),
      () => connection.closed,
    )
  if (kind === 'blocking' || kind === 'connects')
    return oneByOne((number) => connection.requestSync(0, message(SMALL_BYTES, number)))
  if (kind === 'large')
    return oneByOne((number) => connection.request(0, message(LARGE_BYTES, number)))
  if (kind === 'zero-copy')
    return oneByOne(async (number) => {
      using buffer = await connection.allocate(LARGE_BYTES)
      buffer.bytes.set(message(LARGE_BYTES, number))
      using lease = await connection.request(2, buffer, { inPlace: true })
      return lease.payload.slice()
    })
  if (kind === 'dispatch' || kind === 'slow')
    return oneByOne(
      (number) => connection.request(1, message(SMALL_BYTES, number)),
      () => {
        if (kind === 'dispatch') readDispatches(connection, Infinity)
        else if (++calls % 6 === 0) readDispatches(connection, 1)
      },
    )
  throw new Error(`no kind '${kind}'`)
}

if (kind === 'reconnecting') {
  await using client = reconnecting(name, { service, pauseMs: PAUSE_MS, pauseMsMax: 5 })
  let serverId = ''
  client.on('connect', (connection) => {
    ledger.add(lane, 'epoch')
    if (connection.serverId === serverId)
      wrong('the server that was gone again', ledger.get(lane, 'epoch'))
    serverId = connection.serverId
  })
  client.on('disconnect', () => ledger.set(lane, 'deathNs', nowNs()))
  await pipelined(
    (payload) => client.request(0, payload),
    () => false,
  )
} else {
  for (;;) {
    await using connection = await connectAgain()
    if (connection === undefined) break
    await live(connection)
  }
}
process.exit()
