/* Asking the python3 on PATH for its package folders. */
#include "engine/foreign/python.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

extern char **environ;

enum { MAX_OUTPUT = 16384, MAX_FOLDERS = 16, TIME_LIMIT_MS = 10000 };

static bool can_run(const char *path) { return !pq_file_is_dir(path) && access(path, X_OK) == 0; }

/* First executable python3 of an absolute entry; *out NULL where there is none. */
static pq_status find_executable(pq_ctx *ctx, char **out)
{
    pq_status st = PQ_OK;
    *out = NULL;
    const char *p = getenv("PATH");
    while (p && *p && !*out && st == PQ_OK) {
        const size_t n = strcspn(p, ":");
        if (p[0] == '/') {
            st = pq_asprintf(ctx, out, "%.*s/python3", (int)n, p);
            if (st == PQ_OK && !can_run(*out)) {
                pq_free(*out);
                *out = NULL;
            }
        }
        p += n + (p[n] == ':');
    }
    return st;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* All that comes out of fd until its end, the room's end or the time limit; true at its end. */
static bool read_all(int fd, char *text, size_t room, size_t *n)
{
    const int64_t end = now_ms() + TIME_LIMIT_MS;
    *n = 0;
    while (*n < room) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const int64_t left = end - now_ms();
        const int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return false;
        const ssize_t got = read(fd, text + *n, room - *n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got == 0;
        *n += (size_t)got;
    }
    return false;
}

static bool start(pid_t *pid, const char *executable, int out)
{
    static char isolated[] = "-I", command[] = "-c",
                script[] = "import site; print(*site.getsitepackages(), "
                           "site.getusersitepackages(), sep='\\n')";
    char name[] = "python3", *const argv[] = {name, isolated, command, script, NULL};
    posix_spawn_file_actions_t a;
    if (posix_spawn_file_actions_init(&a) != 0) return false;
    const bool ok =
        posix_spawn_file_actions_addopen(&a, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
        posix_spawn_file_actions_adddup2(&a, out, STDOUT_FILENO) == 0 &&
        posix_spawn_file_actions_addopen(&a, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
        posix_spawn(pid, executable, &a, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&a);
    return ok;
}

/* The script's output; "" on any failure. */
static void ask(const char *executable, char text[MAX_OUTPUT + 1])
{
    int fd[2], status = 0;
    size_t n = 0;
    pid_t pid;
    text[0] = 0;
    if (pipe(fd) != 0) return;
    fcntl(fd[0], F_SETFD, FD_CLOEXEC);
    fcntl(fd[1], F_SETFD, FD_CLOEXEC);
    const bool started = start(&pid, executable, fd[1]);
    close(fd[1]);
    if (started) {
        const bool whole = read_all(fd[0], text, MAX_OUTPUT, &n);
        if (!whole) kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        text[whole && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? n : 0] = 0;
    }
    close(fd[0]);
}

pq_status pq_python_find(pq_ctx *ctx, pq_python *out)
{
    char *text = NULL;
    pq_status st;
    memset(out, 0, sizeof *out);
    PQ_TRY(find_executable(ctx, &out->executable));
    if (!out->executable) goto out;
    PQ_TRY(pq_alloc(ctx, &text, MAX_OUTPUT + 1, 1));
    PQ_TRY(pq_alloc(ctx, &out->folder, MAX_FOLDERS, sizeof *out->folder));
    ask(out->executable, text);
    for (char *line = text, *next; *line && out->n_folders < MAX_FOLDERS; line = next) {
        const size_t n = strcspn(line, "\r\n");
        next = line + n + (line[n] != 0);
        line[n] = 0;
        if (line[0] != '/' || !pq_file_is_dir(line)) continue;
        PQ_TRY(pq_strdup(ctx, &out->folder[out->n_folders], line));
        out->n_folders++;
    }
out:
    pq_free(text);
    if (st != PQ_OK) pq_python_clear(out);
    return st;
}

void pq_python_clear(pq_python *p)
{
    for (size_t i = 0; i < p->n_folders; i++) pq_free(p->folder[i]);
    pq_free(p->folder);
    pq_free(p->executable);
    memset(p, 0, sizeof *p);
}
