/**
 * What a server tells about its services: names for numbers, codecs for payloads. It does so where it has the option
 * `inspect`, by an ordinary service; who may ask is its `authorize`'s decision.
 */
import type { DispatchDescription, RequestDescription, ServiceDescription } from '@coroipc/ipcs'
import { ID_MAX, integerOption, type Option, UsageError, type Values } from './command.js'
import type { Inspector } from './inspector.js'
import { didYouMean } from './near.js'

/** The option of commands that look names up. */
export const inspectionOption: Option = {
  type: 'string',
  value: 'SERVICE',
  help: 'the service that tells names and codecs, if the server moved it (65535)',
}

/** Answers of a server that says nothing about itself, or not to us. */
const silent = new Set([
  'ERR_COROIPC_NO_SERVICE',
  'ERR_COROIPC_DENIED',
  'ERR_COROIPC_REFUSED',
  'ERR_COROIPC_NO_HANDLER',
])

/** What comes of it, or undefined where the server says nothing. */
async function unlessSilent<Result>(asked: Promise<Result>): Promise<Result | undefined> {
  try {
    return await asked
  } catch (error) {
    const { code, cause } = error as { code?: string; cause?: { code?: string } }
    if (silent.has(code ?? cause?.code ?? '')) return undefined
    throw error
  }
}

const isNumber = (text: string): boolean => /^\d+$/.test(text)

function number(what: string, text: string): number {
  const value = Number(text)
  if (value > ID_MAX) throw new UsageError(`${what}: expected at most ${ID_MAX}, got '${text}'`)
  return value
}

/** A service as it was named, and what is known about it. */
export interface FoundService {
  readonly id: number
  readonly description: ServiceDescription | undefined
}

export class Directory implements AsyncDisposable {
  readonly #inspector: Inspector | undefined

  private constructor(inspector: Inspector | undefined) {
    this.#inspector = inspector
  }

  /** Of a server that tells nothing it knows nothing. @throws as `connect`, when there is no server */
  static async open(name: string, timeoutMs = 30_000, service?: number): Promise<Directory> {
    // Loaded here: help and completion need no addon.
    const { Inspector } = await import('./inspector.js')
    const { inspection } = await import('@coroipc/ipcs')
    const choice = { service: service ?? inspection.service, timeoutMs }
    return new Directory(await unlessSilent(Inspector.open(name, choice)))
  }

  /** The services that have names, as `[name, id]`. */
  async services(): Promise<[string, number][]> {
    const all = this.#inspector && (await unlessSilent(this.#inspector.services()))
    return (all ?? []).flatMap(({ id, name, inspection: own }) =>
      name === undefined || own === true ? [] : [[name, id] as [string, number]],
    )
  }

  /** A service by number or name. @throws UsageError for a name that nobody knows */
  async service(text: string): Promise<FoundService> {
    const id = isNumber(text) ? number('SERVICE', text) : await this.#named(text)
    const description = this.#inspector && (await unlessSilent(this.#inspector.description(id)))
    return { id, description }
  }

  async #named(text: string): Promise<number> {
    const services = new Map(await this.services())
    const id = services.get(text)
    if (id !== undefined) return id
    const why =
      this.#inspector === undefined
        ? 'this server tells no names (its option `inspect`): give the number'
        : `no service is called so${didYouMean(text, services.keys())}`
    throw new UsageError(
      `SERVICE: expected a number from 0 to ${ID_MAX} or a name, got '${text}': ${why}`,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inspector?.close()
  }
}

/**
 * One service of a server, by number or name; `values` has the options of the command.
 * @throws as `connect`; UsageError for a name that nobody knows
 */
export async function describedService(
  name: string,
  service: string,
  timeoutMs: number | undefined,
  values: Values,
): Promise<FoundService> {
  const inspection = integerOption(values, 'inspection', 0, ID_MAX)
  await using directory = await Directory.open(name, timeoutMs, inspection)
  return await directory.service(service)
}

/** Something of a description that has a number and a name. */
export interface Found<Described> {
  readonly id: number
  readonly description: Described | undefined
}

function find<Described extends { readonly name: string }>(
  what: string,
  text: string,
  described: Readonly<Record<number, Described>> | undefined,
): Found<Described> {
  if (isNumber(text)) {
    const id = number(what, text)
    return { id, description: described?.[id] }
  }
  const entries = Object.entries(described ?? {})
  const found = entries.find(([, { name }]) => name === text)
  if (found !== undefined) return { id: Number(found[0]), description: found[1] }
  const why =
    described === undefined
      ? 'the service tells no names: give the number'
      : `nothing is called so${didYouMean(
          text,
          entries.map(([, { name }]) => name),
        )}`
  throw new UsageError(
    `${what}: expected a number from 0 to ${ID_MAX} or a name, got '${text}': ${why}`,
  )
}

/** A request by number or name. @throws UsageError for a name that nobody knows */
export function findRequest(
  text: string,
  description: ServiceDescription | undefined,
): Found<RequestDescription> {
  return find('ID', text, description?.requests)
}

/** A dispatch by number or name. @throws UsageError for a name that nobody knows */
export function findDispatch(
  text: string,
  description: ServiceDescription | undefined,
): Found<DispatchDescription> {
  return find('--id', text, description?.dispatches)
}
