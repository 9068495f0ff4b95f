/*
 * index_guard.h - an index that cannot be trusted is not opened again
 *
 * LMDB does not check its pages: what a bad disk or a bug left in them shows
 * as a row that cannot be read, or as a crash. Either puts a mark into the
 * index's folder; the writer then makes the index anew from the files.
 */
#ifndef INDEX_GUARD_H
#define INDEX_GUARD_H

#include <stdbool.h>

/* dir: the index's folder, open. */
void index_guard_mark(int dir);
bool index_guard_marked(int dir);
/* If this thread crashes between the two, the mark is made. Once enter() was
 * called, deadly signals that nobody else handles are looked at. */
void index_guard_enter(int dir);
void index_guard_leave(void);

#endif
