// The stock from the command line: values, what the contract refuses, the service's own status, and changes.
import t from 'tap'
import { type Outcome, Place, run, start } from './support.js'

t.test('add, take, list, watch', async (t) => {
  using place = new Place()
  await using server = start(place, 'typed/server.js', 'stock')
  await server.line(/^listening/)
  const stock = (...args: string[]): Promise<Outcome> =>
    run(place, 'typed/main.js', 'stock', ...args)
  await using watcher = start(place, 'typed/main.js', 'stock', 'watch')
  await watcher.line(/^watching/)

  t.equal((await stock('add', 'bolt-m8', '5')).stdout, 'bolt-m8: 5\n')
  t.equal((await stock('add', 'nut')).stdout, 'nut: 1\n', 'the default of the schema')
  t.equal((await stock('take', 'bolt-m8', '2')).stdout, 'bolt-m8: 3\n')
  t.match(await stock('take', 'bolt-m8', '4'), { code: 1, stderr: 'there are 3 of bolt-m8\n' })
  t.match(await stock('add', 'Bolt'), {
    code: 1,
    stderr: 'item: expected a name such as bolt-m8\n',
  })
  t.match(await stock('add', 'nut', 'x'), { code: 1, stderr: /^count: .*number/ })
  t.match(await stock('add', 'nut', '1001'), { code: 1, stderr: /^count: Too big/ })
  t.equal((await stock('list')).stdout, 'bolt-m8: 3\nnut: 1\n')
  t.equal((await stock('steal')).code, 2)

  await watcher.line(/^bolt-m8: 3/)
  const { code, stdout } = await watcher.stop('SIGINT')
  t.equal(code, 0)
  t.equal(stdout, 'watching\nbolt-m8: 5\nnut: 1\nbolt-m8: 3\n')
  t.equal((await server.stop()).code, 0)
  t.strictSame(place.left, [], 'nothing is left')
})
