/** What goes wrong in the typed layer, and how it travels: bounded, and without trust in who wrote it. */
import type { StandardSchemaV1 } from '@standard-schema/spec'

/** What is wrong with a value, and where in it. */
export interface Issue {
  readonly message: string
  /** Names and indices that lead there; left out for the value as a whole. */
  readonly path?: readonly (string | number)[] | undefined
}

/** What {@link ContractError.code} can be. */
export type ContractErrorCode =
  | 'ERR_COROIPC_REQUEST_INVALID'
  | 'ERR_COROIPC_RESPONSE_INVALID'
  | 'ERR_COROIPC_DISPATCH_INVALID'

const words: Readonly<Record<ContractErrorCode, string>> = {
  ERR_COROIPC_REQUEST_INVALID: 'the request is not what the contract says',
  ERR_COROIPC_RESPONSE_INVALID: 'the answer is not what the contract says',
  ERR_COROIPC_DISPATCH_INVALID: 'the dispatch is not what the contract says',
}

/**
 * A value that does not validate, or bytes that do not decode. Match `code`: `instanceof` is false for an error of
 * another copy of this package.
 */
export class ContractError extends Error {
  static {
    this.prototype.name = 'ContractError'
  }

  /** `_REQUEST_INVALID` the handler did not run; `_RESPONSE_INVALID` it did; `_DISPATCH_INVALID`. */
  readonly code: ContractErrorCode
  /** At most 16, each cut to a bounded length. Of the server's they are its words, checked for their form only. */
  readonly issues: readonly Issue[]
  /** Who found it. */
  readonly by: 'client' | 'server'
  /** False where the request was never sent. */
  declare readonly sent?: false

  constructor(
    code: ContractErrorCode,
    subject: string,
    issues: readonly Issue[],
    by: 'client' | 'server',
    details: { readonly cause?: unknown; readonly sent?: false } = {},
  ) {
    const { cause, sent } = details
    super(
      `${subject}: ${words[code]}${summary(issues)}`,
      cause === undefined ? undefined : { cause },
    )
    this.code = code
    this.issues = issues
    this.by = by
    if (sent === false) this.sent = false
  }
}

function summary(issues: readonly Issue[]): string {
  const [first] = issues
  if (first === undefined) return ''
  const where = first.path === undefined ? '' : `${first.path.join('.')}: `
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : ''
  return `: ${where}${first.message}${more}`
}

/** The status by which a server says that a request is not what the contract says; no application may use it. */
export const INVALID_STATUS: number = -0x80000000

/**
 * An answer with an application's own status: thrown by a handler, it is thrown by the client's call. Unlike anything
 * else that a handler throws it is an answer, not a failure that the server reports.
 *
 * @example
 * throw new StatusError(404, 'no such key')
 */
export class StatusError extends Error {
  static {
    this.prototype.name = 'StatusError'
  }

  /** Always this. */
  readonly code = 'ERR_COROIPC_STATUS' as const
  /** An int32 but 0 (an answer that is none of these) and -2147483648 (taken by the contract). */
  readonly status: number

  /** @param message at most 1024 characters of it travel */
  constructor(status: number, message: string = `status ${status}`) {
    super(message)
    this.status = status
  }
}

/** Characters of a status' message that travel. */
export const MESSAGE_LENGTH = 1024

const ISSUES = 16
const PATH = 8
const KEY_LENGTH = 64
const TEXT_LENGTH = 200
/** What so many issues can take, at 6 bytes for a character that JSON escapes. */
const ISSUES_BYTES = 1 << 17

const cut = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text

function keyOf(segment: unknown): string | number {
  const key =
    typeof segment === 'object' && segment !== null ? (segment as { key?: unknown }).key : segment
  return typeof key === 'number' ? key : cut(String(key), KEY_LENGTH)
}

function issueOf(message: unknown, path: unknown): Issue {
  const text = cut(typeof message === 'string' ? message : 'not valid', TEXT_LENGTH)
  return Array.isArray(path) && path.length > 0
    ? { message: text, path: path.slice(0, PATH).map(keyOf) }
    : { message: text }
}

/** Issues of a schema library in the form in which they are kept and sent. */
export function boundedIssues(issues: readonly StandardSchemaV1.Issue[]): Issue[] {
  return issues.slice(0, ISSUES).map(({ message, path }) => issueOf(message, path))
}

/** Issues as they came over the wire; none if they are none. */
export function readIssues(payload: Uint8Array): Issue[] {
  if (payload.length > ISSUES_BYTES) return []
  let found: unknown
  try {
    found = JSON.parse(new TextDecoder().decode(payload))
  } catch {
    return []
  }
  if (!Array.isArray(found)) return []
  return found.slice(0, ISSUES).map((each: unknown) => {
    const { message, path } = (
      typeof each === 'object' && each !== null ? each : {}
    ) as Partial<Issue>
    const keys = Array.isArray(path)
      ? path.filter((key) => typeof key === 'string' || typeof key === 'number')
      : undefined
    return issueOf(message, keys)
  })
}
