/** Where the sockets of plain names lie. */
import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Check, fail, ok, warn } from './check.js'

const HOW =
  'as root: install -d -o USER -m 0755 /run/coroipc; or set XDG_RUNTIME_DIR; paths and @names need no folder'

function folder(path: string): Check {
  const check = path
  let stat: ReturnType<typeof statSync>
  try {
    stat = statSync(path)
  } catch {
    return ok(check, 'is not there')
  }
  if (stat === undefined || !stat.isDirectory())
    return fail(check, 'is no folder', `rm ${path}; ${HOW}`)
  const mode = (stat.mode & 0o7777).toString(8).padStart(4, '0')
  let writable = true
  try {
    accessSync(path, constants.W_OK | constants.X_OK)
  } catch {
    writable = false
  }
  const found = `owner ${stat.uid}, mode ${mode}, ${writable ? 'writable' : 'not writable'}`
  if ((stat.mode & 0o022) !== 0) {
    const who = (stat.mode & 0o002) !== 0 ? 'everybody' : `group ${stat.gid}`
    const advice = `chmod go-w ${path}: ${who} may take names that are free there; else clients should demand \`server: { uid }\``
    return warn(check, found, advice)
  }
  if (stat.uid !== 0 && stat.uid !== process.getuid?.())
    return warn(
      check,
      found,
      "its owner may take any name: chown it to root or to the servers' user",
    )
  return ok(check, found)
}

/** Which folders there are, and whether a server of a plain name finds one. */
export async function runtimeFolders(): Promise<Check[]> {
  const { addon } = await import('@coroipc/native')
  const folders = addon.connectAddresses('doctor').map((path) => dirname(path))
  const checks = folders.map(folder)
  // A folder of ours below $XDG_RUNTIME_DIR is made when it is needed.
  const usable = folders.some((path) => {
    for (const each of [path, dirname(path)]) {
      if (each === '/run') break // made by root alone, who needs no advice
      try {
        accessSync(each, constants.W_OK | constants.X_OK)
        return true
      } catch {}
    }
    return process.getuid?.() === 0
  })
  return usable
    ? checks
    : [...checks, warn('plain names', 'no folder for servers of this user', HOW)]
}
