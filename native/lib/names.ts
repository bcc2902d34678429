/**
 * Names of servers: the rules of `ResolveListen` and `ResolveConnect` (native/src/socket.cc), with words for what is
 * broken. The native side checks them too; it cannot say which one it was.
 */
import { Status } from './abi.generated.js'
import { invalidArgument } from './errors.js'
import { nativeError } from './native-error.js'

/** Bytes of a path, or behind the '@': `sun_path` has 108, one of which is the zero, or stands for the '@'. */
const NAME_BYTES_MAX = 107

/** Throws if `name` is none of 'demo', '@demo' and '/a/b.sock'; `also` says what else is taken. */
export function checkName(name: unknown, also = ''): void {
  if (typeof name !== 'string' || name === '' || name === '@')
    throw invalidArgument('name', `a name, '@name' or a path${also}`, name, 'type')
  if (name.includes('\0')) throw invalidArgument('name', 'no zero byte', name, 'type')
  if (name.startsWith('@')) {
    const bytes = Buffer.byteLength(name) - 1
    if (bytes > NAME_BYTES_MAX) throw tooLong("behind the '@'", bytes, name)
  } else if (name.startsWith('/')) {
    const bytes = Buffer.byteLength(name)
    if (bytes > NAME_BYTES_MAX) throw tooLong('of a path', bytes, name)
    if (name.endsWith('/')) throw invalidArgument('name', 'a path of a file', name, 'type')
  } else if (!/^[\w-][\w.-]*$/.test(name)) {
    const rule = "a name of letters, digits, '.', '_' and '-' that does not begin with '.'"
    throw invalidArgument('name', `${rule}, a path that begins with '/', or '@name'`, name, 'type')
  }
}

function tooLong(where: string, bytes: number, name: string): Error {
  return invalidArgument(
    'name',
    `at most ${NAME_BYTES_MAX} bytes ${where} (not ${bytes})`,
    name,
    'range',
  )
}

/** The error of a native that was given a name that `checkName` let pass, or an fd. */
export function nameError(result: number, name: string | number, subject: string): Error {
  if (result !== -Status.INVALID_ARGUMENT) return nativeError(result, { subject })
  if (typeof name === 'number')
    return invalidArgument('name.fd', 'a listening AF_UNIX socket, SOCK_SEQPACKET', name, 'type')
  // Only the folder that goes before a plain name is not known here.
  const folder = '/run/coroipc, $XDG_RUNTIME_DIR/coroipc or $COROIPC_RUNTIME_DIR'
  return invalidArgument(
    'name',
    `a name whose path has at most ${NAME_BYTES_MAX} bytes with the folder (${folder}, absolute)`,
    name,
    'range',
  )
}
