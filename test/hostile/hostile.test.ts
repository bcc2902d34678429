// The tables of hostile peers, and what is around them, tell mistakes of the core: scripts/hostile.mjs plants them.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/paths.js'

interface Result {
  name: string
  ok: boolean
  skipped?: string
  details: string
}

// scripts/test.mjs has built them.
const run = spawnSync(
  process.execPath,
  [join(root, 'scripts/hostile.mjs'), '--no-build', '--json'],
  { encoding: 'utf8', maxBuffer: 1 << 26 },
)
const { results } = JSON.parse(run.stdout || '{}') as { results?: Result[] }
t.ok(results?.length, 'the runner says what it ran', { stderr: run.stderr })
for (const { name, ok, skipped, details } of results ?? [])
  t.ok(ok, name, skipped === undefined ? { details } : { skip: skipped })
