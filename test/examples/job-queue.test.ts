// The queue with workers that die, fail, come late and go.
import { connect } from '@coroipc/ipcc'
import t from 'tap'
import { DEPTH, type Depth, JOBS } from '../../examples/job-queue/protocol.js'
import { until } from '../support/wait.js'
import { Place, run, start } from './support.js'

t.test(
  'every job is done once, though a worker dies of one and another cannot do one',
  async (t) => {
    using place = new Place()
    await using server = start(place, 'job-queue/server.js', 'jobs')
    await server.line(/^listening/)
    const submitted = run(place, 'job-queue/submit.js', 'jobs', '84', '1001', '97', 'word', '13')
    // Submitted before anybody works.
    await using first = start(place, 'job-queue/worker.js', 'jobs', '--die-at', '1001')
    t.equal((await first.outcome).signal, 'SIGKILL')
    await using second = start(place, 'job-queue/worker.js', 'jobs')
    const { code, stdout } = await submitted
    t.equal(code, 1)
    t.same(stdout.trimEnd().split('\n'), [
      '84: 2 x 2 x 3 x 7',
      '1001: 7 x 11 x 13',
      '97: 97',
      'word: failed, given up after 3 attempts',
      '13: 13',
    ])
    t.equal((await second.stop()).code, 0)
    t.equal((await server.stop()).code, 0)
    t.strictSame(place.left, [], 'nothing is left')
  },
)

t.test('a job that nobody waits for is not begun', async (t) => {
  using place = new Place()
  await using server = start(place, 'job-queue/server.js', 'jobs')
  await server.line(/^listening/)
  await using impatient = start(place, 'job-queue/submit.js', 'jobs', '15')
  const path = `${place.path}/jobs`
  const connection = await connect(path, { service: JOBS })
  t.teardown(() => connection.close())
  const depth = async (): Promise<Depth> =>
    JSON.parse(Buffer.from(await connection.request(DEPTH)).toString()) as Depth
  await until('the job waits', async () => (await depth()).queued === 1)
  await impatient.stop('SIGKILL')
  await using worker = start(place, 'job-queue/worker.js', 'jobs')
  t.equal((await run(place, 'job-queue/submit.js', 'jobs', '21')).stdout, '21: 3 x 7\n')
  t.same(await depth(), { queued: 0, taken: 0, workers: 1 })
  await worker.stop()
})

t.test('a worker is there before the queue, and outlives it', async (t) => {
  using place = new Place()
  await using worker = start(place, 'job-queue/worker.js', 'jobs')
  for (const number of ['6', '10']) {
    await using server = start(place, 'job-queue/server.js', 'jobs')
    await server.line(/^listening/)
    const { stdout } = await run(place, 'job-queue/submit.js', 'jobs', number)
    t.equal(stdout, `${number}: 2 x ${Number(number) / 2}\n`)
    await server.stop(number === '6' ? 'SIGKILL' : 'SIGTERM')
  }
  t.match(await worker.stop(), { code: 0, stderr: '' })
})
