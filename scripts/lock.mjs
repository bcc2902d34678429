// `npm run lock`: writes package-lock.json anew, complete for every platform.
// A registry that does not hold the binaries of other platforms makes npm leave these optional packages out of the
// lock file, and `npm ci` then refuses the file it has written. They are added back by name and version: a machine of
// such a platform fetches them, any other skips them by os, cpu and libc.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

const operatingSystems = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32']
const processors = ['arm', 'arm64', 'ia32', 'ppc64', 'riscv64', 's390x', 'x64']

const npm = spawnSync('npm', ['install', '--package-lock-only', '--ignore-scripts'], {
  stdio: 'inherit',
})
if (npm.status !== 0) process.exit(npm.status ?? 1)

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
const added = {}
for (const { optionalDependencies = {}, dev } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const path = `node_modules/${name}`
    if (lock.packages[path] !== undefined || !/^\d/.test(version)) continue
    const words = name.split(/[/-]/)
    const os = operatingSystems.filter((word) => words.includes(word))
    const cpu = processors.filter((word) => words.includes(word))
    if (os.length === 0) throw new Error(`${name} is missing and its name tells no platform`)
    const musl = words.some((word) => word.startsWith('musl'))
    // The order of keys is npm's own.
    added[path] = {
      version,
      cpu: cpu.length > 0 ? cpu : ['arm'],
      ...(dev ? { dev } : {}),
      ...(os[0] === 'linux' ? { libc: [musl ? 'musl' : 'glibc'] } : {}),
      optional: true,
      os,
    }
  }
}
const byPath = ([a], [b]) => a.localeCompare(b, 'en')
lock.packages = Object.fromEntries(Object.entries({ ...lock.packages, ...added }).sort(byPath))
writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${Object.keys(added).length} packages of other platforms added`)
