// What the server that looks at credentials and its clients have agreed on.

/** Everybody may connect. */
export const PUBLIC = 1
/** Root and the server's own user only. */
export const ADMIN = 2

/** The answer is JSON of the client's credentials, as the kernel told the server. */
export const WHO_AM_I = 0
/** Text; everybody may read it with the other one, and who wrote it. */
export const WRITE = 1
export const READ = 2
