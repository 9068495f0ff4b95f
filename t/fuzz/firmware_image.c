/*
 * firmware_image.c - fuzz target of ctl/firmware_image.c
 *
 * Whatever the file, what it tells is a version and names that may be sent on.
 * It is compiled with ctl/firmware_image.c and -lcrypto.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/firmware.h"
#include "manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static int fd = -1;
	struct image_info info;

	if (fd < 0)
		fd = memfd_create("image", MFD_CLOEXEC);
	assert(fd >= 0 && ftruncate(fd, 0) == 0 &&
	    pwrite(fd, data, n, 0) == (ssize_t)n);
	image_look(fd, &info);
	assert(info.version[0] == '\0' || firmware_version_ok(info.version));
	assert(info.hw_n <= 16);
	for (size_t i = 0; i < info.hw_n; i++)
		assert(strlen(info.hw[i]) > 0 && strlen(info.hw[i]) < 64);
	return 0;
}
