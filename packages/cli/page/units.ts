/** Numbers as people read them. */

/** `12`, `1,234`, `56.7 k`, `1.23 M`. */
export function count(value: number): string {
  if (value < 10_000) {
    const digits = value > 0 && value < 10 && !Number.isInteger(value) ? 1 : 0
    return value.toLocaleString('en-US', { maximumFractionDigits: digits })
  }
  const [scaled, unit] =
    value < 1e6 ? [value / 1e3, 'k'] : value < 1e9 ? [value / 1e6, 'M'] : [value / 1e9, 'G']
  return `${Number(scaled.toPrecision(3))} ${unit}`
}

/** Of memory: in powers of 1024. */
export function memory(value: number): string {
  return scaledBytes(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'])
}

/** Of traffic, and of every axis, whose ticks are round in tens: in powers of 1000. */
export function bytes(value: number): string {
  return scaledBytes(value, 1000, ['B', 'kB', 'MB', 'GB', 'TB'])
}

function scaledBytes(value: number, base: number, units: readonly string[]): string {
  let unit = 0
  let scaled = value
  while (scaled >= base && unit < units.length - 1) {
    scaled /= base
    unit++
  }
  return `${unit === 0 ? Math.round(scaled) : Number(scaled.toPrecision(3))} ${units[unit] ?? ''}`
}

/** Of microseconds. */
export function duration(us: number): string {
  const steps: readonly (readonly [number, string])[] = [
    [1e3, 'µs'],
    [1e3, 'ms'],
    [60, 's'],
    [60, 'min'],
    [24, 'h'],
    [Infinity, 'd'],
  ]
  let value = us
  for (const [size, unit] of steps) {
    if (value < size) return `${Number(value.toPrecision(3))} ${unit}`
    value /= size
  }
  return ''
}

/** Of percent. */
export function share(value: number): string {
  return `${value >= 10 ? Math.round(value) : Number(value.toFixed(1))} %`
}
