// What users can import: each entry of the `exports` of each package below packages/ that has types. A package that is a
// program is used as one: what it exports is for its own tests.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Paths are from the root:
 *   { specifier: '@coroipc/contract/server', package: 'packages/contract', name: 'contract-server',
 *     source: 'packages/contract/src/server.ts', types: 'packages/contract/dist/server.d.ts' }
 */
export function entryPoints(root) {
  return readdirSync(join(root, 'packages')).flatMap((folder) => {
    const path = join('packages', folder)
    const manifest = join(root, path, 'package.json')
    if (!existsSync(manifest)) return []
    const { name, bin, exports = {} } = JSON.parse(readFileSync(manifest, 'utf8'))
    if (bin !== undefined) return []
    return Object.entries(exports)
      .filter(([, { types }]) => types !== undefined)
      .map(([entry, { types }]) => ({
        specifier: join(name, entry),
        package: path,
        name: join(folder, entry).replaceAll('/', '-'),
        source: join(path, types.replace('./dist/', 'src/').replace(/\.d\.ts$/, '.ts')),
        types: join(path, types),
      }))
  })
}
