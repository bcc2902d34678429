// A minute of `npm run soak`: nothing lost, doubled or torn, no descriptor or mapping more, everybody knows of a death in time.
import t from 'tap'
import { runtimeDirectory } from '../support/runtime.js'
import { random, seed } from './crew.js'
import { soak } from './soak.js'
import { soakHtml } from './soak-html.js'

const directory = runtimeDirectory(t)
const SECONDS = Number(process.env['COROIPC_SOAK_SECONDS'] ?? 60)

t.test(`a soak of ${SECONDS} s (COROIPC_SEED=${seed})`, { timeout: 0 }, async (t) => {
  const done = await soak({ seconds: SECONDS, directory, draw: random(seed) })
  const { messages, kills, restarts } = done.piece
  t.comment(`${messages} messages, ${kills} kills, ${restarts} restarts`)
  for (const { what, seen, held } of done.verdicts) {
    if (held === undefined && !what.endsWith('constant')) t.comment(`not judged: ${what}: ${seen}`)
    else t.ok(held, `${what}: ${seen}`)
  }
  t.ok(kills > 3 && restarts > 3)
  t.match(soakHtml(done, 'a test'), /<svg/)
})
