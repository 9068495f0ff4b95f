/*
 * own_folder.h - a folder of a test's own, gone afterwards
 *
 * Functions, not a program's part: a test includes it after cmocka.h.
 */
#ifndef OWN_FOLDER_H
#define OWN_FOLDER_H

#include <stdio.h>
#include <stdlib.h>

#define OWN_FOLDER 64

/* In memory where that is a folder: thousands of files, no power to fail. */
static inline void
own_folder_make(char dir[OWN_FOLDER], const char *test)
{
	snprintf(dir, OWN_FOLDER, "/dev/shm/eh-%s-XXXXXX", test);
	if (mkdtemp(dir) != NULL)
		return;
	snprintf(dir, OWN_FOLDER, "/tmp/eh-%s-XXXXXX", test);
	assert_non_null(mkdtemp(dir));
}

static inline void
own_folder_remove(const char *dir)
{
	char cmd[OWN_FOLDER + 16];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	assert_int_equal(system(cmd), 0);
}

#endif
