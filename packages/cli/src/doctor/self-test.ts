/** The whole thing: a server in another process, calls, and its death. */
import { connect } from '@coroipc/ipcc'
import { ended } from '../client.js'
import { Distribution } from '../distribution.js'
import { count, durationText } from '../output.js'
import { OwnServer, ownRequests, ownService } from '../own-server.js'
import { type Check, fail, ok } from './check.js'

const CALLS = 1000
/** Promised is a second. */
const DEATH_MS = 1000

const explained = (error: unknown): string => {
  const { message, code } = error as Error & { code?: string }
  return code === undefined ? message : `${message} (${code})`
}

export async function selfTest(): Promise<Check[]> {
  const advice = 'what failed above is the likely reason; else please report it, with this output'
  try {
    await using server = await OwnServer.open()
    const connection = await connect(server.name, { service: ownService, timeoutMs: 10_000 })
    const payload = new Uint8Array(64)
    const times = new Distribution()
    const began = performance.now()
    for (let call = 0; call < CALLS; call++) {
      const started = performance.now()
      const answer = connection.requestSync(ownRequests.echo, payload)
      times.record(started, performance.now())
      if (answer.length !== payload.length) throw new Error(`call ${call} was answered wrongly`)
    }
    const rate = CALLS / ((performance.now() - began) / 1000)
    const over = ended(connection)
    const killed = performance.now()
    server.kill()
    await over
    const noticed = performance.now() - killed
    const death = `noticed in ${durationText(noticed * 1000)}`
    return [
      ok(
        'calls to a server of another process',
        `${count(CALLS)} of 64 bytes: ${count(rate)} a second, p50 ${durationText(times.read().p50)}`,
      ),
      noticed <= DEATH_MS
        ? ok('its death', death)
        : fail('its death', death, 'is this machine overloaded? Within 1 s is what is promised'),
    ]
  } catch (error) {
    return [fail('calls to a server of another process', explained(error), advice)]
  }
}
