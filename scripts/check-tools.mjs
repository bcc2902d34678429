// Says what a build needs and this machine lacks, with the command that installs it.
// Called before the first build (package.json, prepare) and when a build has failed.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const runs = (command, ...args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0

/** Where Node's headers are: what npm's configuration says, else beside the Node in use, else undefined. */
export function nodeHeaders() {
  const configured = process.env.npm_config_nodedir
  if (configured) return configured
  const prefix = resolve(process.execPath, '../..')
  return existsSync(join(prefix, 'include/node/node_api.h')) ? prefix : undefined
}

const cxx = process.env.CXX ?? 'g++'

const needs = [
  {
    name: 'Linux',
    ok: () => process.platform === 'linux',
    how: 'coroipc uses memfd, epoll and pidfd: it is for Linux only',
  },
  {
    name: 'Node.js 20 or newer',
    ok: () => Number(process.versions.node.split('.')[0]) >= 20,
    how: 'https://nodejs.org',
  },
  { name: 'make', ok: () => runs('make', '--version'), how: 'apt-get install make' },
  { name: 'g++', ok: () => runs(cxx, '--version'), how: 'apt-get install g++' },
  { name: 'gcc', ok: () => runs(process.env.CC ?? 'cc', '--version'), how: 'apt-get install gcc' },
  {
    name: 'a C++20 compiler (g++ 11 or newer)',
    ok: () =>
      !runs(cxx, '--version') ||
      spawnSync(cxx, ['-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], {
        input: '#include <atomic>\nstd::atomic_ref<int>* p;',
      }).status === 0,
    how: 'apt-get install g++',
  },
  {
    name: 'python3 (for node-gyp)',
    ok: () => runs(process.env.PYTHON ?? 'python3', '--version'),
    how: 'apt-get install python3',
  },
  {
    name: "Node.js's headers",
    ok: () =>
      nodeHeaders() !== undefined && existsSync(join(nodeHeaders(), 'include/node/node_api.h')),
    how: 'set nodedir to a folder that has include/node: npm_config_nodedir=/path npm ci (apt-get install libnode-dev brings it on Debian)',
  },
]

/** The lines to print; empty when nothing is missing. */
export function missingTools() {
  return needs
    .filter((need) => !need.ok())
    .map((need) => `missing: ${need.name}\n         ${need.how}`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const missing = missingTools()
  for (const line of missing) console.error(line)
  if (missing.length > 0) process.exit(1)
}
