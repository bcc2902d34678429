// The main job, on a folder with every size that could be special: digests of all clients are right across the death of
// the server, and the demo does not say so when they are not.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { Place, run, start } from './support.js'

const MESSAGE = 1 << 20
const HEAD = 8
const SIZES = [0, 1, 63, 64, 65, 4095, 4096, 4097, 262143, 262144, 262145]
SIZES.push(...[-1, 0, 1].map((more) => MESSAGE - HEAD + more), ...[0, 1].map((n) => MESSAGE + n))
SIZES.push(2 * (MESSAGE - HEAD), 3 << 20)

function writeFiles(place: Place): string {
  const folder = join(place.path, 'files')
  mkdirSync(join(folder, 'below', 'further'), { recursive: true })
  mkdirSync(join(folder, 'empty'))
  SIZES.forEach((size, index) => {
    const bytes = Buffer.alloc(size, `file ${index} `)
    writeFileSync(join(folder, index % 2 === 0 ? 'below/further' : '', `of ${size} bytes`), bytes)
  })
  for (let index = 0; index < 300; index++) writeFileSync(join(folder, `${index}`), `${index}`)
  symlinkSync('.', join(folder, 'loop'))
  return folder
}

const clients = ['blocking', 'pipelined', 'zero-copy', 'beyond', 'c blocking']

t.test('every file, by every client, through the death of the server', async (t) => {
  using place = new Place()
  const folder = writeFiles(place)
  const count = SIZES.length + 300
  const { code, stdout, stderr } = await run(place, 'digest/main.js', folder)
  t.equal(code, 0, stderr)
  t.match(stdout, `${count} files below`)
  for (const client of clients) {
    const row = stdout.split('\n').find((line) => line.startsWith(`│ ${client} `)) ?? ''
    const cells = row.split('│').map((cell) => cell.trim())
    t.equal(Number(cells[2]), count, `${client}: all files`)
    t.equal(Number(cells[3]), SIZES.reduce((a, b) => a + b) + 790, `${client}: all bytes`)
    t.match(cells[8], /^\d+\.\d ms$/, `${client}: learned that the server died`)
    t.equal(cells[11], '0', `${client}: no wrong digests`)
  }
  t.strictSame(place.left, ['files'], 'nothing is left')
})

t.test('no more files than wanted', async (t) => {
  using place = new Place()
  const args = [writeFiles(place), '--files', '2']
  const { code, stdout, stderr } = await run(place, 'digest/main.js', ...args)
  t.equal(code, 0, stderr)
  t.match(stdout, '2 files below')
})

t.test('what it cannot do, it says', async (t) => {
  using place = new Place()
  for (const args of [
    ['/no/such/folder'],
    [place.path],
    ['--files', '0'],
    ['--what'],
    ['a', 'b'],
  ]) {
    const { code, stderr } = await run(place, 'digest/main.js', ...args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, 'usage: npm run demo')
  }
})

t.test('wrong digests are found, by each client', async (t) => {
  using place = new Place()
  const list = join(place.path, 'list')
  writeFileSync(join(place.path, 'file'), 'contents')
  writeFileSync(list, ['file', 'missing'].map((name) => `${join(place.path, name)}\0`).join(''))
  await using server = new Server()
  const lie = (): Uint8Array => new Uint8Array(32)
  server.addService({ id: 1, handlers: { 0: () => undefined, 1: lie, 4: () => undefined } })
  const address = join(place.path, 'socket')
  await server.listen(address)
  for (const client of clients) {
    await using running =
      client === 'c blocking'
        ? start(place, 'c-digest/client', address, list)
        : start(place, 'digest/client.js', client, address, list)
    running.child.stdin.write('\n')
    const done: unknown = JSON.parse(await running.line(/"done"/))
    t.match(done, { files: 1, wrong: 1, unread: 1, unknown: 0 }, client)
    running.child.stdin.end()
    const { code, stderr } = await running.outcome
    t.equal(code, 1)
    t.match(stderr, /wrong digest of .*file/)
  }
})
