/**
 * The processes at the other end of a server's connections, by /proc: what they are, and the CPU they take. Neither they nor
 * the server are asked, so it costs them nothing.
 */
import { readFileSync } from 'node:fs'
import { programOf } from '../servers.js'

/** What is known of one process; nothing of one that cannot be seen from here. */
export interface ClientProcess {
  readonly program: string | undefined
  /** Of one CPU, in percent, since the last look; unknown in the first look at a process. */
  readonly cpuPercent: number | undefined
}

/** USER_HZ, the unit of times in /proc/PID/stat: 100 on every Linux that Node.js runs on. */
const TICKS_A_SECOND = 100

/** CPU time of a process, and when it began, which tells it from a later one of the same pid: proc_pid_stat(5). */
interface Reading {
  readonly ticks: number
  readonly began: string
  readonly at_ms: number
}

function readingOf(pid: number): Reading | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined // ended, or hidden from us
  }
  // The second field is the program's name, in parentheses: whatever it contains, the others follow the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [user, system, began] = [fields[11], fields[12], fields[19]]
  if (user === undefined || system === undefined || began === undefined) return undefined
  return { ticks: Number(user) + Number(system), began, at_ms: performance.now() }
}

interface Known {
  readonly program: string | undefined
  readonly reading: Reading | undefined
}

const unknown: ClientProcess = { program: undefined, cpuPercent: undefined }

export class ClientProcesses {
  #known = new Map<number, Known>()

  /** What each of these is and did since the last look; those that are not named any more are forgotten. */
  look(pids: Iterable<number>): (pid: number) => ClientProcess {
    const known = new Map<number, Known>()
    const told = new Map<number, ClientProcess>()
    for (const pid of pids) {
      // A server says what it likes, and this becomes a path.
      if (told.has(pid) || !Number.isInteger(pid) || pid <= 0) continue
      const before = this.#known.get(pid)
      const reading = readingOf(pid)
      const same = before?.reading !== undefined && before.reading.began === reading?.began
      const program = same ? before.program : programOf(pid)
      const cpuPercent = same && reading ? percent(before.reading, reading) : undefined
      known.set(pid, { program, reading })
      told.set(pid, { program, cpuPercent })
    }
    this.#known = known
    return (pid) => told.get(pid) ?? unknown
  }
}

function percent(from: Reading, to: Reading): number {
  const seconds = (to.at_ms - from.at_ms) / 1000
  return seconds > 0 ? ((to.ticks - from.ticks) / TICKS_A_SECOND / seconds) * 100 : 0
}
