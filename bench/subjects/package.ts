// Peers that are npm packages: of bench/package.json, installed by `npm run bench:peers` alone. Types are
// declared where they are used, as far as they are used: the project compiles without the packages.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = new URL('../../../', import.meta.url)

export async function loadPackage<Module>(name: string): Promise<Module> {
  const { load } = (await import(new URL('bench/peers/load.mjs', root).href)) as {
    load(name: string): Promise<Module>
  }
  return load(name)
}

/** For `missing` of a subject. */
export function missingPackage(name: string): string | undefined {
  const places = [`bench/node_modules/${name}/`, `node_modules/${name}/`]
  return places.some((place) => existsSync(fileURLToPath(new URL(place, root))))
    ? undefined
    : 'npm ci --prefix bench (or npm run bench:peers)'
}

/** For a daemon that a subject starts: Debian keeps some outside the PATH of a user. */
export function findCommand(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']
  return folders.map((folder) => `${folder}/${name}`).find((path) => existsSync(path))
}
