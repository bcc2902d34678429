// What the stock and its clients have agreed on: both sides import this file, and the compiler checks both.
import { defineService } from '@coroipc/contract'
import { z } from 'zod'

const item = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, 'expected a name such as bolt-m8')
const count = z.int().min(1).max(1000)

/** Statuses of this service's own: what is no failure, but no value either. */
export const NOT_ENOUGH = 1

export const stock = defineService({
  id: 20,
  name: 'stock',
  version: '1.0.0',
  summary: 'How many there are of what',
  requests: {
    add: {
      id: 0,
      summary: 'Puts some into the stock; the answer is how many there are then',
      request: z.object({ item, count: count.default(1) }),
      response: z.int(),
    },
    take: {
      id: 1,
      summary: 'Takes some out, or answers status 1: not enough',
      request: z.object({ item, count: count.default(1) }),
      response: z.int(),
    },
    list: {
      id: 2,
      summary: 'All that there is',
      response: z.array(z.object({ item, count: z.int() })),
    },
    watch: { id: 3, summary: 'Changes are dispatched from now on' },
  },
  dispatches: {
    changed: { id: 0, payload: z.object({ item, count: z.int() }) },
  },
  limits: { requestBytes: 1000, responseBytes: 1 << 20, dispatchBytes: 1000 },
})
