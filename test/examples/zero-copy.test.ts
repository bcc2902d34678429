// Pictures through shared memory, and the same program where one side does not trust the other.
import t from 'tap'
import { Place, run, start } from './support.js'
import { sharedMemory } from '../support/shared-memory.js'

const SIZES = [1, 307200, 16777216]

for (const [server, client] of [
  [true, true],
  [true, false],
  [false, true],
  [false, false],
]) {
  const named = (trusts: boolean | undefined): string => (trusts ? 'trusts' : 'does not')
  t.test(
    `the server ${named(server)}, the client ${named(client)}`,
    client || server ? sharedMemory : {},
    async (t) => {
      using place = new Place()
      const args = (trust: boolean | undefined): string[] => ['demo', ...(trust ? ['--trust'] : [])]
      await using running = start(place, 'zero-copy/server.js', ...args(server))
      await running.line(/^listening/)
      const { code, stdout, stderr } = await run(place, 'zero-copy/client.js', ...args(client))
      t.equal(code, 0, stderr)
      const lines = stdout.trimEnd().split('\n')
      t.equal(lines.length, 3)
      SIZES.forEach((size, index) => {
        t.match(lines[index], new RegExp(`^${size} bytes, .* right$`))
        if (server === client)
          t.match(lines[index], `question in place: ${client}, answer in place: ${client}`)
      })
      const { code: ended, stdout: said } = await running.stop()
      t.equal(ended, 0)
      const count = (said.match(/question in place: true, answer in place: true/g) ?? []).length
      if (server && client) t.equal(count, 3, 'nothing was copied')
      t.strictSame(place.left, [], 'nothing is left')
    },
  )
}
