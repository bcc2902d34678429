/**
 * How a server that keeps a contract (@coroipc/contract) says that a request is not what the contract says: by a status
 * that no application may use, and the issues as JSON. To people that is a failure, not an answer.
 */
import type { Answer } from '@coroipc/ipcc'
import { textOf } from './codec.js'
import { CommandError } from './errors.js'

const INVALID_STATUS = -0x80000000
const ISSUES_MAX = 16

function issueText(issue: unknown): string | undefined {
  const { message, path } = (issue ?? {}) as { message?: unknown; path?: unknown }
  if (typeof message !== 'string') return undefined
  return Array.isArray(path) ? `${path.map(String).join('.')}: ${message}` : message
}

/** The failure that the answer is; undefined if it is an answer, of whatever status. */
export function refusal({ status, payload }: Answer): CommandError | undefined {
  if (status !== INVALID_STATUS) return undefined
  let issues: unknown
  try {
    issues = JSON.parse(textOf(payload) ?? '')
  } catch {
    return undefined // an application that knows no contract
  }
  if (!Array.isArray(issues)) return undefined
  const texts = issues.slice(0, ISSUES_MAX).map(issueText)
  if (!texts.every((text) => text !== undefined)) return undefined
  const told = new CommandError(
    `the request is not what the contract says: ${texts.join('; ')}`,
    '`coroipc describe NAME SERVICE` shows what it takes',
  )
  return Object.assign(told, { code: 'ERR_COROIPC_REQUEST_INVALID' })
}
