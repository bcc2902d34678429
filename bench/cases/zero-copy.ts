// A payload that nobody copies: the client writes it where the server reads it, and sends a reference; the
// answer is 8 bytes whose seed is what the server read.
import { Caller } from '../payload.js'
import { Samples } from '../statistics.js'
import { exchangeOf } from '../task.js'
import {
  type ClientCase,
  measureBlocking,
  measureCalledBack,
  measurementOf,
  required,
  withConnection,
} from './client-case.js'

export const zeroCopy: ClientCase = {
  about:
    'a request in memory that both sides map (form callback: the subject cannot block); hand-over: one word a page is touched',
  run: (task, connect, { cpu }) =>
    withConnection(connect, async (side) => {
      const shared = required(side.share, 'share').call(side, task.payloadBytes)
      const words = new Int32Array(
        shared.bytes.buffer,
        shared.bytes.byteOffset,
        task.payloadBytes / 4,
      )
      const caller = new Caller(exchangeOf(task))
      const into = new Uint8Array(8)
      const samples = new Samples()
      const { requestSync, requestCallback } = shared
      const measured =
        requestSync === undefined
          ? await measureCalledBack(task, samples, cpu, (over) => {
              const request = required(requestCallback, 'requestCallback')
              const answered = (answer: Uint8Array): void => {
                caller.checkAnswer(answer)
                over()
              }
              return () => {
                caller.writeRequest(words)
                request(answered)
              }
            })
          : measureBlocking(task, samples, cpu, () => {
              caller.writeRequest(words)
              caller.checkAnswer(requestSync(into))
            })
      shared.release()
      return measurementOf(samples, samples.count, measured.elapsedMs, caller.wrong, measured.use)
    }),
}
