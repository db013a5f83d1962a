/* Preloaded into the pgpool under test (lib/shim.py): ends it by SIGKILL at a chosen call, or shows it
 * another wall clock. Only the first process: programs that it starts are left alone.
 *
 *   SHIM_KILL=rename:TEXT:N:before|after   at the Nth rename to a path with TEXT in it
 *   SHIM_KILL=child:TEXT:N:before|after    the same in a child that is about to become a program, which is
 *                                          killed as well, "before"
 *   SHIM_KILL=spawn:TEXT:N:before|after    at the Nth start of a shell command with TEXT in it
 *   SHIM_CLOCK=FILE                        FILE holds the seconds by which the wall clock is wrong
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char kind[16], text[256], when[16], clock_file[512];
static int wanted, *seen;
static pid_t me;

__attribute__((constructor)) static void begin(void)
{
    const char *spec = getenv("SHIM_KILL"), *clock = getenv("SHIM_CLOCK");
    if (spec)
        sscanf(spec, "%15[^:]:%255[^:]:%d:%15s", kind, text, &wanted, when);
    if (clock)
        snprintf(clock_file, sizeof clock_file, "%s", clock);
    unsetenv("SHIM_KILL");
    unsetenv("SHIM_CLOCK");
    unsetenv("LD_PRELOAD");
    /* Children count as well. */
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    me = getpid();
}

static int hit(const char *call, const char *what)
{
    return wanted && !strcmp(kind, call) && what && strstr(what, text) && __sync_add_and_fetch(seen, 1) == wanted;
}

static int is_child(void)
{
    return getpid() != me && getppid() == me;
}

static void die(const char *moment, int is_hit)
{
    if (is_hit && !strcmp(when, moment)) {
        kill(me, SIGKILL);
        while (getpid() == me)
            pause();
    }
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int rename(const char *from, const char *to)
{
    int is_hit = getpid() == me ? hit("rename", to) : is_child() && hit("child", to);
    die("before", is_hit);
    if (is_hit && !strcmp(when, "before"))
        kill(getpid(), SIGKILL);
    int result = ((int (*)(const char *, const char *))real("rename"))(from, to);
    die("after", is_hit);
    return result;
}

typedef int spawn_call(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                       char *const[], char *const[]);

static int spawn(const char *name, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    int is_hit = getpid() == me && argv[0] && argv[1] && hit("spawn", argv[2]);
    die("before", is_hit);
    int result = ((spawn_call *)real(name))(pid, path, actions, attributes, argv, envp);
    die("after", is_hit);
    return result;
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    return spawn("posix_spawn", pid, path, actions, attributes, argv, envp);
}

int posix_spawnp(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    return spawn("posix_spawnp", pid, path, actions, attributes, argv, envp);
}

/* In a child that has more to do than posix_spawn can. */
int execvp(const char *file, char *const argv[])
{
    int is_hit = is_child() && argv[0] && argv[1] && hit("spawn", argv[2]);
    die("before", is_hit);
    die("after", is_hit);
    return ((int (*)(const char *, char *const[]))real("execvp"))(file, argv);
}

/* The original runs its hooks so. */
int system(const char *command)
{
    int is_hit = getpid() == me && hit("spawn", command);
    die("before", is_hit);
    int result = ((int (*)(const char *))real("system"))(command);
    die("after", is_hit);
    return result;
}

static long wrong_by(void)
{
    char digits[32] = "";
    int file = clock_file[0] ? open(clock_file, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t got = read(file, digits, sizeof digits - 1);
    close(file);
    return got > 0 ? atol(digits) : 0;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int result = syscall(SYS_clock_gettime, id, at);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += wrong_by();
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
