/** `coroipc replay`: a recording's requests, to a server. */
import { connectTo, interruption } from '../client.js'
import {
  type Command,
  Exit,
  flag,
  ID_MAX,
  integerOption,
  serverArgument,
  textOption,
  timeoutOption,
  UsageError,
} from '../command.js'
import { spreadText } from '../distribution.js'
import { count, type Output, printable } from '../output.js'
import { readRecording } from '../recording/format.js'
import { type Difference, type Played, play } from '../recording/player.js'

/** More differences are counted, not shown. */
const DIFFERENCES_MAX = 20

function speedOption(text: string | undefined): number {
  if (text === 'max') return Infinity
  const speed = text === undefined ? 1 : Number(text)
  if (!(speed > 0 && speed <= 1e6))
    throw new UsageError(`--speed: expected a number above 0, or max, got '${text}'`)
  return speed
}

function showDifference(
  output: Output,
  { t, service, id, what, recorded, replayed }: Difference,
): void {
  output.line(`${t.toFixed(3)} ms  service ${service}, request ${id}: another ${what}`)
  output.line(`  ${output.style('red', `- ${printable(recorded)}`)}`)
  output.line(`  ${output.style('green', `+ ${printable(replayed)}`)}`)
}

function show(output: Output, played: Played, compare: boolean): void {
  const { requests, seconds, skipped, codes, differences, uncompared, lateMs } = played
  output.line(
    `${count(requests)} requests in ${seconds.toFixed(2)} s: ${count(seconds > 0 ? requests / seconds : 0)} a second`,
  )
  if (played.latency.count > 0) output.line(`now       ${spreadText(played.latency)}`)
  if (played.recordedLatency.count > 0)
    output.line(`recorded  ${spreadText(played.recordedLatency)} (at the server)`)
  const failed = Object.entries(codes).filter(([code]) => code !== 'OK')
  if (failed.length > 0)
    output.line(`failed: ${failed.map(([code, times]) => `${count(times)} ${code}`).join(', ')}`)
  if (lateMs >= 10) output.line(`at most ${lateMs.toFixed(0)} ms behind the recording`)
  if (skipped > 0) output.line(`${count(skipped)} not sent: cut off in the recording`)
  if (!compare) return
  const compared = requests - uncompared
  output.line(
    differences === 0
      ? `${count(compared)} answers compared, all the same`
      : `${count(differences)} of ${count(compared)} answers differ`,
  )
}

export const command: Command = {
  summary: 'Send the requests of a recording to a server, with their timing; compare answers',
  arguments: [
    { name: 'FILE', help: 'what `coroipc record` wrote; - is standard input', complete: 'file' },
    serverArgument,
  ],
  options: {
    speed: {
      type: 'string',
      value: 'N',
      help: '1 as it was, 2 twice as fast, max without waiting (1)',
    },
    compare: {
      type: 'boolean',
      help: 'show answers that are other than recorded; exit code 1 if there are',
    },
    service: { type: 'string', value: 'N', help: 'to this service instead of the recorded ones' },
    window: {
      type: 'string',
      value: 'N',
      help: 'requests of one connection that may be on their way (64)',
    },
    timeout: { type: 'string', value: 'MS', help: 'time to connect, and for each call (30000)' },
  },
  details: `Each recorded connection gets one of its own. Requests go out at their times whether or not the ones before were
answered, as they did then, but never more than the window; cut-off ones are not sent.

Examples:
  coroipc replay demo.jsonl demo
  coroipc replay demo.jsonl @next --speed max --compare`,

  async run({ values, positionals, output }) {
    const [file = '', name = ''] = positionals
    const speed = speedOption(textOption(values, 'speed'))
    const compare = flag(values, 'compare')
    const service = integerOption(values, 'service', 0, ID_MAX)
    const window = integerOption(values, 'window', 1, 32768) ?? 64
    const timeoutMs = timeoutOption(values, 'timeout')
    const { lines } = await readRecording(file)
    let shown = 0
    const played = await play(lines, {
      speed,
      window,
      service,
      signal: interruption(false),
      connect: (to) => connectTo(name, to, timeoutMs),
      onDifference: compare
        ? (found) => {
            if (output.json) output.record({ difference: found })
            else if (shown++ < DIFFERENCES_MAX) showDifference(output, found)
          }
        : undefined,
    })
    if (output.json) output.record(played)
    else show(output, played, compare)
    return compare && played.differences > 0 ? Exit.failed : Exit.ok
  },
}
