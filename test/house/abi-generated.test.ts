// The numbers that TypeScript shares with C have one source, the headers: the committed copy is what
// abi_dump prints, the constants of addon.ts are the same, and so are the names that the binary knows.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { addon, errorCodes, In, Kind, Row, Status } from '@coroipc/native'
import t from 'tap'
import { built, root } from '../support/paths.js'

t.test('abi.generated.ts is what the headers say', async (t) => {
  const printed = execFileSync(built('native/tools/abi_dump'), { encoding: 'utf8' })
  t.equal(readFileSync(join(root, 'native/lib/abi.generated.ts'), 'utf8'), printed)
})

t.test('the constants of addon.ts are those of the headers', async (t) => {
  const generated = (await import(join(root, 'native/dist/abi.generated.js'))) as {
    Row: object
    Kind: object
    In: object
  }
  t.same(Row, generated.Row)
  t.same(Kind, generated.Kind)
  t.same(In, generated.In)
})

t.test('the binary and the table of errors know every status', async (t) => {
  const names = Object.keys(Status)
  t.same(addon.statusNames, names)
  t.same(
    errorCodes,
    names.filter((name) => name !== 'OK' && name !== 'AGAIN').map((name) => `ERR_COROIPC_${name}`),
  )
})
