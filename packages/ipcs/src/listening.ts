/** The native half of listening: on a name, on a socket that somebody opened, on one that came with its name. */
import {
  addon,
  type Checks,
  checkName,
  checkOptions,
  integer,
  invalidArgument,
} from '@coroipc/native'
import type { InheritedSocket } from './inherited.js'

const FD_MAX = 0x7fffffff
const checks: Checks = { fd: integer(0, FD_MAX), lock: integer(-1, FD_MAX) }

/** Checks what is to be listened on, and does it: 0, or a negative status. */
export function listenNatively(handle: number, name: string | InheritedSocket): number {
  if (typeof name !== 'object' || name === null) {
    checkName(name, ', or { fd }')
    return addon.serverListen(handle, name)
  }
  checkOptions('name', name, checks)
  const { fd, lock } = name
  if (fd === undefined) throw invalidArgument('name.fd', 'an integer', fd)
  return lock === undefined
    ? addon.serverListenFd(handle, fd)
    : addon.serverListenInherited(handle, fd, lock)
}
