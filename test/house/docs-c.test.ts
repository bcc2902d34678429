// C programs of the manual, in pairs: NAME-server.c prints a line when it listens and ends in order at SIGTERM; what
// NAME-client.c prints stands in the block behind it.
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'
import { type Block, blocksOf, manual, Workshop, word } from './docs-blocks.js'

const run = promisify(execFile)
const release = join(root, 'native/build/Release')

/** Flags of a library that is not ours; undefined if it is not installed. */
function foreign(library: string): string[] | undefined {
  const { status, stdout } = spawnSync('pkg-config', ['--cflags', '--libs', library], {
    encoding: 'utf8',
  })
  return status === 0 ? stdout.trim().split(/\s+/) : undefined
}

function compile(workshop: Workshop, block: Block, flags: readonly string[]): string {
  const source = workshop.write(word(block, 'file') ?? '', block.text)
  const program = source.replace(/\.c$/, '')
  const warnings = ['-std=c11', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror']
  execFileSync('cc', [...warnings, '-o', program, source, ...flags, '-pthread'])
  return program
}

for (const page of manual()) {
  const blocks = blocksOf(page)
  for (const server of blocks.filter((block) => word(block, 'file')?.endsWith('server.c'))) {
    const name = word(server, 'file') ?? ''
    const client = blocks.find(
      (block) => word(block, 'file') === name.replace('server.c', 'client.c'),
    )
    t.test(`${page}: ${name} and its client talk`, async (t) => {
      if (client === undefined) throw new Error('it has no client')
      const library = word(server, 'libs')
      const flags =
        library === undefined
          ? [
              `-I${join(root, 'native/include')}`,
              `-L${release}`,
              '-lcoroipc',
              `-Wl,-rpath,${release}`,
            ]
          : foreign(library)
      if (flags === undefined) {
        t.pass(name, { skip: `apt-get install ${library}-dev` })
        return
      }
      const workshop = new Workshop()
      t.teardown(() => workshop.remove())
      const programs = [server, client].map((block) => compile(workshop, block, flags))
      const [serverFile = '', clientFile = ''] = programs
      const { env } = workshop
      const listening = `docs-${process.pid}-${name.replace('.c', '')}`
      const serving = spawn(serverFile, [listening], { env, stdio: ['ignore', 'pipe', 'inherit'] })
      await once(serving.stdout, 'data')
      const { stdout } = await run(clientFile, [listening], { env, timeout: 30_000 })
      serving.kill('SIGTERM')
      const [code] = (await once(serving, 'exit')) as [number | null]
      t.equal(stdout, blocks[blocks.indexOf(client) + 1]?.text)
      t.equal(code, 0, 'the server ends in order')
    })
  }
}
