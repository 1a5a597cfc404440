// A failing disk for one process, loaded into it with LD_PRELOAD by tests/src/faults.rs.
//
// FAMA_FAULT="<call> <how> <nth> <once|on> <name>": the nth <call> on a file whose path contains <name>
// fails as <how> says; with "on", all later ones on such files fail too. A <name> that ends with "$" must
// end the path. A line on stderr tells of the first failure.
//
//   call    write (write, pwrite) | sync (fsync, fdatasync) | rename | create (open of what is not there)
//   how     eio | nospace       not done, and the error says why
//           short               half of the bytes written, then nospace; write only
//           lost                what was not synced is cut off, as a power cut would; sync only
//           happened            done, and yet an error
//           power               the process is killed, and from every file that it wrote goes what was not synced
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char call_wanted[16], how[16], often[16], part[256];
static long nth;
static long seen;
static off_t synced[FILES_MAX];
static char written[FILES_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *fault = getenv("FAMA_FAULT");
    if (fault == NULL || sscanf(fault, "%15s %15s %ld %15s %255s", call_wanted, how, &nth, often, part) != 5) {
        fprintf(stderr, "fault: FAMA_FAULT is not as it should be\n");
        _exit(99);
    }
}

static int is(const char *one, const char *other) { return strcmp(one, other) == 0; }

static int is_meant(const char *path) {
    size_t length = strlen(part), all = strlen(path);
    if (length > 0 && part[length - 1] == '$') {
        return all >= length - 1 && strncmp(path + all - (length - 1), part, length - 1) == 0;
    }
    return strstr(path, part) != NULL;
}

// Whether this call is to fail.
static int fails(const char *call, const char *path) {
    if (!is(call, call_wanted) || !is_meant(path)) {
        return 0;
    }
    pthread_mutex_lock(&lock);
    long at = ++seen;
    pthread_mutex_unlock(&lock);
    if (at == nth) {
        for (int fd = 0; is(how, "power") && fd < FILES_MAX; fd++) {
            if (written[fd] && ftruncate(fd, synced[fd]) != 0) {
                _exit(99);
            }
        }
        dprintf(STDERR_FILENO, "fault: %s %s %s\n", call, how, path);
        if (is(how, "power")) {
            kill(getpid(), SIGKILL);
        }
    }
    return at == nth || (at > nth && is(often, "on"));
}

static int fd_fails(const char *call, int fd) {
    char link[64], path[1024];
    if (!is(call, call_wanted)) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = 0;
    return fails(call, path);
}

static int error(void) {
    errno = is(how, "nospace") || is(how, "short") ? ENOSPC : EIO;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (!fd_fails("write", fd)) {
        return NEXT(write)(fd, bytes, count);
    }
    size_t done = is(how, "happened") ? count : is(how, "short") ? count / 2 : 0;
    if (done > 0 && NEXT(write)(fd, bytes, done) < 0) {
        return -1;
    }
    return error();
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    if (!fd_fails("write", fd)) {
        return NEXT(pwrite)(fd, bytes, count, at);
    }
    size_t done = is(how, "happened") ? count : is(how, "short") ? count / 2 : 0;
    if (done > 0 && NEXT(pwrite)(fd, bytes, done, at) < 0) {
        return -1;
    }
    return error();
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) { return pwrite(fd, bytes, count, at); }

int close(int fd) {
    if (fd >= 0 && fd < FILES_MAX) {
        written[fd] = 0;
    }
    return NEXT(close)(fd);
}

static int sync_with(int (*real)(int), int fd) {
    int known = fd >= 0 && fd < FILES_MAX;
    if (fd_fails("sync", fd)) {
        if (is(how, "happened")) {
            real(fd);
        } else if (is(how, "lost") && known && ftruncate(fd, synced[fd]) != 0) {
            // A folder has nothing to cut off.
        }
        return error();
    }
    struct stat is_now;
    if (known && fstat(fd, &is_now) == 0) {
        synced[fd] = is_now.st_size;
    }
    return real(fd);
}

int fsync(int fd) { return sync_with(NEXT(fsync), fd); }

int fdatasync(int fd) { return sync_with(NEXT(fdatasync), fd); }

int rename(const char *from, const char *to) {
    if (!fails("rename", to)) {
        return NEXT(rename)(from, to);
    }
    if (is(how, "happened")) {
        NEXT(rename)(from, to);
    }
    return error();
}

static int opened(int fd, int flags) {
    struct stat is_now;
    if (fd >= 0 && fd < FILES_MAX) {
        written[fd] = (flags & O_ACCMODE) != O_RDONLY && fstat(fd, &is_now) == 0 && S_ISREG(is_now.st_mode);
        // Of a file that was here before, everything counts as safe.
        synced[fd] = fstat(fd, &is_now) == 0 ? is_now.st_size : 0;
    }
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    if ((flags & O_CREAT) != 0 && access(path, F_OK) != 0 && fails("create", path)) {
        return error();
    }
    return opened(NEXT(open)(path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open(path, flags | O_LARGEFILE, mode);
}
