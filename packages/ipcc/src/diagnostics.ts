/**
 * What a client publishes by node:diagnostics_channel. Nothing is made for a channel that nobody
 * subscribed to.
 *
 * - `coroipc:client:connect` { connection }
 * - `coroipc:client:close`   { connection, reason }
 * - `coroipc:client:request` { connection, id, error }: an asynchronous request has its outcome
 * - `coroipc:client:log`     { level, message }: what the native side has to say; levels as in pino (40 warn)
 */
import { type Channel, channel } from 'node:diagnostics_channel'

export const connectChannel: Channel = channel('coroipc:client:connect')
export const closeChannel: Channel = channel('coroipc:client:close')
export const requestChannel: Channel = channel('coroipc:client:request')
export const logChannel: Channel = channel('coroipc:client:log')
