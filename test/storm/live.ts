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

/** Each the least of some looks, in bytes, after a collection. */
export interface Live {
  /** In use, in V8's heap and outside of it as far as V8 knows. */
  readonly bytes: number
  /** Resident, pages of rings apart. */
  readonly rss: number
  /** Of it what is not V8's heap, whose pages of 256 KiB come and go. */
  readonly beside: number
}

/** Reports every ten looks. No look opens a file: somebody counts the descriptors of this process. */
export function reportLive(report: (live: Live) => void, lookMs: number = 2000): void {
  const { gc } = globalThis
  if (gc === undefined) return
  const status = openSync('/proc/self/status', 'r')
  const text = Buffer.alloc(8192)
  const none: Live = {
    bytes: Number.POSITIVE_INFINITY,
    rss: Number.POSITIVE_INFINITY,
    beside: Number.POSITIVE_INFINITY,
  }
  let least = none
  let looks = 0
  setInterval(() => {
    // What the first one leaves to finalizers, the second one finds.
    gc()
    gc()
    const heap = getHeapStatistics()
    const rss = statusRss(
      text.toString('latin1', 0, readSync(status, text, 0, text.length, 0)),
      true,
    )
    least = {
      bytes: Math.min(least.bytes, heap.used_heap_size + heap.external_memory),
      rss: Math.min(least.rss, rss),
      beside: Math.min(least.beside, rss - heap.total_physical_size),
    }
    if (++looks % LOOKS !== 0) return
    report(least)
    least = none
  }, lookMs).unref()
}
