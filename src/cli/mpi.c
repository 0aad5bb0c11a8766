/* libpquant_mpi.so: lines of text between ranks. MPI calls come from one thread, and nobody waits
 * inside of one: MPI would keep a processor busy that measures. */
#include "cli/mpi.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The processors that this process may run on, as Linux writes them down. */
static void own_processors(char text[256])
{
    static const char key[] = "Cpus_allowed_list:";
    char line[256];
    memset(text, 0, 256);
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, sizeof key - 1) == 0) memcpy(text, line, strlen(line));
    if (f) fclose(f);
}

static int count_sharing(void)
{
    char own[256], *all;
    MPI_Comm host;
    int n = 1, sharing = 0;
    own_processors(own);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    MPI_Comm_size(host, &n);
    all = calloc((size_t)n, sizeof own);
    if (!all) return 1;
    MPI_Allgather(own, (int)sizeof own, MPI_CHAR, all, (int)sizeof own, MPI_CHAR, host);
    for (int i = 0; i < n; i++) sharing += strcmp(all + (size_t)i * sizeof own, own) == 0;
    free(all);
    MPI_Comm_free(&host);
    return sharing;
}

static bool send(void *user, int to, const char *text)
{
    (void)user;
    const int n = (int)strlen(text) + 1;
    return MPI_Send(text, n, MPI_CHAR, to, 0, MPI_COMM_WORLD) == MPI_SUCCESS;
}

static int take(const MPI_Status *probed, char *text, size_t room)
{
    int n = 0;
    MPI_Get_count(probed, MPI_CHAR, &n);
    char *whole = n > 0 ? malloc((size_t)n) : NULL;
    if (!whole) return -1;
    const int rc =
        MPI_Recv(whole, n, MPI_CHAR, probed->MPI_SOURCE, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    whole[n - 1] = 0;
    if (rc == MPI_SUCCESS) snprintf(text, room, "%s", whole);
    free(whole);
    return rc == MPI_SUCCESS ? probed->MPI_SOURCE : -1;
}

static int receive(void *user, char *text, size_t room, double seconds)
{
    const struct timespec nap = {.tv_nsec = 500000};
    const double until = MPI_Wtime() + seconds;
    (void)user;
    for (;;) {
        MPI_Status status;
        int there = 0;
        if (MPI_Iprobe(MPI_ANY_SOURCE, 0, MPI_COMM_WORLD, &there, &status) != MPI_SUCCESS)
            return -1;
        if (there) return take(&status, text, room);
        if (seconds <= 0 || MPI_Wtime() >= until) return -1;
        nanosleep(&nap, NULL);
    }
}

static bool open_mpi(pq_crew *out, int *sharing, char *why, size_t room)
{
    int have;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have) != MPI_SUCCESS) {
        snprintf(why, room, "MPI_Init failed");
        return false;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &out->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &out->size);
    out->lost = calloc((size_t)out->size, sizeof *out->lost);
    if (!out->lost) {
        snprintf(why, room, "no memory");
        return false;
    }
    out->send = send;
    out->receive = receive;
    *sharing = count_sharing();
    return true;
}

static void close_mpi(pq_crew *crew, bool all_there, int status)
{
    free(crew->lost);
    crew->lost = NULL;
    if (all_there)
        MPI_Finalize();
    else
        MPI_Abort(MPI_COMM_WORLD, status);
}

extern const pq_mpi pquant_mpi;
const pq_mpi pquant_mpi = {open_mpi, close_mpi};
