// What Debian's libstdc++ says here is about glibc; of musl there is nothing to say.
