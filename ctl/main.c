/*
 * main.c - edgehaul, the operator's program
 *
 * A table of commands: each has its words, the options it takes and whether
 * it needs the configuration. No command needs root for reading; what a user
 * may ask is decided by the sockets' group. Output for people is plain text
 * without colours, on a terminal or not; --json is for programs.
 */
#include "ctl.h"

#include <curl/curl.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "firmware.h"
#include "gateway_conf.h"

#define TAKES_JSON 1u
#define TAKES_LIVE 2u
#define TAKES_FILTER 4u /* --changed, --defaults */
#define NEEDS_CONF 8u
#define NEEDS_ID 16u
#define TAKES_YES 32u

static const struct command {
	const char *word, *second; /* second may be NULL */
	unsigned flags;
	int (*run)(struct ctl *ctl);
	const char *usage, *help;
} commands[] = {
	{ "status", NULL, TAKES_JSON | NEEDS_CONF, ctl_status,
	    "status [--json]",
	    "is all well, what waits, how full is the disk" },
	{ "check", NULL, TAKES_JSON | TAKES_LIVE, ctl_check,
	    "check [--live] [--json]",
	    "all mistakes in the configuration; --live: will it work" },
	{ "show-config", NULL, TAKES_JSON | TAKES_FILTER, ctl_show_config,
	    "show-config [--changed|--defaults] [--json]",
	    "each setting's value and where it comes from" },
	{ "queue", "ls", TAKES_JSON | NEEDS_CONF, ctl_queue_ls,
	    "queue ls [--json]", "the uploads that wait" },
	{ "queue", "show", TAKES_JSON | NEEDS_CONF | NEEDS_ID, ctl_queue_show,
	    "queue show ID [--json]", "all that is known of one upload" },
	{ "why", NULL, TAKES_JSON | NEEDS_CONF | NEEDS_ID, ctl_why,
	    "why ID [--json]", "why an upload is where it is" },
	{ "spool", "stat", TAKES_JSON | NEEDS_CONF, ctl_spool_stat,
	    "spool stat [--json]", "how full it is, how old the oldest" },
	{ "spool", "check", TAKES_JSON | NEEDS_CONF, ctl_spool_check,
	    "spool check [--json]", "read every waiting file back" },
	{ "spool", "rebuild", TAKES_YES | NEEDS_CONF, ctl_spool_rebuild,
	    "spool rebuild [--yes]",
	    "have the index made anew from the files" },
	{ "firmware", "devices", TAKES_JSON | NEEDS_CONF, ctl_firmware_devices,
	    "firmware devices [--json]",
	    "what runs on the devices here, and what they fetched" },
};
#define COMMANDS_N (sizeof(commands) / sizeof(commands[0]))

static void
print_line(const char *line_usage, const char *help)
{
	printf("  %-45s %s\n", line_usage, help);
}

static void
print_help(void)
{
	printf("Usage: edgehaul [--config FILE] COMMAND\n\n"
	       "Asks this gateway's daemons how they are.\n\n");
	for (size_t i = 0; i < COMMANDS_N; i++)
		print_line(commands[i].usage, commands[i].help);
	firmware_help(print_line);
	printf("\n  --config FILE   instead of %s/gateway.conf\n"
	       "  --json          for programs; lists: a line of JSON each\n"
	       "  --help, --version\n\n"
	       "Examples:\n"
	       "  edgehaul status\n"
	       "  edgehaul check --live\n"
	       "  edgehaul queue ls --json | grep '\"state\":\"held\"'\n\n"
	       "Exit codes: 0 good, 64 usage, 65 refused, 69 not running or "
	       "not there, "
	       "74 input or output,\n75 try later, 77 not permitted, "
	       "78 configuration. See edgehaul(1).\n",
	    SYSCONFDIR);
}

static void
print_version(void)
{
	printf("edgehaul %s\n%s\ncJSON %s\n", PACKAGE_VERSION, curl_version(),
	    cJSON_Version());
}

/* edgehaul [--config FILE] [--json] firmware WORD...: where WORD stands, if it
 * is one of the publisher's; they have options of their own. 0: it is none. */
static int
publisher_word(int argc, char **argv, const char **config, bool *json)
{
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--json") == 0 ||
		    strcmp(argv[i], "-j") == 0)
			*json = true;
		else if ((strcmp(argv[i], "--config") == 0 ||
			     strcmp(argv[i], "-c") == 0) &&
		    i + 1 < argc)
			*config = argv[++i];
		else if (strncmp(argv[i], "--config=", 9) == 0)
			*config = argv[i] + 9;
		else
			return 0;
	}
	return i + 1 < argc && strcmp(argv[i], "firmware") == 0 &&
		firmware_is_ours(argv[i + 1])
	    ? i + 1
	    : 0;
}

static int
usage(const char *what, const char *arg)
{
	fprintf(stderr, "edgehaul: %s%s%s\n", what, arg != NULL ? ": " : "",
	    arg != NULL ? arg : "");
	fprintf(stderr, "Try: edgehaul --help\n");
	return EXIT_USAGE;
}

/* Exactly 32 hexadecimal digits; so it may go into a path as it is. */
static bool
is_id(const char *s)
{
	return strlen(s) == 32 && s[strspn(s, "0123456789abcdef")] == '\0';
}

static const struct command *
find_command(char **words, int n, int *used_out)
{
	for (size_t i = 0; i < COMMANDS_N; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->word, words[0]) != 0)
			continue;
		if (c->second == NULL ||
		    (n > 1 && strcmp(c->second, words[1]) == 0)) {
			*used_out = c->second != NULL ? 2 : 1;
			return c;
		}
	}
	return NULL;
}

static int
run(struct ctl *ctl, char **words, int n)
{
	const struct command *c;
	int used, rc;

	if (n == 0)
		return usage("a command is missing", NULL);
	c = find_command(words, n, &used);
	if (c == NULL && strcmp(words[0], "queue") == 0)
		return usage("queue needs ls or show", NULL);
	if (c == NULL && strcmp(words[0], "spool") == 0)
		return usage("spool needs stat, check or rebuild", NULL);
	if (c == NULL && strcmp(words[0], "firmware") == 0)
		return usage(
		    "firmware needs devices, publish or another word", NULL);
	if (c == NULL)
		return usage("unknown command", words[0]);
	if (ctl->json && (c->flags & TAKES_JSON) == 0)
		return usage("--json is not for this command", c->word);
	if (ctl->live && (c->flags & TAKES_LIVE) == 0)
		return usage("--live is not for this command", c->word);
	if ((ctl->changed || ctl->defaults) && (c->flags & TAKES_FILTER) == 0)
		return usage(
		    "--changed and --defaults are not for this command",
		    c->word);
	if (ctl->yes && (c->flags & TAKES_YES) == 0)
		return usage("--yes is not for this command", c->word);
	if ((c->flags & NEEDS_ID) != 0) {
		if (used == n)
			return usage("the upload's ID is missing", c->usage);
		ctl->arg = words[used++];
		if (!is_id(ctl->arg))
			return usage("no ID (32 digits 0-9a-f)", ctl->arg);
	}
	if (used < n)
		return usage("too many words", words[used]);
	if ((c->flags & NEEDS_CONF) != 0 && (rc = ctl_load(ctl)) != 0)
		return rc;
	return c->run(ctl);
}

/* False: it is no command of the publisher's. */
static bool
run_publisher(int argc, char **argv, int *rc_out)
{
	const char *config = NULL;
	bool json = false;
	int at = publisher_word(argc, argv, &config, &json), rc;

	if (at == 0)
		return false;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	rc = firmware_main(config, json, argc - at, argv + at);
	curl_global_cleanup();
	if (fflush(stdout) != 0 || ferror(stdout))
		rc = rc != 0 ? rc : EXIT_IO;
	*rc_out = rc;
	return true;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "live", no_argument, NULL, 'l' },
		{ "changed", no_argument, NULL, 'n' },
		{ "defaults", no_argument, NULL, 'd' },
		{ "yes", no_argument, NULL, 'y' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL },
	};
	struct ctl ctl = { .config = SYSCONFDIR "/edgehaul/gateway.conf" };
	int opt, rc;

	signal(SIGPIPE, SIG_IGN);
	if (run_publisher(argc, argv, &rc))
		return rc;
	while ((opt = getopt_long(argc, argv, "c:jh", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			ctl.config = optarg;
			break;
		case 'j':
			ctl.json = true;
			break;
		case 'l':
			ctl.live = true;
			break;
		case 'n':
			ctl.changed = true;
			break;
		case 'd':
			ctl.defaults = true;
			break;
		case 'y':
			ctl.yes = true;
			break;
		case 'h':
			print_help();
			return EXIT_GOOD;
		case 'V':
			print_version();
			return EXIT_GOOD;
		default:
			return usage("that is no option", NULL);
		}
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	rc = run(&ctl, argv + optind, argc - optind);
	conf_free(&gateway_conf_table, ctl.conf);
	curl_global_cleanup();
	if (fflush(stdout) != 0 || ferror(stdout))
		rc = rc != 0 ? rc : EXIT_IO;
	return rc;
}
