// `npm run pack`: tarballs of all packages that are to be published, into build/pack, as `npm pack` makes them.
//
//   npm run pack                                     with the binaries of every platform; writes docs/guide/installing.md's table
//   npm run pack -- --target linux-x64               with these binaries only (may be repeated)
//   npm run pack -- --out DIRECTORY
//
// Each package is put together in a folder of its own first: its files, README, LICENSE, and a package.json without what is of
// use only in the clone. The last lines name each tarball and its size.
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { addonFile, prebuild, targets } from './prebuild.mjs'

const root = resolve(import.meta.dirname, '..')
const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'))

const { values: options } = parseArgs({
  options: {
    target: { type: 'string', multiple: true },
    out: { type: 'string', default: join(root, 'build/pack') },
  },
})
const wanted = options.target ?? Object.keys(targets)
const out = resolve(options.out)

function fail(message) {
  console.error(message)
  process.exit(1)
}

/** Folders and manifests of the workspaces that are published. */
function published() {
  const { workspaces } = readJson(join(root, 'package.json'))
  const found = workspaces
    .map((folder) => ({ folder, manifest: readJson(join(root, folder, 'package.json')) }))
    .filter(({ manifest }) => !manifest.private)
  const versions = new Map(found.map(({ manifest }) => [manifest.name, manifest.version]))
  for (const { folder, manifest } of found) {
    if (new Set(versions.values()).size > 1)
      fail(`versions are not in step: ${[...versions].map((pair) => pair.join(' ')).join(', ')}`)
    for (const [name, version] of Object.entries(manifest.dependencies ?? {}))
      if (versions.has(name) && versions.get(name) !== version)
        fail(`${folder} asks for ${name} ${version}, which is ${versions.get(name)}`)
  }
  return found
}

// npm takes a package with a binding.gyp for one to be compiled at installation, whatever its manifest says (`npm ci` does so for
// tarballs, gypfile false or not).
const publishedAs = { 'binding.gyp': 'sources.gyp' }

const filesBelow = (folder) => readdirSync(folder, { recursive: true, encoding: 'utf8' })

/** A folder with what is published of a package. */
function stage({ folder, manifest }) {
  const from = join(root, folder)
  const to = join(out, 'stage', manifest.name)
  const { devDependencies: _, scripts: __, ...rest } = manifest
  mkdirSync(to, { recursive: true })
  writeFileSync(join(to, 'package.json'), `${JSON.stringify(rest, null, 2)}\n`)
  cpSync(join(root, 'LICENSE'), join(to, 'LICENSE'))
  if (!existsSync(join(from, 'README.md'))) fail(`${folder} has no README.md`)
  cpSync(join(from, 'README.md'), join(to, 'README.md'))
  for (const name of manifest.files) {
    if (name === 'prebuilds') continue
    if (!existsSync(join(from, name))) fail(`${folder} has no ${name}`)
    cpSync(join(from, name), join(to, publishedAs[name] ?? name), { recursive: true })
  }
  if (manifest.files.includes('prebuilds'))
    for (const target of wanted)
      cpSync(addonFile(target), join(to, 'prebuilds', target, 'coroipc.node'))
  // A module that was removed from the sources may have left its output in dist.
  for (const map of filesBelow(to).filter((name) => name.endsWith('s.map'))) {
    const { sources } = readJson(join(to, map))
    for (const source of sources)
      if (!existsSync(resolve(to, map, '..', source)))
        fail(`${folder}: ${map} points to ${source}, which is not in the package`)
  }
  return to
}

function pack(folder) {
  const { status, stdout, stderr } = spawnSync(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', out],
    { cwd: folder, encoding: 'utf8' },
  )
  if (status !== 0) fail(stderr)
  // npm 11 gives a list, npm 12 an object by name.
  const [said] = Object.values(JSON.parse(stdout))
  return { name: said.name, file: said.filename, packed: said.size, unpacked: said.unpackedSize }
}

/** The table of sizes in the guide, between its marks. */
function writeSizes(packs) {
  const page = join(root, 'docs/guide/installing.md')
  const kilobytes = (bytes) => `${Math.ceil(bytes / 1000)} kB`
  const rows = packs.map(
    ({ name, packed, unpacked }) =>
      `| \`${name}\` | ${kilobytes(packed)} | ${kilobytes(unpacked)} |`,
  )
  const table = ['| package | tarball | unpacked |', '|---|---|---|', ...rows].join('\n')
  const text = readFileSync(page, 'utf8')
  writeFileSync(
    page,
    text.replace(
      /(<!-- sizes: .*? -->\n)[^]*?(\n<!-- \/sizes -->)/,
      (_, start, end) => `${start}${table}${end}`,
    ),
  )
}

const build = spawnSync(process.execPath, [join(root, 'scripts/build.mjs'), 'ts'], {
  stdio: 'inherit',
})
if (build.status !== 0) process.exit(1)
try {
  prebuild(wanted)
} catch (error) {
  fail(error.message)
}
rmSync(out, { recursive: true, force: true })
mkdirSync(out, { recursive: true })
const packs = published().map((one) => pack(stage(one)))
rmSync(join(out, 'stage'), { recursive: true })
if (Object.keys(targets).every((target) => wanted.includes(target))) writeSizes(packs)
for (const { file, packed, unpacked } of packs)
  console.log(`${join(out, file)}  ${packed} bytes, ${unpacked} unpacked`)
