/**
 * What a server publishes by node:diagnostics_channel, for monitors that know nothing of the program.
 * Nothing is made for a channel that nobody subscribed to.
 *
 * - `coroipc:server:connect`     { connection }
 * - `coroipc:server:disconnect`  { connection, reason }
 * - `coroipc:server:request`     { request, code }: it was answered; code 'OK' or an `ERR_COROIPC_*`
 * - `coroipc:server:error`       { error, connection, request }
 * - `coroipc:server:log`         { level, message }: what the native side writes to `log`; levels as in pino
 */
import { type Channel, channel } from 'node:diagnostics_channel'

export const connectChannel: Channel = channel('coroipc:server:connect')
export const disconnectChannel: Channel = channel('coroipc:server:disconnect')
export const requestChannel: Channel = channel('coroipc:server:request')
export const errorChannel: Channel = channel('coroipc:server:error')
export const logChannel: Channel = channel('coroipc:server:log')
