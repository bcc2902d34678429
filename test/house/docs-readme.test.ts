// The server and the client of README.md are what a reader copies: they run as they stand there.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'
import { blocksOf, fileBlock, page, Workshop } from './docs-blocks.js'

t.test('the server and the client of the README talk', async (t) => {
  const workshop = new Workshop()
  const serverFile = workshop.write('server.mjs', fileBlock('README.md', 'server.mjs').text)
  const clientFile = workshop.write('client.mjs', fileBlock('README.md', 'client.mjs').text)
  const { env } = workshop
  const server = spawn(process.execPath, [serverFile], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(async () => {
    if (server.kill()) await once(server, 'exit')
    workshop.remove()
  })
  await once(server.stdout, 'data')
  const { stdout } = await promisify(execFile)(process.execPath, [clientFile], { env })
  const expected = blocksOf('README.md').find(({ words }) => words.includes('output'))
  t.equal(stdout, expected?.text)
})

t.test('every command of the README exists', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
  const named = [...page('README.md').matchAll(/npm run ([\w:]+)/g)].map((match) => match[1] ?? '')
  t.ok(named.includes('demo'))
  t.same(
    named.filter((name) => scripts[name] === undefined),
    [],
  )
})
