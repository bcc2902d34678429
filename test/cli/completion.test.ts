// `coroipc completion`: words for each place of a line; what others named must not become a command. How a real bash uses
// them: terminal.test.
import t from 'tap'
import { coroipc, newName, serve } from './cli.js'

async function words(line: string, breaks = ''): Promise<string[]> {
  const { stdout } = await coroipc(['completion', '--line', line, '--breaks', breaks])
  return stdout.split('\n').filter((word) => word !== '')
}

t.test('commands, options, choices; options once, and not behind a value', async (t) => {
  t.same(
    await words('coroipc li'),
    (await words('coroipc l')).filter((each) => each.startsWith('li')),
  )
  t.ok((await words('coroipc ')).includes('listen'))
  t.same(await words('coroipc call x 7 0 --sync --s'), [])
  t.same(await words("coroipc call 'x y' 7 0 --s"), ['--sync'])
  t.same(await words('coroipc call x 7 0 --tr'), ['--trust'])
  t.same(await words('coroipc call x 7 0 --output r'), ['raw'])
  t.same(await words('coroipc call x 7 0 --output=r'), ['--output=raw'])
  t.same(await words('coroipc call x 7 0 --output=r', '='), ['raw'], 'what bash keeps is left out')
  t.same(await words('coroipc call x 7 0 --text '), [], 'a text can be anything')
  t.same(await words('coroipc nothing '), [])
})

t.test('servers, and what they tell', async (t) => {
  const name = newName()
  await using server = await serve(name, true)
  t.ok(server.pid > 0)
  t.same(await words(`coroipc listen ${name}`), [name])
  t.same(await words(`coroipc listen ${name} `), ['cache'])
  t.same(await words(`coroipc hz --seconds 1 ${name} cache `), ['get', 'put'])
  const [whole] = await words(`coroipc listen ${name}`, '@:')
  t.equal(whole, name, "'@' belongs to the word that bash replaces")
  t.same(await words('coroipc listen @coroipc-test-nobody '), [])
})

t.test('names that would be commands are not offered', async (t) => {
  const name = `${newName()};reboot`
  await using server = await serve(name, true)
  t.ok(server.pid > 0)
  t.same(await words(`coroipc listen ${name.slice(0, -1)}`), [])
  const hostile = newName()
  await using other = await serve(hostile, true, '$(reboot)')
  t.ok(other.pid > 0)
  t.same(await words(`coroipc listen ${hostile} `), [])
})

t.test('names that would be options are not offered', async (t) => {
  const name = newName()
  await using _ = await serve(name, true, '--file=/etc/hostname')
  t.same(await words(`coroipc call ${name} `), [])
})
