/*
 * layout.h - names and folders of a spool (DESIGN 4, doc/spool.md)
 *
 *	format                  version, epoch and index size as text
 *	incoming/N              bodies being received
 *	item/PPPPPPPPPPPPP/     the first 13 digits of the sequence number
 *	    SSSSSSSSSSSSSSSS    body and footer
 *	index/                  LMDB
 *	quarantine/ID, ID.json
 *	.writer.lock .drainer.lock
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_VERSION 1
#define LAYOUT_DIR_BITS 12 /* 4096 uploads a folder */

struct layout {
	int root, incoming, item, quarantine; /* folders */
	int lock;                             /* held while open */
	uint64_t epoch;                       /* first half of every id */
	uint64_t index_size;                  /* octets of the LMDB map */
	char *dir;
	bool made_now; /* by this layout_open() */
};

/*
 * Open the folders of a spool, making them if create. index_size counts at
 * creation only. -ENOENT: no spool there yet. -EBUSY: the role is taken.
 * -EPROTO: another format; *why_out (malloc'd) says what to do.
 */
int layout_open(const char *dir, bool create, const char *role,
    uint64_t index_size, struct layout *l, char **why_out);
void layout_close(struct layout *l);
/* A folder and those above it, each made if it is not there, and synced. */
int layout_make_dirs(const char *dir);

/* The epoch of a spool that need not be open. -errno, -EPROTO. */
int layout_read_epoch(const char *dir, uint64_t *epoch_out);

/* "PPPPPPPPPPPPP" and "PPPPPPPPPPPPP/SSSSSSSSSSSSSSSS" below item/. */
void layout_dir_name(uint64_t seq, char out[14]);
void layout_item_name(uint64_t seq, char out[31]);
/*
 * Open a file of a spool to read it. Who planted something else there holds up
 * nobody: a FIFO, a link or a folder is -EBADMSG, as a damaged file is.
 */
int layout_open_file(int dir, const char *name, int *fd_out);
/* 16 lower-case hex digits to a number; false if it is anything else. */
bool layout_parse_seq(const char *s, uint64_t *seq_out);
bool layout_parse_dir(const char *s, uint64_t *prefix_out);
void layout_id(uint64_t epoch, uint64_t seq, char out[33]);
/* false: not an id of this spool. */
bool layout_parse_id(uint64_t epoch, const char *id, uint64_t *seq_out);

#endif
