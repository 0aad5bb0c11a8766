/* pquant: finds the subcommand. Underscores and dashes in its name are one. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} command[] = {
#define X(name, summary) {#name, summary, cmd_##name},
#include "cli/commands.def"
};
enum { N_COMMANDS = sizeof command / sizeof *command };

static bool same(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(*a == '_' && *b == '-')) return false;
    return *a == *b;
}

static void overview(FILE *to)
{
    fprintf(to, "usage: pquant COMMAND ...\n\n"
                "Partial post-training quantization of object detectors.\n\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s", command[i].name);
        for (char *c = name; *c; c++)
            if (*c == '_') *c = '-';
        fprintf(to, "  %-15s %s\n", name, command[i].summary);
    }
    fprintf(to, "\npquant COMMAND --help shows its options. Version " PQ_VERSION_STRING ".\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        overview(stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("pquant " PQ_VERSION_STRING);
        return CLI_DONE;
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (same(command[i].name, argv[1])) return command[i].run(argc - 1, argv + 1);
    fprintf(stderr, "pquant: no command '%s'; see pquant --help\n", argv[1]);
    return CLI_USAGE;
}
