// The C library as a distribution would install it: make install, then a C program that knows nothing but pkg-config.
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Server } from '@coroipc/ipcs'
import t from 'tap'
import { root } from '../support/paths.js'
import { freshName } from '../support/runtime.js'

const work = mkdtempSync(join(tmpdir(), 'coroipc-library-'))
t.teardown(() => rmSync(work, { recursive: true, force: true }))
const prefix = join(work, 'usr')
const env = { ...process.env, PKG_CONFIG_PATH: join(prefix, 'lib/pkgconfig') }

function succeed(command: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr ?? error?.message}`)
  return stdout.trim()
}

const make = (...args: string[]): string =>
  succeed('make', '--no-print-directory', '-C', join(root, 'native/library'), '-j2', ...args)

const program = `#include <coroipc/coroipcc.h>
#include <stdio.h>

int main(int argc, char **argv) {
  struct coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = 7;
  struct coroipcc_connection *connection;
  if (argc != 2 || coroipcc_connect(NULL, argv[1], &options, -1, &connection) != COROIPC_OK) return 1;
  const struct iovec question = {"from C", 6};
  char answer[64];
  struct coroipcc_response response;
  if (coroipcc_request(connection, 0, &question, 1, -1, answer, sizeof answer, &response) != COROIPC_OK)
    return 2;
  printf("%.*s\\n", (int)response.bytes, answer);
  coroipcc_disconnect(connection);
  return 0;
}
`

t.test('make install', async (t) => {
  make('install', `PREFIX=${prefix}`)
  t.same(readdirSync(join(prefix, 'lib')).sort(), [
    'libcoroipc.a',
    'libcoroipc.so',
    'libcoroipc.so.0',
    'libcoroipc.so.0.1.0',
    'pkgconfig',
  ])
  make('install', 'PREFIX=/opt/x', `DESTDIR=${join(work, 'staged')}`)
  const staged = readFileSync(join(work, 'staged/opt/x/lib/pkgconfig/coroipc.pc'), 'utf8')
  t.match(staged, /^prefix=\/opt\/x$/m, 'and nothing of DESTDIR')
})

t.test('the library exports what the headers declare, and nothing else', async (t) => {
  const headers = readdirSync(join(prefix, 'include/coroipc'))
    .map((name) => readFileSync(join(prefix, 'include/coroipc', name), 'utf8'))
    .join('\n')
  const declared = [...headers.matchAll(/COROIPC_API\s[^;(]*?\b(coroipc[cs]?_\w+)\(/g)].map(
    ([, name]) => name as string,
  )
  const exported = succeed('nm', '-D', '--defined-only', join(prefix, 'lib/libcoroipc.so'))
    .split('\n')
    .map((line) => line.split(' ').slice(1))
    .filter(([kind]) => kind === 'T' || kind === 'D' || kind === 'B' || kind === 'R')
    .map(([, name]) => (name as string).replace(/@.*/, ''))
  t.ok(exported.length > 90, `${exported.length} functions`)
  t.same(exported.sort(), declared.sort())
  t.match(
    succeed('readelf', '-d', join(prefix, 'lib/libcoroipc.so')),
    /SONAME.*\[libcoroipc\.so\.0\]/,
  )
})

t.test('a C program that is built by pkg-config talks to a Node.js server', async (t) => {
  const source = join(work, 'program.c')
  writeFileSync(source, program)
  const flags = (...args: string[]): string[] =>
    succeed('pkg-config', ...args, 'coroipc').split(' ')
  const shared = join(work, 'shared')
  const rpath = `-Wl,-rpath,${join(prefix, 'lib')}`
  succeed(
    'cc',
    '-std=c11',
    '-D_GNU_SOURCE',
    '-Wall',
    '-Werror',
    '-o',
    shared,
    source,
    rpath,
    ...flags('--cflags', '--libs'),
  )
  const fixed = join(work, 'static')
  const archive = flags('--static', '--libs').map((flag) =>
    flag === '-lcoroipc' ? '-l:libcoroipc.a' : flag,
  )
  succeed('cc', '-std=c11', '-D_GNU_SOURCE', '-o', fixed, source, ...flags('--cflags'), ...archive)

  await using server = new Server()
  const utf8 = new TextDecoder()
  server.addService({
    id: 7,
    handlers: { 0: (request) => `heard: ${utf8.decode(request.payload)}` },
  })
  const name = freshName()
  await server.listen(name)
  for (const path of [shared, fixed]) {
    const { stdout } = await promisify(execFile)(path, [server.address as string])
    t.equal(stdout, 'heard: from C\n', path)
  }
})

const withoutMan =
  spawnSync('man', ['--version']).status === 0 ? {} : { skip: 'man is not installed' }
t.test('man pages: one for each header, and every function leads to one', withoutMan, async (t) => {
  const pages = join(prefix, 'share/man/man3')
  const said = succeed('man', '--warnings', '-E', 'ascii', '-l', join(pages, 'coroipcc.3'))
  for (const pattern of [/^NAME/m, /coroipcc_connect\(/, /BLOCKING/, /Blocking connect\./])
    t.match(said, pattern)
  t.equal(readFileSync(join(pages, 'coroipcs_listen.3'), 'utf8'), '.so man3/coroipcs.3\n')
})

t.test('make uninstall leaves nothing', async (t) => {
  make('uninstall', `PREFIX=${prefix}`)
  const left = readdirSync(prefix, { recursive: true, withFileTypes: true }).filter(
    (entry) => !entry.isDirectory(),
  )
  t.same(left, [])
  t.ok(existsSync(join(work, 'staged/opt/x/lib/libcoroipc.so.0')), 'of other places neither')
})
