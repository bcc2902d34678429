// The verdict over all runs of `npm run storm`: each bound is held, and each is broken by a little once.
import t from 'tap'
import { include, judgeTotal, type Total } from './totals.js'

const added = (
  sums: Record<string, number>,
  worst: Record<string, number> = {},
  times: readonly number[] = [],
  total: Total = { sums: {}, worst: {}, times: {} },
): Total => {
  include(total, sums, worst, times)
  return total
}
/** So many deaths, of which so many were known late. */
const deaths = (count: number, late: number, lateMs: number): number[] => [
  ...Array<number>(count - late).fill(2),
  ...Array<number>(late).fill(lateMs),
]

t.test('runs that hold all bounds', async (t) => {
  t.strictSame(judgeTotal(added({ faults: 0 }, { 'ms after the end': 999 }, [])), [])
  t.strictSame(judgeTotal(added({ faults: 0 }, {}, deaths(1000, 10, 500))), [])
  t.strictSame(judgeTotal(added({ faults: 0 }, {}, deaths(1000, 500, 50))), [])
  t.strictSame(judgeTotal(added({ rounds: 900, fair: 900, planted: 100, kept: 100 })), [])
  const connects = { 'p99 (us)': 100_000, 'max (us)': 1e7, 'KiB grown': 1024 }
  t.strictSame(judgeTotal(added({ sequential: 1 }, connects)), [])
  t.strictSame(judgeTotal(added({ windows: 20 }, { 'lost (%)': 10 })), [])
})

t.test('one bound that does not hold is told', async (t) => {
  for (const [total, said] of [
    [added({ faults: 1 }), /1 faults/],
    [added({ 'not held': 1 }), /1 not held/],
    [added({}, {}, deaths(1000, 11, 50.04)), /known after 50.1 ms \(p99\)/],
    [added({}, {}, [500.01]), /known after 500.1 ms/],
    [added({}, { 'ms after the end': 1001 }), /after the end 1001/],
    [added({ rounds: 900, fair: 899, planted: 100, kept: 100 }), /fair 899 of 900/],
    [added({ rounds: 900, fair: 900, planted: 100, kept: 99 }), /kept 99 of 100/],
    [added({}, { 'p99 (us)': 100_001 }), /p99/],
    [added({}, { 'KiB grown': 1025 }), /KiB/],
    [added({}, { 'lost (%)': 10.1 }), /lost/],
  ] as const) {
    const wrong = judgeTotal(total)
    t.equal(wrong.length, 1, wrong.join('; '))
    t.match(wrong[0], said)
  }
})

t.test('runs add up: one that was bad is not hidden by those that were well', async (t) => {
  const total = added({ faults: 1 }, { 'KiB grown': 2000 }, deaths(500, 6, 80))
  for (let i = 0; i < 3; i++) added({ faults: 0 }, { 'KiB grown': 1 }, deaths(10, 0, 0), total)
  t.match(total, { sums: { runs: 4, faults: 1 }, worst: { 'KiB grown': 2000 } })
  t.equal(judgeTotal(total).length, 2, 'too few deaths for a p99')
  added({ faults: 0 }, {}, deaths(470, 5, 80), total)
  t.match(judgeTotal(total)[2], /80 ms \(p99\)/)
})
