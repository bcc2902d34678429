// `npm run soak -- --hours N`, or --minutes or --seconds: soak.ts for so long. Prints what it sees, ends with 1 if something
// did not hold, and draws build/soak/report.html; report.json has its figures.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { built } from '../support/paths.js'
import { random, seed } from './crew.js'
import { type Soak, soak } from './soak.js'
import { soakHtml } from './soak-html.js'

const { values } = parseArgs({
  options: {
    hours: { type: 'string', default: '0' },
    minutes: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '0' },
  },
})
const asked = Number(values.hours) * 3600 + Number(values.minutes) * 60 + Number(values.seconds)
const seconds = asked === 0 ? 60 : asked
if (!(seconds >= 10)) throw new RangeError('--hours, --minutes, --seconds: 10 s at least')

const directory = mkdtempSync(join(os.tmpdir(), 'coroipc-'))
process.env['COROIPC_RUNTIME_DIR'] = directory
const about = [
  `${new Date().toISOString()}  COROIPC_SEED=${seed}`,
  `${os.cpus()[0]?.model ?? ''}, ${os.availableParallelism()} CPUs, Linux ${os.release()}, Node.js ${process.version}`,
]
console.log(about.join('\n'))
const everyS = Math.max(10, seconds / 60)
let next = everyS
let done: Soak
try {
  done = await soak({
    seconds,
    directory,
    draw: random(seed),
    tick: (at, messages) => {
      if (at < next) return
      next = at + everyS
      console.log(`${at.toFixed(0)} s: ${messages.toExponential(2)} messages`)
    },
  })
} finally {
  rmSync(directory, { recursive: true, force: true })
}
const rate = (done.messages / done.seconds).toFixed(0)
about.push(
  `${done.messages} messages in ${done.seconds.toFixed(0)} s, ${rate} a second; ${done.kills} clients killed, ${done.restarts} restarts of a server`,
)
console.log(about.at(-1))
for (const { what, seen, held } of done.verdicts)
  console.log(`${held === undefined ? '?   ' : held ? 'ok  ' : 'FAIL'} ${what}: ${seen}`)
const failed = done.verdicts.filter(({ held }) => held === false).length
const open = done.verdicts.filter(({ held }) => held === undefined).length
console.log(
  `${done.verdicts.length - failed - open} held, ${failed} did not, ${open} need a longer run`,
)
mkdirSync(built('soak'), { recursive: true })
writeFileSync(built('soak/report.json'), JSON.stringify(done))
writeFileSync(built('soak/report.html'), soakHtml(done, about.join('\n')))
console.log('build/soak/report.html')
process.exitCode = failed > 0 ? 1 : 0
