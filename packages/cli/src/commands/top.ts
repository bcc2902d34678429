/** `coroipc top`: what a server does, live. */
import { setTimeout as delay } from 'node:timers/promises'
import { ended, interruption, serverGone } from '../client.js'
import {
  type Command,
  flag,
  integerOption,
  serverArgument,
  textOption,
  UsageError,
} from '../command.js'
import { Inspector, inspectorChoice, inspectorOptions } from '../inspector.js'
import type { Output } from '../output.js'
import { Screen } from '../screen.js'
import { type Snapshot, Watch } from '../top/activity.js'
import { type Choice, type SortName, sortNames, topLines } from '../top/view.js'

const INTERVALS_S = [0.2, 0.5, 1, 2, 5, 10, 30, 60]

const keysHelp = [
  's S      next, previous column to sort connections by',
  'r        the other way round',
  'a        tools as well, such as this one',
  'p space  pause, go on',
  '+ -      look more often, less often',
  'h ?      this help, or away with it',
  'q        quit',
  '',
  'CALLS/S  requests and sends of the last interval; DISP/S dispatches; bytes of payloads',
  'MEAN     receive to answer, of the last interval; P50 and P99 since the server began',
  'FLIGHT   requests without an answer; BACKLOG dispatches that wait for room; FLOW on: they wait now',
  'BUSY %   receive to answer of all its calls together, in percent of the last interval',
  'RINGS %  how full the request, the response and the dispatch ring are at this moment',
  "CPU %    of the client's process, all its connections together; the server's is above",
]

/** The screen of a terminal, until `q`. */
class Live implements Disposable {
  readonly #name: string
  readonly #output: Output
  readonly #watch: Watch
  readonly #screen: Screen
  readonly #done = new AbortController()
  #choice: Choice
  #interval: number
  #paused = false
  #help = false
  #snapshot: Snapshot | undefined
  #sleep = new AbortController()

  constructor(name: string, output: Output, watch: Watch, choice: Choice, interval: number) {
    this.#name = name
    this.#output = output
    this.#watch = watch
    this.#choice = choice
    this.#interval = interval
    this.#screen = new Screen({
      key: (key) => {
        this.#key(key)
        this.#draw()
      },
      redraw: () => this.#draw(),
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = AbortSignal.any([signal, this.#done.signal])
    stop.addEventListener('abort', () => this.#sleep.abort())
    while (!stop.aborted) {
      if (!this.#paused) {
        const snapshot = await this.#watch.look()
        // Paused meanwhile: what is on the screen stays.
        if (!this.#paused || this.#snapshot === undefined) this.#snapshot = snapshot
        this.#draw()
      }
      this.#sleep = new AbortController()
      // Woken by a key that changes how long to sleep.
      await delay(this.#interval * 1000, undefined, { signal: this.#sleep.signal }).catch(() => {})
    }
  }

  #key(key: string): void {
    switch (key) {
      case 'q':
      case 'escape':
        this.#done.abort()
        break
      case 's':
      case 'S':
        this.#choice = { ...this.#choice, sort: this.#nextSort(key === 's' ? 1 : -1) }
        break
      case 'r':
        this.#choice = { ...this.#choice, reverse: !this.#choice.reverse }
        break
      case 'a':
        this.#choice = { ...this.#choice, all: !this.#choice.all }
        break
      case 'p':
      case 'space':
        this.#paused = !this.#paused
        this.#sleep.abort()
        break
      case '+':
      case '-':
        this.#interval = nextInterval(this.#interval, key === '+')
        this.#sleep.abort()
        break
      case 'h':
      case '?':
        this.#help = !this.#help
        break
      default:
    }
  }

  #nextSort(step: number): SortName {
    const at = sortNames.indexOf(this.#choice.sort) + step + sortNames.length
    return sortNames[at % sortNames.length] as SortName
  }

  #draw(): void {
    if (this.#snapshot === undefined) return
    const { columns, rows } = this.#screen
    const { sort, reverse } = this.#choice
    const lines = this.#help
      ? keysHelp
      : topLines(this.#name, this.#snapshot, this.#choice, this.#output, columns)
    const shown = rows - 1
    const more = lines.length - shown
    const body = more > 0 ? [...lines.slice(0, shown - 1), `... ${more + 1} more`] : lines
    while (body.length < shown) body.push('')
    const state = [
      this.#paused ? 'paused' : `every ${this.#interval} s`,
      `sorted by ${sort}${reverse ? ', reversed' : ''}`,
      'h help, q quit',
    ]
    this.#screen.draw([...body, this.#output.style('dim', state.join('   '))])
  }

  [Symbol.dispose](): void {
    this.#done.abort()
    this.#screen[Symbol.dispose]()
  }
}

function nextInterval(interval: number, shorter: boolean): number {
  const found = shorter
    ? INTERVALS_S.findLast((each) => each < interval)
    : INTERVALS_S.find((each) => each > interval)
  return found ?? interval
}

/** Prints instead of drawing: for pipes and machines. */
async function print(
  name: string,
  output: Output,
  watch: Watch,
  choice: Choice,
  { intervalMs, times, signal }: { intervalMs: number; times: number; signal: AbortSignal },
): Promise<void> {
  await watch.look()
  for (let left = times; left > 0 && !signal.aborted; left--) {
    // The connection keeps the process alive, and nothing else: when it ends, so does this.
    await delay(intervalMs, undefined, { signal, ref: false }).catch(() => {})
    if (signal.aborted) return
    const snapshot = await watch.look()
    if (output.json) output.record(snapshot)
    else output.line(topLines(name, snapshot, choice, output).join('\n'))
    if (left > 1 && !output.json) output.line()
  }
}

function intervalOption(text: string | undefined): number {
  const seconds = text === undefined ? 1 : Number(text)
  if (!(seconds >= 0.1 && seconds <= 3600))
    throw new UsageError(`--interval: expected seconds from 0.1 to 3600, got '${text}'`)
  return seconds
}

export const command: Command = {
  summary: 'What a server does, live: rates, latencies, backlogs, CPU, per connection',
  arguments: [serverArgument],
  options: {
    interval: { type: 'string', short: 'i', value: 'S', help: 'seconds between two looks (1)' },
    count: {
      type: 'string',
      short: 'n',
      value: 'N',
      help: 'end after N looks (a terminal and --json: never; else 1)',
    },
    sort: {
      type: 'string',
      value: 'COLUMN',
      help: 'what connections are sorted by (calls)',
      choices: sortNames,
    },
    reverse: { type: 'boolean', short: 'r', help: 'the other way round' },
    all: { type: 'boolean', short: 'a', help: 'connections of tools as well, such as this one' },
    ...inspectorOptions,
  },
  details: `The server has to tell: new Server({ inspect: true }); latencies are there with { latency: true } as well.

Keys:
${keysHelp
  .slice(0, 7)
  .map((line) => `  ${line}`)
  .join('\n')}

Into a pipe it prints one look and ends; with --json one line for each look, until it is interrupted.

Examples:
  coroipc top demo
  coroipc top demo --sort backlog --interval 5
  coroipc top demo --json | jq '.rates.calls'`,

  async run({ values, positionals, output }) {
    const [name = ''] = positionals
    const interval = intervalOption(textOption(values, 'interval'))
    const times = integerOption(values, 'count', 1, 1e9)
    const choice: Choice = {
      sort: (textOption(values, 'sort') ?? 'calls') as SortName,
      reverse: flag(values, 'reverse'),
      all: flag(values, 'all'),
    }
    const signal = interruption(true)
    await using inspector = await Inspector.open(name, inspectorChoice(values))
    const gone = ended(inspector.connection).then((reason) => {
      throw serverGone(name, reason)
    })
    gone.catch(() => {}) // it ends with this command, too
    const watch = new Watch(inspector)
    if (output.terminal && process.stdin.isTTY && !output.json && times === undefined) {
      using live = new Live(name, output, watch, choice, interval)
      await Promise.race([live.run(signal), gone])
      return
    }
    const printed = print(name, output, watch, choice, {
      intervalMs: interval * 1000,
      times: times ?? (output.json ? Infinity : 1),
      signal,
    })
    await Promise.race([printed, gone])
  },
}
