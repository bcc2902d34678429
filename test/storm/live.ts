// What a process in Node.js holds that no collection frees, which is what a leak adds to. Resident memory tells nothing of it
// for hours: V8 makes its nursery larger when much survives, and whatever was used at the worst moment ever (a late collection,
// many large payloads at once: up to the 64 MiB that native/src/block.cc keeps) stays resident from then on.

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

/** Reports the bytes that are still in use after a collection, of the heap and outside of it, every ten looks. */
export function reportLive(report: (bytes: number) => void, lookMs: number = 2000): void {
  const { gc } = globalThis
  if (gc === undefined) return
  let least = Number.POSITIVE_INFINITY
  let looks = 0
  setInterval(() => {
    // What the first one leaves to finalizers, the second one finds.
    gc()
    gc()
    const { heapUsed, external } = process.memoryUsage()
    least = Math.min(least, heapUsed + external)
    if (++looks % LOOKS !== 0) return
    report(least)
    least = Number.POSITIVE_INFINITY
  }, lookMs).unref()
}
