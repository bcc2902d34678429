/**
 * What a caller is told names what it asked for, also where a subscriber of the tracing channel had another id sent: the
 * one of a request that carries the context of a trace.
 */
import { IpcError } from '@coroipc/native'

/** The same error, by the id that was asked for. */
export function byAskedId<Failure>(error: Failure, id: number): Failure {
  if (!IpcError.is(error)) return error
  const { message, stack } = error
  error.message = message.replace(/^(request|requestSync|send) \d+/, `$1 ${id}`)
  if (stack !== undefined) error.stack = stack.replace(message, () => error.message)
  return error
}
