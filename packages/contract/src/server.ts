/** `@coroipc/contract/server`: the server's side of a contract: handlers of values, and dispatches of values. */
import { Encoded, type Encoder, invalidArgument } from '@coroipc/native'
import type { Connection, Handler, Request, ServiceOptions } from '@coroipc/ipcs'
import {
  type Contract,
  type DispatchInput,
  type DispatchName,
  formOf,
  type RequestDefinition,
  type RequestOutput,
  type RequestsOf,
  type ResponseInput,
} from './define.js'
import { INVALID_STATUS, MESSAGE_LENGTH, type StatusError } from './error.js'
import { Invalid, type Receive, receiver } from './receive.js'

/** A request as a typed handler sees it, beside its value. */
export type Call<Context = unknown> = Omit<
  Request<Context>,
  'payload' | 'respond' | 'fail' | 'defer' | 'answered'
>

/** A handler of each request. */
export type ContractHandlers<C extends Contract, Context = unknown> = {
  readonly [Name in keyof RequestsOf<C>]: (
    value: RequestOutput<C, Name>,
    request: Call<Context>,
  ) => ResponseInput<C, Name> | PromiseLike<ResponseInput<C, Name>>
}

/** What {@link implement} takes: a service's options, but for what the contract says. */
export interface ImplementOptions<C extends Contract, Context = unknown>
  extends Omit<ServiceOptions<Context>, 'id' | 'handlers'> {
  readonly handlers: ContractHandlers<C, Context>
}

/** Sends a dispatch of each kind, as `connection.dispatch` does. */
export type Dispatcher<C extends Contract> = {
  readonly [Name in DispatchName<C>]: (
    connection: Connection,
    ...value: undefined extends DispatchInput<C, Name>
      ? [value?: undefined]
      : [value: DispatchInput<C, Name>]
  ) => boolean
}

type ValueHandler<Context> = (value: unknown, request: Call<Context>) => unknown

/**
 * Makes a service of a contract and its handlers: what `server.addService` takes.
 *
 * A handler gets a value that was validated, and returns one; it runs only for requests that are what the contract
 * says. Others are answered `ERR_COROIPC_REQUEST_INVALID` with what is wrong. An answer that its codec cannot
 * encode is `ERR_COROIPC_ANSWER_INVALID`. `throw new StatusError(...)` answers with a status of the application.
 *
 * @throws TypeError `ERR_COROIPC_INVALID_ARGUMENT`, also for a handler that is missing or too much
 * @example
 * server.addService(implement(calculator, {
 *   handlers: { add: ({ a, b }) => a + b },
 * }))
 */
export function implement<C extends Contract, Context = unknown>(
  contract: C,
  options: ImplementOptions<C, Context>,
): ServiceOptions<Context> {
  if (typeof options !== 'object' || options === null)
    throw invalidArgument('options', 'an object with handlers', options)
  const { handlers, ...rest } = options
  const { requests = {} } = contract.definition
  if (typeof handlers !== 'object' || handlers === null)
    throw invalidArgument('handlers', 'an object of functions', handlers)
  for (const name of Object.keys(handlers))
    if (!Object.hasOwn(requests, name))
      throw invalidArgument('handlers', `requests of ${contract.name}`, name)
  const byId = new Map<number, Handler<Context>>()
  for (const [name, request] of Object.entries(requests)) {
    const handler = (handlers as Readonly<Record<string, unknown>>)[name]
    if (typeof handler !== 'function')
      throw invalidArgument(`handlers.${name}`, 'a function', handler)
    byId.set(request.id, handlerOf(contract, request, handler as ValueHandler<Context>))
  }
  const { limits, description, id } = contract
  const { requestsPerSecond, backlogBytes } = limits
  return { description, requestsPerSecond, backlogBytes, ...rest, id, handlers: byId }
}

function handlerOf<Context>(
  { definition, limits }: Contract,
  { request: requestShape, response: responseShape, oneWay = false }: RequestDefinition,
  handler: ValueHandler<Context>,
): Handler<Context> {
  const receive: Receive = receiver(formOf(requestShape, definition), limits.requestBytes, true)
  const encoder: Encoder<unknown> | undefined = formOf(responseShape, definition)?.codec
  // Made once for each kind of request, none for a single one.
  const answer =
    encoder === undefined || oneWay
      ? () => undefined
      : (value: unknown): Encoded => new Encoded(encoder, value)
  const run = (value: unknown, request: Request<Context>): ReturnType<Handler<Context>> => {
    if (value instanceof Invalid) return refusal(value, request.connection.messageBytes)
    let result: unknown
    try {
      result = handler(value, request)
    } catch (error) {
      return statusOf(error)
    }
    return isThenable(result) ? result.then(answer, statusOf) : answer(result)
  }
  return (request) => {
    const value = receive(request.payload)
    return value instanceof Promise ? value.then((each) => run(each, request)) : run(value, request)
  }
}

/** What is wrong, or only that something is where the words would not fit. */
function refusal({ issues }: Invalid, bytesMax: number): { status: number; payload: string } {
  const payload = JSON.stringify(issues)
  return { status: INVALID_STATUS, payload: payload.length * 3 > bytesMax ? '' : payload }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  )
}

/** The answer of a handler that threw a status; anything else goes on. */
function statusOf(error: unknown): { status: number; payload: string } {
  if (!isStatusError(error)) throw error
  return { status: error.status, payload: error.message.slice(0, MESSAGE_LENGTH) }
}

function isStatusError(error: unknown): error is StatusError {
  if (!(error instanceof Error) || error.name !== 'StatusError') return false
  const { status } = error as StatusError
  // What the client would take for an answer, or for a word of the contract's, is no status.
  return status === (status | 0) && status !== 0 && status !== INVALID_STATUS
}

/**
 * Makes the functions that dispatch a contract's messages.
 *
 * @returns a function for each, which returns and throws what `connection.dispatch` does, and throws what the codec
 *   says of a value that it cannot encode
 * @example
 * const send = dispatcher(feed)
 * if (!send.tick(connection, { at: Date.now() })) await connection.drain()
 */
export function dispatcher<C extends Contract>(contract: C): Dispatcher<C> {
  const { definition } = contract
  const functions: Record<string, (connection: Connection, value?: unknown) => boolean> = {}
  for (const [name, { id, payload }] of Object.entries(definition.dispatches ?? {})) {
    const codec = formOf(payload, definition)?.codec
    const options = { id }
    functions[name] =
      codec === undefined
        ? (connection) => connection.dispatch(undefined, options)
        : (connection, value) => connection.dispatch(new Encoded(codec, value), options)
  }
  return Object.freeze(functions) as Dispatcher<C>
}
