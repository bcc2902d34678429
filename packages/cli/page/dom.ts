/** Elements, made without markup: whatever a text holds, it is text. */

/** An element with attributes and children; a string is a text node. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Readonly<Record<string, string>> = {},
  children: readonly (Node | string)[] = [],
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  made.append(...children)
  return made
}

// What turns the direction of writing makes a name look like another one.
const turning = /[\u202a-\u202e\u2066-\u2069]/g

/** What a stranger wrote, as far as it is a text. */
export function text(value: unknown): string {
  return typeof value === 'string' ? value.replace(turning, '�') : ''
}
