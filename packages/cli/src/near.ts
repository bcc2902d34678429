/** What was probably meant: the nearest of the known words, for messages about unknown ones. */

/** Optimal string alignment distance: insert, delete, replace, swap two neighbours. */
export function distance(a: string, b: string): number {
  let previous: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const beforePrevious = previous
    previous = row
    row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      const at = (line: number[], column: number): number => line[column] as number
      let least = Math.min(at(previous, j) + 1, at(row, j - 1) + 1, at(previous, j - 1) + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(beforePrevious, j - 2) + 1)
      row.push(least)
    }
  }
  return row[b.length] as number
}

/** The nearest of `words`, if it is near enough to be meant. */
export function nearest(word: string, words: Iterable<string>): string | undefined {
  let found: string | undefined
  let least = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const each of words) {
    const far = each.startsWith(word) && word.length > 1 ? 1 : distance(word, each)
    if (far >= least) continue
    least = far
    found = each
  }
  return found
}

/** ` (did you mean 'X'?)`, or nothing. */
export function didYouMean(word: string, words: Iterable<string>, prefix = ''): string {
  const found = nearest(word, words)
  return found === undefined ? '' : ` (did you mean '${prefix}${found}'?)`
}
