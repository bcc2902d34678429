// `npm run soak -- --hours N`, or --minutes or --seconds: soak.ts for so long. Prints what it sees, ends with 1 if something
// did not hold, and draws a picture.
//
//   --interpreted   Node.js does not compile: half an hour tells then whether its heap grows (live.ts)
//   --out DIR       where report.html and report.json, its figures, go [build/soak]
//   --ledger FILE   a line of JSON for this run is added to it, and the verdict is over all runs in it: an hour can be made
//                   of pieces. Of resident memory only those of a quarter of an hour and more count
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import os from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { built } from '../support/paths.js'
import { random, seed } from './crew.js'
import { judge, type Piece, type Soak, soak } from './soak.js'
import { soakHtml } from './soak-html.js'

const { values } = parseArgs({
  options: {
    hours: { type: 'string', default: '0' },
    minutes: { type: 'string', default: '0' },
    seconds: { type: 'string', default: '0' },
    out: { type: 'string', default: built('soak') },
    ledger: { type: 'string' },
    interpreted: { type: 'boolean', default: false },
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
    interpreted: values.interpreted,
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
const { piece } = done
const rate = (piece.messages / piece.seconds).toFixed(0)
about.push(
  `${piece.messages} messages in ${piece.seconds.toFixed(0)} s, ${rate} a second${piece.interpreted ? ', interpreted' : ''}; ${piece.kills} clients killed, ${piece.restarts} restarts of a server`,
)
console.log(about.at(-1))

let { verdicts } = done
if (values.ledger !== undefined) {
  const ledger = resolve(values.ledger)
  const before = existsSync(ledger) ? readFileSync(ledger, 'utf8').split('\n').filter(Boolean) : []
  mkdirSync(dirname(ledger), { recursive: true })
  appendFileSync(ledger, `${JSON.stringify({ about: about.join('; '), ...piece })}\n`)
  const pieces = [...before.map((text) => JSON.parse(text) as Piece), piece]
  verdicts = judge(pieces)
  console.log(`all ${pieces.length} runs together:`)
}
for (const { what, seen, held } of verdicts)
  console.log(`${held === undefined ? '?   ' : held ? 'ok  ' : 'FAIL'} ${what}: ${seen}`)
const failed = verdicts.filter(({ held }) => held === false).length
const open = verdicts.filter(({ held }) => held === undefined).length
console.log(`${verdicts.length - failed - open} held, ${failed} did not, ${open} need a longer run`)
mkdirSync(values.out, { recursive: true })
writeFileSync(join(values.out, 'report.json'), JSON.stringify(done))
writeFileSync(join(values.out, 'report.html'), soakHtml(done, about.join('\n')))
console.log(relative('', join(values.out, 'report.html')))
process.exitCode = failed > 0 ? 1 : 0
