/** The servers of this machine, as far as the kernel tells everybody: sockets that are listened on. */
import { readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'

/** A socket that could be a server's: AF_UNIX, SOCK_SEQPACKET, listening. */
export interface ListeningSocket {
  /** What `connect` takes: a plain name where the socket lies in a folder of names, else the address. */
  readonly name: string
  /** The path, or `@name`. */
  readonly address: string
  readonly inode: number
}

const ACCEPTS = 0x10000
const SEQPACKET = 5

/** Where plain names are looked up, in this order. As for the library a relative folder is none. */
export function nameFolders(): string[] {
  const { COROIPC_RUNTIME_DIR: only, XDG_RUNTIME_DIR: own } = process.env
  if (only !== undefined && only !== '') return only.startsWith('/') ? [only] : []
  return ['/run/coroipc', ...(own?.startsWith('/') === true ? [`${own}/coroipc`] : [])]
}

/** All of this network namespace, each name once. */
export function listeningSockets(): ListeningSocket[] {
  const folders = nameFolders().map((folder) => folder.replace(/\/+$/, ''))
  const found = new Map<string, ListeningSocket>()
  // Num RefCount Protocol Flags Type St Inode Path
  const row = /^\S+: \S+ \S+ (\S+) (\S+) \S+ +(\d+) (.+)$/
  for (const line of readFileSync('/proc/net/unix', 'utf8').split('\n')) {
    const [, flags = '', type = '', inode = '', address = ''] = row.exec(line) ?? []
    const accepts = (Number.parseInt(flags, 16) & ACCEPTS) !== 0
    if (!accepts || Number.parseInt(type, 16) !== SEQPACKET) continue
    const name = folders.includes(dirname(address)) ? basename(address) : address
    found.set(name, { name, address, inode: Number(inode) })
  }
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name, 'en'))
}
