/*
 * firmware.h - edgehaul firmware: the publisher's side
 *
 * Run at the publisher's workstation, against the signer's /v1/firmware. The
 * key that signs manifests is read here and goes nowhere. Every step may be
 * repeated: what is there is found there, and a publish that was killed goes on
 * where it was. Functions complain on stderr and return exit codes (ctl.h).
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cjson/cJSON.h>

#include "ctl.h"
#include "minisign.h"
#include "publisher_conf.h"
#include "slices.h"

#define EXIT_REFUSED 65 /* EX_DATAERR: against a rule, or not what was sent */
#define FW_LIST_MAX 64

struct firmware_options {
	const char *product, *channel, *version, *storage, *min_from, *set;
	const char *after, *window, *watch;
	const char *hw[FW_LIST_MAX];
	size_t hw_n;
	const char *files[FW_LIST_MAX]; /* what is left of the command line */
	size_t files_n;
	int64_t percent;    /* -1: not given */
	int64_t max_size;   /* -1: not given */
	int64_t expires_ms; /* -1: of the configuration */
	bool json, dry_run, any_version, no_password, once, resume, yes, force;
};

struct publisher {
	struct publisher_conf *conf;
	struct firmware_options o;
	char *token, *state_dir;
	char own_version[65];       /* what an image says of itself */
	bool unchanged;             /* all of it was published before */
	struct minisign_secret key; /* wiped at the end */
	bool have_key;
};

/* A file to be published. */
struct image {
	char *component; /* NULL: "firmware" */
	char *name;      /* in the bucket */
	int fd;
	struct slices_sums sums;
};

/* ---- firmware_rest.c: calls to the signer -------------------------------- */

struct rest_answer {
	long status;
	char *body;
	size_t n;
	cJSON *json; /* NULL: it is none */
};
/*
 * path is below the signer's url; body may be NULL; header too. 0: there is an
 * answer of whatever status (but 429 and 503, which are tried again for a
 * while). rest_fini() in any case.
 */
int rest_call(struct publisher *p, const char *method, const char *path,
    const cJSON *body, const char *header, struct rest_answer *a);
void rest_fini(struct rest_answer *a);
/* Tell what the signer's refusal means. Never 0. */
int rest_refused(const char *what, const struct rest_answer *a);
/* The same, expecting 200 or 201: *v_out is the caller's. */
int rest_json(struct publisher *p, const char *method, const char *path,
    const cJSON *body, const char *what, cJSON **v_out);
/* "/v1/firmware/PRODUCT/CHANNEL" + rest, malloc'd. */
char *channel_path(const struct publisher *p, const char *rest);

/* ---- firmware_store.c: what recipes say ---------------------------------- */

/* What is sent: size octets from memory, or of a file. */
struct sending {
	const char *memory; /* NULL: of fd */
	int fd;
	uint64_t size;
};
/*
 * Do all requests of a recipe. What is to be kept goes to kept (may be NULL),
 * the status of the last to *status_out. 0, also where the store refused: then
 * *refused_out is true. Network faults are tried again.
 */
int store_do(struct publisher *p, const cJSON *recipe,
    const struct sending *what, cJSON *kept, int *status_out,
    bool *refused_out);
/* GET: SHA-256 and size of what comes. Status by itself in *status_out. */
int store_hash(struct publisher *p, const cJSON *recipe, uint8_t sha256_out[32],
    uint64_t *size_out, int *status_out);

/* ---- firmware_put.c: objects, in resumable parts ------------------------- */

/*
 * Upload one object of a checked release, name as in the answer of the check.
 * It is signed for now: what goes before may take longer than a URI is valid.
 * Goes on with what an earlier run left in state_dir.
 */
int put_object(struct publisher *p, const char *version, const char *name,
    const char *sha256, const struct sending *what);
/* Read it back and compare. */
int check_object(struct publisher *p, const char *version, const char *name,
    const uint8_t sha256[32], uint64_t size);

/* ---- firmware_manifest.c ------------------------------------------------- */

#define EDIT_NOTHING (-1)
/* Change the document; an exit code ends all. EDIT_NOTHING: it has that
 * already, so a newest that gateways know stays the newest (p->unchanged). */
typedef int (*edit_fn)(struct publisher *p, cJSON *manifest, void *arg);
/*
 * Take the newest manifest (or an empty one if create), edit, sign and submit
 * it; again if another publisher was faster. *seq_out: of the one that counts.
 */
int manifest_submit(struct publisher *p, bool create, edit_fn edit, void *arg,
    int64_t *seq_out);
/* Would the edit of an empty manifest make one? Complains. */
int manifest_try(struct publisher *p, edit_fn edit, void *arg);
/* The release of the version in o; NULL. */
cJSON *manifest_release(const struct publisher *p, cJSON *manifest);

/* ---- firmware_edit.c ----------------------------------------------------- */

bool has_text(const cJSON *list, const char *s);
/* The name of a file of the release that is revoked, or NULL. */
const char *revoked_file(const cJSON *r, const cJSON *revoked);

/* ---- firmware_key.c ------------------------------------------------------ */

int key_load(struct publisher *p);
int command_keygen(struct publisher *p);
/* The public key's line of the loaded key; malloc'd. */
char *key_public_line(const struct publisher *p);

/* ---- firmware_image.c: what an image says of itself ---------------------- */

struct image_info {
	const char *format; /* NULL: not known */
	char version[65];   /* "" if it does not tell */
	char hw[16][64];
	size_t hw_n;
};
void image_look(int fd, struct image_info *info_out);
/*
 * Open a file that others may have put there: no FIFO, device or folder is
 * waited for or read. A descriptor, or -errno; -EINVAL: it is no file. flags as
 * of open(2), such as O_NOFOLLOW.
 */
int file_open(const char *path, int flags, struct stat *st_out);

/* ---- commands ------------------------------------------------------------ */

/* Publish o.files as o.version; shared by publish and drop. */
int publish_files(struct publisher *p, int64_t *manifest_seq_out);
int command_publish(struct publisher *p);
int command_drop(struct publisher *p);
int command_promote(struct publisher *p);
int command_halt(struct publisher *p);
int command_revoke(struct publisher *p);
int command_refresh(struct publisher *p);
int command_ls(struct publisher *p);
int command_product(struct publisher *p);

/* Is argv[0] a word of `edgehaul firmware` that is done here? */
bool firmware_is_ours(const char *word);
/* argv[0] is that word; config may be NULL. */
int firmware_main(const char *config, bool json, int argc, char **argv);
/* Lines for --help. */
void firmware_help(void (*line)(const char *usage, const char *help));

void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
