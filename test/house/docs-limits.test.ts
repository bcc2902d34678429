// docs/reference/limits.md against the code, in both directions: names, defaults, floors, ceilings, codes.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defaultLimits, type Limits, Server } from '@coroipc/ipcs'
import { errorCodes, limits as layout } from '@coroipc/native'
import t from 'tap'
import { root } from '../support/paths.js'
import { tableRows } from './docs-blocks.js'

const PAGE = 'docs/reference/limits.md'
const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const units: Record<string, number> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }

/** `256 KiB`, `2^53 - 1`, `4096`. */
function number(text: string): number {
  const match = /^(?:2\^(\d+)|(\d+)(?: ([KMG]iB))?)(?: - (\d+))?$/.exec(text)
  if (match === null) return Number.NaN
  const [, power, plain, unit, less = '0'] = match
  const value = power === undefined ? Number(plain) * (units[unit ?? ''] ?? 1) : 2 ** Number(power)
  return value - Number(less)
}

/** Fields of a C struct with the default in brackets that their comment names. */
function fields(header: string, struct: string): Map<string, string | undefined> {
  const body = new RegExp(`^struct ${struct} \\{\n([\\s\\S]*?)^\\};`, 'm').exec(read(header))?.[1]
  if (body === undefined) throw new Error(`${header} has no struct ${struct}`)
  return new Map(
    [...body.matchAll(/\b(?:u?int(?:32|64)_t|int)\s+(\w+);(?:\s*\/\*([\s\S]*?)\*\/)?/g)].map(
      ([, name = '', comment = '']) => [name, /\[([^\]]+)\]/.exec(comment)?.[1]],
    ),
  )
}

const serverRows = tableRows(PAGE, 'Limits of a server')
const timeRows = tableRows(PAGE, 'Times and rates of a server')
const clientRows = tableRows(PAGE, 'Limits of a client')
const serverFields = fields('native/include/coroipc/coroipcs.h', 'coroipcs_options')
const serviceFields = fields('native/include/coroipc/coroipcs.h', 'coroipcs_service_options')
const clientFields = fields('native/include/coroipc/coroipcc.h', 'coroipcc_options')

t.test('the page has every limit of a server, with its default', async (t) => {
  t.same(Object.fromEntries(serverRows.map(([name, , value = '']) => [name, number(value)])), {
    ...defaultLimits,
  })
})

t.test('the C options are the same, with the same defaults', async (t) => {
  const documented = [...serverRows, ...timeRows.slice(0, 2)]
  for (const [name = '', field = '', value = ''] of documented) {
    t.equal(
      field,
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      name,
    )
    t.ok(serverFields.has(field), `${field} is an option of coroipcs.h`)
    const inHeader = serverFields.get(field)
    if (inHeader !== undefined) t.equal(number(inHeader), number(value), `default of ${field}`)
  }
  const names = documented.map(([, field]) => field)
  const switches = [
    'struct_bytes',
    'threads',
    'wait',
    'any_service',
    'allow_unmapped',
    'prefault',
    'lock',
    'huge_pages',
    'accept_rows',
  ]
  t.same(
    [...serverFields.keys()].filter(
      (field) => ![...names, ...switches, 'authorize_events'].includes(field),
    ),
    [],
    'no limit of coroipcs.h is missing on the page',
  )
  for (const [, field = ''] of timeRows.slice(2)) t.ok(serviceFields.has(field), field)
})

t.test('floors and ceilings are those that the options accept', async (t) => {
  const room: Partial<Record<keyof Limits, (value: number) => Partial<Limits>>> = {
    messageBytes: (value) => ({ messageBytesMin: Math.min(value, 4096) }),
    messageBytesMin: () => ({ messageBytes: 2 ** 30 }),
    ringBytesMin: () => ({ ringBytesMax: 2 ** 30 }),
  }
  const made = async (name: keyof Limits, value: number): Promise<void> => {
    const server = new Server({ limits: { ...room[name]?.(value), [name]: value } })
    await server.close({ timeoutMs: 0 })
  }
  for (const [name, , , floor = '', ceiling = ''] of serverRows) {
    const limit = name as keyof Limits
    const [least, most] = [number(floor), number(ceiling)]
    await t.resolves(made(limit, least), `${limit}: ${floor}`)
    await t.resolves(made(limit, most), `${limit}: ${ceiling}`)
    const refused = { name: 'RangeError', code: 'ERR_COROIPC_INVALID_ARGUMENT' }
    await t.rejects(made(limit, least - 1), refused, `${limit}: below ${floor}`)
    await t.rejects(made(limit, most + 1), refused, `${limit}: above ${ceiling}`)
  }
})

t.test('the times of a server', async (t) => {
  const source = read('packages/ipcs/src/server.ts')
  for (const [name = '', , value = '', floor = '', ceiling = ''] of timeRows.slice(0, 2)) {
    t.match(source, new RegExp(`${name} \\?\\? ${number(value)}\\b`), name)
    for (const wrong of [number(floor) - 1, number(ceiling) + 1])
      t.throws(() => new Server({ [name]: wrong }), RangeError, `${name}: ${wrong}`)
  }
})

t.test('the page has every bound of a client, with its default', async (t) => {
  const source = read('packages/ipcc/src/options.ts')
  const declared = /interface ConnectSyncOptions \{([\s\S]*?)\n\}/.exec(source)?.[1] ?? ''
  const defaults = new Map(
    [...declared.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*readonly (\w+)\?: number/g)].map(
      ([, comment = '', name = '']) => [name, /Default ([^.]+)\./.exec(comment)?.[1] ?? '0'],
    ),
  )
  t.same(
    Object.fromEntries(clientRows.map(([name, , value = '']) => [name, number(value)])),
    Object.fromEntries([...defaults].map(([name, value]) => [name, number(value)])),
  )
  for (const [name, field = '', value = ''] of clientRows) {
    if (field === '-' || field.startsWith('argument of ')) continue
    t.ok(clientFields.has(field), `${name}: ${field} is an option of coroipcc.h`)
    const inHeader = clientFields.get(field)
    if (inHeader !== undefined) t.equal(number(inHeader), number(value), `default of ${field}`)
  }
})

t.test('the constants of the layout', async (t) => {
  const headers = read('native/include/coroipc/abi.h') + read('native/include/coroipc/types.h')
  const documented = new Map(
    tableRows(PAGE, 'Limits of the layout').map(([name = '', value = '']) => [name, number(value)]),
  )
  for (const name of documented.keys()) t.match(headers, new RegExp(`#define ${name}\\b`))
  // What TypeScript has a copy of, under its own names; rateOff is no limit.
  const { rateOff: _, ...numbers } = layout
  t.same(
    Object.fromEntries(
      [...documented].map(([name, value]) => [
        name
          .replace('COROIPC_', '')
          .toLowerCase()
          .replace(/_(\w)/g, (__, letter: string) => letter.toUpperCase()),
        value,
      ]),
    ),
    { ...numbers },
  )
})

t.test('the fixed bounds are where the page says', async (t) => {
  for (const [what, value = '', name = '', file = ''] of tableRows(PAGE, 'Fixed bounds')) {
    if (name === '') continue
    const written = new RegExp(`\\b${name}\\b(?:: number)? = ([^;\\n/]+)`).exec(read(file))?.[1]
    const product = (written ?? '')
      .trim()
      .replace(/size_t\{(\d+)\}/g, '$1')
      .replace(/u\b/g, '')
    const shift = /^(\d+) << (\d+)$/.exec(product)
    const result =
      shift === null
        ? product.split(' * ').reduce((all, factor) => all * Number(factor), 1)
        : Number(shift[1]) * 2 ** Number(shift[2])
    t.equal(result, number(value), `${what}: ${name} in ${file}`)
  }
})

t.test('what happens at a limit is said by codes that exist', async (t) => {
  const known = new Set<string>(errorCodes)
  for (const row of [...serverRows, ...timeRows, ...clientRows]) {
    const outcome = row.at(-1) ?? ''
    t.not(outcome, '', String(row[0]))
    for (const [code] of outcome.matchAll(/ERR_COROIPC_[A-Z_]+/g)) t.ok(known.has(code), code)
  }
})
