// What is said about wrong usage, in words and by exit code; help; what needs no addon.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'
import { coroipc } from './cli.js'

t.test('without a command the help goes to stderr, and that is wrong usage', async (t) => {
  const { code, stdout, stderr } = await coroipc([])
  t.equal(code, 2)
  t.equal(stdout, '')
  t.match(stderr, 'Usage: coroipc COMMAND')
  const asked = await coroipc(['--help'])
  t.equal(asked.code, 0)
  t.equal(asked.stdout, stderr, 'who asks for it gets it on stdout')
  t.equal(asked.stderr, '')
  t.same(await coroipc(['help']), asked)
})

t.test('--version is that of the package', async (t) => {
  const manifest = readFileSync(join(root, 'packages/cli/package.json'), 'utf8')
  const { version } = JSON.parse(manifest) as { version: string }
  t.same(await coroipc(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' })
})

t.test('wrong usage names what is near, and does nothing', async (t) => {
  const cases: [string[], string][] = [
    [['cal'], "there is no command 'cal' (did you mean 'call'?)"],
    [['lsiten', 'x', '7'], "there is no command 'lsiten' (did you mean 'listen'?)"],
    [['xyzzy'], "there is no command 'xyzzy'\n"],
    [['--json', 'call'], "a command comes first, not '--json'"],
    [['call', '@x', '7', '0', '--txt', 'a'], "there is no option '--txt' (did you mean '--text'?)"],
    [['call', '@x', '7', '0', '-z'], "there is no option '-z'\n"],
    [['call', '@x', '7', '0', '--text'], 'argument missing'],
    [['call', '@x', '7', '0', '--sync=1'], 'does not take an argument'],
    [['call', '@x'], 'SERVICE is missing: coroipc call NAME SERVICE ID [options]'],
    [['call', '@x', '7', '0', '1'], "'1' is one argument too many"],
    [['call', '@x', '7', '0', '--output', 'jsn'], "(did you mean 'json'?)"],
    [['call', '@x', '7', '0', '--json', 'a'], 'text needs quotes'],
    [['call', '@x', '7', '0', '--timeout', '0'], '--timeout: expected an integer from 1'],
    [['call', '@x', '7', '0', '--repeat', '1e3'], '--repeat: expected an integer from 1'],
    [['hz', '@x', '7', '--sync'], '--sync, --in-flight and --size are for calls: give an ID'],
    [['call', 'no/name', '7', '0'], 'name: expected'],
    [['completion', 'fish'], "expected bash, got 'fish'"],
  ]
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await coroipc(args)
    const name = args.join(' ')
    t.equal(code, 2, `${name}: exit code`)
    t.equal(stdout, '', `${name}: nothing on stdout`)
    t.ok(`${stderr}\n`.includes(expected), `${name}: ${stderr}`)
  }
})

t.test('every error has a code, and advice where there is some; JSON for machines', async (t) => {
  const { code, stderr } = await coroipc(['call', '@coroipc-test-nobody', '7', '0'])
  t.equal(code, 3)
  t.match(
    stderr,
    /^coroipc: connect '@coroipc-test-nobody': .* \(ERR_COROIPC_CONNECT_REFUSED\)\n {2}advice: /,
  )
  const machine = await coroipc(['call', '@coroipc-test-nobody', '7', '0', '--output', 'json'])
  t.equal(machine.code, 3)
  t.equal(machine.stdout, '')
  const { error } = JSON.parse(machine.stderr) as { error: Record<string, string> }
  t.equal(error['code'], 'ERR_COROIPC_CONNECT_REFUSED')
  t.match(error, { message: /nobody/, advice: /list/ })
  const wrong = await coroipc(['hz', '@x', '7', '--jsn', '--json'])
  t.equal(wrong.code, 2)
  t.match(JSON.parse(wrong.stderr), { error: { message: /did you mean '--json'/ } })
})

t.test('without an addon help and completion work, and doctor says what is wrong', async (t) => {
  const node = ['--no-addons']
  const help = await coroipc(['--help'], { node })
  t.equal(help.code, 0)
  t.match(help.stdout, /^ {2}doctor +Check this machine/m)
  t.equal((await coroipc(['completion', '--line', 'coroipc ca'], { node })).stdout, 'call\n')
  const call = await coroipc(['call', '@x', '7', '0'], { node })
  t.equal(call.code, 1)
  t.match(call.stderr, /^coroipc: .*\n.*switched off.*\(ERR_COROIPC_BINARY_REFUSED\)/)
  const doctor = await coroipc(['doctor'], { node })
  t.equal(doctor.code, 1)
  t.match(doctor.stdout, /^FAIL {2}addon: .*\n {6}Native addons are switched off/m)
})
