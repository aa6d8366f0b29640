/* Inside of gatetable.c: saying what is wrong with a folder.
 *
 * Every refusal names the file, what was expected and what was found, like the exceptions of the
 * Python reader. Bytes that come from a file are quoted: a message is printable whatever the
 * folder holds.
 */
#ifndef GATETABLE_REFUSE_H
#define GATETABLE_REFUSE_H

#include "gatetable.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GT_REMEDY " Copy the artifact again, or export the run again."

enum {
    GT_QUOTE_BYTES = 72, /* room for a quotation */
    GT_FOLDER_SHOWN = 200 /* bytes of a folder's path in a message: its end tells more */
};

/* What is being read, and where to say what is wrong with it. */
typedef struct gt_place {
    const char *folder;
    char *message; /* GT_MESSAGE_BYTES bytes, or NULL */
} gt_place;

/* Write "folder/name: ..." and return `status`. An empty name speaks of the folder itself. */
__attribute__((format(printf, 4, 5))) static gt_status gt_refuse(const gt_place *place,
                                                                 const char *name,
                                                                 gt_status status,
                                                                 const char *format, ...) {
    if (place->message == NULL) return status;
    const char *folder = place->folder, *dots = "";
    const size_t bytes = strlen(folder);
    if (bytes > GT_FOLDER_SHOWN) {
        folder += bytes - GT_FOLDER_SHOWN;
        dots = "...";
        while ((*folder & 0xC0) == 0x80) ++folder; /* never begin inside a character */
    }
    const int start = snprintf(place->message, GT_MESSAGE_BYTES, "%s%s%s%s: ", dots, folder,
                               *name == '\0' ? "" : "/", name);
    if (start < 0 || start >= GT_MESSAGE_BYTES) return status;
    const size_t room = (size_t)(GT_MESSAGE_BYTES - start);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(place->message + start, room, format, arguments);
    va_end(arguments);
    return status;
}

/* Quote untrusted bytes: what is not printable ASCII becomes '?', a long quotation ends in dots. */
static const char *gt_quote(char quoted[GT_QUOTE_BYTES], const void *bytes, size_t count) {
    const size_t room = GT_QUOTE_BYTES - 4;
    const size_t shown = count < room ? count : room;
    for (size_t i = 0; i < shown; ++i) {
        const char byte = ((const char *)bytes)[i];
        quoted[i] = byte >= ' ' && byte <= '~' ? byte : '?';
    }
    strcpy(quoted + shown, shown < count ? "..." : "");
    return quoted;
}

#endif
