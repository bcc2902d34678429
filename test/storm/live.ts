// What a process in Node.js holds that no collection frees, which is what a leak adds to. Resident memory tells nothing of it
// for hours: V8 makes its nursery larger when much survives, and whatever was used at the worst moment ever (a late collection,
// many large payloads at once: up to the 64 MiB that native/src/block.cc keeps) stays resident from then on.

import { openSync, readSync } from 'node:fs'
import { getHeapStatistics } from 'node:v8'
import { statusRss } from '../support/gauge.js'

/** Whoever is started with these has a nursery of its final size from the first minute on, and can be asked to collect. */
export const LIVE_FLAGS: readonly string[] = [
  '--expose-gc',
  '--min-semi-space-size=16',
  '--max-semi-space-size=16',
]
/**
 * And no compiler: code that is compiled late is what makes a heap grow for hours. Without it what is in use is level within minutes
 * of the start, to a few KiB, so that a run of half an hour can tell a leak of ten an hour.
 */
export const INTERPRETED_FLAGS: readonly string[] = [
  ...LIVE_FLAGS,
  '--no-opt',
  '--no-sparkplug',
  '--no-lazy-feedback-allocation',
]
/** The least of so many looks: what was on its way at one of them is not held. */
const LOOKS = 10

/**
 * Reports every ten looks the bytes that are still in use after a collection, of the heap and outside of it, and what is
 * resident then, pages of rings apart. No look opens a file: somebody counts the descriptors of this process.
 */
export function reportLive(
  report: (bytes: number, rssBytes: number) => void,
  lookMs: number = 2000,
): void {
  const { gc } = globalThis
  if (gc === undefined) return
  const status = openSync('/proc/self/status', 'r')
  const text = Buffer.alloc(8192)
  let least = Number.POSITIVE_INFINITY
  let leastRss = Number.POSITIVE_INFINITY
  let looks = 0
  setInterval(() => {
    // What the first one leaves to finalizers, the second one finds.
    gc()
    gc()
    const { used_heap_size: used, external_memory: external } = getHeapStatistics()
    least = Math.min(least, used + external)
    const rss = statusRss(
      text.toString('latin1', 0, readSync(status, text, 0, text.length, 0)),
      true,
    )
    leastRss = Math.min(leastRss, rss)
    if (++looks % LOOKS !== 0) return
    report(least, leastRss)
    least = Number.POSITIVE_INFINITY
    leastRss = Number.POSITIVE_INFINITY
  }, lookMs).unref()
}
