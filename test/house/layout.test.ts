// Rules about the tree itself that no compiler checks.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

const filesBelow = (directory: string, pattern: RegExp): string[] =>
  (existsSync(join(root, directory))
    ? readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    : []
  )
    .filter((name) => pattern.test(name))
    .map((name) => join(directory, name))

const read = (path: string): string => readFileSync(join(root, path), 'utf8')

t.test('the addon includes the C API, never the core behind it', async (t) => {
  const core = new Set(filesBelow('native/src', /\.h$/).map((path) => basename(path)))
  const found = filesBelow('native/addon', /\.(cc|h)$/).flatMap((path) =>
    [...read(path).matchAll(/^\s*#\s*include\s+["<]([^">]+)[">]/gm)]
      .map((match) => match[1] ?? '')
      .filter(
        (included) => included.includes('src/') || included.includes('..') || core.has(included),
      )
      .map((included) => `${path} includes ${included}`),
  )
  t.same(found, [])
})

t.test('lock files name no registry, so that any will do', async (t) => {
  for (const path of ['package-lock.json', 'test/matrix/package-lock.json']) {
    const { packages } = JSON.parse(read(path)) as {
      packages: Record<string, { resolved?: string }>
    }
    const addresses = Object.values(packages).flatMap(({ resolved }) =>
      resolved?.includes(':') ? [resolved] : [],
    )
    t.same(addresses, [], path)
  }
})

t.test('every package of ours has one way in', async (t) => {
  for (const name of ['native', 'packages/ipcs', 'packages/ipcc']) {
    const manifest = JSON.parse(read(`${name}/package.json`)) as {
      type: string
      exports: Record<string, unknown>
    }
    t.equal(manifest.type, 'module', name)
    t.same(Object.keys(manifest.exports), ['.', './package.json'], name)
  }
})
