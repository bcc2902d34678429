// What is held before and after an incident, as the kernel says: descriptors by kind, mappings of our memory and their
// bytes, threads, children, resident memory; beside it the accounts of a server, the runtime directory, and names in
// /dev/shm, where nothing of ours may ever be.
//
//   const gauge = await Gauge.read({ stats: () => server.stats(), directory })
//   ...                                              what may leave something behind
//   t.equal(await gauge.settled(), '')               or: 'mapping: 2 -> 3, account inFlight: 0 -> 1'
//
// Read it when everything is warm: what a process loads at its first use, libuv's threads among it, is no leak.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { until } from './wait.js'

export type Reading = Readonly<Record<string, number>>

export interface Holder {
  /** Whose descriptors, mappings, threads and children; this process by default. */
  readonly pid?: number | undefined
  /** Statistics of a server, of another process as well: what it keeps for its clients. */
  readonly stats?: () => object | Promise<object>
  /** A runtime directory: each name in it counts. */
  readonly directory?: string
  /** By how much resident memory may have grown; without it RSS is not looked at. */
  readonly rssBytes?: number
}

const path = (pid: number | undefined, file: string): string => `/proc/${pid ?? 'self'}/${file}`

class Counts {
  readonly reading: Record<string, number> = {}
  add(what: string, by: number = 1): void {
    this.reading[what] = (this.reading[what] ?? 0) + by
  }
}

function fds(counts: Counts, pid: number | undefined): void {
  for (const fd of readdirSync(path(pid, 'fd'))) {
    try {
      const target = readlinkSync(path(pid, `fd/${fd}`))
      // socket:[1234] -> socket; /memfd:coroipc (deleted) -> memfd
      counts.add(`fd ${target.startsWith('/memfd:') ? 'memfd' : target.replace(/:\[\d+\]$/, '')}`)
    } catch {} // the directory itself, as it was read
  }
}

function tasks(counts: Counts, pid: number | undefined): void {
  for (const task of readdirSync(path(pid, 'task'))) {
    counts.add('thread')
    try {
      const children = readFileSync(path(pid, `task/${task}/children`), 'utf8').trim()
      if (children !== '') counts.add('child', children.split(' ').length)
    } catch {} // ended meanwhile, or a kernel without it
  }
}

/** The sizes of our memory that is mapped in this process or another. */
export function mapped(pid?: number): number[] {
  return readFileSync(path(pid, 'maps'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('/memfd:coroipc'))
    .map((line) => {
      const [start, end] = (line.split(' ')[0] as string).split('-')
      return Number.parseInt(end as string, 16) - Number.parseInt(start as string, 16)
    })
}

/** Resident memory of this process or another, in bytes; `own`: without pages that it shares, as those of rings. */
export function rssBytes(pid?: number, own = false): number {
  return statusRss(readFileSync(path(pid, 'status'), 'utf8'), own)
}

/** The same from a text of proc(5)'s status. */
export function statusRss(status: string, own: boolean): number {
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
  return bytes('VmRSS') - (own ? bytes('RssShmem') : 0)
}

// Of a server's statistics, those that say what is held for somebody.
const accounts = [
  'connections',
  'handshakesPending',
  'inFlight',
  'unsentResponses',
  'backlogMessages',
  'backlogBytes',
  'segments',
  'segmentBytes',
] as const

/** Counts by kind: what is held now. */
export async function held({
  pid,
  stats,
  directory,
  rssBytes: limit,
}: Holder = {}): Promise<Reading> {
  const counts = new Counts()
  fds(counts, pid)
  for (const bytes of mapped(pid)) {
    counts.add('mapping')
    counts.add('mapped bytes', bytes)
  }
  tasks(counts, pid)
  for (const name of readdirSync('/dev/shm'))
    if (/coroipc/i.test(name)) counts.add(`/dev/shm/${name}`)
  if (limit !== undefined) counts.add('rss', rssBytes(pid))
  if (stats !== undefined) {
    const said = (await stats()) as Record<string, number>
    for (const name of accounts) counts.add(`account ${name}`, said[name])
  }
  if (directory !== undefined) for (const name of readdirSync(directory)) counts.add(`file ${name}`)
  return counts.reading
}

/** What is held differently than before. */
export function differs(before: Reading, after: Reading, rssLimit: number): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .map((kind) => ({ kind, from: before[kind] ?? 0, to: after[kind] ?? 0 }))
    .filter(({ kind, from, to }) => (kind === 'rss' ? to - from > rssLimit : to !== from))
    .map(({ kind, from, to }) => `${kind}: ${from} -> ${to}`)
}

export class Gauge {
  readonly #holder: Holder
  readonly #before: Reading

  private constructor(holder: Holder, before: Reading) {
    this.#holder = holder
    this.#before = before
  }

  static async read(holder: Holder = {}): Promise<Gauge> {
    return new Gauge(holder, await held(holder))
  }

  /** What is held now and was not, or the other way round; '' if it is the same. */
  async difference(): Promise<string> {
    const { rssBytes = 0 } = this.#holder
    return differs(this.#before, await held(this.#holder), rssBytes).join(', ')
  }

  /** Waits until it is the same, for a while; then says what is not. */
  async settled(limitMs: number = 5_000): Promise<string> {
    let said = ''
    try {
      await until('the gauge', async () => (said = await this.difference()) === '', limitMs)
    } catch {}
    return said
  }
}

/** CPU time of a process in milliseconds: user and system. */
export function cpuMs(pid?: number): number {
  const fields = readFileSync(path(pid, 'stat'), 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
