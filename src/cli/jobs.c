/* Copies of the command, made by fork; a pair of sockets between the first and each other. */
#include "cli/jobs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    int rank, size;
    int socket[CLI_MOST_JOBS]; /* to each rank; of a copy: [0] alone; -1: gone */
    pid_t pid[CLI_MOST_JOBS];
    bool lost[CLI_MOST_JOBS];
} jobs;

static void hang_up(int rank)
{
    if (jobs.socket[rank] >= 0) close(jobs.socket[rank]);
    jobs.socket[rank] = -1;
}

int cli_jobs_start(int n)
{
    for (jobs.size = 1; jobs.size < n; jobs.size++) {
        char text[16];
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) goto failed;
        const pid_t pid = fork();
        if (pid < 0) {
            close(pair[0]);
            close(pair[1]);
            goto failed;
        }
        if (pid == 0) {
            for (int r = 1; r < jobs.size; r++) close(jobs.socket[r]);
            close(pair[0]);
            jobs.socket[0] = pair[1];
            jobs.rank = jobs.size;
            jobs.size = n;
            snprintf(text, sizeof text, "%d", jobs.rank);
            setenv("PQUANT_LOCAL_RANK", text, 1); /* each its GPU, where there are several */
            return 0;
        }
        close(pair[1]);
        jobs.socket[jobs.size] = pair[0];
        jobs.pid[jobs.size] = pid;
    }
    return 0;
failed:;
    const int why = errno;
    cli_jobs_end(false);
    return why;
}

int cli_jobs_rank(void) { return jobs.rank; }

/* To one that is gone nothing can be sent; its signal would end this process too. */
static bool send_text(void *user, int to, const char *text)
{
    (void)user;
    const size_t n = strlen(text);
    while (jobs.socket[to] >= 0) {
        const ssize_t sent = send(jobs.socket[to], text, n, MSG_NOSIGNAL);
        if (sent == (ssize_t)n) return true;
        if (sent < 0 && errno == EINTR) continue;
        hang_up(to);
    }
    return false;
}

/* false: there is none, and never will be. */
static bool take(int from, char *text, size_t room)
{
    const ssize_t n = recv(jobs.socket[from], text, room - 1, 0);
    if (n <= 0) {
        hang_up(from);
        return false;
    }
    text[n] = 0;
    return true;
}

/* A copy that hears nothing more goes home. */
static int hear_leader(char *text, size_t room, int milliseconds)
{
    struct pollfd p = {.fd = jobs.socket[0], .events = POLLIN};
    if (p.fd >= 0 && poll(&p, 1, milliseconds) <= 0) return -1;
    if (p.fd < 0 || !take(0, text, room)) snprintf(text, room, "stop");
    return 0;
}

static int receive_text(void *user, char *text, size_t room, double seconds)
{
    struct pollfd p[CLI_MOST_JOBS];
    const int milliseconds = (int)(1000 * seconds);
    (void)user;
    if (jobs.rank) return hear_leader(text, room, milliseconds);
    for (int r = 1; r < jobs.size; r++)
        p[r] = (struct pollfd){.fd = jobs.socket[r], .events = POLLIN};
    if (poll(p + 1, (nfds_t)(jobs.size - 1), milliseconds) <= 0) return -1;
    for (int r = 1; r < jobs.size; r++)
        if (p[r].revents && take(r, text, room)) return r;
    return -1;
}

bool cli_jobs_join(pq_crew *out)
{
    if (jobs.size <= 1) return false;
    out->rank = jobs.rank;
    out->size = jobs.size;
    out->lost = jobs.lost;
    out->send = send_text;
    out->receive = receive_text;
    return true;
}

void cli_jobs_end(bool all_there)
{
    if (jobs.rank) {
        hang_up(0);
    } else {
        for (int r = 1; r < jobs.size; r++) hang_up(r);
        for (int r = 1; r < jobs.size; r++) {
            if (!all_there) kill(jobs.pid[r], SIGKILL);
            while (waitpid(jobs.pid[r], NULL, 0) < 0 && errno == EINTR) continue;
        }
    }
    jobs.size = 1;
}
