/*
 * name_table.h - which uploads may have a given device and name
 *
 * By sequence number a tag of 16 bits of device and name, so four octets an
 * upload: looking through a million of them takes less than a millisecond, and
 * about one in 65,536 is not meant. The tag is keyed by chance, so that no
 * client can find names that share one. One thread uses a table.
 */
#ifndef NAME_TABLE_H
#define NAME_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct name_table;

struct name_table *name_table_new(void);
void name_table_free(struct name_table *nt);
/* Once for each upload; what is there already stays. */
void name_table_add(
    struct name_table *nt, uint64_t seq, const char *device, const char *name);
/* Entries, also of uploads that have gone. */
size_t name_table_count(const struct name_table *nt);
void name_table_clear(struct name_table *nt);

enum name_verdict { NAME_GO_ON, NAME_GONE, NAME_STOP };

/* Ask fn about each upload that may be the one, in order of number. NAME_GONE
 * takes its entry out. */
void name_table_find(struct name_table *nt, const char *device,
    const char *name, enum name_verdict (*fn)(uint64_t seq, void *arg),
    void *arg);

#endif
