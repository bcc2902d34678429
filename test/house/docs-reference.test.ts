// The pages of docs/reference name what the public types name, in both directions; links of the manual lead somewhere.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { addon } from '@coroipc/native'
import t from 'tap'
import { root } from '../support/paths.js'
import { page, pagesBelow, tableRows } from './docs-blocks.js'

const PAGES = 'docs/reference'
const source = (path: string): string => readFileSync(join(root, path), 'utf8')

/** Public members of an interface or class. */
function members(path: string, name: string): string[] {
  const body = new RegExp(
    `^export (?:interface|class) ${name}\\b[^{]*(?:\\{[^{}]*\\}[^{}]*)*?\\{\n([\\s\\S]*?)^\\}`,
    'm',
  ).exec(source(path))?.[1]
  if (body === undefined) throw new Error(`${path} has no ${name}`)
  const code = body.replace(/\/\*\*[\s\S]*?\*\//g, '')
  const found = [
    ...code.matchAll(/^ {2}(?:readonly |static |async |get |\*)*(\[Symbol\.\w+\]|\w+)\??[(:<]/gm),
  ].map(([, member = '']) => member)
  return [...new Set(found)].filter((member) => member !== 'constructor')
}

/** Names in the first column of the tables of a page, as `name(...)`, several in a cell. */
const documented = (path: string): Set<string> =>
  new Set(
    page(path)
      .split('\n')
      .filter((line) => line.startsWith('|'))
      .flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`(\[Symbol\.\w+\]|\w+)/g)])
      .map(([, name = '']) => name),
  )

const subjects: [string, string, string][] = [
  ['server.md', 'packages/ipcs/src/server.ts', 'ServerOptions'],
  ['server.md', 'packages/ipcs/src/server.ts', 'ServerEvents'],
  ['service.md', 'packages/ipcs/src/service.ts', 'ServiceOptions'],
  ['connection-server.md', 'packages/ipcs/src/connection.ts', 'Connection'],
  ['connection-server.md', 'packages/ipcs/src/connection.ts', 'ConnectionEvents'],
  ['request.md', 'packages/ipcs/src/request.ts', 'Request'],
  ['poll.md', 'packages/ipcs/src/poll.ts', 'Poll'],
  ['connect.md', 'packages/ipcc/src/options.ts', 'ConnectSyncOptions'],
  ['connect.md', 'packages/ipcc/src/options.ts', 'ConnectOptions'],
  ['connection-client.md', 'packages/ipcc/src/connection.ts', 'Connection'],
  ['connection-client.md', 'packages/ipcc/src/connection.ts', 'ConnectionEvents'],
  ['connection-client.md', 'packages/ipcc/src/options.ts', 'RequestOptions'],
  ['connection-client.md', 'packages/ipcc/src/options.ts', 'RequestSyncOptions'],
  ['lease.md', 'packages/ipcc/src/lease.ts', 'Lease'],
  ['dispatches.md', 'packages/ipcc/src/dispatches.ts', 'Message'],
  ['shared-buffer.md', 'native/lib/shared-buffer.ts', 'SharedBuffer'],
  ['reconnecting.md', 'packages/ipcc/src/reconnecting.ts', 'Reconnecting'],
  ['reconnecting.md', 'packages/ipcc/src/reconnecting.ts', 'ReconnectingOptions'],
  ['reconnecting.md', 'packages/ipcc/src/reconnecting.ts', 'ReconnectingEvents'],
  ['stats.md', 'native/lib/latency.ts', 'LatencyStats'],
  ['server.md', 'packages/ipcs/src/server.ts', 'Server'],
  ['contract.md', 'packages/contract/src/define.ts', 'Definition'],
  ['contract.md', 'packages/contract/src/define.ts', 'ContractLimits'],
  ['contract.md', 'packages/contract/src/define.ts', 'Contract'],
  ['contract.md', 'packages/contract/src/codec.ts', 'Codec'],
  ['contract.md', 'packages/contract/src/client.ts', 'ClientOptions'],
  ['contract.md', 'packages/contract/src/error.ts', 'ContractError'],
  ['server.md', 'packages/ipcs/src/server.ts', 'Health'],
  ['server.md', 'packages/ipcs/src/hand-over.ts', 'HandOverOptions'],
  ['shard.md', 'packages/ipcs/src/shard.ts', 'Shards'],
  ['shard.md', 'packages/ipcs/src/shard.ts', 'ShardOptions'],
  ['shard.md', 'packages/ipcs/src/shard.ts', 'ShardsEvents'],
]
// What is public in the file but not to users, or explained in words.
const inner = new Set(['handle', 'owner', 'on', 'addListener', 'once', 'listener', 'started'])

for (const [name, path, type] of subjects) {
  t.test(`${name} has every member of ${type}`, async (t) => {
    const known = documented(join(PAGES, name))
    const found = members(path, type).filter((member) => !inner.has(member))
    t.ok(found.length > 0)
    t.same(
      found.filter((member) => !known.has(member)),
      [],
    )
  })
}

// The two packages that carry everything have a reference; smaller ones may be explained by a page of the guide.
const reports = readdirSync(join(root, 'docs/api'))
  .map((file) => file.replace('.api.md', ''))
  .filter((name) => name !== 'c')
for (const name of reports) {
  t.test(`the pages name everything that ${name} exports`, async (t) => {
    const folders = name === 'ipcs' || name === 'ipcc' ? [PAGES] : [PAGES, 'docs/guide']
    const text = folders.flatMap(pagesBelow).map(page).join('\n')
    const report = page(`docs/api/${name}.api.md`)
    const exported = [
      ...report.matchAll(/^export (?:declare |abstract )*(?:\w+) (\w+)/gm),
      ...report.matchAll(/^export \{ (\w+) \}/gm),
    ].map(([, each = '']) => each)
    t.ok(exported.length > 0)
    t.same(
      exported.filter((each) => !new RegExp(`\`${each}\\b`).test(text)),
      [],
    )
  })
}

t.test('no page documents a member that is gone', async (t) => {
  const files = new Set([...subjects.map(([, path]) => path), 'native/lib/abi.generated.ts'])
  // AsyncDisposable is a type of the language; the iterator page has a row for leaving a loop.
  const words = `${[...files].map(source).join('\n')} Symbol.asyncDispose break`
  for (const name of new Set(subjects.map(([each]) => each))) {
    const gone = [...documented(join(PAGES, name))].filter(
      (member) => !member.startsWith('ERR_') && !words.includes(member.replace(/^\[|\]$/g, '')),
    )
    t.same(gone, [], name)
  }
})

t.test('stats.md has every counter, in order', async (t) => {
  const rows = tableRows(join(PAGES, 'stats.md'), 'Counters and gauges')
  t.same(
    rows.map(([name]) => name),
    addon.statsNames,
  )
  const comments = source('native/include/coroipc/types.h')
  for (const [name = '', kind = ''] of rows) {
    const field = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    const comment = new RegExp(`\\b${field};(?:\\s*/\\*([^*]*))?`).exec(comments)?.[1] ?? ''
    t.equal(kind, comment.trim().startsWith('gauge') ? 'gauge' : 'counter', name)
  }
})

t.test('links of the manual lead to files that exist', async (t) => {
  for (const path of ['README.md', ...pagesBelow('docs')]) {
    const text = page(path).replace(/^```[\s\S]*?^```/gm, '')
    const links = [...text.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map(([, link = '']) => link)
    t.same(
      links.filter(
        (link) => !/^https?:/.test(link) && !existsSync(join(root, dirname(path), link)),
      ),
      [],
      path,
    )
    const examples = [...text.matchAll(/\bexamples\/[\w-]+/g)].map(([example]) => example)
    t.same(
      examples.filter((example) => !existsSync(join(root, example))),
      [],
      `examples that ${path} names`,
    )
  }
})

t.test('the index by task leads to every page', async (t) => {
  const index = 'docs/README.md'
  const linked = new Set(
    [...page(index).matchAll(/\]\(([^)#\s]+)/g)].map(([, link = '']) => join('docs', link)),
  )
  const pages = pagesBelow('docs').filter(
    (path) =>
      path !== index && !path.startsWith('docs/api/') && !path.startsWith('docs/decisions/'),
  )
  t.same(
    pages.filter((path) => !linked.has(path)),
    [],
  )
})
