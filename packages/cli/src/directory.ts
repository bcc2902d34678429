/**
 * What a server tells about its services: names for numbers, codecs for payloads. It does so where it has the option
 * `inspect`, by an ordinary service; who may ask is its `authorize`'s decision.
 */
import type { Connection } from '@coroipc/ipcc'
import type {
  DispatchDescription,
  InspectedDescription,
  InspectedServices,
  RequestDescription,
  ServiceDescription,
} from '@coroipc/ipcs'
import { connectTo } from './client.js'
import { ID_MAX, UsageError } from './command.js'
import { didYouMean } from './near.js'

/** Answers of a server that says nothing about itself, or not to us. */
const silent = new Set([
  'ERR_COROIPC_NO_SERVICE',
  'ERR_COROIPC_DENIED',
  'ERR_COROIPC_REFUSED',
  'ERR_COROIPC_NO_HANDLER',
])

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
  readonly #connection: Connection | undefined

  private constructor(connection: Connection | undefined) {
    this.#connection = connection
  }

  /** Of a server that tells nothing it knows nothing. @throws as `connect`, when there is no server */
  static async open(name: string, timeoutMs: number | undefined): Promise<Directory> {
    const { inspection } = await import('@coroipc/ipcs')
    try {
      return new Directory(await connectTo(name, inspection.service, timeoutMs))
    } catch (error) {
      if (silent.has((error as { code?: string }).code ?? '')) return new Directory(undefined)
      throw error
    }
  }

  /** The answer to a question; undefined if there is none for us. */
  async #ask<Answer>(id: number, question: object): Promise<Answer | undefined> {
    try {
      const answer = await this.#connection?.request(id, JSON.stringify(question))
      return answer === undefined
        ? undefined
        : (JSON.parse(new TextDecoder().decode(answer)) as Answer)
    } catch (error) {
      if (silent.has((error as { code?: string }).code ?? '')) return undefined
      throw error
    }
  }

  /** The services that have names, as `[name, id]`. */
  async services(): Promise<[string, number][]> {
    const { inspection } = await import('@coroipc/ipcs')
    const found: [string, number][] = []
    let page: InspectedServices | undefined
    do {
      page = await this.#ask<InspectedServices>(inspection.requests.services, {
        after: page?.next, // left out of the JSON at first
      })
      for (const { id, name, inspection: own } of page?.services ?? [])
        if (name !== undefined && own !== true) found.push([name, id])
    } while (page?.next !== undefined)
    return found
  }

  /** A service by number or name. @throws UsageError for a name that nobody knows */
  async service(text: string): Promise<FoundService> {
    const id = isNumber(text) ? number('SERVICE', text) : await this.#named(text)
    const { inspection } = await import('@coroipc/ipcs')
    const answer = await this.#ask<InspectedDescription>(inspection.requests.describe, {
      service: id,
    })
    return { id, description: answer?.description }
  }

  async #named(text: string): Promise<number> {
    const services = new Map(await this.services())
    const id = services.get(text)
    if (id !== undefined) return id
    const why =
      this.#connection === undefined
        ? 'this server tells no names (its option `inspect`): give the number'
        : `no service is called so${didYouMean(text, services.keys())}`
    throw new UsageError(
      `SERVICE: expected a number from 0 to ${ID_MAX} or a name, got '${text}': ${why}`,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.close()
  }
}

/** One service of a server, by number or name. @throws as `connect`; UsageError for a name that nobody knows */
export async function describedService(
  name: string,
  service: string,
  timeoutMs: number | undefined,
): Promise<FoundService> {
  await using directory = await Directory.open(name, timeoutMs)
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
