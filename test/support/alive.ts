// Whether a process is there, also one that is nobody's child here.
import { readFileSync } from 'node:fs'

/** Whether there is such a process, and it has not ended. */
export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
