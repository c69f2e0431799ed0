/* A disk that fails, or a machine that stops, at the N-th change to what lies below a directory.
 *
 * Preloaded into a program (LD_PRELOAD), it stands before those functions of the C library that
 * change files. Nothing in the program is made for it.
 *
 *   FAULT_UNDER  the directory
 *   FAULT_TRACE  a file to which each change is appended as a line: its number, call and path
 *   FAULT_AT     the number of the change at which it happens, from 1; none happens without
 *   FAULT_DO     kill   SIGKILL instead of the change
 *                torn   half of the bytes are written, then SIGKILL
 *                power  as kill, and all bytes that were written but not synced are gone, too: they
 *                       are as they were before, and files end where they ended
 *                else   a number: the change fails with this errno, that one and no other
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
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long changes;

/* Bytes that were written and not synced: what stood there before. */
struct undo {
    struct undo *older;
    dev_t device;
    ino_t file;
    char path[PATH_MAX];
    off_t at, end; /* where it was written, where the file ended */
    size_t count;  /* bytes of before */
    char before[];
};
static struct undo *undos;

static int is_under(const char *path) {
    const char *under = getenv("FAULT_UNDER");
    size_t length = under ? strlen(under) : 0;
    return length && !strncmp(path, under, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return is_under(path);
}

static int does(const char *what) {
    const char *action = getenv("FAULT_DO");
    return action && !strcmp(action, what);
}

static void forget(int fd) {
    struct stat is;
    if (fstat(fd, &is)) return;
    for (struct undo **link = &undos; *link;) {
        struct undo *undo = *link;
        if (undo->file == is.st_ino && undo->device == is.st_dev) {
            *link = undo->older;
            free(undo);
        } else {
            link = &undo->older;
        }
    }
}

static void remember(int fd, const char *path, off_t at, size_t count) {
    struct stat is;
    if (!does("power") || fstat(fd, &is)) return;
    size_t kept = at >= is.st_size ? 0 : (size_t)(is.st_size - at) < count ? (size_t)(is.st_size - at) : count;
    struct undo *undo = malloc(sizeof *undo + kept);
    if (!undo) abort();
    *undo = (struct undo){.older = undos, .device = is.st_dev, .file = is.st_ino, .at = at, .end = is.st_size};
    strcpy(undo->path, path);
    /* The program's own descriptor may be for writing alone. */
    int reading = REAL(open)(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = reading < 0 ? 0 : pread(reading, undo->before, kept, at);
    undo->count = got < 0 ? 0 : got;
    if (reading >= 0) close(reading);
    undos = undo;
}

static void lose_power(void) {
    for (struct undo *undo = undos; undo; undo = undo->older) {
        int fd = REAL(open)(undo->path, O_WRONLY | O_CLOEXEC);
        struct stat is;
        if (fd >= 0 && !fstat(fd, &is) && is.st_ino == undo->file && is.st_dev == undo->device) {
            if (REAL(pwrite)(fd, undo->before, undo->count, undo->at) < 0) abort();
            if (REAL(ftruncate)(fd, undo->end)) abort();
        }
        if (fd >= 0) close(fd);
    }
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a change under the lock. True where it is to fail; dies where it is the last. The torn one
 * is the writer's, who knows the bytes. */
static int reached(const char *call, const char *path, int *torn) {
    const char *trace = getenv("FAULT_TRACE"), *at = getenv("FAULT_AT"), *action = getenv("FAULT_DO");
    changes++;
    int fd = trace ? REAL(open)(trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", changes, call, path);
        if (REAL(write)(fd, line, length) != length) abort();
        close(fd);
    }
    if (!at || !action || changes != atol(at)) return 0;
    if (does("power")) lose_power();
    if (does("torn") && torn) {
        *torn = 1;
        return 0;
    }
    if (does("torn") || does("kill") || does("power")) die();
    errno = atoi(action);
    return 1;
}

/* The change that is no write: counted, and then made by the C library unless it is to fail. */
#define CHANGE(call, path, made)                 \
    if (!is_under(path)) return made;            \
    pthread_mutex_lock(&lock);                   \
    int fails = reached(call, path, NULL);       \
    pthread_mutex_unlock(&lock);                 \
    return fails ? -1 : made

static ssize_t written(const char *call, int fd, const void *bytes, size_t count, off_t at) {
    char path[PATH_MAX];
    int appends = at < 0, torn = 0, ours = path_of(fd, path);
    if (ours) {
        pthread_mutex_lock(&lock);
        struct stat is;
        off_t place = !appends ? at : fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &is) ? is.st_size : lseek(fd, 0, SEEK_CUR);
        if (reached(call, path, &torn)) {
            pthread_mutex_unlock(&lock);
            return -1;
        }
        remember(fd, path, place, count);
        count = torn ? count / 2 : count;
    }
    ssize_t result = appends ? REAL(write)(fd, bytes, count) : REAL(pwrite)(fd, bytes, count, at);
    if (torn) die();
    if (ours) pthread_mutex_unlock(&lock);
    return result;
}

static int synced(const char *call, int fd, int (*sync)(int)) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return sync(fd);
    pthread_mutex_lock(&lock);
    int result = reached(call, path, NULL) ? -1 : sync(fd);
    if (!result) forget(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static int opened(const char *path, int flags, mode_t mode) {
    int changing = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    if (!changing) return REAL(open)(path, flags, mode);
    CHANGE("open", path, REAL(open)(path, flags, mode));
}

#define OPEN(name)                                                                \
    int name(const char *path, int flags, ...) {                                  \
        va_list rest;                                                             \
        va_start(rest, flags);                                                    \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;    \
        va_end(rest);                                                             \
        return opened(path, flags, mode);                                         \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t count) { return written("write", fd, bytes, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return written("pwrite", fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return written("pwrite", fd, bytes, count, at); }
int fsync(int fd) { return synced("fsync", fd, REAL(fsync)); }
int fdatasync(int fd) { return synced("fdatasync", fd, REAL(fdatasync)); }

int rename(const char *from, const char *to) { CHANGE("rename", to, REAL(rename)(from, to)); }
int unlink(const char *path) { CHANGE("unlink", path, REAL(unlink)(path)); }
int mkdir(const char *path, mode_t mode) { CHANGE("mkdir", path, REAL(mkdir)(path, mode)); }
int link(const char *from, const char *to) { CHANGE("link", to, REAL(link)(from, to)); }

static int resized(int fd, off_t length) {
    char path[PATH_MAX];
    path_of(fd, path);
    CHANGE("ftruncate", path, REAL(ftruncate)(fd, length));
}
int ftruncate(int fd, off_t length) { return resized(fd, length); }
int ftruncate64(int fd, off64_t length) { return resized(fd, length); }

static int allocated(int fd, int mode, off_t at, off_t length) {
    char path[PATH_MAX];
    path_of(fd, path);
    CHANGE("fallocate", path, REAL(fallocate)(fd, mode, at, length));
}
int fallocate(int fd, int mode, off_t at, off_t length) { return allocated(fd, mode, at, length); }
int fallocate64(int fd, int mode, off64_t at, off64_t length) { return allocated(fd, mode, at, length); }
