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
  seed?: string
  details: string
}

const EXECUTIONS = 1e8

// scripts/test.mjs has built them: that takes longer than a test may.
const run = spawnSync(
  process.execPath,
  [
    join(root, 'scripts/fuzz.mjs'),
    '--no-build',
    '--json',
    '--seconds=20',
    `--executions=${EXECUTIONS}`,
  ],
  { encoding: 'utf8', maxBuffer: 1 << 26 },
)
const said = JSON.parse(run.stdout || '{}') as { skipped?: string; results?: Result[] }

if (said.skipped !== undefined) {
  t.pass('fuzz targets', { skip: said.skipped })
} else {
  t.ok(said.results?.length, 'the runner says what it ran', { stderr: run.stderr })
  const sum = { guided: 0, bare: 0 }
  for (const { name, ok, executions, seconds, seed, details } of said.results ?? []) {
    const rate = executions === undefined ? '' : `, ${executions} executions, seed ${seed}`
    t.ok(ok, `${name}: ${seconds.toFixed(1)} s${rate}`, { details })
    sum[name.endsWith(', bare') ? 'bare' : 'guided'] += executions ?? 0
  }
  t.comment(`${sum.guided} executions by libFuzzer with sanitizers, ${sum.bare} without`)
  t.ok(sum.guided > 0 && sum.guided + sum.bare >= EXECUTIONS, 'as many as promised')
}
