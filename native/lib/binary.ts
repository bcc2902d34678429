/**
 * Finds and loads the binary: that of this clone, if it was built, else the one of the package for this
 * platform. Nothing is compiled or downloaded when the package is installed, so what is missing shows
 * here, and has to say all that is known.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

/** Codes of errors that importing the packages throws; docs/guide/installing.md has them. */
export const binaryErrorCodes = [
  /** There is no binary for this platform. */
  'ERR_COROIPC_NO_BINARY',
  /** There is one, and it could not be loaded (`cause` says why) or is of another version. */
  'ERR_COROIPC_BINARY_REFUSED',
] as const

/** One of {@link binaryErrorCodes}. */
export type BinaryErrorCode = (typeof binaryErrorCodes)[number]

const root = new URL('..', import.meta.url)
const inPackage = (path: string): string => fileURLToPath(new URL(path, root))

const HOW = `To build it from the sources that the package brings (g++ 11 or newer, make, python3):
  npm install --no-save node-addon-api
  cd ${fileURLToPath(root)} && cp sources.gyp binding.gyp && npx node-gyp rebuild
In a clone of the repository: npm run build. More: docs/guide/installing.md`

const OTHER_HOST = 'Use Node.js. More: docs/guide/hosts.md'
const SWITCHED_OFF =
  'Native addons are switched off. Leave --no-addons out. With --permission, Node.js loads addons with --allow-addons.'

/** What is thrown while the binary is looked for. */
export function binaryError(
  code: BinaryErrorCode,
  what: string,
  cause?: unknown,
  how: string = HOW,
): Error & { code: BinaryErrorCode } {
  const error = new Error(`coroipc: ${what}\n${how}`, cause === undefined ? undefined : { cause })
  return Object.assign(error, { code })
}

/** Whether the C library of this process is musl. */
function isMusl(): boolean {
  try {
    return /\/(?:ld-musl-|libc\.musl-)/.test(readFileSync('/proc/self/maps', 'latin1'))
  } catch {
    // No /proc, or not permitted to read it: the report knows, and takes some milliseconds.
    const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
    return header?.glibcVersionRuntime === undefined
  }
}

/** Loads the binary; where it was found goes with it. */
export function loadBinary(): { path: string; binding: unknown } {
  // Bun would load it, and end the process at the first call that waits.
  if (process.versions['bun'] !== undefined)
    throw binaryError(
      'ERR_COROIPC_BINARY_REFUSED',
      'Bun has no event loop of libuv, in which coroipc waits',
      undefined,
      OTHER_HOST,
    )
  let path = inPackage('build/Release/coroipc.node')
  if (!existsSync(path)) {
    const platform = `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`
    const prebuilt = inPackage(`prebuilds/${platform}/coroipc.node`)
    if (!existsSync(prebuilt)) {
      const which = process.platform === 'linux' ? '' : ' (coroipc is for Linux only)'
      throw binaryError(
        'ERR_COROIPC_NO_BINARY',
        `there is no binary for ${platform}${which}: neither ${path} nor ${prebuilt}`,
      )
    }
    path = prebuilt
  }
  try {
    return { path, binding: createRequire(import.meta.url)(path) as unknown }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    const what = `${path} could not be loaded: ${message}`
    // Deno has not all of Node.js that it needs; no other binary would help.
    const how =
      code === 'ERR_DLOPEN_DISABLED' ? SWITCHED_OFF : process.versions['deno'] ? OTHER_HOST : HOW
    throw binaryError('ERR_COROIPC_BINARY_REFUSED', what, error, how)
  }
}
