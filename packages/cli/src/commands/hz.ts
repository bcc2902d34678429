/** `coroipc hz`: how many dispatches a second arrive, or how many calls a second are answered. */
import { setImmediate, setTimeout as delay } from 'node:timers/promises'
import type { Connection } from '@coroipc/ipcc'
import { connectTo, ended, interruption, serverGone } from '../client.js'
import {
  type Command,
  flag,
  integerOption,
  serverArgument,
  serviceArgument,
  timeoutOption,
  UsageError,
} from '../command.js'
import { describedService, findRequest, inspectionOption } from '../directory.js'
import { Distribution, type Spread, spreadText } from '../distribution.js'
import { bytesText, count, durationText } from '../output.js'
import { refusal } from '../refusal.js'

/** Longest that a blocking loop keeps timers and signals waiting. */
const BLOCK_MS = 20

/** What is counted: the distribution of times, and bytes. */
class Meter {
  readonly #all = new Distribution()
  #part = new Distribution()
  #bytes = 0
  #totalBytes = 0

  count(started: number, ended: number, bytes: number): void {
    this.#part.record(started, ended)
    this.#bytes += bytes
  }

  /** Since the last time. */
  take(): { spread: Spread; bytes: number } {
    const part = { spread: this.#part.read(), bytes: this.#bytes }
    this.#all.add(this.#part)
    this.#part = new Distribution()
    this.#totalBytes += this.#bytes
    this.#bytes = 0
    return part
  }

  total(): { spread: Spread; bytes: number } {
    return { spread: this.#all.read(), bytes: this.#totalBytes }
  }
}

/** Asks again and again until it is stopped: each of `lanes` has one request on its way. */
async function callLoop(
  connection: Connection,
  id: number,
  payload: Uint8Array,
  lanes: number,
  meter: Meter,
  signal: AbortSignal,
): Promise<void> {
  const lane = async (): Promise<void> => {
    while (!signal.aborted) {
      const started = performance.now()
      const answer = await connection.request(id, payload)
      meter.count(started, performance.now(), answer.length)
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}

/** The same by blocking calls; lets timers and signals in from time to time. */
async function blockingLoop(
  connection: Connection,
  id: number,
  payload: Uint8Array,
  meter: Meter,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const until = performance.now() + BLOCK_MS
    let started = performance.now()
    while (started < until) {
      const answer = connection.requestSync(id, payload)
      const now = performance.now()
      meter.count(started, now, answer.length)
      started = now
    }
    await setImmediate()
  }
}

/** Counts dispatches: the time of each is the gap before it. */
function countDispatches(connection: Connection, meter: Meter): void {
  let last: number | undefined
  connection.on('dispatch', ({ payload }) => {
    const now = performance.now()
    meter.count(last ?? now, now, payload.length)
    last = now
  })
}

const widths = [8, 12, 12, 11, 11, 11]
const row = (cells: readonly string[]): string =>
  cells.map((cell, index) => cell.padStart(widths[index] ?? 0)).join(' ')

export const command: Command = {
  summary: 'Measure how many dispatches, or answered calls, there are a second',
  arguments: [
    serverArgument,
    serviceArgument,
    {
      name: 'ID',
      complete: 'request',
      help: 'the request to ask again and again; without it dispatches are counted',
      optional: true,
    },
  ],
  options: {
    seconds: {
      type: 'string',
      short: 's',
      value: 'N',
      help: 'end after N seconds; default: at Ctrl-C',
    },
    'in-flight': { type: 'string', value: 'N', help: 'requests on their way at a time (1)' },
    size: { type: 'string', value: 'BYTES', help: 'bytes of each request (0)' },
    sync: { type: 'boolean', help: 'by blocking calls' },
    timeout: { type: 'string', value: 'MS', help: 'time to connect, and for each call (30000)' },
    inspection: inspectionOption,
  },
  details: `One line a second, and a summary. The times are those of calls, from asking to the answer, and with dispatches the
gaps between one and the next; bytes are those of dispatches and answers. With --json each second is one
value, the last one has "total": true.

Examples:
  coroipc hz demo 7
  coroipc hz demo 7 0 --in-flight 64 --size 1024 --seconds 5`,

  async run({ values, positionals, output }) {
    const [name = '', serviceText = '', idText] = positionals
    const seconds = integerOption(values, 'seconds', 1, 1e9) ?? Infinity
    const lanes = integerOption(values, 'in-flight', 1, 32768) ?? 1
    const payload = new Uint8Array(integerOption(values, 'size', 0, 1 << 30) ?? 0)
    const sync = flag(values, 'sync')
    if (idText === undefined && (sync || lanes > 1 || payload.length > 0))
      throw new UsageError('--sync, --in-flight and --size are for calls: give an ID')
    if (sync && lanes > 1)
      throw new UsageError('--sync has one request on its way, not --in-flight')

    const timeoutMs = timeoutOption(values, 'timeout')
    const { id: service, description } = await describedService(
      name,
      serviceText,
      timeoutMs,
      values,
    )
    const id = idText === undefined ? undefined : findRequest(idText, description).id
    const interrupted = interruption(true)
    const stop = new AbortController()
    const signal = AbortSignal.any([interrupted, stop.signal])
    await using connection = await connectTo(name, service, timeoutMs, {
      signal: interrupted,
    })
    if (id !== undefined) {
      // A contract refuses before its handler runs: that would be measured as if it were the handler.
      const refused = refusal(await connection.request(id, payload, { full: true }))
      if (refused !== undefined) throw refused
    }
    const over = ended(connection).then((reason) => {
      throw serverGone(name, reason)
    })
    over.catch(() => {}) // an end that we made ourselves
    const meter = new Meter()
    const what = id === undefined ? 'dispatches' : 'calls'
    if (!output.json)
      output.line(
        output.style(
          'bold',
          row([
            'SECOND',
            `${what.toUpperCase()}/S`.slice(0, 12),
            'BYTES/S',
            'P50',
            'P99',
            'LONGEST',
          ]),
        ),
      )
    let last = performance.now()
    const began = last
    const report = (second: number): void => {
      const now = performance.now()
      const { spread, bytes } = meter.take()
      const elapsed = (now - last) / 1000
      last = now
      const rate = spread.count / elapsed
      if (output.json) output.record({ second, rate, bytesPerSecond: bytes / elapsed, us: spread })
      else
        output.line(
          row([
            `${second}`,
            count(rate),
            bytesText(bytes / elapsed),
            ...[spread.p50, spread.p99, spread.max].map((us) =>
              spread.count === 0 ? '-' : durationText(us),
            ),
          ]),
        )
    }
    const reports = async (): Promise<void> => {
      for (let second = 1; second <= seconds; second++) {
        // Against the beginning: what is late once does not move all that follow.
        const due = began + second * 1000 - performance.now()
        await delay(Math.max(due, 0), undefined, { signal }).catch(() => {})
        if (signal.aborted) return
        report(second)
      }
      stop.abort()
    }
    const work =
      id === undefined
        ? countDispatches(connection, meter)
        : sync
          ? blockingLoop(connection, id, payload, meter, signal)
          : callLoop(connection, id, payload, lanes, meter, signal)
    try {
      await Promise.race([Promise.all([reports(), work]), over])
    } finally {
      stop.abort()
    }
    meter.take()
    const { spread, bytes } = meter.total()
    const elapsed = (performance.now() - began) / 1000
    const rate = spread.count / elapsed
    if (output.json)
      output.record({ total: true, seconds: elapsed, count: spread.count, rate, bytes, us: spread })
    else
      output.line(
        `\n${count(spread.count)} ${what} in ${elapsed.toFixed(1)} s: ${count(rate)} a second, ${bytesText(bytes)}; ${spreadText(spread)}`,
      )
  },
}
