/** What `shard` and its workers agree on, and the worker's end of it. */
import { type MessagePort, workerData } from 'node:worker_threads'

export const SLOTS = 256
/** Words before the slots. */
export const Shared = { connections: 0, taken: 1, slots: 2 } as const
/** Under which workers find it in their `workerData`. */
export const KEY = 'coroipcShard'

/** What a worker is given. */
export interface ShardData {
  readonly port: MessagePort
  readonly shared: Int32Array
  readonly address: string
  readonly index: number
}

/** Main to worker: the number of a slot, or to close. Worker to main: it listens. */
export type Told = number | { readonly timeoutMs: number; readonly handOver: boolean }

/** A worker's share of the name: for `server.listen`. */
export class ShardSocket {
  readonly address: string
  /** Its place among the workers, from 0. */
  readonly index: number
  readonly #data: ShardData

  /** @internal Users call `shardSocket`. */
  constructor(data: ShardData) {
    this.address = data.address
    this.index = data.index
    this.#data = data
  }

  /** @internal A server takes it: `adopt` for each socket, `close` when it is to go. */
  listen(on: {
    adopt(fd: number): void
    close(options: { timeoutMs: number; handOver: boolean }): Promise<void>
  }): { connections(count: number): void; closed(): void } {
    const { port, shared } = this.#data
    port.on('message', (told: Told) => {
      if (typeof told === 'number') {
        const fd = Atomics.exchange(shared, Shared.slots + told, 0) - 1
        if (fd < 0) return
        try {
          on.adopt(fd)
        } finally {
          Atomics.add(shared, Shared.taken, 1) // last: it is among the connections now
        }
      } else void on.close(told).then(() => process.exit())
    })
    port.unref() // the server keeps the worker, not its mailbox
    port.postMessage('listening')
    return {
      connections: (count) => void Atomics.store(shared, Shared.connections, count),
      closed: () => port.close(),
    }
  }
}

/**
 * In a worker that `shard` started: where to listen; once. Undefined in any other thread:
 * `server.listen(shardSocket() ?? 'demo')`.
 */
export function shardSocket(): ShardSocket | undefined {
  const holder = workerData as Record<string, unknown> | null
  const data = holder?.[KEY] as ShardData | undefined
  if (data === undefined || holder === null) return undefined
  delete holder[KEY]
  return new ShardSocket(data)
}
