/** Connections of the commands, and when they are interrupted. */
import type { Connection, ConnectOptions } from '@coroipc/ipcc'
import { Exit } from './command.js'
import { CommandError } from './errors.js'
import { watchReader } from './reader.js'

/**
 * Connects; what the command waits for is bounded by the same time. The library is loaded here and not before: help and
 * completion need no addon.
 */
export async function connectTo(
  name: string,
  service: number,
  timeoutMs: number | undefined,
  options: Omit<ConnectOptions, 'service'> = {},
): Promise<Connection> {
  const { connect } = await import('@coroipc/ipcc')
  return connect(name, {
    service,
    ...(timeoutMs === undefined ? {} : { timeoutMs, requestTimeoutMs: timeoutMs }),
    ...options,
  })
}

/**
 * Aborted by Ctrl-C and by SIGTERM: the command ends in order, and what it has to say is still said. Either of them a second
 * time ends it at once.
 *
 * @param toStdout what it does is seen on stdout and nowhere else: aborted as well when stdout is a pipe that nobody reads any
 *   more, as after `| head -1`
 */
export function interruption(toStdout: boolean): AbortSignal {
  const controller = new AbortController()
  const signals = ['SIGINT', 'SIGTERM'] as const
  const stop = (): void => {
    unwatch()
    for (const signal of signals) process.off(signal, stop)
    controller.abort()
  }
  const unwatch = toStdout ? watchReader(stop) : () => {}
  for (const signal of signals) process.on(signal, stop)
  return controller.signal
}

/** Fulfilled with the reason when the connection ends by itself. */
export function ended(connection: Connection): Promise<Error> {
  return new Promise((resolve) => connection.once('close', resolve))
}

/** The error of a command whose server went away while it was watched. */
export function serverGone(name: string, reason: Error): CommandError {
  const error = new CommandError(`the server '${name}' has gone`, undefined, Exit.lost)
  error.cause = reason
  return error
}
