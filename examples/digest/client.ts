// One client of the digest server: asks for the digest of every file in a list, in one of four ways, compares each
// with one of its own, and survives the death of the server: what was in flight then is unknown, so it asks again,
// which is right for digests.
//
//   node build/examples/digest/client.js <blocking|pipelined|zero-copy|beyond> <server's name> <list>
//
// The list holds paths, each ended by a zero byte. It writes lines of JSON: 'back' when it is connected, 'lost' when the
// server has gone, 'done' with all figures. It begins when a line comes on standard input and ends when that ends.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { createHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, type Connection, type ConnectOptions, IpcError } from '@coroipc/ipcc'
import { DIGEST, FINAL, HEAD_BYTES, HELLO, TIMES, UPDATE, WHOLE } from './protocol.js'

/** Sends `space` from `start` to `end` as a request: now, blocking, or in the background. */
interface Lane {
  readonly space: Uint8Array
  call(id: number, start: number, end: number): Uint8Array | Promise<Uint8Array>
  free(): void
}

interface Mode {
  /** Files that are under way at the same time. */
  readonly lanes: number
  readonly options?: Partial<ConnectOptions>
  lane(connection: Connection): Lane
}

const privateSpace = ({ messageBytes }: Connection): Uint8Array => new Uint8Array(messageBytes)

/** Any number of requests under way; each is a promise. */
const awaited = (connection: Connection): Lane => {
  const space = privateSpace(connection)
  return {
    space,
    call: (id, start, end) => connection.request(id, space.subarray(start, end)),
    free: () => {},
  }
}

const modes: Record<string, Mode> = {
  blocking: {
    lanes: 1,
    lane: (connection) => {
      const space = privateSpace(connection)
      return {
        space,
        call: (id, start, end) => connection.requestSync(id, space.subarray(start, end)),
        free: () => {},
      }
    },
  },
  pipelined: { lanes: 16, lane: awaited },
  // Files are read straight into memory that the server has mapped as well: nothing is copied.
  'zero-copy': {
    lanes: 1,
    options: { trustServer: true },
    lane: (connection) => {
      const buffer = connection.allocateSync(connection.messageBytes)
      return {
        space: buffer.bytes,
        call: (id, start, end) => connection.requestSync(id, buffer.part(start, end - start)),
        free: () => buffer.release(),
      }
    },
  },
  // The smallest rings there are: nearly every file is larger, and is handed over beside them.
  beyond: {
    lanes: 4,
    options: { requestRingBytes: 4096, responseRingBytes: 4096, dispatchRingBytes: 4096 },
    lane: awaited,
  },
}

const [name = '', server, list] = process.argv.slice(2)
const mode = Object.hasOwn(modes, name) ? modes[name] : undefined
if (mode === undefined || server === undefined || list === undefined) {
  console.error(`usage: node client.js <${Object.keys(modes).join('|')}> <server's name> <list>`)
  process.exit(2)
}

const say = (event: string, details: object): void =>
  void process.stdout.write(`${JSON.stringify({ event, ...details })}\n`)

const todo = readFileSync(list, 'utf8').split('\0').filter(Boolean).reverse()
const result = { files: 0, bytes: 0, calls: 0, wrong: 0, unread: 0, unknown: 0 }
const times = { read: 0, check: 0 }
const latency = createHistogram()
/** Milliseconds of connections that are over, and when the one that is there began. */
let worked = 0
let began = 0
let reported = 0
let lastFile = 0

/** Runs a step and counts its time. */
function timed<T>(what: keyof typeof times, step: () => T): T {
  const started = performance.now()
  const value = step()
  times[what] += performance.now() - started
  return value
}

async function ask(lane: Lane, id: number, start: number, end: number): Promise<Uint8Array> {
  const started = performance.now()
  const answer = lane.call(id, start, end)
  // A promise is waited for; an answer that is there already costs no turn of the loop.
  const bytes = answer instanceof Uint8Array ? answer : await answer
  const took = performance.now() - started
  latency.record(Math.max(1, Math.round(took * 1e6)))
  result.calls++
  return bytes
}

/** Reads until `space` is full or the file ends. */
function fill(fd: number, space: Uint8Array, from: number): number {
  let end = from
  while (end < space.length) {
    const bytes = readSync(fd, space, end, space.length - end, null)
    if (bytes === 0) break
    end += bytes
  }
  return end
}

async function digest(lane: Lane, path: string): Promise<void> {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch {
    result.unread++
    return
  }
  try {
    const { space } = lane
    const hash = createHash('sha256')
    const file = ++lastFile
    let bytes = 0
    for (let part = 0; ; part++) {
      const end = timed('read', () => fill(fd, space, HEAD_BYTES))
      timed('check', () => hash.update(space.subarray(HEAD_BYTES, end)))
      bytes += end - HEAD_BYTES
      const last = end < space.length
      const whole = last && part === 0
      if (!whole) new DataView(space.buffer, space.byteOffset).setUint32(0, file, true)
      const answer = await ask(
        lane,
        whole ? WHOLE : last ? FINAL : UPDATE,
        whole ? HEAD_BYTES : 0,
        end,
      )
      if (!last) continue
      const own = timed('check', () => hash.digest())
      if (!own.equals(answer)) {
        result.wrong++
        console.error(`${name}: wrong digest of ${path}`)
      }
      result.files++
      result.bytes += bytes
      return
    }
  } finally {
    closeSync(fd)
  }
}

function report(connection: Connection): void {
  const now = performance.now()
  if (now - reported < 200) return
  reported = now
  // Requests that are under way at the same time wait together, so it is what is left of the whole.
  const wait = worked + now - began - times.read - times.check
  connection.send(TIMES, JSON.stringify({ ...times, wait }))
}

/** One of `mode.lanes` that take files from the list until it is empty. */
async function run(connection: Connection, lane: Lane): Promise<void> {
  try {
    for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
      try {
        await digest(lane, path)
      } catch (error) {
        // What the server had of it, or answered, died with the connection.
        todo.push(path)
        throw error
      }
      // Behind that: what fails here is not the file's.
      report(connection)
    }
  } finally {
    lane.free()
  }
}

/** The server went away: with this request (its outcome is unknown), or before it. */
const isLoss = (error: unknown): error is IpcError =>
  IpcError.is(error, 'ERR_COROIPC_UNKNOWN_OUTCOME') ||
  IpcError.is(error, 'ERR_COROIPC_PEER_DEAD') ||
  IpcError.is(error, 'ERR_COROIPC_DISCONNECTED')

async function connectSoon(server: string): Promise<Connection> {
  const until = performance.now() + 20000
  for (;;) {
    try {
      return await connect(server, { service: DIGEST, ...mode?.options })
    } catch (error) {
      const nobody = IpcError.is(error, 'ERR_COROIPC_CONNECT_REFUSED') || isLoss(error)
      if (!nobody || performance.now() > until) throw error
      await sleep(10)
    }
  }
}

/** Digests what is left to do. True if the server stayed until the end. */
async function session(connection: Connection): Promise<boolean> {
  began = performance.now()
  let lost: IpcError | undefined
  let at = 0n
  const losing = (error: unknown): void => {
    if (!isLoss(error)) throw error
    if (lost === undefined) at = process.hrtime.bigint()
    lost ??= error
    if (error.code === 'ERR_COROIPC_UNKNOWN_OUTCOME') result.unknown++
  }
  try {
    await connection.request(HELLO, name)
    const lanes = Array.from({ length: mode?.lanes ?? 1 }, () => mode?.lane(connection) as Lane)
    await Promise.all(lanes.map((lane) => run(connection, lane).catch(losing)))
  } catch (error) {
    losing(error)
  }
  worked += performance.now() - began
  if (lost === undefined) return true
  say('lost', { at: String(at), code: lost.code })
  return false
}

const go = once(process.stdin, 'data')
const finish = once(process.stdin, 'end').then(() => undefined)
for (let finished = false; !finished; ) {
  const connection = await connectSoon(server)
  say('back', { server: connection.serverId })
  await go
  const closed = new Promise<IpcError>((resolve) => connection.once('close', resolve))
  if (!(await session(connection))) continue
  say('done', {
    ...result,
    seconds: worked / 1000,
    p50: latency.percentile(50) / 1000,
    p99: latency.percentile(99) / 1000,
  })
  const reason = await Promise.race([closed, finish])
  if (reason === undefined) {
    finished = true
    await connection.close()
  } else say('lost', { at: String(process.hrtime.bigint()), code: reason.code })
}
process.exitCode = result.wrong > 0 ? 1 : 0
