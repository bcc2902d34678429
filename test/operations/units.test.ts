// What the guide tells operators, with the tools that they have: systemd reads the units, and a socket of its kind gets the
// notices.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { fileBlock, Workshop } from '../house/docs-blocks.js'
import { built } from '../support/paths.js'
import { Program } from '../support/program.js'
import { freshName, runtimeDirectory } from '../support/runtime.js'

const PAGE = 'docs/guide/operating.md'
const missing = (file: string): string | false => (existsSync(file) ? false : `no ${file}`)
const analyze = '/usr/bin/systemd-analyze'
const python = '/usr/bin/python3'
runtimeDirectory(t)

t.test('systemd takes the units of the guide', { skip: missing(analyze) }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'coroipc-units-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const units = ['demo.socket', 'demo.service'].map((name) => {
    const unit = join(directory, name)
    writeFileSync(unit, fileBlock(PAGE, name).text.replace('/usr/bin/node', process.execPath))
    return unit
  })
  const { status, stderr } = spawnSync(analyze, ['verify', '--man=no', ...units], {
    encoding: 'utf8',
  })
  const about = stderr.split('\n').filter((line) => /demo\./.test(line))
  t.strictSame(about, [])
  t.equal(status, 0, stderr)
  const broken = join(directory, 'broken.socket')
  writeFileSync(broken, '[Socket]\nListenSequentialPacked=/run/x\n')
  t.match(spawnSync(analyze, ['verify', '--man=no', broken], { encoding: 'utf8' }).stderr, /Packed/)
  t.end()
})

t.test(
  'READY and WATCHDOG reach systemd',
  { skip: missing('/usr/bin/systemd-notify') || missing(python) },
  async (t) => {
    const workshop = new Workshop()
    t.teardown(() => workshop.remove())
    workshop.write('notify.mjs', fileBlock(PAGE, 'notify.mjs').text)
    const program = workshop.write(
      'program.mjs',
      `import { notify, watchdog } from './notify.mjs'
    notify('READY=1')
    watchdog(() => true)
    setTimeout(() => {}, 1e6)`,
    )
    const socket = join(workshop.directory, 'notify')
    const receiver = spawn(python, [
      '-uc',
      `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound')
while True: print(s.recv(4096).decode().replace(chr(10), ' '))`,
      socket,
    ])
    t.teardown(() => receiver.kill('SIGKILL'))
    let said = ''
    receiver.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
    const until = async (word: string): Promise<void> => {
      while (!said.includes(word)) await once(receiver.stdout, 'data')
    }
    await until('bound')
    const server = spawn(process.execPath, [program], {
      env: { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '100000' },
      stdio: 'inherit',
    })
    t.teardown(() => server.kill('SIGKILL'))
    await until('READY=1')
    await until('WATCHDOG=1')
    t.pass('both came')
  },
)

t.test('coroipc health: exit codes for probes', async (t) => {
  const name = freshName()
  const health = (...args: string[]): { status: number | null; stdout: string } =>
    spawnSync(process.execPath, [built('../packages/cli/bin/coroipc.js'), 'health', ...args], {
      encoding: 'utf8',
    })
  t.equal(health(name).status, 3, 'nobody listens')
  await using server = Program.command(process.execPath, built('test/operations/server.js'), name)
  await server.line('own')
  t.match(health(name).stdout, /answered in [\d.]+ ms/)
  t.equal(health(name, '--service', '1').status, 0)
  t.equal(health(name, '--service', '2').status, 1, 'another service')
  t.match(JSON.parse(health(name, '--json').stdout), { healthy: true })
  process.kill(server.pid, 'SIGSTOP')
  t.equal(health(name, '--timeout', '100').status, 4, 'it hangs')
  process.kill(server.pid, 'SIGCONT')
  t.equal(health(name).status, 0)
  t.equal(health(name, '--timeout', 'soon').status, 2)
  t.ok(
    execFileSync(process.execPath, [built('../packages/cli/bin/coroipc.js'), 'health', '--help']),
  )
})
