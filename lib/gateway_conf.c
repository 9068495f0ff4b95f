/*
 * gateway_conf.c - the settings of gateway.conf
 *
 * The table is the one place where a setting, its default and its bounds
 * stand; conf/gateway.conf and gateway.conf(5) are held to it by a test. No
 * row is accepted that no program obeys.
 */
#include "config.h"
#include "gateway_conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "manifest.h"
#include "xalloc.h"

static const char *const full_words[] = { "refuse", "drop-oldest", NULL };
static const char *const same_name_words[] = { "keep-both", "replace-waiting",
	"reject", NULL };
static const char *const sync_words[] = { "portable", "single", NULL };
static const char *const image_words[] = { "off", "lossless", "lossy", NULL };
static const char *const camera_image_words[] = { "default", "off", "lossless",
	"lossy", NULL };
static const char *const camera_same_name_words[] = { "default", "keep-both",
	"replace-waiting", "reject", NULL };
static const char *const jpeg_words[] = { "progressive", "jxl", "keep", NULL };
static const char *const when_words[] = { "always", "pressure", NULL };

// clang-format off
#define AT(field) offsetof(struct gateway_conf, field)
#define RL CONF_F_RELOAD
#define NN CONF_F_NONE
static const struct conf_key keys[] = {
	/* section, name, type, at, default, min, max, words, flags, help */
	{ "gateway", "name", CONF_TEXT, AT(name), NULL, NULL, NULL, NULL, 0,
	  "name of this gateway in object keys and reports; the host's name if not set" },
	{ "gateway", "state_dir", CONF_PATH, AT(state_dir), "/var/lib/edgehaul", NULL, NULL, NULL, 0,
	  "folder of the spool" },
	{ "gateway", "run_dir", CONF_PATH, AT(run_dir), "/run/edgehaul", NULL, NULL, NULL, 0,
	  "folder of the sockets by which the programs talk" },

	{ "listen", "address", CONF_ADDR, AT(address), "0.0.0.0:8080", NULL, NULL, NULL, 0,
	  "where devices send files" },
	{ "listen", "tls_address", CONF_ADDR, AT(tls_address), NULL, NULL, NULL, NULL, 0,
	  "where devices that speak HTTPS send files, as well" },
	{ "listen", "cert_file", CONF_PATH, AT(cert_file), NULL, NULL, NULL, NULL, RL,
	  "certificate for tls_address, PEM, with its chain" },
	{ "listen", "key_file", CONF_PATH, AT(key_file), NULL, NULL, NULL, NULL, RL,
	  "private key of cert_file, PEM" },
	{ "listen", "known_only", CONF_BOOL, AT(known_only), "no", NULL, NULL, NULL, RL,
	  "take uploads only from cameras of [camera NAME] sections" },
	{ "listen", "close_delimited", CONF_BOOL, AT(close_delimited), "no", NULL, NULL, NULL, RL,
	  "take HTTP/1.0 bodies that only the end of the connection ends" },

	{ "spool", "max_size", CONF_BYTES, AT(max_size), "8 GB", "1 MB", "64 TB", NULL, 0,
	  "space that waiting uploads may take" },
	{ "spool", "free_floor", CONF_SHARE, AT(free_floor), "5 %", NULL, NULL, NULL, 0,
	  "space of the disk to leave free" },
	{ "spool", "index_size", CONF_BYTES, AT(index_size), NULL, "1 MB", "64 GB", NULL, 0,
	  "room for the index, fixed when the spool is made; from max_size if not set" },
	{ "spool", "sync_order", CONF_ENUM, AT(sync_order), "portable", NULL, NULL, sync_words, 0,
	  "how a file is made durable" },
	{ "spool", "when_full", CONF_ENUM, AT(when_full), "refuse", NULL, NULL, full_words, RL,
	  "what happens to new uploads when the spool is full" },
	{ "spool", "on_same_name", CONF_ENUM, AT(on_same_name), "keep-both", NULL, NULL, same_name_words, RL,
	  "what happens when a device sends a name again that still waits" },
	{ "spool", "repeat_window", CONF_MSEC, AT(repeat_window_ms), "10 min", "0 s", "7 d", NULL, RL,
	  "how long the same file sent again counts as a repeat" },
	{ "spool", "max_age", CONF_MSEC, AT(max_age_ms), "none", "10 s", "3650 d", NULL, RL | NN,
	  "waiting uploads older than this are dropped" },
	{ "spool", "scrub_pause", CONF_MSEC, AT(scrub_pause_ms), "1 s", "1 ms", "1 d", NULL, NN,
	  "pause between two waiting files that are read back to find damage" },

	{ "limits", "max_upload", CONF_BYTES, AT(max_upload), "2 GB", "1 B", "5 TB", NULL, RL,
	  "largest file that is taken" },
	{ "limits", "max_connections", CONF_INT, AT(max_connections), "6000", "1", "100000", NULL, RL,
	  "connections of devices at one time" },
	{ "limits", "max_per_address", CONF_INT, AT(max_per_address), "none", "1", "100000", NULL, RL | NN,
	  "connections of one address at one time" },
	{ "limits", "head_timeout", CONF_MSEC, AT(head_timeout_ms), "10 s", "100 ms", "1 h", NULL, RL,
	  "how long a device may take for the head of a request" },
	{ "limits", "min_rate", CONF_RATE, AT(min_rate), "500 B", "1 B", "1 GB", NULL, RL,
	  "slowest sending, per second, that is not cut off" },
	{ "limits", "share", CONF_SHARE, AT(share), "100 %", NULL, NULL, NULL, RL,
	  "part of the spool that one camera may fill" },
	{ "limits", "waiting_per_device", CONF_INT, AT(waiting_per_device), "none", "1", "1000000000", NULL, RL | NN,
	  "files of one device that may wait" },
	{ "limits", "uploads_per_minute", CONF_INT, AT(uploads_per_minute), "none", "1", "1000000", NULL, RL | NN,
	  "uploads that one device may send in a minute" },
	{ "limits", "count_addresses", CONF_BOOL, AT(count_addresses), "no", NULL, NULL, NULL, RL,
	  "what one device may, one address may not exceed either, whatever names it uses" },

	{ "signer", "url", CONF_URLS, AT(signer_url), NULL, NULL, NULL, NULL, RL | CONF_F_REQUIRED,
	  "address of the signer; you get it from who runs the cloud side" },
	{ "signer", "token_file", CONF_PATH, AT(token_file), NULL, NULL, NULL, NULL, RL | CONF_F_REQUIRED,
	  "file with this gateway's token; you get it from who runs the cloud side" },
	{ "signer", "ca_file", CONF_PATH, AT(ca_file), NULL, NULL, NULL, NULL, RL,
	  "certificates (PEM) to trust for the signer; the system's if not set" },

	{ "upload", "storage", CONF_TEXT, AT(storage), "default", NULL, NULL, NULL, RL,
	  "storage of the signer that files go to" },
	{ "upload", "key_template", CONF_TEXT, AT(key_template), "{device}/{date}/{time}-{id}-{name}", NULL, NULL, NULL, RL,
	  "name of the object in the store" },
	{ "upload", "parallel", CONF_INT, AT(parallel), "16", "1", "256", NULL, RL,
	  "most uploads to the store at one time" },
	{ "upload", "rate_limit", CONF_RATE, AT(rate_limit), "none", "1 KB", "100 GB", NULL, RL | NN,
	  "most bandwidth that uploads may take" },
	{ "upload", "proxy", CONF_URL, AT(upload_proxy), NULL, NULL, NULL, NULL, RL,
	  "HTTP proxy of the site's network" },
	{ "upload", "allow_http", CONF_BOOL, AT(allow_http), "no", NULL, NULL, NULL, RL,
	  "upload to stores without TLS as well" },
	{ "upload", "allow_private", CONF_BOOL, AT(allow_private), "no", NULL, NULL, NULL, RL,
	  "upload to stores in private networks as well" },

	{ "images", "mode", CONF_ENUM, AT(images_mode), "lossless", NULL, NULL, image_words, RL,
	  "how files are made smaller before they are uploaded" },
	{ "images", "jpeg", CONF_ENUM, AT(images_jpeg), "progressive", NULL, NULL, jpeg_words, RL,
	  "what becomes of JPEGs" },
	{ "images", "when", CONF_ENUM, AT(images_when), "always", NULL, NULL, when_words, RL,
	  "always, or only while files wait longer than a minute" },
	{ "images", "quality", CONF_INT, AT(images_quality), "75", "1", "100", NULL, RL,
	  "JPEG quality of mode lossy" },
	{ "images", "max_dimension", CONF_INT, AT(images_max_dimension), "none", "16", "65500", NULL, RL | NN,
	  "longest side of a picture in mode lossy" },
	{ "images", "cpu_share", CONF_SHARE, AT(images_cpu), "50 %", NULL, NULL, NULL, RL,
	  "part of the processors that image workers may use over time" },

	{ "firmware", "origin", CONF_URL, AT(firmware_origin), NULL, NULL, NULL, NULL, RL,
	  "where firmware comes from, a CDN or bucket; you get it from who publishes" },
	{ "firmware", "backup", CONF_URL, AT(firmware_backup), NULL, NULL, NULL, NULL, RL,
	  "where firmware comes from when origin and bucket fail" },
	{ "firmware", "publisher_key", CONF_KEYS, AT(publisher_key), NULL, NULL, NULL, NULL, RL,
	  "minisign public keys of who publishes: files or the keys themselves" },
	{ "firmware", "cache_size", CONF_BYTES, AT(cache_size), "2 GB", "1 MB", "64 TB", NULL, RL,
	  "space that firmware may take" },
	{ "firmware", "parallel_devices", CONF_INT, AT(parallel_devices), "16", "1", "100000", NULL, RL,
	  "devices that may download at one time" },
	{ "firmware", "prefetch", CONF_TEXT, AT(prefetch), "on", NULL, NULL, NULL, RL,
	  "off, on or a time of day like 01:00-05:00: fetch firmware before devices ask" },
	{ "firmware", "prefetch_max", CONF_BYTES, AT(prefetch_max), "none", "1 MB", "64 TB", NULL, RL | NN,
	  "most that is fetched ahead in a day" },
	{ "firmware", "require_check", CONF_BOOL, AT(require_check), "no", NULL, NULL, NULL, RL,
	  "give firmware only to devices to which a check offered it" },
};
#undef AT
#define AT(field) offsetof(struct mirror_conf, field)
static const struct conf_key mirror_keys[] = {
	{ "mirror", "url", CONF_URL, AT(url), NULL, NULL, NULL, NULL, RL | CONF_F_REQUIRED,
	  "where its files come from" },
};
#undef AT
#define AT(field) offsetof(struct camera_conf, field)
static const struct conf_key camera_keys[] = {
	{ "camera", "address", CONF_ADDRS, AT(address), NULL, NULL, NULL, NULL, RL,
	  "addresses or networks that are this camera" },
	{ "camera", "storage", CONF_TEXT, AT(storage), NULL, NULL, NULL, NULL, RL,
	  "storage for this camera; that of [upload] if not set" },
	{ "camera", "priority", CONF_INT, AT(priority), "5", "1", "9", NULL, RL,
	  "1 to 9; each step up doubles its share of the uplink" },
	{ "camera", "max_upload", CONF_BYTES, AT(max_upload), NULL, "1 B", "5 TB", NULL, RL,
	  "largest file of this camera; that of [limits] if not set" },
	{ "camera", "share", CONF_SHARE, AT(share), NULL, NULL, NULL, NULL, RL,
	  "part of the spool that this camera may fill; that of [limits] if not set" },
	{ "camera", "waiting_per_device", CONF_INT, AT(waiting_per_device), NULL, "1", "1000000000", NULL, RL,
	  "files of this camera that may wait; that of [limits] if not set" },
	{ "camera", "uploads_per_minute", CONF_INT, AT(uploads_per_minute), NULL, "1", "1000000", NULL, RL,
	  "uploads that this camera may send in a minute; that of [limits] if not set" },
	{ "camera", "on_same_name", CONF_ENUM, AT(on_same_name), "default", NULL, NULL, camera_same_name_words, RL,
	  "on_same_name of [spool] for this camera" },
	{ "camera", "repeat_window", CONF_MSEC, AT(repeat_window_ms), NULL, "1 s", "7 d", NULL, RL | NN,
	  "repeat_window of [spool] for this camera" },
	{ "camera", "images", CONF_ENUM, AT(images), "default", NULL, NULL, camera_image_words, RL,
	  "mode of [images] for this camera" },
	{ "camera", "quality", CONF_INT, AT(quality), NULL, "1", "100", NULL, RL,
	  "quality of [images] for this camera" },
	{ "camera", "max_dimension", CONF_INT, AT(max_dimension), NULL, "16", "65500", NULL, RL,
	  "max_dimension of [images] for this camera" },
	{ "camera", "expect_every", CONF_MSEC, AT(expect_every_ms), "none", "1 s", "365 d", NULL, RL | NN,
	  "status tells when nothing came for this long" },
	{ "camera", "user", CONF_TEXT, AT(user), NULL, NULL, NULL, NULL, RL,
	  "user name that the camera must give" },
	{ "camera", "password_file", CONF_PATH, AT(password_file), NULL, NULL, NULL, NULL, RL,
	  "file with the password that the camera must give" },
};
#undef AT
// clang-format on

static const struct conf_titled titled[] = {
	{ "camera", offsetof(struct gateway_conf, cameras),
	    offsetof(struct gateway_conf, cameras_n),
	    sizeof(struct camera_conf), camera_keys,
	    sizeof(camera_keys) / sizeof(camera_keys[0]),
	    "one camera or device" },
	{ "mirror", offsetof(struct gateway_conf, mirrors),
	    offsetof(struct gateway_conf, mirrors_n),
	    sizeof(struct mirror_conf), mirror_keys,
	    sizeof(mirror_keys) / sizeof(mirror_keys[0]),
	    "files of a vendor who signs nothing" },
};

/* An address in the 16 octets of IPv6; IPv4 is mapped (RFC 4291 2.5.5.2). */
struct address {
	unsigned char ip[16];
	unsigned bits; /* prefix length, of 128 */
};

/* s[0..n) is "ADDRESS" or "ADDRESS/BITS". */
static bool
address_parse(const char *s, size_t n, struct address *out)
{
	char host[64], *slash, *zone;
	struct in_addr v4;
	bool is_v4;

	if (n >= sizeof(host))
		return false;
	memcpy(host, s, n);
	host[n] = '\0';
	slash = strchr(host, '/');
	if (slash != NULL)
		*slash = '\0';
	zone = strchr(host, '%');
	if (zone != NULL)
		*zone = '\0';
	is_v4 = inet_pton(AF_INET, host, &v4) == 1;
	if (is_v4) {
		memset(out->ip, 0, 10);
		memset(out->ip + 10, 0xff, 2);
		memcpy(out->ip + 12, &v4, 4);
	} else if (inet_pton(AF_INET6, host, out->ip) != 1) {
		return false;
	}
	out->bits = 128;
	if (slash != NULL)
		out->bits = (unsigned)atoi(slash + 1) + (is_v4 ? 96 : 0);
	return out->bits <= 128;
}

static bool
address_in(const struct address *a, const struct address *net)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;

	if (memcmp(a->ip, net->ip, whole) != 0)
		return false;
	return rest == 0 || (a->ip[whole] ^ net->ip[whole]) >> (8 - rest) == 0;
}

/* The next word of a list, NULL: the end. */
static const char *
next_word(const char **list, size_t *n_out)
{
	const char *s = *list + strspn(*list, " ");

	*n_out = strcspn(s, " ");
	*list = s + *n_out;
	return *n_out > 0 ? s : NULL;
}

const struct camera_conf *
gateway_conf_camera(const struct gateway_conf *c, const char *address)
{
	const struct camera_conf *best = NULL;
	size_t n = strlen(address);
	unsigned best_bits = 0;
	struct address a, net;

	if (n > 2 && address[0] == '[' && address[n - 1] == ']') {
		address++;
		n -= 2;
	}
	if (!address_parse(address, n, &a))
		return NULL;
	for (size_t i = 0; i < c->cameras_n; i++) {
		const char *list = c->cameras[i].address, *w;

		while (list != NULL && (w = next_word(&list, &n)) != NULL)
			if (address_parse(w, n, &net) && address_in(&a, &net) &&
			    (best == NULL || net.bits > best_bits)) {
				best = &c->cameras[i];
				best_bits = net.bits;
			}
	}
	return best;
}

const struct mirror_conf *
gateway_conf_mirror(const struct gateway_conf *c, const char *name)
{
	for (size_t i = 0; i < c->mirrors_n; i++)
		if (strcmp(c->mirrors[i].name, name) == 0)
			return &c->mirrors[i];
	return NULL;
}

int
gateway_conf_prefetch(const char *text, int minute, bool *may_out)
{
	int from, to;

	if (strcmp(text, "off") == 0 || strcmp(text, "on") == 0) {
		*may_out = text[1] == 'n';
		return 0;
	}
	if (clock_parse_window(text, &from, &to) != 0)
		return -EINVAL;
	*may_out = from < to ? minute >= from && minute < to
			     : minute >= from || minute < to;
	return 0;
}

char *
gateway_conf_path(const struct gateway_conf *c, const char *what)
{
	const char *dot = strrchr(what, '.');
	bool run = dot != NULL &&
	    (strcmp(dot, ".sock") == 0 || strcmp(dot, ".bell") == 0);

	return xasprintf("%s/%s", run ? c->run_dir : c->state_dir, what);
}

/* ---- checks across settings ---------------------------------------------- */

/* A name that becomes part of object keys and log lines. */
static bool
good_name(const char *s)
{
	if (*s == '\0' || strlen(s) > 64 || *s == '.')
		return false;
	for (; *s != '\0'; s++)
		if (strchr("/\\?#%\"", *s) != NULL || *s == ' ')
			return false;
	return true;
}

static void
check_template(const struct gateway_conf *c, struct conf_problems *p)
{
	static const char *const words[] = { "device", "gateway", "name", "ext",
		"id", "sha256", "date", "time" };
	const size_t words_n = sizeof(words) / sizeof(words[0]);

	for (const char *s = c->key_template; *s != '\0'; s++) {
		size_t n = strcspn(s + 1, "{}"), i;

		if (*s == '}') {
			conf_problem(p, "upload", "key_template",
			    "key_template: \"}\" without \"{\"");
			return;
		}
		if (*s != '{')
			continue;
		if (s[n + 1] != '}') {
			conf_problem(p, "upload", "key_template",
			    "key_template: \"{\" without \"}\"");
			return;
		}
		for (i = 0; i < words_n; i++)
			if (strlen(words[i]) == n &&
			    memcmp(words[i], s + 1, n) == 0)
				break;
		if (i == words_n) {
			conf_problem(p, "upload", "key_template",
			    "key_template: \"{%.*s}\" is not known; use "
			    "{device} {gateway} {name} {ext} {id} {sha256} "
			    "{date} {time}",
			    (int)n, s + 1);
			return;
		}
		s += n + 1;
	}
}

static void
check_cameras(const struct gateway_conf *c, struct conf_problems *p)
{
	for (size_t i = 0; i < c->cameras_n; i++) {
		const struct camera_conf *k = &c->cameras[i];
		char *section = xasprintf("camera %s", k->name);

		if (!good_name(k->name))
			conf_problem(p, section, "",
			    "[%s]: a camera's name has at most 64 characters, "
			    "no blank and none of / \\ ? # %% \"",
			    section);
		if ((k->user != NULL) != (k->password_file != NULL))
			conf_problem(p, section,
			    k->user != NULL ? "user" : "password_file",
			    "user and password_file of [%s] stand together or "
			    "not at all",
			    section);
		free(section);
	}
}

struct claim {
	struct address net;
	size_t camera;
};

static int
by_net(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int d = memcmp(x->net.ip, y->net.ip, 16);

	if (d == 0 && x->net.bits != y->net.bits)
		d = x->net.bits < y->net.bits ? -1 : 1;
	if (d == 0 && x->camera != y->camera)
		d = x->camera < y->camera ? -1 : 1;
	return d;
}

/* One address, one camera: the same network in two sections is a mistake. */
static void
check_claims(const struct gateway_conf *c, struct conf_problems *p)
{
	struct claim *v = NULL;
	size_t n = 0, len;

	for (size_t i = 0; i < c->cameras_n; i++) {
		const char *list = c->cameras[i].address, *w;

		while (list != NULL && (w = next_word(&list, &len)) != NULL) {
			v = xrealloc(v, (n + 1) * sizeof(*v));
			v[n].camera = i;
			if (address_parse(w, len, &v[n].net))
				n++;
		}
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), by_net);
	for (size_t i = 1; i < n; i++) {
		const struct claim *a = &v[i - 1], *b = &v[i];
		char *section;

		if (memcmp(&a->net, &b->net, sizeof(a->net)) != 0 ||
		    a->camera == b->camera)
			continue;
		section = xasprintf("camera %s", c->cameras[b->camera].name);
		conf_problem(p, section, "address",
		    "address: also stands in [camera %s]; one address is one "
		    "camera",
		    c->cameras[a->camera].name);
		free(section);
	}
	free(v);
}

/* A wish that this build cannot fulfil is no setting. */
static void
check_images(const struct gateway_conf *c, struct conf_problems *p)
{
	if (!c->images_cpu.is_percent || c->images_cpu.percent < 1)
		conf_problem(p, "images", "cpu_share",
		    "cpu_share: a part of the processors, 1 %% to 100 %%");
#ifndef HAVE_JXL
	if (c->images_jpeg == JPEG_JXL)
		conf_problem(p, "images", "jpeg",
		    "jpeg = jxl: this edgehaul was built without JPEG XL "
		    "(Debian: libjxl-dev)");
#endif
#ifndef HAVE_JPEG
	if (c->images_mode == IMAGES_LOSSY)
		conf_problem(p, "images", "mode",
		    "mode = lossy: this edgehaul was built without libjpeg "
		    "(Debian: libjpeg62-turbo-dev)");
#endif
}

/* An address that paths are put behind; no slash at its end. */
static void
check_base(const struct gateway_conf *c, struct conf_problems *p,
    const char *section, const char *name, char *url)
{
	if (url == NULL)
		return;
	while (url[strlen(url) - 1] == '/')
		url[strlen(url) - 1] = '\0';
	if (strpbrk(url, "?#") != NULL)
		conf_problem(p, section, name,
		    "%s: no \"?\" or \"#\" may stand in it: the names of the "
		    "files are put behind it",
		    name);
	if (strncasecmp(url, "http://", 7) == 0 && !c->allow_http)
		conf_problem(p, section, name,
		    "%s: without TLS; write https://, or set [upload] "
		    "allow_http = yes",
		    name);
}

static void
check_firmware(const struct gateway_conf *c, struct conf_problems *p)
{
	bool may;

	check_base(c, p, "firmware", "origin", c->firmware_origin);
	check_base(c, p, "firmware", "backup", c->firmware_backup);
	if (c->firmware_origin != NULL && c->publisher_key == NULL)
		conf_problem(p, "firmware", "origin",
		    "origin needs publisher_key beside it: nothing is served "
		    "that the publisher did not sign");
	if (gateway_conf_prefetch(c->prefetch, 0, &may) != 0)
		conf_problem(p, "firmware", "prefetch",
		    "prefetch: off, on, or a time of day like 01:00-05:00");
	for (size_t i = 0; i < c->mirrors_n; i++) {
		const struct mirror_conf *m = &c->mirrors[i];
		char *section = xasprintf("mirror %s", m->name);

		if (!firmware_product_ok(m->name))
			conf_problem(p, section, "",
			    "[%s]: a mirror's name is 1 to 64 of a-z 0-9 . _ -",
			    section);
		check_base(c, p, section, "url", m->url);
		free(section);
	}
}

static void
cross(void *conf, struct conf_problems *p)
{
	struct gateway_conf *c = conf;
	const size_t path_max = sizeof(((struct sockaddr_un *)0)->sun_path);

	if (c->name == NULL) {
		char host[65] = "";

		gethostname(host, sizeof(host) - 1);
		host[strcspn(host, ".")] = '\0';
		c->name = xstrdup(good_name(host) ? host : "gateway");
	} else if (!good_name(c->name)) {
		conf_problem(p, "gateway", "name",
		    "name: at most 64 characters, no blank and none of "
		    "/ \\ ? # %% \"");
	}
	if (strlen(c->run_dir) + strlen("/agent.sock") >= path_max)
		conf_problem(p, "gateway", "run_dir",
		    "run_dir: longer than the %zu characters that the path "
		    "of a socket may have",
		    path_max - strlen("/agent.sock") - 1);
	if (c->free_floor.is_percent && c->free_floor.percent > 90)
		conf_problem(p, "spool", "free_floor",
		    "free_floor: more than 90 %% of the disk would stay "
		    "unused");
	if (c->tls_address != NULL &&
	    (c->cert_file == NULL || c->key_file == NULL))
		conf_problem(p, "listen", "tls_address",
		    "tls_address needs cert_file and key_file beside it");
	check_images(c, p);
	check_template(c, p);
	check_cameras(c, p);
	check_claims(c, p);
	check_firmware(c, p);
}

const struct conf_table gateway_conf_table = {
	.program = "the gateway",
	.size = sizeof(struct gateway_conf),
	.keys = keys,
	.keys_n = sizeof(keys) / sizeof(keys[0]),
	.titled = titled,
	.titled_n = sizeof(titled) / sizeof(titled[0]),
	.cross = cross,
};
