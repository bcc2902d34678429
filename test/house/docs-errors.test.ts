// docs/reference/errors.md says of every code what the code's own tables say, and every page names only codes that exist.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { binaryErrorCodes, errorCodes, Status } from '@coroipc/native'
import t from 'tap'
import { root } from '../support/paths.js'
import { page, pagesBelow, tableRows } from './docs-blocks.js'

const PAGE = 'docs/reference/errors.md'
const rows = tableRows(PAGE, 'All codes')
const source = readFileSync(join(root, 'native/src/status.cc'), 'utf8')

t.test('the page has every code once, in the order of their numbers', async (t) => {
  t.same(
    rows.map(([code]) => code),
    errorCodes,
  )
})

t.test('each code has its number in C', async (t) => {
  for (const [code = '', number] of rows) {
    const name = code.replace('ERR_COROIPC_', '') as keyof typeof Status
    t.equal(Number(number), Status[name], code)
  }
})

t.test("each code has its counterpart among coroipc's", async (t) => {
  const values = new Map(
    [...source.matchAll(/(kCs\w+) = (\d+),/g)].map(([, name, value]) => [name, value]),
  )
  const mapped = new Map(
    [...source.matchAll(/\{COROIPC_(\w+),[^}]*?(kCs\w+)\}/g)].map(([, status, name]) => [
      `ERR_COROIPC_${status}`,
      values.get(name),
    ]),
  )
  t.ok(mapped.size > errorCodes.length)
  for (const [code = '', , , , counterpart = ''] of rows)
    t.equal(/^(\d+) CS_ERR_[A-Z_]+$/.exec(counterpart)?.[1], mapped.get(code), code)
})

t.test('each row says who produces the code, and what to do', async (t) => {
  for (const [code = '', , who = '', advice = ''] of rows) {
    t.ok(who.length > 10, code)
    t.ok(advice.length > 5, code)
  }
})

t.test('no page names a code that does not exist', async (t) => {
  const contract = readFileSync(join(root, 'packages/contract/src/error.ts'), 'utf8')
  const layer = [...contract.matchAll(/'(ERR_COROIPC_\w+)'/g)].map(([, code = '']) => code)
  t.ok(layer.length > 3)
  const known = new Set<string>([...errorCodes, ...binaryErrorCodes, ...layer])
  for (const path of ['README.md', ...pagesBelow('docs')]) {
    const named = [...page(path).matchAll(/\bERR_COROIPC_[A-Z]+(?:_[A-Z]+)*\b/g)].map(
      ([code]) => code,
    )
    const short = [...page(path).matchAll(/`_([A-Z]+(?:_[A-Z]+)*)`/g)].map(
      ([, name]) => `ERR_COROIPC_${name}`,
    )
    t.same(
      [...named, ...short].filter((code) => !known.has(code)),
      [],
      path,
    )
  }
})
