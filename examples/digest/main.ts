// The digest demo: one server that hashes; four Node.js clients and one in C, each of which sends it every file below a
// folder, in its own way, and compares the digests with its own; a watcher, which is this process. Midway the server is
// killed: each client says when it learned it, connects to the next server and goes on.
//
//   npm run demo                                   the installation's node_modules
//   npm run demo -- /usr/share/doc --files 5000    another folder, no more than so many files
//
// Exit code 0 only if every digest was right, every client noticed the death and finished, and all ended in order.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { reconnecting } from '@coroipc/ipcc'
import { MultiBar, Presets, type SingleBar } from 'cli-progress'
import Table from 'cli-table3'
import { type Progress, WATCH } from './protocol.js'

/** What a client says at the end. */
interface Result {
  readonly files: number
  readonly bytes: number
  readonly calls: number
  readonly wrong: number
  readonly unread: number
  readonly unknown: number
  readonly seconds: number
  readonly p50: number
  readonly p99: number
}

interface Client {
  readonly name: string
  readonly process: ChildProcess
  readonly exited: Promise<unknown[]>
  readonly bar: SingleBar
  /** Milliseconds after the kill, and what its calls failed with. */
  learned?: { readonly ms: number; readonly code: string }
  readonly servers: Set<string>
  result?: Result
  /** What the servers have said: of those that are dead, and of this one. */
  past: { files: number; hash: number }
  now: { files: number; hash: number }
}

const here = import.meta.dirname
const STALLED_MS = 60000

function usage(message: string): never {
  console.error(`${message}\nusage: npm run demo -- [folder] [--files <number>]`)
  process.exit(2)
}

function options(): { folder: string; limit: number } {
  try {
    const { values, positionals } = parseArgs({
      options: { files: { type: 'string', default: 'Infinity' } },
      allowPositionals: true,
    })
    const limit = Number(values.files)
    if (!(limit >= 1) || positionals.length > 1) usage('one folder at most, and one file at least')
    const folder = resolve(positionals[0] ?? join(here, '../../../node_modules'))
    if (!existsSync(folder) || !statSync(folder).isDirectory()) usage(`${folder} is no folder`)
    return { folder: realpathSync(folder), limit }
  } catch (error) {
    return usage((error as Error).message)
  }
}

/** Regular files below a folder. Links are not followed; what cannot be listed is told and left out. */
function* filesBelow(folder: string): Generator<string> {
  let entries
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    console.error(`left out: ${(error as Error).message}`)
    return
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* filesBelow(path)
    else if (entry.isFile()) yield path
  }
}

const { folder, limit } = options()
const files: string[] = []
for (const path of filesBelow(folder)) {
  if (files.length >= limit) break
  files.push(path)
}
if (files.length === 0) usage(`no files below ${folder}`)

const temporary = mkdtempSync(join(tmpdir(), 'coroipc-digest-'))
const address = join(temporary, 'socket')
const list = join(temporary, 'files')
writeFileSync(list, files.map((path) => `${path}\0`).join(''))

const complaints: string[] = []
const children = new Set<ChildProcess>()

function start(command: string, args: string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  children.add(child)
  child.once('exit', () => children.delete(child))
  child.once('error', (error) => abandon(error.message))
  return child
}

/** Ends everything at once. */
function abandon(why: string): never {
  console.error(`\n${why}`)
  for (const child of children) child.kill('SIGKILL')
  rmSync(temporary, { recursive: true, force: true })
  process.exit(1)
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abandon(signal))

let stalled: NodeJS.Timeout | undefined
function moved(): void {
  clearTimeout(stalled)
  stalled = setTimeout(() => abandon(`nothing moved for ${STALLED_MS / 1000} s`), STALLED_MS)
}

async function startServer(): Promise<ChildProcess> {
  const child = start(process.execPath, [join(here, 'server.js'), address])
  const output = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  const listening = once(output, 'line').then(() => true)
  const gone = once(child, 'exit').then(() => false)
  if (!(await Promise.race([listening, gone]))) abandon('the server ended before it listened')
  return child
}

console.log(`${files.length} files below ${folder}: 4 Node.js clients, 1 C client, 1 server`)
console.log('of its time: reading; checking by digests of its own; the server hashing for it; the')
console.log('rest is the way there and back, and waiting while the server hashes for others')
const bars = new MultiBar(
  {
    format: '{name} [{bar}] {percentage} % | {where}',
    barsize: 24,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 2000,
    gracefulExit: false,
  },
  Presets.shades_classic,
)

let server = await startServer()
let killedAt = 0n
let restarted = false
moved()

const commands: [string, string, string[]][] = ['blocking', 'pipelined', 'zero-copy', 'beyond'].map(
  (mode) => [mode, process.execPath, [join(here, 'client.js'), mode, address, list]],
)
commands.push(['c blocking', join(here, '../c-digest/client'), [address, list]])
const clients = commands.map(([name, command, args]): Client => {
  const child = start(command, args)
  const client: Client = {
    name,
    process: child,
    exited: once(child, 'close'),
    bar: bars.create(files.length, 0, { name: name.padEnd(10), where: '' }),
    servers: new Set(),
    past: { files: 0, hash: 0 },
    now: { files: 0, hash: 0 },
  }
  const output = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  output.on('line', (line) => heard(client, JSON.parse(line) as { event: string }))
  return client
})

function heard(client: Client, message: { event: string }): void {
  moved()
  if (message.event === 'back') {
    client.servers.add((message as unknown as { server: string }).server)
    if (killedAt === 0n && clients.every(({ servers }) => servers.size === 1)) void begin()
  } else if (message.event === 'lost') {
    const { at, code } = message as unknown as { at: string; code: string }
    // Whoever was done has to connect again, too.
    delete client.result
    client.learned = { ms: Number(BigInt(at) - killedAt) / 1e6, code }
    if (clients.every(({ learned }) => learned !== undefined)) void restart()
  } else if (message.event === 'done') {
    client.result = message as unknown as Result
    client.bar.update(files.length)
    // With few files somebody may be done before the first news.
    if (killedAt === 0n) kill()
    if (clients.every(({ result }) => result !== undefined) && restarted) allDone()
  }
}

/** Everybody is connected: nobody can be done before another one has begun. */
async function begin(): Promise<void> {
  await watcher.connected()
  for (const { process } of clients) process.stdin?.write('\n')
}

// -- the server's death, midway ---------------------------------------------------------------------

function kill(): void {
  killedAt = process.hrtime.bigint()
  server.kill('SIGKILL')
}

async function restart(): Promise<void> {
  server = await startServer()
  restarted = true
}

// -- the watcher ------------------------------------------------------------------------------------

const watched = new Set<string>()
const watcher = reconnecting(address, { service: WATCH, pauseMsMax: 100 })
watcher.on('connect', ({ serverId }) => {
  watched.add(serverId)
  // This one begins to count at zero.
  for (const client of clients) {
    client.past.files += client.now.files
    client.past.hash += client.now.hash
    client.now = { files: 0, hash: 0 }
  }
})
watcher.on('error', (error) => complaints.push(`the watcher gave up: ${error.message}`))
watcher.on('dispatch', ({ payload }) => {
  for (const progress of JSON.parse(Buffer.from(payload).toString()) as Progress[]) {
    const client = clients.find(({ name }) => name === progress.name)
    if (client === undefined) continue
    if (progress.files !== client.now.files) moved()
    client.now = progress
    const count = Math.min(files.length, client.past.files + progress.files)
    if (client.result === undefined) client.bar.update(count, { where: where(client, progress) })
    if (killedAt === 0n && count >= files.length / 2) kill()
  }
})

/** Where the client's time went: see the line above the bars. */
function where({ past, now }: Client, { times }: Progress): string {
  const hash = Math.min(past.hash + now.hash, times.wait)
  const parts = { read: times.read, check: times.check, server: hash, rest: times.wait - hash }
  const sum = times.read + times.check + times.wait
  if (sum === 0) return ''
  return Object.entries(parts)
    .map(([name, ms]) => `${name} ${String(Math.round((100 * ms) / sum)).padStart(2)} %`)
    .join('  ')
}

// -- the end ----------------------------------------------------------------------------------------

let allDone: () => void = () => {}
let over = false
for (const { name, process } of clients)
  process.once('exit', (code, signal) => {
    if (!over) abandon(`${name} ended too early: ${code ?? signal}`)
  })
await new Promise<void>((resolve) => {
  allDone = resolve
})
over = true
// The watcher connects again as well, in its own time.
while (watched.size < 2) await new Promise((resolve) => watcher.once('connect', resolve))
bars.stop()
for (const { process } of clients) process.stdin?.end()
const codes = await Promise.all(clients.map(({ exited }) => exited))
await watcher.close()
const serverExited = once(server, 'exit')
server.kill('SIGTERM')
const [serverCode] = await serverExited
clearTimeout(stalled)
rmSync(temporary, { recursive: true, force: true })

const table = new Table({
  head: [
    'client',
    'files',
    'bytes',
    'calls',
    'calls/s',
    'p50 us',
    'p99 us',
    'learned after',
    'asked again',
    'unread',
    'wrong digests',
  ],
  colAligns: ['left', ...Array<'right'>(10).fill('right')],
  style: { head: [], border: [] },
})
clients.forEach((client, index) => {
  const { name, result, learned } = client
  if (result === undefined || learned === undefined) return
  table.push([
    name,
    result.files,
    result.bytes,
    result.calls,
    Math.round(result.calls / result.seconds),
    result.p50.toFixed(0),
    result.p99.toFixed(0),
    `${learned.ms.toFixed(1)} ms`,
    result.unknown,
    result.unread,
    result.wrong,
  ])
  if (result.wrong > 0) complaints.push(`${name}: ${result.wrong} wrong digests`)
  if (result.files + result.unread !== files.length)
    complaints.push(`${name}: ${result.files} files of ${files.length}`)
  if (learned.ms < 0) complaints.push(`${name}: lost its server before it was killed`)
  if (client.servers.size !== 2)
    complaints.push(`${name}: ${client.servers.size} servers instead of 2`)
  if (codes[index]?.[0] !== 0) complaints.push(`${name}: ended with ${codes[index]?.join(' ')}`)
})
if (serverCode !== 0) complaints.push(`the server ended with ${serverCode}`)
console.log(`\n${table.toString()}`)
console.log('the server was killed midway, and each client went on with the next one')
for (const complaint of complaints) console.error(complaint)
process.exitCode = complaints.length > 0 ? 1 : 0
