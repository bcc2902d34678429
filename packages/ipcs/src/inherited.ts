/**
 * Listening sockets that this process was born with: from systemd (socket activation, sd_listen_fds(3)), or from the
 * server that it succeeds (`handOver`). Each is given out once; a program started by hand has none.
 *
 *   LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES   the protocol of systemd: fds from 3 on
 *   COROIPC_HANDED_OVER                      ours: JSON, { ppid, ready, sockets: [{ address, fd, lock }] }
 */
import { closeSync, writeSync } from 'node:fs'
import { basename } from 'node:path'
import { invalidArgument } from '@coroipc/native'

/** First fd of systemd's protocol, SD_LISTEN_FDS_START. */
const FIRST_FD = 3
export const HANDED_OVER = 'COROIPC_HANDED_OVER'

/** What `handOver` writes into HANDED_OVER. */
export interface HandedOver {
  /** Whom it is from: a child of the new process must not take it for its own. */
  readonly ppid: number
  /** A byte written here says that all sockets are listened on. */
  readonly ready: number
  readonly sockets: readonly {
    readonly address: string
    readonly fd: number
    /** The lock of a path; -1 for abstract names. */
    readonly lock: number
  }[]
}

/** A listening socket for `server.listen`. */
export interface InheritedSocket {
  /** Owned by the server that listens on it. */
  readonly fd: number
  /** The lock file of its path, when the name comes with it. */
  readonly lock?: number | undefined
}

class Inherited implements InheritedSocket {
  readonly fd: number
  readonly lock: number | undefined
  readonly #names: readonly string[]
  readonly #listening: () => void

  constructor(
    fd: number,
    lock: number | undefined,
    names: readonly string[],
    listening: () => void,
  ) {
    this.fd = fd
    this.lock = lock
    this.#names = names
    this.#listening = listening
  }

  /** Whether `inherited(name)` means it. */
  isNamed(name: string): boolean {
    return this.#names.includes(name)
  }

  /** A server listens on it. */
  listening(): void {
    this.#listening()
  }
}

/** Tells whoever handed it over, if somebody did, that `socket` is listened on. */
export function listeningOn(socket: InheritedSocket): void {
  if (socket instanceof Inherited) socket.listening()
}

/** The variable, which nobody sees after us: programs that we start must not take our sockets for theirs. */
function take(variable: string): string {
  const value = process.env[variable] ?? ''
  delete process.env[variable]
  return value
}

function fromSystemd(): Inherited[] {
  const [pid, count, names] = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES'].map(take)
  if (Number(pid) !== process.pid) return []
  const named = (names as string).split(':')
  return Array.from({ length: Number(count) || 0 }, (_, at) => {
    const name = named[at] ?? ''
    return new Inherited(FIRST_FD + at, undefined, [name, name.replace(/\.socket$/, '')], () => {})
  })
}

function fromPredecessor(): Inherited[] {
  const text = take(HANDED_OVER)
  if (text === '') return []
  const { ppid, ready, sockets } = JSON.parse(text) as HandedOver
  if (ppid !== process.ppid) return []
  let left = sockets.length
  const listening = (): void => {
    if (--left > 0) return
    writeSync(ready, '!')
    closeSync(ready)
  }
  return sockets.map(({ address, fd, lock }) => {
    const names = address.startsWith('/') ? [address, basename(address)] : [address]
    return new Inherited(fd, lock, names, listening)
  })
}

let sockets: Inherited[] | undefined

/**
 * The listening socket of this name that this process was given when it was started: by systemd (`name` is
 * `FileDescriptorName=` of the .socket unit, by default the unit's name), or by `handOver` of the server before
 * (the name or address that it listened on). Undefined where there is none, as in a program started by hand:
 *
 * @example
 * await server.listen(inherited('demo') ?? 'demo')
 *
 * The variables that say so are taken out of `process.env` by the first call. Each socket is given out once, and belongs to
 * whoever asked.
 *
 * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT`
 */
export function inherited(name: string): InheritedSocket | undefined {
  if (typeof name !== 'string' || name === '') throw invalidArgument('name', 'a name', name, 'type')
  sockets ??= [...fromPredecessor(), ...fromSystemd()]
  const at = sockets.findIndex((each) => each.isNamed(name))
  return at < 0 ? undefined : sockets.splice(at, 1)[0]
}
