/*
 * firmware.c - edgehaul firmware: options, configuration, commands
 */
#include "firmware.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "manifest.h"
#include "xalloc.h"

#define NEEDS_PRODUCT 1u
#define NEEDS_KEY 2u
#define NEEDS_SIGNER 4u /* url, token_file */

static const struct command {
	const char *word;
	unsigned flags;
	int (*run)(struct publisher *p);
	const char *usage, *help;
} commands[] = {
	{ "publish", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_publish,
	    "firmware publish --product P FILE...",
	    "check, upload and release a version" },
	{ "promote", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_promote,
	    "firmware promote --product P --version V",
	    "roll it out to --percent of the devices" },
	{ "halt", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_halt,
	    "firmware halt --product P --version V",
	    "offer it to nobody else" },
	{ "revoke", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_revoke,
	    "firmware revoke --product P --version V",
	    "never serve these bytes again" },
	{ "refresh", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_refresh,
	    "firmware refresh --product P", "sign the manifest anew" },
	{ "ls", NEEDS_SIGNER, command_ls, "firmware ls [--product P]",
	    "products, or releases of one" },
	{ "product", NEEDS_PRODUCT | NEEDS_KEY | NEEDS_SIGNER, command_product,
	    "firmware product --product P",
	    "make a product, or add this key to it" },
	{ "keygen", 0, command_keygen, "firmware keygen FILE",
	    "a new key to sign manifests with" },
	{ "drop", NEEDS_KEY | NEEDS_SIGNER, command_drop,
	    "firmware drop --watch DIR", "publish what is put into a folder" },
};
#define COMMANDS_N (sizeof(commands) / sizeof(commands[0]))

enum {
	O_PRODUCT = 256,
	O_CHANNEL,
	O_VERSION,
	O_HW,
	O_MIN_FROM,
	O_PERCENT,
	O_AFTER,
	O_WINDOW,
	O_SET,
	O_STORAGE,
	O_MAX_SIZE,
	O_EXPIRES,
	O_WATCH,
	O_ONCE,
	O_DRY_RUN,
	O_ANY_VERSION,
	O_NO_PASSWORD,
	O_FORCE,
	O_YES
};

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "json", no_argument, NULL, 'j' },
	{ "product", required_argument, NULL, O_PRODUCT },
	{ "channel", required_argument, NULL, O_CHANNEL },
	{ "version", required_argument, NULL, O_VERSION },
	{ "hw", required_argument, NULL, O_HW },
	{ "min-from", required_argument, NULL, O_MIN_FROM },
	{ "percent", required_argument, NULL, O_PERCENT },
	{ "after", required_argument, NULL, O_AFTER },
	{ "window", required_argument, NULL, O_WINDOW },
	{ "set", required_argument, NULL, O_SET },
	{ "storage", required_argument, NULL, O_STORAGE },
	{ "max-size", required_argument, NULL, O_MAX_SIZE },
	{ "expires", required_argument, NULL, O_EXPIRES },
	{ "watch", required_argument, NULL, O_WATCH },
	{ "once", no_argument, NULL, O_ONCE },
	{ "dry-run", no_argument, NULL, O_DRY_RUN },
	{ "any-version", no_argument, NULL, O_ANY_VERSION },
	{ "no-password", no_argument, NULL, O_NO_PASSWORD },
	{ "force", no_argument, NULL, O_FORCE },
	{ "yes", no_argument, NULL, O_YES },
	{ NULL },
};

bool
firmware_is_ours(const char *word)
{
	for (size_t i = 0; i < COMMANDS_N; i++)
		if (strcmp(commands[i].word, word) == 0)
			return true;
	return false;
}

void
firmware_help(void (*line)(const char *usage, const char *help))
{
	for (size_t i = 0; i < COMMANDS_N; i++)
		line(commands[i].usage, commands[i].help);
}

/* ---- options ------------------------------------------------------------- */

static int
wrong(const char *option, const char *value, const char *hint)
{
	complain("%s %s: %s", option, value, hint);
	return EXIT_USAGE;
}

/* A number with a unit, as in the configuration. */
static int
take_unit(
    const char *option, enum conf_type type, const char *text, int64_t *out)
{
	struct conf_key key = { .name = option, .type = type };
	char why[200];

	if (conf_parse_value(&key, text, out, why, sizeof(why)) == 0)
		return 0;
	return wrong(option, text, why);
}

static int
take_percent(struct firmware_options *o, const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || (*end != '\0' && strcmp(end, "%") != 0) || n < 0 ||
	    n > 100)
		return wrong("--percent", text, "a number from 0 to 100");
	o->percent = n;
	return 0;
}

static int
take_option(struct firmware_options *o, int opt, const char *arg)
{
	static const struct {
		int opt;
		size_t at;
	} texts[] = {
		{ O_PRODUCT, offsetof(struct firmware_options, product) },
		{ O_CHANNEL, offsetof(struct firmware_options, channel) },
		{ O_VERSION, offsetof(struct firmware_options, version) },
		{ O_MIN_FROM, offsetof(struct firmware_options, min_from) },
		{ O_AFTER, offsetof(struct firmware_options, after) },
		{ O_WINDOW, offsetof(struct firmware_options, window) },
		{ O_SET, offsetof(struct firmware_options, set) },
		{ O_STORAGE, offsetof(struct firmware_options, storage) },
		{ O_WATCH, offsetof(struct firmware_options, watch) },
	}, flags[] = {
		{ 'j', offsetof(struct firmware_options, json) },
		{ O_ONCE, offsetof(struct firmware_options, once) },
		{ O_DRY_RUN, offsetof(struct firmware_options, dry_run) },
		{ O_ANY_VERSION,
		    offsetof(struct firmware_options, any_version) },
		{ O_NO_PASSWORD,
		    offsetof(struct firmware_options, no_password) },
		{ O_FORCE, offsetof(struct firmware_options, force) },
		{ O_YES, offsetof(struct firmware_options, yes) },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].opt == opt) {
			*(const char **)((char *)o + texts[i].at) = arg;
			return 0;
		}
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (flags[i].opt == opt) {
			*(bool *)((char *)o + flags[i].at) = true;
			return 0;
		}
	if (opt == O_HW && o->hw_n < FW_LIST_MAX) {
		o->hw[o->hw_n++] = arg;
		return 0;
	}
	if (opt == O_PERCENT)
		return take_percent(o, arg);
	if (opt == O_MAX_SIZE)
		return take_unit("--max-size", CONF_BYTES, arg, &o->max_size);
	if (opt == O_EXPIRES)
		return take_unit("--expires", CONF_MSEC, arg, &o->expires_ms);
	complain("Try: edgehaul --help");
	return EXIT_USAGE;
}

static int
read_options(struct publisher *p, const char **config, int argc, char **argv)
{
	struct firmware_options *o = &p->o;
	int opt, rc = 0;

	o->percent = o->max_size = o->expires_ms = -1;
	optind = 0; /* start anew (getopt(3)) */
	while (rc == 0 &&
	    (opt = getopt_long(argc, argv, "c:j", options, NULL)) != -1) {
		if (opt == 'c')
			*config = optarg;
		else
			rc = take_option(o, opt, optarg);
	}
	for (; optind < argc; optind++) {
		if (o->files_n == FW_LIST_MAX)
			return wrong("FILE", argv[optind], "too many");
		o->files[o->files_n++] = argv[optind];
	}
	return rc;
}

/* ---- configuration ------------------------------------------------------- */

static char *
find_config(void)
{
	const char *home = getenv("HOME");
	char *path = NULL;

	if (home != NULL) {
		path = xasprintf("%s/.config/edgehaul/publisher.conf", home);
		if (access(path, F_OK) == 0)
			return path;
		free(path);
	}
	return xstrdup(SYSCONFDIR "/edgehaul/publisher.conf");
}

static int
load_config(struct publisher *p, const char *config, bool required)
{
	char *path = config != NULL ? xstrdup(config) : find_config();
	struct conf_problems *problems = conf_problems_new();
	void *conf = NULL;
	int rc = !required && config == NULL && access(path, F_OK) != 0
	    ? conf_load_text(
		  &publisher_conf_table, "defaults", "", 0, problems, &conf)
	    : conf_load(&publisher_conf_table, path, problems, &conf);

	for (size_t i = 0; i < conf_problems_count(problems); i++)
		fprintf(stderr, "%s\n", conf_problems_get(problems, i));
	conf_problems_free(problems);
	free(path);
	p->conf = conf;
	return rc == 0 ? 0 : EXIT_CONFIG;
}

/* mkdir -p, for the user alone. */
static int
make_state_dir(struct publisher *p)
{
	const char *home = getenv("HOME");

	if (p->conf->state_dir != NULL)
		p->state_dir = xstrdup(p->conf->state_dir);
	else if (home != NULL)
		p->state_dir = xasprintf("%s/.local/state/edgehaul", home);
	else
		p->state_dir = xstrdup("/var/lib/edgehaul-publisher");
	for (char *s = p->state_dir + 1; *s != '\0'; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		mkdir(p->state_dir, 0700);
		*s = '/';
	}
	if (mkdir(p->state_dir, 0700) == 0 || errno == EEXIST)
		return 0;
	complain("state_dir %s: %s", p->state_dir, strerror(errno));
	return EXIT_CONFIG;
}

/* Would the token travel in clear? */
static bool
in_clear(const char *url)
{
	char host[64];
	const char *p = url + 7;
	struct in_addr a;
	size_t n;

	if (strncmp(url, "http://", 7) != 0)
		return false;
	n = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":/?#");
	if (n >= sizeof(host) || memchr(p, '@', strcspn(p, "/?#")) != NULL)
		return true;
	memcpy(host, p, n);
	host[n] = '\0';
	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return false;
	return inet_pton(AF_INET, host, &a) != 1 ||
	    (ntohl(a.s_addr) >> 24) != IN_LOOPBACKNET;
}

static int
open_signer(struct publisher *p)
{
	const struct publisher_conf *c = p->conf;
	char *why = NULL;
	bool mine;

	if (c->url == NULL || c->token_file == NULL) {
		complain("[publisher] %s is not set; see publisher.conf(5)",
		    c->url == NULL ? "url" : "token_file");
		return EXIT_CONFIG;
	}
	if (in_clear(c->url) && !c->allow_http) {
		complain("[publisher] url: the token would travel in clear; "
			 "use https, or allow_http = yes");
		return EXIT_CONFIG;
	}
	p->token = token_read(c->token_file, &why, &mine);
	if (p->token == NULL) {
		complain("token_file: %s", why);
		free(why);
		return mine ? EXIT_CONFIG : EXIT_DENIED;
	}
	return make_state_dir(p);
}

static int
check_names(struct publisher *p, const struct command *c)
{
	struct firmware_options *o = &p->o;

	if (o->channel == NULL)
		o->channel = p->conf->channel;
	if ((c->flags & NEEDS_PRODUCT) != 0 && o->product == NULL) {
		complain("--product is missing: edgehaul %s", c->usage);
		return EXIT_USAGE;
	}
	if (o->product != NULL && !firmware_product_ok(o->product))
		return wrong("--product", o->product,
		    "1 to 64 of a-z 0-9 . _ - and no leading dot");
	if (!firmware_product_ok(o->channel))
		return wrong("--channel", o->channel,
		    "1 to 64 of a-z 0-9 . _ - and no leading dot");
	if (o->version != NULL && !firmware_version_ok(o->version))
		return wrong("--version", o->version,
		    "1 to 64 of letters, digits, . _ + - , no leading dot");
	return 0;
}

int
firmware_main(const char *config, bool json, int argc, char **argv)
{
	struct publisher *p = xcalloc(1, sizeof(*p));
	const struct command *c = commands;
	int rc;

	while (strcmp(c->word, argv[0]) != 0)
		c++;
	p->o.json = json;
	rc = read_options(p, &config, argc, argv);
	if (rc == 0)
		rc = load_config(p, config, (c->flags & NEEDS_SIGNER) != 0);
	if (rc == 0)
		rc = check_names(p, c);
	if (rc == 0 && (c->flags & NEEDS_SIGNER) != 0)
		rc = open_signer(p);
	if (rc == 0 && (c->flags & NEEDS_KEY) != 0 &&
	    !(c->run == command_publish && p->o.dry_run))
		rc = key_load(p);
	if (rc == 0)
		rc = c->run(p);
	explicit_bzero(&p->key, sizeof(p->key));
	if (p->token != NULL)
		explicit_bzero(p->token, strlen(p->token));
	free(p->token);
	free(p->state_dir);
	conf_free(&publisher_conf_table, p->conf);
	free(p);
	return rc;
}
