// A growing file, its server, and five subscribers with different backlog policies: one reads at once, four are so slow
// that they begin when the file is complete. Who missed what?
//
//   node build/examples/dispatch-feed/main.js
//
// Exit code 0 if each policy did what it promises.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, IpcError } from '@coroipc/ipcc'
import Table from 'cli-table3'
import { CAUGHT_UP, FEED, SUBSCRIBE } from './protocol.js'

const LINES = 20000
const THE_END = 'the end'

const temporary = mkdtempSync(join(tmpdir(), 'coroipc-feed-'))
const address = join(temporary, 'socket')
const log = join(temporary, 'log')
writeFileSync(log, '')

const script = join(import.meta.dirname, 'server.js')
const server = spawn(process.execPath, [script, address, log], {
  stdio: ['ignore', 'pipe', 'inherit'],
})
const exited = once(server, 'exit')
await once(server.stdout, 'data')

interface Reader {
  readonly who: string
  readonly policy: string
  /** Numbers of the lines it got. */
  readonly lines: number[]
  /** What it saw last: the last line of all, or the code of an error. */
  end: string
  readonly done: Promise<void>
}

/** Subscribes, then reads lines as soon as `ready`. */
async function subscribe(policy: string, ready: Promise<void> | undefined): Promise<Reader> {
  // A small ring, so that little is on its way to a reader that does not read.
  const connection = await connect(address, { service: FEED, dispatchRingBytes: 4096 })
  const messages = connection.dispatches()
  await connection.request(SUBSCRIBE, policy)
  const read = async (): Promise<void> => {
    await ready
    try {
      for await (const { payload } of messages) {
        const line = Buffer.from(payload).toString()
        if (line === THE_END) {
          reader.end = line
          break
        }
        reader.lines.push(Number(line.split(' ')[1]))
      }
    } catch (error) {
      if (!IpcError.is(error)) throw error
      reader.end = error.code
    }
    await connection.close()
  }
  const who = ready === undefined ? 'quick' : 'slow'
  const reader: Reader = { who, policy, lines: [], end: '', done: Promise.resolve().then(read) }
  return reader
}

let begin = (): void => {}
const complete = new Promise<void>((resolve) => {
  begin = resolve
})
const quick = await subscribe('error', undefined)
const slow = await subscribe('error', complete)
const oldest = await subscribe('drop-oldest', complete)
const newest = await subscribe('drop-newest', complete)
const disconnected = await subscribe('disconnect', complete)
const readers = [quick, slow, oldest, newest, disconnected]

for (let line = 1; line <= LINES; ) {
  let burst = ''
  for (const until = Math.min(line + 500, LINES + 1); line < until; line++)
    burst += `line ${line} of a log that grows faster than some can read it\n`
  appendFileSync(log, burst)
  await sleep(1)
}
{
  await using connection = await connect(address, { service: FEED })
  const caughtUp = async (): Promise<boolean> =>
    Buffer.from(await connection.request(CAUGHT_UP)).toString() === '1'
  // The server has seen the whole file; what the slow ones cannot take has been kept or dropped.
  while (quick.lines.length < LINES) await sleep(10)
  await caughtUp()
  begin()
  // When all have had what was kept for them, one more line reaches those that are still connected.
  while (!(await caughtUp())) await sleep(10)
  appendFileSync(log, `${THE_END}\n`)
}
await Promise.all(readers.map(({ done }) => done))
server.kill('SIGTERM')
const [code] = await exited
rmSync(temporary, { recursive: true, force: true })

const table = new Table({
  head: ['reader', 'policy', 'lines', 'missed', 'first', 'last', 'ended by'],
  colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'left'],
  style: { head: [], border: [] },
})
for (const { who, policy, lines, end } of readers)
  table.push([who, policy, lines.length, LINES - lines.length, lines[0], lines.at(-1), end])
console.log(table.toString())

const ordered = ({ lines }: Reader): boolean =>
  lines.every((line, index) => index === 0 || line > (lines[index - 1] ?? 0))
const held =
  code === 0 &&
  readers.every(ordered) &&
  [quick, slow].every((reader) => reader.lines.length === LINES && reader.end === THE_END) &&
  oldest.lines.length < LINES &&
  oldest.lines.at(-1) === LINES &&
  oldest.end === THE_END &&
  newest.lines.length < LINES &&
  (newest.lines.at(-1) ?? 0) < LINES &&
  newest.end === THE_END &&
  disconnected.lines.every((line, index) => line === index + 1) &&
  disconnected.end === 'ERR_COROIPC_BACKLOG_OVERFLOW'
if (!held) console.error('a policy did not do what it promises')
process.exitCode = held ? 0 : 1
