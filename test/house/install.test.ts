// Installing into a program outside of the clone, as docs/guide/getting-started.md says.
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { root } from '../support/paths.js'
import { page } from './docs-blocks.js'

const run = promisify(execFile)

function folder(t: { teardown(call: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'coroipc-install-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

t.test('packages that are linked from a built clone serve and connect', async (t) => {
  const scope = join(folder(t), 'node_modules/@coroipc')
  mkdirSync(scope, { recursive: true })
  const guide = page('docs/guide/getting-started.md')
  for (const [name, path] of [
    ['native', 'native'],
    ['ipcs', 'packages/ipcs'],
    ['ipcc', 'packages/ipcc'],
  ] as const) {
    t.match(guide, ` ../coroipc/${path}`, 'the guide names it')
    symlinkSync(join(root, path), join(scope, name)) // as `npm i <folder>` does
  }
  const program = join(scope, '../../program.mjs')
  writeFileSync(
    program,
    `import { Server } from '@coroipc/ipcs'
    import { connect } from '@coroipc/ipcc'
    const server = new Server()
    server.addService({ id: 1, handlers: { 0: () => 'installed' } })
    await server.listen('@coroipc-install-' + process.pid)
    const connection = await connect(server.address, { service: 1 })
    console.log(new TextDecoder().decode(await connection.request(0)))
    await connection.close()
    await server.close()`,
  )
  const { stdout } = await run(process.execPath, [program])
  t.equal(stdout, 'installed\n')
})

t.test('without a binary the error says how to get one', async (t) => {
  const path = folder(t)
  cpSync(join(root, 'native/dist'), join(path, 'dist'), { recursive: true })
  writeFileSync(join(path, 'package.json'), '{ "type": "module" }')
  const said = await run(process.execPath, [join(path, 'dist/addon.js')]).then(
    () => '',
    ({ stderr }: { stderr: string }) => stderr,
  )
  t.match(
    said,
    /there is no binary for linux-[^]*npm run build[^]*installing\.md[^]*ERR_COROIPC_NO_BINARY/,
  )
})
