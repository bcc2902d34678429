// A runtime directory of its own for each test file, so that no test touches the places that servers share, and what a
// server leaves behind is seen.
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

interface Teardown {
  teardown(run: () => unknown): void
}

/** Makes the directory, points COROIPC_RUNTIME_DIR of this process and its children to it; removed at the end. */
export function runtimeDirectory(t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'coroipc-'))
  chmodSync(directory, 0o755) // other users may look for servers in it
  process.env['COROIPC_RUNTIME_DIR'] = directory
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Names of what lies in the directory. */
export const left = (directory: string): string[] => readdirSync(directory).sort()

let names = 0

/** A plain name that no other test of this run uses. */
export const freshName = (): string => `test-${process.pid}-${names++}`
