/**
 * The servers of this machine, and who runs them. Found without talking to anybody:
 *
 *  - sockets in the runtime folders, which are ours by their place;
 *  - listening SOCK_SEQPACKET sockets of /proc/net/unix, at any path and abstract, whose process has coroipc loaded.
 *    Of other users' processes that cannot be seen (but by root); their sockets are then left out.
 *
 * Sockets that do not listen any more are told as dead: a server that was killed leaves its socket behind.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { listeningSockets, nameFolders } from './sockets.js'

/** A name that a server listens on, or did. */
export interface Found {
  /** As one gives it to `connect`: `demo`, `@demo`, `/a/b.sock`. */
  readonly name: string
  /** The path, or `@name`. */
  readonly address: string
  /** Processes that hold the listening socket, as far as they can be seen. */
  readonly pids: readonly number[]
  /** Who owns it: by the process, else by the socket file. */
  readonly uid: number | undefined
  /** Nobody listens there. A path in another network namespace looks so as well: ask before it is believed. */
  readonly dead: boolean
}

function attempt<Result>(call: () => Result): Result | undefined {
  try {
    return call()
  } catch {
    return undefined // gone meanwhile, or another user's
  }
}

/** Which of these sockets each process holds. */
function holders(inodes: ReadonlySet<number>): Map<number, number[]> {
  const found = new Map<number, number[]>()
  for (const pid of (attempt(() => readdirSync('/proc')) ?? []).map(Number)) {
    if (!Number.isInteger(pid)) continue
    for (const fd of attempt(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      const link = attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? ''
      const inode = Number(/^socket:\[(\d+)\]$/.exec(link)?.[1])
      if (!inodes.has(inode)) continue
      const pids = found.get(inode) ?? []
      if (!pids.includes(pid)) pids.push(pid)
      found.set(inode, pids)
    }
  }
  return found
}

/** Whether a process has our library, the addon, or memory of ours in it. */
function hasCoroipc(pid: number): boolean {
  const maps = attempt(() => readFileSync(`/proc/${pid}/maps`, 'latin1')) ?? ''
  return /libcoroipc\.so|coroipc\.node|memfd:coroipc/.test(maps)
}

/** What a process is, in few words: the program, and the script that it runs. */
export function programOf(pid: number): string | undefined {
  const text = attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
  if (text === undefined || text === '') return undefined
  const [program = '', ...args] = text.split('\0').filter((each) => each !== '')
  const script = args.find((each) => !each.startsWith('-'))
  return [program, ...(script === undefined ? [] : [script])]
    .map((each) => basename(each))
    .join(' ')
}

/** The name of a user, or the number. */
export function userName(uid: number): string {
  users ??= new Map(
    (attempt(() => readFileSync('/etc/passwd', 'utf8')) ?? '')
      .split('\n')
      .map((line) => line.split(':'))
      .map(([name = '', , id]) => [Number(id), name]),
  )
  return users.get(uid) ?? String(uid)
}
let users: Map<number, string> | undefined

/** The servers that can be found, in the order of their names. */
export function findServers(): Found[] {
  const sockets = new Map(listeningSockets().map(({ address, inode }) => [address, inode]))
  const pidsOf = holders(new Set(sockets.values()))
  const processUid = (pid: number): number | undefined =>
    attempt(() => statSync(`/proc/${pid}`).uid)
  const found: Found[] = []
  const seen = new Set<string>()
  for (const folder of nameFolders()) {
    for (const name of attempt(() => readdirSync(folder)) ?? []) {
      const address = join(folder, name)
      const file = attempt(() => statSync(address))
      if (file?.isSocket() !== true) continue
      seen.add(address)
      const inode = sockets.get(address)
      const pids = inode === undefined ? [] : (pidsOf.get(inode) ?? [])
      const [pid] = pids
      const uid = pid === undefined ? undefined : processUid(pid)
      found.push({ name, address, pids, uid: uid ?? file.uid, dead: inode === undefined })
    }
  }
  for (const [address, inode] of sockets) {
    if (seen.has(address)) continue
    const pids = pidsOf.get(inode) ?? []
    const [pid] = pids
    if (pid === undefined || !pids.some(hasCoroipc)) continue
    found.push({ name: address, address, pids, uid: processUid(pid), dead: false })
  }
  return found.toSorted((a, b) => (a.address < b.address ? -1 : 1))
}
