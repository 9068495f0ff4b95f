/*
 * conf.c - tests of lib/conf*.c and lib/gateway_conf.c
 */
#include "gateway_conf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "xalloc.h"

#define SIGNER "[signer]\nurl = https://s.example\ntoken_file = token\n"

static int
load_n(const char *text, size_t n, struct conf_problems **p,
    struct gateway_conf **c)
{
	void *conf = NULL;
	int rc;

	*p = conf_problems_new();
	rc = conf_load_text(&gateway_conf_table, "g.conf", text, n, *p, &conf);
	*c = conf;
	return rc;
}

static struct gateway_conf *
good(const char *text)
{
	struct conf_problems *p;
	struct gateway_conf *c;

	if (load_n(text, strlen(text), &p, &c) != 0)
		fail_msg("%s", conf_problems_get(p, 0));
	conf_problems_free(p);
	return c;
}

static void
drop(struct gateway_conf *c)
{
	conf_free(&gateway_conf_table, c);
}

/* The text has exactly these problems, in this order. */
static void
expect(const char *text, size_t n, const char *const *want)
{
	struct conf_problems *p;
	struct gateway_conf *c;
	size_t i;

	assert_int_equal(load_n(text, n, &p, &c), -EINVAL);
	for (i = 0; want[i] != NULL; i++) {
		const char *got = conf_problems_get(p, i);

		if (got == NULL || strcmp(got, want[i]) != 0)
			fail_msg("want: %s\n got: %s", want[i],
			    got != NULL ? got : "(nothing)");
	}
	if (conf_problems_count(p) != i)
		fail_msg("also: %s", conf_problems_get(p, i));
	conf_problems_free(p);
}

static void
expect_one(const char *lines, const char *want)
{
	char *text = xasprintf(SIGNER "%s", lines);
	const char *const all[] = { want, NULL };

	expect(text, strlen(text), all);
	free(text);
}

static void
test_defaults(void **state)
{
	struct gateway_conf *c = good(SIGNER);
	char cwd[4096], *token, *path;

	assert_string_equal(c->state_dir, "/var/lib/edgehaul");
	assert_string_equal(c->address, "0.0.0.0:8080");
	assert_false(c->known_only);
	assert_true(c->max_size == 8LL << 30);
	assert_true(c->free_floor.is_percent);
	assert_true(c->free_floor.percent == 5.0);
	assert_int_equal(c->index_size, 0);
	assert_int_equal(c->when_full, WHEN_FULL_REFUSE);
	assert_int_equal(c->on_same_name, SAME_NAME_KEEP_BOTH);
	assert_int_equal(c->repeat_window_ms, 600000);
	assert_true(c->max_age_ms == CONF_NONE);
	assert_true(c->max_upload == 2LL << 30);
	assert_int_equal(c->head_timeout_ms, 10000);
	assert_int_equal(c->min_rate, 500);
	assert_true(c->rate_limit == CONF_NONE);
	assert_string_equal(c->signer_url, "https://s.example");
	assert_string_equal(c->storage, "default");
	assert_non_null(c->name);
	token = xasprintf("%s/token", getcwd(cwd, sizeof(cwd)));
	assert_string_equal(c->token_file, token);
	free(token);
	path = gateway_conf_path(c, "spool");
	assert_string_equal(path, "/var/lib/edgehaul/spool");
	free(path);
	path = gateway_conf_path(c, "proxy.sock");
	assert_string_equal(path, "/run/edgehaul/proxy.sock");
	free(path);
	drop(c);
}

static void
test_forgiving(void **state)
{
	struct gateway_conf *c =
	    good("\xef\xbb\xbf# Windows\r\n\r\n  [signer]\r\n"
		 "\turl =  https://a.example:8443/x   http://[::1]:9/ \r\n"
		 "\t\ttoken_file=/etc/t k#n;x\r\n"
		 " ; old comment\r\n# caf\xe9 in Latin-1\r\n"
		 "[spool]\r\nmax_size=1.5GB\r\nmax_age = 36 H\r\n"
		 "free_floor = 500 MB\r\n[listen]\r\nknown_only = ON\r\n"
		 "address = [::]:0\r\n[ upload ]\r\nrate_limit = 5 Mbit/s\r\n"
		 "[limits]\r\nmin_rate = 2 KB/s\r\n[listen]\r\n"
		 "close_delimited = true");

	assert_string_equal(
	    c->signer_url, "https://a.example:8443/x http://[::1]:9/");
	assert_string_equal(c->token_file, "/etc/t k#n;x");
	assert_true(c->max_size == 3LL << 29);
	assert_int_equal(c->max_age_ms, 36 * 3600000);
	assert_false(c->free_floor.is_percent);
	assert_int_equal(c->free_floor.bytes, 500 << 20);
	assert_true(c->known_only);
	assert_true(c->close_delimited);
	assert_int_equal(c->rate_limit, 625000);
	assert_int_equal(c->min_rate, 2048);
	drop(c);
}

static void
test_all_at_once(void **state)
{
	static const char text[] = "name = early\n"            /* 1 */
				   "[spool]\n"                 /* 2 */
				   "max_szie = 1 GB\n"         /* 3 */
				   "max_age = 30\n"            /* 4 */
				   "url = https://x\n"         /* 5 */
				   "repeat_window 10 min\n"    /* 6 */
				   "when_full = drop_oldest\n" /* 7 */
				   "[limits\n"                 /* 8 */
				   "max_upload = 8 MiB\n"      /* 9 */
				   "max_connections = many\n"  /* 10 */
				   "head_timeout = 2 h\n"      /* 11 */
				   "[singer]\n"                /* 12 */
				   "url = https://s.example\n" /* 13 */
				   "[upload]\n"                /* 14 */
				   "storage = \xe2\x80\x9c"
				   "a\xe2\x80\x9d\n"               /* 15 */
				   "key_template = \"{device}\"\n" /* 16 */
				   "parallel = 4 # was 8\n"        /* 17 */
				   "allow_http = maybe\n"          /* 18 */
				   "proxy = proxy.site:3128\n"     /* 19 */
				   "allow_private = yes\n"         /* 20 */
				   "allow_private = no\n"          /* 21 */
				   "rate_limit: 5 Mbit/s\n"        /* 22 */
				   "[camera]\n"                    /* 23 */
				   "[camera dock]\n"               /* 24 */
				   "address = 10.0.0.300\n"        /* 25 */
				   "expect_every =\n"              /* 26 */
				   "[listen]\n"                    /* 27 */
				   "address = localhost:80\n"      /* 28 */
				   "= 5\n";                        /* 29 */
	static const char *const want[] = {
		"g.conf:1: \"name\" stands before the first [section]; it "
		"belongs below [gateway]",
		"g.conf:3: unknown setting \"max_szie\" in [spool]; did you "
		"mean \"max_size\"?",
		"g.conf:4: max_age: \"30\" needs a unit; write \"30 s\" "
		"(units: ms, s, min, h or d)",
		"g.conf:5: \"url\" belongs in section [signer], not [spool]",
		"g.conf:6: no \"=\" in \"repeat_window 10 min\"; write: "
		"repeat_window = 10 min",
		"g.conf:7: when_full: \"drop_oldest\" is not known; did you "
		"mean \"drop-oldest\"? It can be refuse or drop-oldest",
		"g.conf:8: missing \"]\" in \"[limits\"; write: [limits]",
		"g.conf:9: max_upload: unit \"MiB\" is not known; use B, KB, "
		"MB, GB or TB",
		"g.conf:10: max_connections: \"many\" is no whole number",
		"g.conf:11: head_timeout: \"2 h\" is too large; the most is "
		"1 h",
		"g.conf:12: unknown section [singer]; did you mean [signer]?",
		"g.conf:15: typographic quote found; settings need no quotes",
		"g.conf:16: quotes are not needed; write: key_template = "
		"{device}",
		"g.conf:17: \" #\" in the value of \"parallel\"; a comment "
		"stands on its own line",
		"g.conf:18: allow_http: \"maybe\" is neither yes nor no",
		"g.conf:19: proxy: \"proxy.site:3128\" must begin with "
		"https:// or http://",
		"g.conf:21: \"allow_private\" stands twice in [upload], first "
		"in line 20; remove one",
		"g.conf:22: no \"=\" in \"rate_limit: 5 Mbit/s\"; write: "
		"rate_limit = 5 Mbit/s",
		"g.conf:23: [camera] needs a name; write: [camera NAME]",
		"g.conf:25: address: \"10.0.0.300\" is no IP address or "
		"network (10.0.0.21, 10.0.0.0/24)",
		"g.conf:26: \"expect_every\" has no value; put # before the "
		"line to use the default",
		"g.conf:28: address: \"localhost\" is no IP address; write "
		"one, or 0.0.0.0 for all",
		"g.conf:29: no name before \"=\"; write: setting = value",
		"g.conf:29: section [signer] with \"url\" is missing (address "
		"of the signer; you get it from who runs the cloud side)",
		"g.conf:29: section [signer] with \"token_file\" is missing "
		"(file with this gateway's token; you get it from who runs "
		"the cloud side)",
		NULL,
	};

	expect(text, sizeof(text) - 1, want);
}

static void
test_values(void **state)
{
	expect_one("[spool]\nmax_size = 0 B\n",
	    "g.conf:5: max_size: \"0 B\" is too small; the least is 1 MB");
	expect_one("[spool]\nmax_size = 99999999999999999999 TB\n",
	    "g.conf:5: max_size: \"99999999999999999999 TB\" is no number "
	    "with a unit (B, KB, MB, GB or TB)");
	expect_one("[spool]\nmax_size = 9999999999 TB\n",
	    "g.conf:5: max_size: \"9999999999 TB\" is too large");
	expect_one("[spool]\nmax_size = -1 GB\n",
	    "g.conf:5: max_size: \"-1 GB\" is no number with a unit (B, KB, "
	    "MB, GB or TB)");
	expect_one("[spool]\nfree_floor = 5\n",
	    "g.conf:5: free_floor: \"5\" needs a unit; write \"5 %\" or "
	    "\"5 GB\"");
	expect_one("[spool]\nfree_floor = 101 %\n",
	    "g.conf:5: free_floor: \"101 %\" is more than 100 %");
	expect_one("[spool]\nmax_age = 5 m\n",
	    "g.conf:5: max_age: unit \"m\" is not known; use ms, s, min, h "
	    "or d");
	expect_one("[spool]\nmax_size = none\n",
	    "g.conf:5: max_size: \"none\" is no number with a unit (B, KB, "
	    "MB, GB or TB)");
	expect_one("[listen]\naddress = 8080\n",
	    "g.conf:5: address: \"8080\" has no address; write 0.0.0.0:8080");
	expect_one("[listen]\naddress = ::1:8080\n",
	    "g.conf:5: address: an IPv6 address stands in brackets; write "
	    "[::1]:8080");
	expect_one("[listen]\naddress = 1.2.3.4:65536\n",
	    "g.conf:5: address: \"1.2.3.4:65536\" is not ADDRESS:PORT, port 0 "
	    "to 65535");
	expect_one("[upload]\nproxy = http://:80\n",
	    "g.conf:5: proxy: \"http://:80\" names no host");
	expect_one("[upload]\nkey_template = {device}/{nmae}\n",
	    "g.conf:5: key_template: \"{nmae}\" is not known; use {device} "
	    "{gateway} {name} {ext} {id} {sha256} {date} {time}");
	expect_one("[upload]\nkey_template = {id\n",
	    "g.conf:5: key_template: \"{\" without \"}\"");
	expect_one("[upload]\nkey_template = {id}}\n",
	    "g.conf:5: key_template: \"}\" without \"{\"");
}

static void
test_sections(void **state)
{
	expect_one("[spool]x\nmax_age = 5 d\n",
	    "g.conf:4: text after \"]\"; a section stands alone on its line");
	expect_one("[spool main]\n",
	    "g.conf:4: [spool] takes no name; write: [spool]");
	expect_one("[webhooks]\nurl = x\n",
	    "g.conf:4: unknown section [webhooks]; its settings are not used "
	    "by the gateway");
	expect_one("[camera a/b]\n",
	    "g.conf:4: [camera a/b]: a camera's name has at most 64 "
	    "characters, no blank and none of / \\ ? # % \"");
	expect_one("[camera a]\nuser = x\n",
	    "g.conf:5: user and password_file of [camera a] stand together or "
	    "not at all");
	expect_one("[camera a]\naddress = 10.0.0.1\n[camera b]\n"
		   "address = 10.0.0.2 10.0.0.1\n",
	    "g.conf:7: address: also stands in [camera a]; one address is one "
	    "camera");
}

static void
test_cameras(void **state)
{
	struct gateway_conf *c = good(SIGNER
	    "[camera net]\naddress = 10.0.0.0/24, fd00::/8\nmax_upload = 5 MB\n"
	    "[camera one]\naddress = 10.0.0.21 192.168.1.5\npriority = 9\n"
	    "[camera named]\n");
	const struct camera_conf *k;

	assert_int_equal(c->cameras_n, 3);
	k = gateway_conf_camera(c, "10.0.0.7");
	assert_string_equal(k->name, "net");
	assert_int_equal(k->max_upload, 5 << 20);
	assert_int_equal(k->priority, 5);
	assert_true(k->expect_every_ms == CONF_NONE);
	k = gateway_conf_camera(c, "10.0.0.21"); /* the narrower one */
	assert_string_equal(k->name, "one");
	assert_string_equal(
	    gateway_conf_camera(c, "::ffff:10.0.0.21")->name, "one");
	assert_string_equal(
	    gateway_conf_camera(c, "::ffff:10.0.0.22")->name, "net");
	assert_string_equal(
	    gateway_conf_camera(c, "fdab::1%eth0")->name, "net");
	assert_string_equal(gateway_conf_camera(c, "[fdab::1]")->name, "net");
	assert_null(gateway_conf_camera(c, "10.0.1.7"));
	assert_null(gateway_conf_camera(c, "fe80::1"));
	assert_null(gateway_conf_camera(c, "nonsense"));
	assert_null(gateway_conf_camera(c, ""));
	drop(c);
}

static void
test_long_lines(void **state)
{
	char *text = xmalloc(2 << 20), *w = text;
	const char *const want[] = {
		"g.conf:5: line longer than 197 characters; shorten the value",
		"g.conf:7: unknown setting: its name is longer than 49 "
		"characters",
		NULL
	};

	/* 197 octets are taken, 198 are not; a comment may be any length. */
	w += sprintf(w, SIGNER "[upload]\n");
	w += sprintf(w, "proxy = http://");
	memset(w, 'a', 1000000);
	w += 1000000;
	w += sprintf(w, "\n#");
	memset(w, 'b', 900000);
	w += 900000;
	w += sprintf(w, "\n");
	memset(w, 'n', 50);
	w += 50;
	w += sprintf(w, " = 1\nkey_template = ");
	memset(w, 'k', 197 - 15);
	w += 197 - 15;
	*w++ = '\n';
	expect(text, (size_t)(w - text), want);
	free(text);
}

static void
test_hostile(void **state)
{
	static const char nul[] = SIGNER "[spool]\nmax_age\0= 5 s\n\0\n[lis\0";
	static const char *const nul_want[] = {
		"g.conf:5: control character (octet 0x00) in the line; type "
		"the line anew",
		"g.conf:6: control character (octet 0x00) in the line; type "
		"the line anew",
		"g.conf:7: control character (octet 0x00) in the line; type "
		"the line anew",
		NULL
	};
	static const char *const utf16_want[] = {
		"g.conf:1: the file is in UTF-16; save it as UTF-8",
		"g.conf:1: section [signer] with \"url\" is missing (address "
		"of the signer; you get it from who runs the cloud side)",
		"g.conf:1: section [signer] with \"token_file\" is missing "
		"(file with this gateway's token; you get it from who runs "
		"the cloud side)",
		NULL
	};

	expect(nul, sizeof(nul) - 1, nul_want);
	expect("\xff\xfe[\0s\0", 6, utf16_want);
	expect_one("[upload]\nstorage = caf\xe9\n",
	    "g.conf:5: a letter is not in UTF-8; save the file as UTF-8");
	expect_one("[upload]\nstorage = a\xc2\xa0"
		   "b\n",
	    "g.conf:5: a blank that is none (U+00A0 or alike) in the value of "
	    "\"storage\"; type the line anew");
	expect_one("[upload]\nstor ;age = a\n",
	    "g.conf:5: the line is not understood; write: setting = value");
	expect_one("[upload]\nparallel = 4 ; was 8\n",
	    "g.conf:5: \" ;\" in the value of \"parallel\"; a comment stands "
	    "on its own line");
}

/* A file of nothing but mistakes is told in a bounded number of lines. */
static void
test_flood(void **state)
{
	char *text = xmalloc(2 << 20), *w = text;
	struct conf_problems *p;
	struct gateway_conf *c;

	for (int i = 0; i < 100000; i++)
		w += sprintf(w, "a=1\n[x%d]\n", i);
	assert_int_equal(load_n(text, (size_t)(w - text), &p, &c), -EINVAL);
	assert_int_equal(conf_problems_count(p), 201);
	assert_non_null(strstr(conf_problems_get(p, 200), "more problems"));
	conf_problems_free(p);
	w = text + sprintf(text, SIGNER);
	for (int i = 0; i < 5000; i++)
		w += sprintf(w, "[camera c%d]\nmax_upload = 1 B\n", i);
	assert_int_equal(load_n(text, (size_t)(w - text), &p, &c), -EINVAL);
	assert_string_equal(conf_problems_get(p, 0),
	    "g.conf:8196: more than 4096 [camera ...] sections");
	conf_problems_free(p);
	free(text);
}

static void
put_file(const char *dir, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	free(path);
}

struct rows {
	char text[8192];
};

static void
tell_changed(const struct conf_row *row, void *arg)
{
	struct rows *r = arg;
	size_t n = strlen(r->text);

	if (row->file != NULL)
		snprintf(r->text + n, sizeof(r->text) - n, "%s.%s=%s@%s:%u\n",
		    row->section, row->key->name, row->value,
		    strrchr(row->file, '/') + 1, row->line);
}

static void
test_drop_ins(void **state)
{
	char dir[] = "/tmp/edgehaul-conf.XXXXXX", *main_file, *dropped;
	struct conf_problems *p = conf_problems_new();
	struct rows r = { "" };
	struct gateway_conf *c;
	void *conf = NULL;

	assert_non_null(mkdtemp(dir));
	main_file = xasprintf("%s/gateway.conf", dir);
	dropped = xasprintf("%s/conf.d", dir);
	mkdir(dropped, 0700);
	put_file(dir, "gateway.conf", SIGNER "[spool]\nmax_size = 1 GB\n");
	put_file(dropped, "10-a.conf",
	    "[spool]\nmax_size = 2 GB\n"
	    "max_age = 1 d\n[camera x]\n");
	put_file(dropped, "9-b.conf",
	    "[spool]\nmax_size = 3 GB\n"
	    "[signer]\nca_file = ca.pem\n");
	put_file(dropped, "9-b.conf~", "rubbish\n");
	put_file(dropped, ".conf", "rubbish\n");
	assert_int_equal(
	    conf_load(&gateway_conf_table, main_file, p, &conf), 0);
	c = conf;
	assert_true(c->max_size == 3LL << 30);
	assert_int_equal(c->max_age_ms, 86400000);
	assert_int_equal(c->cameras_n, 1);
	assert_memory_equal(c->ca_file, dropped, strlen(dropped));
	assert_memory_equal(c->token_file, dir, strlen(dir));
	conf_each(&gateway_conf_table, c, tell_changed, &r);
	assert_non_null(strstr(r.text, "spool.max_size=3 GB@9-b.conf:2\n"));
	assert_non_null(strstr(r.text, "spool.max_age=1 d@10-a.conf:3\n"));
	assert_non_null(
	    strstr(r.text, "signer.url=https://s.example@gateway.conf:2\n"));
	drop(c);

	/* Problems of all files, each where it stands. */
	put_file(dir, "gateway.conf", SIGNER "[spool]\nmax_size = 1\n");
	put_file(dropped, "9-b.conf", "\n[spool]\nmax_sice = 3 GB\n");
	conf_problems_free(p);
	p = conf_problems_new();
	assert_int_equal(
	    conf_load(&gateway_conf_table, main_file, p, &conf), -EINVAL);
	assert_int_equal(conf_problems_count(p), 2);
	assert_non_null(strstr(conf_problems_get(p, 0), "/gateway.conf:5: "));
	assert_non_null(
	    strstr(conf_problems_get(p, 1), "/conf.d/9-b.conf:3: "));
	conf_problems_free(p);

	unlink(main_file);
	p = conf_problems_new();
	assert_int_equal(
	    conf_load(&gateway_conf_table, main_file, p, &conf), -ENOENT);
	assert_non_null(
	    strstr(conf_problems_get(p, 0), "cannot be read: No such file"));
	conf_problems_free(p);
	free(main_file);
	main_file = xasprintf("rm -r %s", dir);
	assert_int_equal(system(main_file), 0);
	free(main_file);
	free(dropped);
}

static void
add_name(const char *name, void *arg)
{
	strcat(arg, name);
	strcat(arg, ";");
}

static void
test_restart(void **state)
{
	struct gateway_conf *a = good(SIGNER);
	struct gateway_conf *b =
	    good(SIGNER "[limits]\nmax_upload = 1 MB\n[camera x]\n"
			"[listen]\naddress = 127.0.0.1:1\n"
			"[spool]\nmax_size = 1 GB\n");
	char names[256] = "";

	assert_int_equal(
	    conf_needs_restart(&gateway_conf_table, a, a, add_name, names), 0);
	assert_int_equal(
	    conf_needs_restart(&gateway_conf_table, a, b, add_name, names), 2);
	assert_string_equal(names, "[listen] address;[spool] max_size;");
	drop(a);
	drop(b);
}

static void
test_json(void **state)
{
	static const char text[] = SIGNER "[spool]\nmax_age = \"5\n";
	struct conf_problems *p;
	struct gateway_conf *c;
	cJSON *o;
	char *s;

	load_n(text, sizeof(text) - 1, &p, &c);
	o = conf_problems_json(p);
	s = cJSON_PrintUnformatted(o);
	assert_string_equal(s,
	    "{\"problems\":[{\"file\":\"g.conf\",\"line\":5,\"text\":"
	    "\"quotes are not needed; write: max_age = 5\"}]}");
	free(s);
	cJSON_Delete(o);
	conf_problems_free(p);
}

static void
test_prefetch(void **state)
{
	static const struct {
		const char *text;
		int minute;
		bool may;
	} cases[] = { { "on", 0, true }, { "off", 0, false },
		{ "01:00-05:00", 59, false }, { "01:00-05:00", 60, true },
		{ "01:00-05:00", 299, true }, { "01:00-05:00", 300, false },
		{ "23:00-01:00", 1380, true }, { "23:00-01:00", 0, true },
		{ "23:00-01:00", 60, false } };
	bool may;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(
		    gateway_conf_prefetch(cases[i].text, cases[i].minute, &may),
		    0);
		assert_int_equal(may, cases[i].may);
	}
	assert_int_equal(gateway_conf_prefetch("night", 0, &may), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_forgiving),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_cameras),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_drop_ins),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_prefetch),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
