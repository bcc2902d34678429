// A control group with a limit of memory, of either version: what is in it and wants more is ended by the kernel (cgroups(7),
// Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst). Needs root, and a controller that this machine lets us have.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'

const V1 = '/sys/fs/cgroup/memory'
const V2 = '/sys/fs/cgroup'

export class MemoryGroup implements Disposable {
  readonly #path: string
  readonly #counter: string

  private constructor(path: string, counter: string) {
    this.#path = path
    this.#counter = counter
  }

  /** What was charged before a process came in stays with the group that it left: the limit is for what it takes from now on. */
  static create(bytes: number): MemoryGroup {
    const first = existsSync(`${V1}/memory.limit_in_bytes`)
    const path = `${first ? V1 : V2}/coroipc-test-${process.pid}`
    mkdirSync(path)
    const group = new MemoryGroup(path, `${path}/${first ? 'memory.oom_control' : 'memory.events'}`)
    try {
      writeFileSync(`${path}/${first ? 'memory.limit_in_bytes' : 'memory.max'}`, String(bytes))
      return group
    } catch (error) {
      group[Symbol.dispose]()
      throw error
    }
  }

  /** Why there can be none here; undefined: there can. */
  static missing(): string | undefined {
    try {
      MemoryGroup.create(1 << 26)[Symbol.dispose]()
      return undefined
    } catch (error) {
      return `no control group with a limit of memory: ${(error as Error).message}`
    }
  }

  add(pid: number): void {
    writeFileSync(`${this.#path}/cgroup.procs`, String(pid))
  }

  /** How many processes of it the kernel has ended. */
  get kills(): number {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(this.#counter, 'utf8'))?.[1])
  }

  [Symbol.dispose](): void {
    rmdirSync(this.#path)
  }
}
