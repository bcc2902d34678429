/** The contract: what a service is asked and what it says, written once, checked, and readable at run time. */
import {
  type Checks,
  anything,
  boolean,
  checkOptions,
  integer,
  invalidArgument,
} from '@coroipc/native'
import type { StandardJSONSchemaV1, StandardSchemaV1 } from '@standard-schema/spec'
import { type Codec, json } from './codec.js'

/** A schema of any library that follows Standard Schema: zod, valibot, arktype. */
export type Schema<Input = unknown, Output = Input> = StandardSchemaV1<Input, Output>

/** A codec whose values are validated by a schema; made by {@link checked}. */
export interface Checked<S extends Schema = Schema> {
  readonly codec: Codec<unknown>
  readonly schema: S
}

/**
 * What a payload is: a schema, whose input travels by the service's codec (JSON); a codec, whose values are not
 * validated; or both, by {@link checked}.
 */
export type Shape = Schema | Codec<unknown> | Checked

interface Asked {
  /** 0 to 65535. */
  readonly id: number
  /** One line for tools. */
  readonly summary?: string
  readonly request?: Shape
}

/** A request. Without `request` it takes nothing, without `response` it returns nothing. */
export type RequestDefinition =
  | (Asked & { readonly response?: Shape; readonly oneWay?: false })
  /** Sent without an answer: there is no `response`. */
  | (Asked & { readonly response?: undefined; readonly oneWay: true })

/** A message that the server sends unasked. Without `payload` it is empty. */
export interface DispatchDefinition {
  /** 0 to 65535. */
  readonly id: number
  /** One line for tools. */
  readonly summary?: string
  readonly payload?: Shape
}

/** Bounds of a service. */
export interface ContractLimits {
  /** Bytes of a request; larger ones are refused by the server before they are decoded. */
  readonly requestBytes?: number
  /** Bytes of an answer; larger ones are refused by the client before they are decoded. */
  readonly responseBytes?: number
  /** Bytes of a dispatch; larger ones are refused by the client before they are decoded. */
  readonly dispatchBytes?: number
  /** Default of the service's option of this name. */
  readonly requestsPerSecond?: number
  /** Default of the service's option of this name. */
  readonly backlogBytes?: number
}

/** What {@link defineService} takes. */
export interface Definition {
  /** The service's number, 0 to 65535. */
  readonly id: number
  /** What tools and errors call it. Default `service <id>`. */
  readonly name?: string
  readonly version?: string
  /** One line for tools. */
  readonly summary?: string
  /** How values of plain schemas travel. Default `json()`. */
  readonly codec?: Codec<unknown>
  readonly requests?: Readonly<Record<string, RequestDefinition>>
  readonly dispatches?: Readonly<Record<string, DispatchDefinition>>
  readonly limits?: ContractLimits
}

/** A JSON Schema, as the schema's library tells it. */
export type JsonSchema = Readonly<Record<string, unknown>>

/** A contract in plain JSON, for tools; by id. Schemas that no library tells as JSON Schema are left out. */
export interface ServiceDescription {
  name?: string
  version?: string
  summary?: string
  requests?: Record<
    number,
    {
      name: string
      summary?: string
      codec?: string
      request?: JsonSchema
      response?: JsonSchema
      oneWay?: boolean
    }
  >
  dispatches?: Record<
    number,
    { name: string; summary?: string; codec?: string; payload?: JsonSchema }
  >
}

/** What both sides are made of: by {@link defineService}. */
export interface Contract<D extends Definition = Definition> {
  readonly id: number
  readonly name: string
  readonly limits: ContractLimits
  /** The definition, as it was given. */
  readonly definition: D
  /** The same for tools; made when it is first read. */
  readonly description: ServiceDescription
}

type Requests<C extends Contract> = NonNullable<C['definition']['requests']>
type Dispatches<C extends Contract> = NonNullable<C['definition']['dispatches']>

/** Names of requests that are answered. */
export type RequestName<C extends Contract> = {
  [Name in keyof Requests<C>]: Requests<C>[Name] extends { oneWay: true } ? never : Name
}[keyof Requests<C>]
/** Names of requests that are not. */
export type OneWayName<C extends Contract> = {
  [Name in keyof Requests<C>]: Requests<C>[Name] extends { oneWay: true } ? Name : never
}[keyof Requests<C>]
/** Names of dispatches. */
export type DispatchName<C extends Contract> = keyof Dispatches<C>

/** What its sender passes for a shape: a schema's input. */
export type Sent<S> =
  S extends StandardSchemaV1<infer Input, unknown>
    ? Input
    : S extends Checked<infer Inner>
      ? StandardSchemaV1.InferInput<Inner>
      : S extends Codec<infer Value, unknown>
        ? Value
        : void

/** What its receiver gets: a schema's output; where nothing is validated, its input. */
export type Received<S, Validated extends boolean = true> =
  S extends StandardSchemaV1<infer Input, infer Output>
    ? Validated extends true
      ? Output
      : Input
    : S extends Checked<infer Inner>
      ? Received<Inner, Validated>
      : S extends Codec<never, infer Value>
        ? Value
        : void

type Member<T, Name extends string> =
  T extends Readonly<Record<Name, infer Value>> ? Value : undefined

/** What a client passes with a request. */
export type RequestInput<C extends Contract, Name extends keyof Requests<C>> = Sent<
  Member<Requests<C>[Name], 'request'>
>
/** What a handler gets. */
export type RequestOutput<C extends Contract, Name extends keyof Requests<C>> = Received<
  Member<Requests<C>[Name], 'request'>
>
/** What a handler returns. */
export type ResponseInput<C extends Contract, Name extends keyof Requests<C>> = Sent<
  Member<Requests<C>[Name], 'response'>
>
/** What a client gets. */
export type ResponseOutput<
  C extends Contract,
  Name extends keyof Requests<C>,
  Validated extends boolean = true,
> = Received<Member<Requests<C>[Name], 'response'>, Validated>
/** What a server dispatches. */
export type DispatchInput<C extends Contract, Name extends DispatchName<C>> = Sent<
  Member<Dispatches<C>[Name], 'payload'>
>
/** What a client gets of a dispatch. */
export type DispatchOutput<
  C extends Contract,
  Name extends DispatchName<C>,
  Validated extends boolean = true,
> = Received<Member<Dispatches<C>[Name], 'payload'>, Validated>

export type RequestsOf<C extends Contract> = Requests<C>
export type DispatchesOf<C extends Contract> = Dispatches<C>

/**
 * A codec whose values are validated by a schema: what arrives is decoded, then validated.
 *
 * @example
 * checked(structured(), z.object({ at: z.date() }))
 */
export function checked<const S extends Schema>(codec: Codec<unknown>, schema: S): Checked<S> {
  if (!isCodec(codec)) throw invalidArgument('codec', 'a codec', codec)
  if (!isSchema(schema)) throw invalidArgument('schema', 'a Standard Schema', schema)
  return { codec, schema }
}

/** A schema may be a function (arktype), and may have methods of these names (zod): it is asked for first. */
export function isSchema(value: unknown): value is Schema {
  const standard = (value as Partial<Schema> | null | undefined)?.['~standard']
  return (
    typeof standard === 'object' && standard !== null && typeof standard.validate === 'function'
  )
}

export function isCodec(value: unknown): value is Codec<unknown> {
  if (typeof value !== 'object' || value === null) return false
  const { encode, decode, name } = value as Partial<Codec<unknown>>
  return typeof encode === 'function' && typeof decode === 'function' && typeof name === 'string'
}

function isChecked(value: unknown): value is Checked {
  if (typeof value !== 'object' || value === null) return false
  const { codec, schema } = value as Partial<Checked>
  return isCodec(codec) && isSchema(schema)
}

/** A shape taken apart. */
export interface Form {
  readonly codec: Codec<unknown>
  readonly schema: Schema | undefined
}

/** Of a shape that is there. */
export function formOf(shape: Shape | undefined, definition: Definition): Form | undefined {
  if (shape === undefined) return undefined
  if (isSchema(shape)) return { codec: definition.codec ?? json(), schema: shape }
  return isChecked(shape) ? shape : { codec: shape, schema: undefined }
}

const id = integer(0, 65535)
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/
/** Members of a client beside its requests, and what would make it something else: a promise. */
const TAKEN = new Set(['sync', 'dispatches', 'on', 'connection', 'then'])

function text(name: string, value: unknown): void {
  if (typeof value !== 'string' || value.length === 0 || value.length > 1024)
    throw invalidArgument(name, 'a string of 1 to 1024 characters', value)
}

function shape(name: string, value: unknown): void {
  if (!isSchema(value) && !isCodec(value) && !isChecked(value))
    throw invalidArgument(name, 'a Standard Schema, a codec, or checked(codec, schema)', value)
}

const requestChecks: Checks = {
  id,
  summary: text,
  request: shape,
  response: shape,
  oneWay: boolean,
}
const dispatchChecks: Checks = { id, summary: text, payload: shape }
const bound = integer(1, 0xffffffff)
const limitChecks: Checks = {
  requestBytes: integer(0, 0xffffffff),
  responseBytes: integer(0, 0xffffffff),
  dispatchBytes: integer(0, 0xffffffff),
  requestsPerSecond: integer(0, 0x7fffffff),
  backlogBytes: bound,
}
const definitionChecks: Checks = {
  id,
  name: text,
  version: text,
  summary: text,
  codec: (name, value) => {
    if (!isCodec(value)) throw invalidArgument(name, 'a codec', value)
  },
  requests: anything,
  dispatches: anything,
  limits: (name, value) => checkOptions(name, value, limitChecks),
}

/** Requests or dispatches: each right by itself, no id twice, names that can be members. */
function checkEntries(name: string, entries: unknown, checks: Checks, taken: Set<string>): void {
  if (entries === undefined) return
  if (typeof entries !== 'object' || entries === null || Array.isArray(entries))
    throw invalidArgument(name, 'an object', entries)
  const names = new Map<number, string>()
  for (const [key, entry] of Object.entries(entries) as [string, { id: number }][]) {
    const path = `${name}.${key}`
    if (!NAME.test(key) || key in Object.prototype || taken.has(key))
      throw invalidArgument(name, `a name of letters, digits and _ that is not taken`, key)
    if (entry === undefined) throw invalidArgument(path, 'an object', entry)
    checkOptions(path, entry, checks)
    if (entry.id === undefined)
      throw invalidArgument(`${path}.id`, 'an integer from 0 to 65535', entry.id)
    const other = names.get(entry.id)
    if (other !== undefined)
      throw invalidArgument(
        `${path}.id`,
        `an id of its own, which ${name}.${other} does not have`,
        entry.id,
      )
    names.set(entry.id, key)
  }
}

/**
 * Makes a contract: the types of both sides, and what they check at run time.
 *
 * A schema's input is what travels; who receives it validates it and gets the schema's output.
 *
 * @throws TypeError or RangeError `ERR_COROIPC_INVALID_ARGUMENT`
 * @example
 * export const calculator = defineService({
 *   id: 7,
 *   name: 'calculator',
 *   requests: {
 *     add: { id: 0, request: z.object({ a: z.number(), b: z.number() }), response: z.number() },
 *   },
 * })
 */
export function defineService<const D extends Definition>(definition: D): Contract<D> {
  if (typeof definition !== 'object' || definition === null)
    throw invalidArgument('definition', 'an object', definition)
  const { id, limits = {}, requests = {} } = definition
  const name = definition.name ?? `service ${String(id)}`
  checkOptions('service', definition, definitionChecks)
  if (id === undefined) throw invalidArgument('service.id', 'an integer from 0 to 65535', id)
  checkEntries('service.requests', definition.requests, requestChecks, TAKEN)
  checkEntries('service.dispatches', definition.dispatches, dispatchChecks, new Set())
  for (const [key, { oneWay, response }] of Object.entries(requests))
    if (oneWay === true && response !== undefined)
      throw invalidArgument(
        `service.requests.${key}.response`,
        'to be left out of one that is one way',
        response,
      )
  let description: ServiceDescription | undefined
  return Object.freeze({
    id,
    name,
    limits,
    definition,
    get description() {
      description ??= describe(definition)
      return description
    },
  })
}

function describe(definition: Definition): ServiceDescription {
  const { name, version, summary, requests = {}, dispatches = {} } = definition
  const description: ServiceDescription = { ...given({ name, version, summary }) }
  const described: NonNullable<ServiceDescription['requests']> = {}
  for (const [key, entry] of Object.entries(requests)) {
    const request = formOf(entry.request, definition)
    const response = formOf(entry.response, definition)
    described[entry.id] = {
      name: key,
      ...given({
        summary: entry.summary,
        codec: (request ?? response)?.codec.name,
        request: jsonSchema(request),
        response: jsonSchema(response),
        oneWay: entry.oneWay,
      }),
    }
  }
  const sent: NonNullable<ServiceDescription['dispatches']> = {}
  for (const [key, entry] of Object.entries(dispatches)) {
    const payload = formOf(entry.payload, definition)
    sent[entry.id] = {
      name: key,
      ...given({
        summary: entry.summary,
        codec: payload?.codec.name,
        payload: jsonSchema(payload),
      }),
    }
  }
  return { ...description, requests: described, dispatches: sent }
}

/** Without members that are undefined: the description is JSON. */
function given<T extends object>(members: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>
  }
}

/** By Standard JSON Schema; a library that has none, or no form for this schema, leaves it out. */
function jsonSchema(form: Form | undefined): JsonSchema | undefined {
  const { jsonSchema: converter } = (form?.schema?.['~standard'] ??
    {}) as Partial<StandardJSONSchemaV1.Props>
  if (converter === undefined) return undefined
  try {
    // What is not JSON after all throws here, or gets lost: a server would refuse it.
    const found = JSON.stringify(converter.input({ target: 'draft-2020-12' }))
    return JSON.parse(found) as JsonSchema
  } catch {
    return undefined
  }
}
