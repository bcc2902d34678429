/** Subscriptions to tracing channels that end together, and when a request is over. */
import { channel, type Channel } from 'node:diagnostics_channel'
import type { RequestTrace as ClientTrace } from '@coroipc/ipcc'
import type { RequestTrace as ServerTrace } from '@coroipc/ipcs'

export type Side = 'server' | 'client'
export type { ClientTrace, ServerTrace }

/** What a request came to. */
export interface Outcome {
  readonly service: number
  readonly id: number
  /** 'OK', an `ERR_COROIPC_*`, or 'ERROR' for what is none of ours. */
  readonly code: string
  readonly error: unknown
}

type Listener = (message: never) => void

export class Subscriptions {
  readonly #ends: (() => void)[] = []

  /** @param stage `start`, `end`, ... of the tracing channel `coroipc:...` */
  on(name: string, stage: string, listener: Listener): void {
    const to: Channel = channel(`tracing:${name}:${stage}`)
    to.subscribe(listener as never)
    this.#ends.push(() => to.unsubscribe(listener as never))
  }

  /** Requests of one side that are over: at `end` where nothing asynchronous follows, else at `asyncEnd`. */
  requestsOver(
    side: Side,
    over: (trace: ServerTrace | ClientTrace, outcome: Outcome) => void,
  ): void {
    const name = `coroipc:${side}:request`
    if (side === 'server') {
      const tell = (trace: ServerTrace): void => {
        const { service, id, code, error } = trace
        if (code !== undefined) over(trace, { service, id, code, error })
      }
      this.on(name, 'end', tell)
      this.on(name, 'asyncEnd', tell)
      return
    }
    const tell = (trace: ClientTrace): void => {
      const { connection, id, error } = trace
      over(trace, { service: connection.service, id, code: codeOf(error), error })
    }
    this.on(name, 'end', (trace: ClientTrace) => {
      if (trace.sync) tell(trace)
    })
    this.on(name, 'asyncEnd', tell)
  }

  end(): void {
    for (const end of this.#ends.splice(0)) end()
  }
}

/** Bounded: codes of ours, or that it was none. */
function codeOf(error: unknown): string {
  if (error === undefined) return 'OK'
  const { code } = error as { code?: unknown }
  return typeof code === 'string' && code.startsWith('ERR_COROIPC_') ? code : 'ERROR'
}
