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

/**
 * Counts the TAP of one stream. `onEnd` is called with the counts of each outermost group (a file) as it ends.
 * `label` precedes the names of what failed or was skipped.
 */
export function countTap(stream, { label = '', onGroup = () => {} } = {}) {
  return new Promise((resolve) => {
    const finished = follow(new Parser(), label === '' ? [] : [label], onGroup)
    stream.pipe(finished.parser)
    finished.parser.on('complete', (results) => {
      const count = finished.count
      // A plan that was not kept, or TAP that never came: nothing below says so, hence it counts as one failure.
      if (!results.ok && count.failed.length === 0) {
        const why =
          results.bailout ||
          results.failures?.map((failure) => failure.tapError ?? failure.name).join('; ') ||
          'no tests ran'
        count.failed.push({ name: [label, why].filter(Boolean).join(': '), details: '' })
      }
      resolve(count)
    })
  })
}

function follow(parser, path, onGroup) {
  const count = new Count()
  let below // the group whose closing line comes next
  parser.on('child', (child) => {
    below = follow(child, [...path, child.name], onGroup)
  })
  parser.on('assert', (assertion) => {
    const group = below
    below = undefined
    const name = [...path, assertion.name].filter(Boolean).join(' > ')
    const details = assertion.diag === null ? '' : JSON.stringify(assertion.diag, null, 2)
    if (group !== undefined) {
      count.add(group.count)
      if (group.count.total === 0 && assertion.skip)
        count.skipped.push({ name, reason: reasonOf(assertion.skip) })
      else if (!assertion.ok && group.count.failed.length === 0)
        count.failed.push({ name, details })
      if (path.length === 0) onGroup(assertion, group.count)
    } else if (assertion.skip || assertion.todo) {
      count.skipped.push({ name, reason: reasonOf(assertion.skip || assertion.todo) })
    } else if (assertion.ok) count.passed++
    else count.failed.push({ name, details })
  })
  return { parser, count }
}

const reasonOf = (text) => (typeof text === 'string' ? text : 'no reason given')
