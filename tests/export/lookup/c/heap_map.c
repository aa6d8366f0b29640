/* mmap and munmap that read a file into memory of exactly its length.
 *
 * A mapped file ends at a page, so AddressSanitizer sees no access behind a small one. Compiled with
 * -Dmmap=map_on_heap -Dmunmap=free_from_heap, like gatetable.c beside it: the macros rename these
 * definitions, the declarations in the system's header, and the calls.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset) {
    (void)address, (void)protection, (void)flags;
    char *memory = malloc(bytes);
    if (memory == NULL) return MAP_FAILED;
    for (size_t at = 0; at < bytes;) {
        const ssize_t count = pread(file, memory + at, bytes - at, offset + (off_t)at);
        if (count <= 0) abort(); /* nobody changes a file while the test reads it */
        at += (size_t)count;
    }
    return memory;
}

int munmap(void *address, size_t bytes) {
    (void)bytes;
    free(address);
    return 0;
}
