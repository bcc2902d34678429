// What the client's and the server's process take of a CPU while something is measured. The client reads
// both: its own from getrusage(2), the server's from /proc, so that the server is not disturbed.
import { readdirSync, readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

export interface CpuUse {
  readonly clientCpuPercent: number | null
  readonly serverCpuPercent: number | null
}

export const unknownCpuUse: CpuUse = { clientCpuPercent: null, serverCpuPercent: null }

/** CPU time of all threads of a process; undefined: it is gone, or nobody says. */
function cpuMsOf(pid: number): number | undefined {
  try {
    let ns = 0
    for (const thread of readdirSync(`/proc/${pid}/task`))
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
    return ns / 1e6
  } catch {
    return undefined
  }
}

export class CpuMeter {
  readonly #serverPid: number
  #begin = 0
  #client = process.cpuUsage()
  #server: number | undefined

  constructor(serverPid: number) {
    this.#serverPid = serverPid
  }

  begin(): void {
    this.#server = cpuMsOf(this.#serverPid)
    this.#client = process.cpuUsage()
    this.#begin = performance.now()
  }

  end(): CpuUse {
    const elapsedMs = performance.now() - this.#begin
    const client = process.cpuUsage(this.#client)
    const server = cpuMsOf(this.#serverPid)
    const serverMs =
      server === undefined || this.#server === undefined ? undefined : server - this.#server
    return {
      clientCpuPercent: (client.user + client.system) / 10 / elapsedMs,
      serverCpuPercent: serverMs === undefined ? null : (serverMs / elapsedMs) * 100,
    }
  }
}
