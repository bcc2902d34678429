// The mutex behind `serialize`, alone: what a task throws is nobody else's. No task of the server's own throws, so it cannot
// be reached through the package.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/paths.js'
import { until } from '../ipcc/harness.js'

interface Mutex {
  run(task: () => unknown): void
}
const { Mutex } = (await import(pathToFileURL(join(root, 'packages/ipcs/dist/mutex.js')).href)) as {
  Mutex: new () => Mutex
}

t.test('a task that throws lets the next ones run, and surfaces as uncaught', async (t) => {
  const uncaught: unknown[] = []
  const onUncaught = (error: unknown): unknown => uncaught.push((error as Error).message)
  process.on('uncaughtException', onUncaught)
  t.teardown(() => process.off('uncaughtException', onUncaught))
  const mutex = new Mutex()
  const ran: string[] = []
  const fails = (name: string) => () => {
    ran.push(name)
    throw new Error(name)
  }
  mutex.run(fails('free'))
  let resolve: () => void = () => {}
  mutex.run(() => new Promise<void>((settle) => (resolve = settle)))
  mutex.run(fails('waited'))
  mutex.run(() => ran.push('last'))
  t.same(ran, ['free'])
  resolve()
  await until(() => ran.length === 3 && uncaught.length === 2)
  t.same(ran, ['free', 'waited', 'last'])
  mutex.run(() => ran.push('at once'))
  t.same(ran.at(-1), 'at once')
  t.same(uncaught, ['free', 'waited'])
})
