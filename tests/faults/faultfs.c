/* File-system calls that fail on demand: loaded with LD_PRELOAD, it counts the calls that change something under one
 * folder and kills the process at the n-th of them (a write in its middle, if torn), or makes calls fail.
 *
 *   gcc -shared -fPIC -O2 -o faultfs.so faultfs.c -ldl -lpthread
 *
 * Counted: opening for writing, write, fsync, rename, unlink, mkdir, truncate. Not seen: calls that bypass the C
 * library, such as the rename inside safetensors.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 4096
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static char folder[PATH_MAX];
static char is_watched[MAX_DESCRIPTORS];
static long calls, written, kill_at, error_from, error_to, budget;
static int is_torn, error_number;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Begin to count from zero. kill_at: 0 never. error_from..error_to: these calls fail with error_number. budget: bytes
 * after which writes fail with ENOSPC, -1 for no limit. */
void faultfs_arm(const char *path, long kill, int torn, int number, long from, long to, long bytes) {
  if (!realpath(path, folder)) strncpy(folder, path, PATH_MAX - 1);
  calls = written = 0;
  kill_at = kill;
  is_torn = torn;
  error_number = number;
  error_from = from;
  error_to = to;
  budget = bytes;
}

long faultfs_calls(void) { return calls; }
long faultfs_written(void) { return written; }

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Counts one call; returns -1 with errno set if it fails. *half is set when half of a write comes before the kill. */
static int count(long bytes, int *half) {
  int failed = 0;
  pthread_mutex_lock(&lock);
  long number = ++calls;
  if (number == kill_at) {
    if (is_torn && half && bytes > 1) *half = 1;
    else die();
  }
  if (error_number && number >= error_from && number <= error_to) {
    errno = error_number;
    failed = -1;
  } else if (bytes > 0 && budget >= 0 && written + bytes > budget) {
    errno = ENOSPC;
    failed = -1;
  } else {
    written += bytes;
  }
  pthread_mutex_unlock(&lock);
  return failed;
}

static int is_under(int at, const char *path) {
  char whole[2 * PATH_MAX], link[64], base[PATH_MAX];
  if (!folder[0] || !path) return 0;
  if (path[0] != '/') {
    ssize_t size = -1;
    if (at == AT_FDCWD) {
      if (getcwd(base, sizeof base)) size = strlen(base);
    } else {
      snprintf(link, sizeof link, "/proc/self/fd/%d", at);
      size = readlink(link, base, sizeof base - 1);
    }
    if (size < 0) return 0;
    base[size] = 0;
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    path = whole;
  }
  size_t length = strlen(folder);
  return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

#define WATCHED(fd) ((fd) >= 0 && (fd) < MAX_DESCRIPTORS && is_watched[fd])

#define OPEN(name, at, path, call)                                        \
  {                                                                       \
    mode_t mode = 0;                                                      \
    if (flags & (O_CREAT | O_TMPFILE)) {                                  \
      va_list rest;                                                       \
      va_start(rest, flags);                                              \
      mode = va_arg(rest, mode_t);                                        \
      va_end(rest);                                                       \
    }                                                                     \
    int watch = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) && is_under(at, path); \
    if (watch && count(0, NULL)) return -1;                               \
    int fd = call;                                                        \
    if (fd >= 0 && fd < MAX_DESCRIPTORS) is_watched[fd] = watch || is_under(at, path); \
    return fd;                                                            \
  }
int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, path, REAL(open)(path, flags, mode))
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, path, REAL(open64)(path, flags, mode))
int openat(int at, const char *path, int flags, ...) OPEN(openat, at, path, REAL(openat)(at, path, flags, mode))
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, at, path, REAL(openat64)(at, path, flags, mode))

#define WRITE(fd, bytes, torn_call, call)      \
  {                                            \
    int half = 0;                              \
    if (WATCHED(fd) && count(bytes, &half)) return -1; \
    if (half) {                                \
      torn_call;                               \
      die();                                   \
    }                                          \
    return call;                               \
  }
ssize_t write(int fd, const void *data, size_t size)
    WRITE(fd, (long)size, (void)!syscall(SYS_write, fd, data, size / 2), REAL(write)(fd, data, size))
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
    WRITE(fd, (long)size, (void)!syscall(SYS_pwrite64, fd, data, size / 2, at), REAL(pwrite64)(fd, data, size, at))
ssize_t sendfile(int to, int from, off_t *at, size_t size)
    WRITE(to, 1L << 16, (void)!REAL(sendfile)(to, from, at, 7), REAL(sendfile)(to, from, at, size > 1 << 16 ? 1 << 16 : size))
ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
    WRITE(to, 1L << 16, (void)!REAL(sendfile64)(to, from, at, 7), REAL(sendfile64)(to, from, at, size > 1 << 16 ? 1 << 16 : size))
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t size, unsigned flags)
    WRITE(to, 1L << 16, (void)!REAL(copy_file_range)(from, in, to, out, 7, flags),
          REAL(copy_file_range)(from, in, to, out, size > 1 << 16 ? 1 << 16 : size, flags))

#define DESCRIPTOR(fd, call) { if (WATCHED(fd) && count(0, NULL)) return -1; return call; }
int fsync(int fd) DESCRIPTOR(fd, REAL(fsync)(fd))
int fdatasync(int fd) DESCRIPTOR(fd, REAL(fdatasync)(fd))
int ftruncate64(int fd, off64_t size) DESCRIPTOR(fd, REAL(ftruncate64)(fd, size))

#define PATH(at, path, call) { if (is_under(at, path) && count(0, NULL)) return -1; return call; }
int rename(const char *from, const char *to) PATH(AT_FDCWD, to, REAL(rename)(from, to))
int renameat(int a, const char *from, int b, const char *to) PATH(b, to, REAL(renameat)(a, from, b, to))
int unlink(const char *path) PATH(AT_FDCWD, path, REAL(unlink)(path))
int unlinkat(int at, const char *path, int flags) PATH(at, path, REAL(unlinkat)(at, path, flags))
int rmdir(const char *path) PATH(AT_FDCWD, path, REAL(rmdir)(path))
int mkdir(const char *path, mode_t mode) PATH(AT_FDCWD, path, REAL(mkdir)(path, mode))
int mkdirat(int at, const char *path, mode_t mode) PATH(at, path, REAL(mkdirat)(at, path, mode))
