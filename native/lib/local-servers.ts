/**
 * Addresses (`server.address`) that servers of this thread listen on. A blocking call to one of them
 * could never be answered: `@coroipc/ipcs` keeps the list, `@coroipc/ipcc` refuses with
 * `ERR_COROIPC_DEADLOCK`. A module exists once in each thread, and so does this set.
 */
export const localServers: Set<string> = new Set()
