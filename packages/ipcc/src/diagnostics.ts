/**
 * What a client publishes by node:diagnostics_channel. Nothing is made for a channel that nobody
 * subscribed to.
 *
 * - `coroipc:client:connect` { connection }
 * - `coroipc:client:close`   { connection, reason }
 * - `coroipc:client:request` { connection, id, error }: an asynchronous request has its outcome
 * - `coroipc:client:log`     { level, message }: what the native side has to say; levels as in pino (40 warn)
 *
 * Tracing channels, each five: `tracing:NAME:start`, `:end`, `:asyncStart`, `:asyncEnd`, `:error`:
 *
 * - `coroipc:client:connect`  {@link ConnectTrace}: `connect`, `connectSync`
 * - `coroipc:client:request`  {@link RequestTrace}: `request`, `requestSync`, `send`
 * - `coroipc:client:dispatch` {@link DispatchTrace}: a message goes to its readers
 */
import { type Channel, channel, tracingChannel } from 'node:diagnostics_channel'
import type { Surrounded, Tracing } from '@coroipc/native'
import type { Connection, RequestPayload } from './connection.js'
import type { Message } from './dispatches.js'
import type { Lease } from './lease.js'
import type { Outcome } from './pending.js'

/** Message of the tracing channel `coroipc:client:connect`. */
export interface ConnectTrace {
  readonly name: string
  readonly service: number
  /** `connectSync`: it ends with `end`. */
  readonly sync: boolean
  /** The connection. */
  result?: Connection
  error?: unknown
}

/**
 * Message of the tracing channel `coroipc:client:request`. A subscriber of `start` may replace `id` and `payload`:
 * what it leaves there is sent. Later stages tell again what the caller asked for.
 */
export interface RequestTrace extends Surrounded {
  readonly connection: Connection
  /** `requestSync` and `send`: they end with `end`. */
  readonly sync: boolean
  /** `send`: nobody answers. */
  readonly oneWay: boolean
  id: number
  payload: RequestPayload
  /** The answer; of `send` what it returned. */
  result?: Outcome | boolean
  error?: unknown
}

/**
 * Message of the tracing channel `coroipc:client:dispatch`: `start` before listeners are called, `end` after. (An
 * iterator's reader may have it later.) A subscriber of `start` may replace `message`.
 */
export interface DispatchTrace extends Surrounded {
  readonly connection: Connection
  message: Message | Lease
  error?: unknown
}

export const connectChannel: Channel = channel('coroipc:client:connect')
export const closeChannel: Channel = channel('coroipc:client:close')
export const requestChannel: Channel = channel('coroipc:client:request')
export const logChannel: Channel = channel('coroipc:client:log')

export const connectTracing: Tracing<ConnectTrace> = tracingChannel('coroipc:client:connect')
export const requestTracing: Tracing<RequestTrace> = tracingChannel('coroipc:client:request')
export const dispatchTracing: Tracing<DispatchTrace> = tracingChannel('coroipc:client:dispatch')
