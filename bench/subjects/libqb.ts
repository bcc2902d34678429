// libqb over shared memory, both processes in C (bench/peers/libqb): what corosync and pacemaker use, and
// the nearest relative of this library.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import type { ProgramSubject } from '../subject.js'
import type { Task } from '../task.js'
import { measureProgram, programExists, takesPaced } from './program.js'

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/libqb/rtt',
  dispatch: 'peers/libqb/dispatch',
}

export const libqb: ProgramSubject = {
  kind: 'program',
  name: 'libqb',
  about: 'libqb, shared memory (QB_IPC_SHM), qb_loop; both processes in C',
  missing: () =>
    programExists('peers/libqb/rtt')
      ? undefined
      : 'apt-get install libqb-dev, then npm run build:native',
  refuses: (task) => {
    if (programs[task.case] === undefined) return 'no such program'
    if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
    return task.wait === 'own' ? undefined : 'libqb sleeps on a socket, always'
  },
  // It puts nothing together, so its events are published one by one in any case.
  takes: (task) =>
    takesPaced(task) || (task.case === 'dispatch' && task.variant === 'publish-each'),
  // Its server reads requests where they lie in the ring; answers and events go in and out.
  copies: (task) => (task.case === 'dispatch' ? 2 : 3),
  measure: async (task, placement) => {
    sweep() // what an interrupted run left
    try {
      return await measureProgram(programs[task.case] as string, task, placement)
    } finally {
      sweep()
    }
  },
}

const SHARED_MEMORY = '/dev/shm'

/** A libqb server that was killed leaves its rings behind: takes away those of this benchmark. */
function sweep(): void {
  if (!existsSync(SHARED_MEMORY)) return
  for (const name of readdirSync(SHARED_MEMORY)) {
    const folder = `${SHARED_MEMORY}/${name}`
    if (name.startsWith('qb-') && abandoned(name) && ours(folder))
      rmSync(folder, { recursive: true, force: true })
  }
}

/** qb-SERVER-CLIENT-..., both process ids. */
function abandoned(name: string): boolean {
  const pids = name.split('-').slice(1, 3)
  return pids.every((pid) => /^\d+$/.test(pid) && !existsSync(`/proc/${pid}`))
}

/** Its files have the name of the service (bench/peers/libqb/service.h). */
function ours(folder: string): boolean {
  try {
    return readdirSync(folder).some((file) => file.includes('-coroipc-bench-'))
  } catch {
    return false // another user's, or no folder
  }
}
