/** The reader of stdout, where that is a pipe: who seldom writes learns from a failed write too late that it has gone. */
import { fstatSync } from 'node:fs'

const OFTEN_MS = 100

function isPipe(): boolean {
  try {
    const file = fstatSync(1)
    return file.isFIFO() || file.isSocket()
  } catch {
    return false // closed
  }
}

/**
 * Calls `gone` when nobody is left to read stdout. Keeps no process alive.
 *
 * Asked again and again, since libuv looks for errors of a pipe only while something waits to be written, and writing nothing
 * succeeds without a reader.
 *
 * @returns what ends the watch
 */
export function watchReader(gone: () => void): () => void {
  if (!isPipe()) return () => {}
  const look = async (): Promise<void> => {
    const { addon } = await import('@coroipc/native') // there already: whoever waits is connected
    if (addon.hungUp(1) === 0) return
    clearInterval(timer)
    gone()
  }
  const timer = setInterval(() => void look(), OFTEN_MS).unref()
  return () => clearInterval(timer)
}
