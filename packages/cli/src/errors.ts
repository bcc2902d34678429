/**
 * How an error is shown, what is to be done about it, and the exit code that it means. Nothing here needs the addon:
 * `coroipc doctor` has to be able to say that there is none.
 */
import { Exit, UsageError } from './command.js'
import { jsonText, type Output, printable } from './output.js'

/** An error of the command itself, with advice. */
export class CommandError extends Error {
  static {
    this.prototype.name = 'CommandError'
  }

  constructor(
    message: string,
    readonly advice?: string,
    readonly exit: number = Exit.failed,
  ) {
    super(message)
  }
}

const advices: Record<string, string> = {
  ERR_COROIPC_CONNECT_REFUSED:
    "`coroipc list` shows the servers of this machine; a plain name is looked up in /run/coroipc and $XDG_RUNTIME_DIR/coroipc, '@name' is abstract, '/a/b.sock' is a path",
  ERR_COROIPC_DENIED:
    "the server's `authorize` decides: by default it lets in its own user and root",
  ERR_COROIPC_NO_SERVICE: '`coroipc describe NAME` shows the services of a server that tells them',
  ERR_COROIPC_NO_HANDLER: '`coroipc describe NAME` shows the requests of a server that tells them',
  ERR_COROIPC_HANDLER_FAILED: "the server's log, or its `error` event, says what was thrown",
  ERR_COROIPC_HANDLER_REJECTED: "the server's log, or its `error` event, says why",
  ERR_COROIPC_TIMED_OUT: 'is the server busy, stopped, or in a debugger? --timeout gives it longer',
  ERR_COROIPC_RETRY: 'the server is busy, or about to close: try again',
  ERR_COROIPC_TOO_LARGE: '`limits.messageBytes` of the server is the largest payload that it takes',
  ERR_COROIPC_LIMIT: 'see `limits` of the server: connections, in all and of one user',
  ERR_COROIPC_VERSION: 'both sides need the same version of coroipc',
  ERR_COROIPC_UNKNOWN_OUTCOME: 'look before you ask again: it may have been done',
  ERR_COROIPC_NO_MEMORY: '`coroipc doctor` shows the limits of this machine',
  ERR_COROIPC_SYSTEM: '`coroipc doctor` shows what this machine lacks',
  EPIPE: 'whoever read the output has gone',
}

const noConnection = new Set([
  'ERR_COROIPC_CONNECT_REFUSED',
  'ERR_COROIPC_DENIED',
  'ERR_COROIPC_NO_SERVICE',
  'ERR_COROIPC_LIMIT',
  'ERR_COROIPC_VERSION',
])
const lost = new Set([
  'ERR_COROIPC_PEER_DEAD',
  'ERR_COROIPC_DISCONNECTED',
  'ERR_COROIPC_UNKNOWN_OUTCOME',
  'ERR_COROIPC_PROTOCOL',
  'ERR_COROIPC_BACKLOG_OVERFLOW',
])

const codeOf = (error: unknown): string | undefined => {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** The exit code that an error means. */
export function exitCode(error: unknown): number {
  if (error instanceof UsageError) return Exit.usage
  if (error instanceof CommandError) return error.exit
  const code = codeOf(error) ?? ''
  if (code === 'ERR_COROIPC_INVALID_ARGUMENT') return Exit.usage
  if (code === 'ERR_COROIPC_TIMED_OUT') return Exit.timedOut
  if (noConnection.has(code)) return Exit.noConnection
  return lost.has(code) ? Exit.lost : Exit.failed
}

/** What to do about an error, if anything is known. */
export function adviceFor(error: unknown): string | undefined {
  if (error instanceof CommandError) return error.advice
  const code = codeOf(error)
  return code === undefined ? undefined : advices[code]
}

/** The fields of an error for a machine. */
export function errorRecord(error: unknown): Record<string, unknown> {
  const { message } = error as Error
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : undefined
  return {
    message: message ?? String(error),
    code: codeOf(error),
    status: (error as { applicationStatus?: unknown }).applicationStatus,
    cause: cause === undefined ? undefined : errorRecord(cause),
    advice: adviceFor(error),
  }
}

/** Shows an error on stderr: `coroipc: MESSAGE (CODE)`, its cause, advice; or one line of JSON. */
export function showError(output: Output, error: unknown): void {
  if (output.json) {
    output.note(jsonText({ error: errorRecord(error) }))
    return
  }
  const code = codeOf(error)
  const message = printable(error instanceof Error ? error.message : String(error)).replace(
    /^coroipc: /, // the loader of the addon says it already
    '',
  )
  output.note(`coroipc: ${message}${code === undefined ? '' : ` (${code})`}`)
  if (error instanceof Error && error.cause instanceof Error) {
    const causeCode = codeOf(error.cause)
    output.note(
      `  because: ${printable(error.cause.message)}${causeCode === undefined ? '' : ` (${causeCode})`}`,
    )
  }
  const advice = adviceFor(error)
  if (advice !== undefined) output.note(`  advice: ${advice}`)
}
