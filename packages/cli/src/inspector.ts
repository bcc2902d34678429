/** A connection to a server's inspection service, and its questions as functions. */
import type { Connection, ConnectOptions } from '@coroipc/ipcc'
import { IpcError } from '@coroipc/ipcc'
import {
  type InspectedConnection,
  type InspectedConnections,
  type InspectedDescription,
  type InspectedPage,
  type InspectedServer,
  type InspectedService,
  type InspectedServices,
  inspection,
  type ServiceDescription,
} from '@coroipc/ipcs'
import { connectTo } from './client.js'
import { Exit, ID_MAX, integerOption, type Options, UsageError, type Values } from './command.js'
import { CommandError } from './errors.js'
import { didYouMean } from './near.js'
import { printableValue } from './output.js'

/** The options of every command that asks the inspection. */
export const inspectorOptions: Options = {
  inspection: {
    type: 'string',
    value: 'SERVICE',
    help: `the service that answers tools, if the server moved it (${inspection.service})`,
  },
  timeout: { type: 'string', value: 'MS', help: 'time to connect, and for each question (5000)' },
}

/** What these options say. @throws UsageError */
export function inspectorChoice(
  values: Values,
  timeoutMs = 5000,
): { service: number; timeoutMs: number } {
  return {
    service: integerOption(values, 'inspection', 0, ID_MAX) ?? inspection.service,
    timeoutMs: integerOption(values, 'timeout', 1, 0x7fffffff) ?? timeoutMs,
  }
}

/** The service of this number or name. @throws CommandError */
export function serviceNamed(
  services: readonly InspectedService[],
  word: string,
): InspectedService {
  const isNumber = /^\d+$/.test(word)
  if (isNumber && Number(word) > ID_MAX)
    throw new UsageError(`SERVICE: expected a name or a number up to ${ID_MAX}, got '${word}'`)
  const found = services.find(({ id, name }) => (isNumber ? id === Number(word) : name === word))
  if (found !== undefined) return found
  const names = services.flatMap(({ name }) => (name === undefined ? [] : [name]))
  throw new CommandError(
    `there is no service '${word}'${didYouMean(word, names)}`,
    `it has ${services.map(({ id, name }) => (name === undefined ? id : `${name} (${id})`)).join(', ')}`,
  )
}

/** Larger pages are fewer questions, but make a server that has thousands of connections busy for longer. */
const PAGE = 128
/** What all pages of one list may be, those of a server that has no end of them included. */
const LIST_BYTES_MAX = 64 << 20

export class Inspector implements AsyncDisposable {
  readonly connection: Connection
  /** A whole list has the time of one question: a server must not keep us by handing out pages. */
  readonly #timeoutMs: number

  private constructor(connection: Connection, timeoutMs: number) {
    this.connection = connection
    this.#timeoutMs = timeoutMs
  }

  /** @throws CommandError if the server has no inspection, else as `connect` */
  static async open(
    name: string,
    { service, timeoutMs }: { service: number; timeoutMs: number },
    options: Omit<ConnectOptions, 'service'> = {},
  ): Promise<Inspector> {
    try {
      return new Inspector(await connectTo(name, service, timeoutMs, options), timeoutMs)
    } catch (error) {
      if (!IpcError.is(error, 'ERR_COROIPC_NO_SERVICE')) throw error
      const told = new CommandError(
        `the server '${name}' tells nothing about itself: it has no service ${service} for tools`,
        'new Server({ inspect: true }) adds it; --inspection says where it is if it was moved',
        Exit.noConnection,
      )
      told.cause = error
      throw told
    }
  }

  /** @param latencyBounds where latency is recorded: count calls up to each, microseconds */
  server(latencyBounds?: readonly number[]): Promise<InspectedServer> {
    return this.ask(inspection.requests.server, { latencyBounds })
  }

  async services(): Promise<InspectedService[]> {
    const all: InspectedService[] = []
    for await (const page of this.#pages(inspection.requests.services, {}))
      all.push(...(page as InspectedServices).services)
    return all
  }

  /** Those of one service, or all. */
  async connections(service?: number): Promise<InspectedConnection[]> {
    const all: InspectedConnection[] = []
    const question = service === undefined ? {} : { service }
    for await (const page of this.#pages(inspection.requests.connections, question))
      all.push(...(page as InspectedConnections).connections)
    return all
  }

  async description(service: number): Promise<ServiceDescription> {
    const answer: InspectedDescription = await this.ask(inspection.requests.describe, { service })
    return answer.description
  }

  close(): Promise<void> {
    return this.connection.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async *#pages(id: number, question: InspectedPage): AsyncGenerator<object> {
    const end = performance.now() + this.#timeoutMs
    let after: number | undefined
    let left = LIST_BYTES_MAX
    do {
      const payload = await this.#asked(id, { ...question, limit: PAGE, after })
      left -= payload.length
      const page = read<{ next?: number }>(payload)
      yield page
      after = page.next
      if (after !== undefined && (left < 0 || performance.now() > end))
        throw new IpcError('ERR_COROIPC_TIMED_OUT', "the inspection's list has no end")
    } while (after !== undefined)
  }

  /**
   * Any question: the answer is what the server says it is, numbers too may be texts. So none of it is anything that a
   * terminal would obey.
   */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters
  async ask<Answer>(id: number, question: object = {}): Promise<Answer> {
    return read(await this.#asked(id, question))
  }

  #asked(id: number, question: object): Promise<Uint8Array> {
    return this.connection.request(id, JSON.stringify(question))
  }
}

// oxlint-disable-next-line typescript/no-unnecessary-type-parameters
function read<Answer>(payload: Uint8Array): Answer {
  return printableValue(JSON.parse(new TextDecoder().decode(payload))) as Answer
}
