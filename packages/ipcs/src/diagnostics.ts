/**
 * What a server publishes by node:diagnostics_channel, for monitors that know nothing of the program.
 * Nothing is made for a channel that nobody subscribed to.
 *
 * - `coroipc:server:connect`     { connection }
 * - `coroipc:server:disconnect`  { connection, reason }
 * - `coroipc:server:request`     { request, code }: it was answered; code 'OK' or an `ERR_COROIPC_*`
 * - `coroipc:server:error`       { error, connection, request }
 * - `coroipc:server:log`         { level, message }: what the native side writes to `log`; levels as in pino
 *
 * Tracing channels, each five: `tracing:NAME:start`, `:end`, `:asyncStart`, `:asyncEnd`, `:error`:
 *
 * - `coroipc:server:connect`     {@link ConnectTrace}: from `authorize` to the end of `onConnect`
 * - `coroipc:server:request`     {@link RequestTrace}: from its coming to its answer
 * - `coroipc:server:dispatch`    {@link DispatchTrace}: a call of `connection.dispatch`
 */
import { type Channel, channel, tracingChannel } from 'node:diagnostics_channel'
import type { Credentials, Surrounded, Tracing } from '@coroipc/native'
import type { Connection } from './connection.js'
import type { AnswerPayload, Request } from './request.js'

/** Message of the tracing channel `coroipc:server:connect`. */
export interface ConnectTrace {
  /** Who wants in, from the kernel. */
  readonly credentials: Credentials
  readonly service: number
  /** From the time on that it is there. */
  connection?: Connection
  /** Why it came to nothing, or what `onConnect` threw. */
  error?: unknown
}

/**
 * Message of the tracing channel `coroipc:server:request`. A subscriber of `start` may replace `id` and
 * `payload`: `admit`, `select` and the handler see what it leaves.
 */
export interface RequestTrace extends Surrounded {
  readonly request: Request
  readonly connection: Connection
  readonly service: number
  id: number
  payload: Uint8Array
  /** What the client is told: 'OK' or an `ERR_COROIPC_*`; there when the request is over. */
  code?: string
  /** What the handler threw; else an error of `code`, where that is not 'OK'. */
  error?: unknown
}

/** Message of the tracing channel `coroipc:server:dispatch`. A subscriber of `start` may replace
 * `id` and `payload`: what it leaves there is sent. */
export interface DispatchTrace {
  readonly connection: Connection
  id: number
  payload: AnswerPayload
  /** What `dispatch` returned. */
  result?: boolean
  error?: unknown
}

export const connectChannel: Channel = channel('coroipc:server:connect')
export const disconnectChannel: Channel = channel('coroipc:server:disconnect')
export const requestChannel: Channel = channel('coroipc:server:request')
export const errorChannel: Channel = channel('coroipc:server:error')
export const logChannel: Channel = channel('coroipc:server:log')

export const connectTracing: Tracing<ConnectTrace> = tracingChannel('coroipc:server:connect')
export const requestTracing: Tracing<RequestTrace> = tracingChannel('coroipc:server:request')
export const dispatchTracing: Tracing<DispatchTrace> = tracingChannel('coroipc:server:dispatch')
