// Runs scripts/sweep.mjs and counts what it says as tests.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { Test } from 'tap'
import { root } from '../support/paths.js'

interface Said {
  seed: number
  skipped: { name: string; reason: string }[]
  results: { name: string; ok: boolean; details: string }[]
}

export function sweep(t: Test, ...kinds: string[]): void {
  const only = kinds.flatMap((kind) => ['--only', kind])
  // scripts/test.mjs has built the programs: that takes longer than a test may. What a busy machine does not reach in time is said.
  const run = spawnSync(
    process.execPath,
    [join(root, 'scripts/sweep.mjs'), '--no-build', '--json', '--minutes', '1.7', ...only],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  )
  const { seed, skipped, results } = JSON.parse(run.stdout || '{}') as Partial<Said>
  t.comment(`COROIPC_SEED=${seed}`)
  t.ok(results !== undefined, 'the runner says what it ran', { stderr: run.stderr })
  for (const { name, ok, details } of results ?? []) t.ok(ok, name, { details })
  for (const { name, reason } of skipped ?? []) t.pass(name, { skip: reason })
}
