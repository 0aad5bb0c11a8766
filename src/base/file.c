/* Files: mapping, atomic writing, folders, paths. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct mapping {
    void *p;
    size_t n;
};

static void unmap(void *user)
{
    struct mapping *m = user;
    munmap(m->p, m->n);
    pq_free(m);
}

pq_status pq_file_map(pq_ctx *ctx, pq_buf **out, const char *path)
{
    pq_status st;
    struct stat s;
    struct mapping *m = NULL;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return pq_fail(ctx, PQ_E_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        st = pq_fail(ctx, PQ_E_IO, "%s: not a regular file", path);
        goto out;
    }
    if (s.st_size == 0) {
        st = pq_buf_new(ctx, out, 0);
        goto out;
    }
    PQ_TRY(pq_alloc(ctx, &m, 1, sizeof *m));
    m->n = (size_t)s.st_size;
    m->p = mmap(NULL, m->n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (m->p == MAP_FAILED) {
        st = pq_fail(ctx, PQ_E_IO, "%s: cannot map %zu bytes: %s", path, m->n, strerror(errno));
        goto out;
    }
    st = pq_buf_wrap(ctx, out, m->p, m->n, unmap, m);
    if (st != PQ_OK) munmap(m->p, m->n);
out:
    if (st != PQ_OK) pq_free(m);
    close(fd);
    return st;
}

bool pq_file_exists(const char *path) { return access(path, F_OK) == 0; }

bool pq_file_is_below(const char *path, const char *dir)
{
    char *real = realpath(path, NULL), *root = realpath(dir, NULL);
    bool below = false;
    if (real && root) {
        const size_t n = root[1] ? strlen(root) : 0; /* the root folder is "/" */
        below = strncmp(real, root, n) == 0 && real[n] == '/';
    }
    free(real);
    free(root);
    return below;
}

bool pq_file_is_dir(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

pq_status pq_dir_make(pq_ctx *ctx, const char *path)
{
    char *p;
    pq_status st = pq_strdup(ctx, &p, path);
    if (st != PQ_OK) return st;
    for (char *c = p + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        char keep = *c;
        *c = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            st = pq_fail(ctx, PQ_E_IO, "%s: cannot make folder: %s", p, strerror(errno));
            break;
        }
        *c = keep;
        if (!keep) break;
    }
    if (st == PQ_OK && !pq_file_is_dir(path)) st = pq_fail(ctx, PQ_E_IO, "%s: not a folder", path);
    pq_free(p);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pq_status pq_dir_list(pq_ctx *ctx, char ***out_names, size_t *out_n, const char *path)
{
    pq_status st = PQ_OK;
    char **names = NULL;
    size_t n = 0, room = 0;
    *out_names = NULL;
    *out_n = 0;
    DIR *d = opendir(path);
    if (!d) return pq_fail(ctx, PQ_E_IO, "%s: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (n == room) {
            PQ_TRY(pq_grow(ctx, &names, n, room ? 2 * room : 64, sizeof *names));
            room = room ? 2 * room : 64;
        }
        PQ_TRY(pq_strdup(ctx, &names[n], e->d_name));
        n++;
    }
    if (n) qsort(names, n, sizeof *names, by_name);
    *out_names = names;
    *out_n = n;
out:
    if (st != PQ_OK) {
        for (size_t i = 0; i < n; i++) pq_free(names[i]);
        pq_free(names);
    }
    closedir(d);
    return st;
}

pq_status pq_out_open(pq_ctx *ctx, pq_out *out, const char *path)
{
    pq_status st;
    memset(out, 0, sizeof *out);
    PQ_TRY(pq_strdup(ctx, &out->path, path));
    PQ_TRY(pq_asprintf(ctx, &out->temp, "%s.tmp%ld", path, (long)getpid()));
    out->f = fopen(out->temp, "wb");
    if (!out->f) st = pq_fail(ctx, PQ_E_IO, "%s: cannot write: %s", path, strerror(errno));
out:
    if (st != PQ_OK) {
        pq_free(out->path);
        pq_free(out->temp);
        memset(out, 0, sizeof *out);
    }
    return st;
}

pq_status pq_out_commit(pq_ctx *ctx, pq_out *out)
{
    pq_status st = PQ_OK;
    errno = 0;
    bool bad = ferror(out->f) != 0;
    bad |= fflush(out->f) != 0;
    int why = errno;
    if (!bad && fsync(fileno(out->f)) != 0 && errno != EINVAL) { /* pipes cannot sync */
        bad = true;
        why = errno;
    }
    bad |= fclose(out->f) != 0;
    out->f = NULL;
    if (!bad && rename(out->temp, out->path) != 0) {
        bad = true;
        why = errno;
    }
    if (bad)
        st = pq_fail(ctx, PQ_E_IO, "%s: cannot write: %s", out->path, strerror(why ? why : EIO));
    if (bad) unlink(out->temp);
    pq_free(out->path);
    pq_free(out->temp);
    memset(out, 0, sizeof *out);
    return st;
}

void pq_out_abort(pq_out *out)
{
    if (!out->f) return;
    fclose(out->f);
    unlink(out->temp);
    pq_free(out->path);
    pq_free(out->temp);
    memset(out, 0, sizeof *out);
}

pq_status pq_file_write(pq_ctx *ctx, const char *path, const void *data, size_t bytes)
{
    pq_out out;
    pq_status st = pq_out_open(ctx, &out, path);
    if (st != PQ_OK) return st;
    if (bytes) fwrite(data, 1, bytes, out.f); /* errors are sticky: commit sees them */
    return pq_out_commit(ctx, &out);
}

pq_status pq_file_append_line(pq_ctx *ctx, const char *path, const char *line)
{
    char *text = NULL;
    pq_status st = pq_asprintf(ctx, &text, "%s\n", line);
    if (st != PQ_OK) return st;
    const int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    const size_t n = strlen(text);
    char last = '\n';
    const off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    bool ok = fd >= 0;
    if (ok && size > 0 && pread(fd, &last, 1, size - 1) == 1 && last != '\n')
        ok = write(fd, "\n", 1) == 1;
    ok = ok && write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0) close(fd);
    pq_free(text);
    return ok ? PQ_OK : pq_fail(ctx, PQ_E_IO, "%s: cannot write: %s", path, strerror(why));
}

pq_status pq_path_join(pq_ctx *ctx, char **out, const char *dir, const char *name)
{
    if (name[0] == '/' || !dir[0]) return pq_strdup(ctx, out, name);
    size_t n = strlen(dir);
    return pq_asprintf(ctx, out, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

const char *pq_path_base(const char *path)
{
    const char *s = strrchr(path, '/');
    return s ? s + 1 : path;
}

pq_status pq_path_stem(pq_ctx *ctx, char **out, const char *path)
{
    pq_status st = pq_strdup(ctx, out, pq_path_base(path));
    if (st != PQ_OK) return st;
    char *dot = strrchr(*out, '.');
    if (dot && dot != *out) *dot = 0;
    return PQ_OK;
}
