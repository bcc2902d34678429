// The command line in a real terminal and in a real bash: colours, widths, Ctrl-C, completion by the Tab key.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import t from 'tap'
import { noTerminal, Terminal } from '../support/terminal.js'
import { bin, command, newName, serve } from './cli.js'

const skip = noTerminal ?? false
const escape = '\u001b['

const name = newName()
const server = await serve(name, true)
t.teardown(() => server.end())

t.test('colours in a terminal, none with NO_COLOR', { skip }, async (t) => {
  for (const [env, coloured] of [
    [{}, true],
    [{ NO_COLOR: '1' }, false],
  ] as const) {
    await using terminal = await Terminal.open([...command, 'listen', name, '7', '-n', '3'], {
      env,
    })
    t.equal(await terminal.end(), 0)
    const screen = terminal.screen({ styled: true })
    t.match(screen, 'hello')
    t.equal(screen.includes(escape), coloured)
  }
})

t.test('what a server sends does not drive the terminal', { skip }, async (t) => {
  await using terminal = await Terminal.open([...command, 'call', name, '7', '7'])
  t.equal(await terminal.end(), 0)
  const screen = terminal.screen({ styled: true })
  t.match(screen, '00000000  1b 5b 33 31 6d 72 65 64')
  t.notOk(screen.includes(`${escape}31m`))
  await using asText = await Terminal.open([...command, 'call', name, '7', '7', '--output', 'text'])
  t.equal(await asText.end(), 0)
  t.equal(asText.screen({ styled: true }), '\\x1b[31mred\\x1b[0m')
})

t.test('a value is spread out for people', { skip }, async (t) => {
  const args = ['call', name, 'cache', 'get', '--json', '{"a":{"b":1}}']
  await using terminal = await Terminal.open([...command, ...args])
  t.equal(await terminal.end(), 0)
  t.match(terminal.screen(), '{\n  "a": {\n    "b": 1\n  }\n}')
})

t.test('Ctrl-C ends what has no other end', { skip }, async (t) => {
  await using listening = await Terminal.open([...command, 'listen', name, '7'])
  await listening.shows('tick')
  listening.press('C-c')
  t.equal(await listening.end(), 0)
  await using measuring = await Terminal.open([...command, 'hz', name, '7', '0', '--sync'])
  await measuring.shows(/^ +1 +[\d,]+ /m)
  measuring.press('C-c')
  t.equal(await measuring.end(), 0)
  t.match(measuring.screen(), /calls in .* a second/)
})

t.test('a table is as wide as the terminal', { skip }, async (t) => {
  const columns = 72
  await using terminal = await Terminal.open([...command, 'bench', '--ms', '5'], { columns })
  t.equal(await terminal.end(), 0)
  const screen = terminal.screen()
  const head = screen.split('\n').find((line) => line.startsWith('MEASURE'))
  t.match(head, /BANDWIDTH$/)
  t.ok((head ?? '').length <= columns)
  t.match(screen, /^blocking call, .*… +1 MiB/m, 'what does not fit is cut, the rest stays')
})

// A PATH on which `coroipc` is this one.
const folder = mkdtempSync(join(tmpdir(), 'coroipc-cli-'))
t.teardown(() => rmSync(folder, { recursive: true }))
mkdirSync(join(folder, 'bin'))
symlinkSync(bin, join(folder, 'bin/coroipc'))
const env = { PATH: `${join(folder, 'bin')}${delimiter}${process.env['PATH']}` }
const noBash = spawnSync('bash', ['--version']).status === 0 ? undefined : 'no bash'

t.test(
  'the Tab key completes commands, options, choices, servers and their names',
  { skip: skip || noBash || false },
  async (t) => {
    const shell = ['bash', '--norc', '--noprofile', '-i']
    await using terminal = await Terminal.open(shell, { env })
    await terminal.shows(/[#$]$/)
    terminal.type("PS1='> '")
    terminal.press('Enter')
    await terminal.shows(/^>/m)
    terminal.type('source <(coroipc completion bash) && echo rea""dy')
    terminal.press('Enter')
    await terminal.shows('ready')
    const completes = async (typed: string, whole: string): Promise<void> => {
      terminal.press('C-u')
      terminal.type(typed)
      terminal.press('Tab')
      await terminal.shows(`> ${whole}`)
      t.pass(`${typed} -> ${whole}`)
    }
    await completes('coroipc ben', 'coroipc bench')
    await completes('coroipc call x 7 0 --outp', 'coroipc call x 7 0 --output')
    await completes('coroipc call x 7 0 --output=j', 'coroipc call x 7 0 --output=json')
    await completes('coroipc call x 7 0 --output te', 'coroipc call x 7 0 --output text')
    await completes(`coroipc call ${name.slice(0, -1)}`, `coroipc call ${name}`)
    await completes(`coroipc call ${name} c`, `coroipc call ${name} cache`)
    await completes(`coroipc call ${name} cache g`, `coroipc call ${name} cache get`)
    await completes('coroipc help do', 'coroipc help doctor')
  },
)
