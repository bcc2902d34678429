// libqb over shared memory, both processes in C (bench/peers/libqb): what corosync and pacemaker use, and
// the nearest relative of this library.
import { existsSync, readdirSync, rmSync } from 'node:fs'
import type { ProgramSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { isStream, measureProgram, programExists, takesMore, takesPaced } from './program.js'

const programs: Partial<Record<Task['case'], string>> = {
  'rtt-sync': 'peers/libqb/rtt',
  dispatch: 'peers/libqb/dispatch',
  connect: 'peers/libqb/connect',
  'many-connections': 'peers/libqb/many',
  'server-death': 'peers/libqb/death',
}

function programOf(task: Task): string | undefined {
  if (task.variant === 'into') return programs['rtt-sync']
  return isStream(task) ? programs.dispatch : programs[task.case]
}

/** Each takes up to two seconds. */
const KILLS = 5
/** Each has files in /dev/shm, mapped by both. */
const CONNECTIONS_MAX = 100

export const libqb: ProgramSubject = {
  kind: 'program',
  name: 'libqb',
  about: 'libqb, shared memory (QB_IPC_SHM), qb_loop; both processes in C',
  missing: () =>
    programExists('peers/libqb/rtt')
      ? undefined
      : 'apt-get install libqb-dev, then npm run build:native',
  refuses: (task) => {
    if (programOf(task) === undefined) return 'no such program'
    if (task.case === 'rtt-sync' && task.form !== 'sync') return 'it blocks'
    if (task.case === 'connect' && task.connections > 1) return 'its connect blocks'
    if (task.payloadBytes > 1 << 20) return 'its rings would be larger than what /dev/shm often has'
    if (task.connections > CONNECTIONS_MAX) return 'its rings are files in /dev/shm'
    return task.wait === 'own' ? undefined : 'libqb sleeps on a socket, always'
  },
  // It puts nothing together, so its events are published one by one in any case.
  takes: (task) =>
    takesPaced(task) ||
    takesMore(task) ||
    task.variant === 'owned' ||
    (task.case === 'dispatch' && task.variant === 'publish-each'),
  // Its server reads requests where they lie in the ring; answers and events go in and out.
  copies: (task) => [0, 2, 3][waysOf(task)] as number,
  measure: async (task, placement) => {
    sweep() // what an interrupted run left
    try {
      const kills = ['--kills', String(KILLS)]
      return await measureProgram(programOf(task) as string, task, placement, ...kills)
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
