// Each backlog policy does what it promises, seen from slow readers of one feed.
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { Place, run, start } from './support.js'

t.test('five readers', async (t) => {
  using place = new Place()
  const { code, stdout, stderr } = await run(place, 'dispatch-feed/main.js')
  t.equal(code, 0, stderr)
  const rows = stdout
    .split('\n')
    .filter((line) => /^│ (quick|slow)/.test(line))
    .map((line) => line.split('│').map((cell) => cell.trim()))
  t.strictSame(
    rows.map((cells) => [cells[2], cells[4] === '0', cells[7]]),
    [
      ['error', true, 'the end'],
      ['error', true, 'the end'],
      ['drop-oldest', false, 'the end'],
      ['drop-newest', false, 'the end'],
      ['disconnect', false, 'ERR_COROIPC_BACKLOG_OVERFLOW'],
    ],
  )
  t.strictSame(place.left, [], 'nothing is left')
})

t.test('lines are whole, however the file grows', async (t) => {
  using place = new Place()
  const file = join(place.path, 'file')
  const address = join(place.path, 'socket')
  writeFileSync(file, 'one\ntw')
  await using server = start(place, 'dispatch-feed/server.js', address, file)
  await server.line(/^listening/)
  await using connection = await connect(address, { service: 1 })
  const messages = connection.dispatches()
  const next = async (): Promise<string> =>
    Buffer.from((await messages.next()).value?.payload ?? []).toString()
  await connection.request(0, 'error')
  t.equal(await next(), 'one')
  appendFileSync(file, 'o\n\nthree\n')
  t.equal(await next(), 'two')
  t.equal(await next(), '')
  t.equal(await next(), 'three')
  await t.rejects(connection.request(0, 'no policy'), { code: 'ERR_COROIPC_HANDLER_FAILED' })
  t.equal((await server.stop()).code, 0)
  t.match(await messages.next(), { done: true })
})
