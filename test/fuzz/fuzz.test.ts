// A short run of each fuzz target, 100 million bare executions, and all of their mutants: a target that does
// not find its planted error within a minute finds nothing else either. Long runs: `npm run fuzz`, `npm run fuzz:long`.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

interface Result {
  name: string
  ok: boolean
  executions?: number
  seconds: number
  details: string
}

// scripts/test.mjs has built them: that takes longer than a test may.
const run = spawnSync(
  process.execPath,
  [
    join(root, 'scripts/fuzz.mjs'),
    '--no-build',
    '--json',
    '--seconds=20',
    '--executions=100000000',
  ],
  { encoding: 'utf8', maxBuffer: 1 << 26 },
)
const said = JSON.parse(run.stdout || '{}') as { skipped?: string; results?: Result[] }

if (said.skipped !== undefined) {
  t.pass('fuzz targets', { skip: said.skipped })
} else {
  t.ok(said.results?.length, 'the runner says what it ran', { stderr: run.stderr })
  for (const { name, ok, executions, seconds, details } of said.results ?? []) {
    const rate = executions === undefined ? '' : `, ${executions} executions`
    t.ok(ok, `${name}: ${seconds.toFixed(1)} s${rate}`, { details })
  }
}
