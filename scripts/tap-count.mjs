// Reads TAP and counts what a person would: each assertion that has none below it, not the files and groups around them.
import { Parser } from 'tap-parser'

export class Count {
  passed = 0
  failed = []
  skipped = []

  add(other) {
    this.passed += other.passed
    this.failed.push(...other.failed)
    this.skipped.push(...other.skipped)
  }

  get total() {
    return this.passed + this.failed.length + this.skipped.length
  }
}

/** Counts the TAP of one stream; `label` precedes the names of what failed or was skipped. */
export function countTap(stream, { label }) {
  return new Promise((resolve) => {
    const { parser, count } = follow(new Parser(), [label])
    stream.pipe(parser)
    parser.on('complete', (results) => {
      // A plan that was not kept, or TAP that never came: nothing below says so, hence it is one failure.
      if (!results.ok && count.failed.length === 0) {
        const why =
          results.bailout ||
          results.failures?.map((failure) => failure.tapError ?? failure.name).join('; ')
        count.failed.push({ name: `${label}: ${why || 'no tests ran'}`, details: '' })
      }
      resolve(count)
    })
  })
}

/** Follows one parser and those below it. `count` is complete when the parser is. */
function follow(parser, path) {
  const count = new Count()
  let below // the group whose closing line comes next
  const close = (assertion) => {
    const group = below
    below = undefined
    // A group that failed for a reason of its own: it was killed, or its plan was not kept.
    if (assertion?.ok === false && group.count.failed.length === 0) {
      group.count.failed.push({ name: group.path.join(' > '), details: detailsOf(assertion) })
    }
    count.add(group.count)
  }
  parser.on('child', (child) => {
    if (below !== undefined) close() // cut short: no line of its own
    const inner = [...path, child.name].filter(Boolean)
    below = { path: inner, ...follow(child, inner) }
  })
  parser.on('assert', (assertion) => {
    const name = [...path, assertion.name].filter(Boolean).join(' > ')
    if (below !== undefined && below.path.at(-1) === assertion.name && !assertion.skip) {
      return close(assertion)
    }
    if (below !== undefined) close()
    if (assertion.skip || assertion.todo) {
      count.skipped.push({ name, reason: reasonOf(assertion.skip || assertion.todo) })
    } else if (assertion.ok) count.passed++
    else count.failed.push({ name, details: detailsOf(assertion) })
  })
  parser.on('complete', () => {
    if (below !== undefined) close()
  })
  return { parser, count }
}

/** What tap says about a failure, for people: where, what, the difference. */
function detailsOf({ diag }) {
  if (!diag) return ''
  const { at, diff, source, stack, compare: _, ...rest } = diag
  const where = at?.fileName ? `${at.fileName}:${at.lineNumber}:${at.columnNumber}` : undefined
  const others = Object.entries(rest).map(([key, value]) =>
    typeof value === 'string' ? `${key}: ${value}` : `${key}: ${JSON.stringify(value)}`,
  )
  return [where, ...others, diff ?? source, diff ? undefined : stack].filter(Boolean).join('\n')
}
const reasonOf = (text) => (typeof text === 'string' ? text : 'no reason given')
