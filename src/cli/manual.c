/* pquant-manual, a program of the build: manual pages and shell completions from the tables that
 * --help prints. It is linked with the commands, but its cli_parse writes a table down instead of
 * reading arguments by it. Usage: pquant-manual FOLDER YYYY-MM-DD */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} command[] = {
#define X(name, summary) {#name, summary, cmd_##name},
#include "cli/commands.def"
};
enum { N_COMMANDS = sizeof command / sizeof *command, MAX_CHOICES = 16 };

/* What cli_parse writes to; the commands know nothing of it. */
static struct {
    const char *folder, *date, *summary;
    FILE *bash, *zsh;
} to;

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static FILE *create(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", to.folder, name);
    FILE *f = fopen(path, "w");
    if (!f) die(path);
    return f;
}

static void finish(FILE *f, const char *name)
{
    const bool bad = ferror(f) != 0;
    if (fclose(f) != 0 || bad) die(name);
}

/* The command's name as users write it. */
static const char *dashed(const char *name)
{
    static char text[64];
    snprintf(text, sizeof text, "%s", name);
    for (char *c = text; *c; c++)
        if (*c == '_') *c = '-';
    return text;
}

/* ---- words that an option takes, told by its table entry ---- */

typedef struct choices {
    char word[MAX_CHOICES][32];
    size_t n;
    bool closed; /* these and nothing else, such as a file */
} choices;

static size_t word_length(const char *p)
{
    size_t n = 0;
    while (islower((unsigned char)p[n]) || isdigit((unsigned char)p[n])) n++;
    return n;
}

static void add_choice(choices *c, const char *p, size_t n)
{
    if (c->n < MAX_CHOICES && n < sizeof c->word[0]) {
        memcpy(c->word[c->n], p, n);
        c->word[c->n++][n] = 0;
    }
}

/* The list of words that p begins with: "fp32, bf16 or a plan.json (...)". Its last member may be
 * no word and stand for other things. */
static choices list_at(const char *p, bool bars)
{
    choices c = {.closed = true};
    for (;;) {
        const size_t n = word_length(p);
        const char *q = p + n;
        size_t gap = 0;
        if (bars)
            gap = *q == '|';
        else if (strncmp(q, ", ", 2) == 0)
            gap = 2;
        else if (strncmp(q, " or ", 4) == 0)
            gap = 4;
        if (n && (gap || !*q || *q == ':' || *q == ';' || strncmp(q, " (", 2) == 0))
            add_choice(&c, p, n);
        else
            c.closed = false;
        if (!gap) break;
        p = q + gap;
    }
    if (c.n < 2) c.n = 0;
    return c;
}

/* "s8|u8" as the argument, or a list at the start of the help or behind its colon. */
static choices choices_of(const cli_opt *o)
{
    choices c = {.closed = true};
    if (o->kind != CLI_TEXT) return c;
    if (strcmp(o->name, "--engine") == 0) {
        for (const pq_engine *const *e = pq_engines(); *e; e++)
            add_choice(&c, (*e)->name, strlen((*e)->name));
        return c;
    }
    if (strchr(o->arg, '|')) return list_at(o->arg, true);
    c = list_at(o->help, false);
    const char *colon = strstr(o->help, ": ");
    if (!c.n && colon) c = list_at(colon + 2, false);
    return c;
}

/* ---- manual pages ---- */

/* A word of roff text: hyphens that are to be typed, the backslash, and what begins a request. */
static size_t roff_word(FILE *f, const char *p)
{
    const size_t n = strcspn(p, " ");
    if (*p == '.' || *p == '\'') fputs("\\&", f);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '-')
            fputs("\\-", f);
        else if (p[i] == '\\')
            fputs("\\e", f);
        else
            fputc(p[i], f);
    }
    return n;
}

/* Text in one line, or in lines of about 60 characters: roff wants its input short. */
static void roff(FILE *f, const char *text, bool one_line)
{
    size_t column = 0;
    for (const char *p = text; *p; p += *p == ' ') {
        const bool full = column > 50 && !one_line;
        if (p > text) fputc(full ? '\n' : ' ', f);
        if (full) column = 0;
        const size_t n = roff_word(f, p);
        column += n + 1;
        p += n;
    }
}

static void page_top(FILE *f, const char *name, const char *summary)
{
    fputs(".TH ", f);
    for (const char *c = name; *c; c++) fputc(toupper((unsigned char)*c), f);
    fprintf(f, " 1 %s \"pquant " PQ_VERSION_STRING "\" \"User Commands\"\n.SH NAME\n", to.date);
    roff(f, name, true);
    fputs(" \\- ", f);
    roff(f, summary, true);
    fputs("\n.SH SYNOPSIS\n", f);
}

static const char exit_status[] =
    ".SH EXIT STATUS\n"
    ".TP\n0\ndone\n.TP\n1\nfailed, with one line on the standard error\n.TP\n2\nwrong usage\n"
    ".TP\n3\ndone, but the budget cannot be met or INT8 is not worth it;\n"
    "the outputs are written all the same\n";

static void roff_names(FILE *f, const char *name)
{
    char one[64];
    for (const char *p = name; *p; p += *p == ',') {
        const size_t len = strcspn(p, ",");
        snprintf(one, sizeof one, "%s%.*s", p == name ? "" : ", ", (int)len, p);
        roff(f, one, true);
        p += len;
    }
}

static void page(const char *name, const char *usage, const cli_opt *opt, size_t n)
{
    char full[64], file[80];
    snprintf(full, sizeof full, "pquant-%s", name);
    snprintf(file, sizeof file, "%s.1", full);
    FILE *f = create(file);
    page_top(f, full, to.summary);
    fputs(".B pquant ", f);
    roff(f, name, true);
    fputs("\n", f);
    roff(f, usage, false);
    fputs("\n.SH DESCRIPTION\n"
          "Results go to the standard output, everything else to the standard error.\n"
          "An option takes its value as the next word or behind an equals sign.\n.SH OPTIONS\n",
          f);
    for (size_t i = 0; i < n; i++) {
        fputs(".TP\n.B ", f);
        roff_names(f, opt[i].name);
        if (opt[i].arg) {
            fputs(" \\fI", f);
            roff(f, opt[i].arg, true);
            fputs("\\fR", f);
        }
        fputs("\n", f);
        roff(f, opt[i].help, false);
        fputs("\n", f);
    }
    fputs(".TP\n.B \\-\\-help\nthe options and their defaults\n", f);
    fputs(exit_status, f);
    fputs(".SH SEE ALSO\n.BR pquant (1)\n", f);
    finish(f, file);
}

static void overview(void)
{
    FILE *f = create("pquant.1");
    page_top(f, "pquant", "partial post-training quantization of object detectors");
    fputs(".B pquant\n.I COMMAND\n.RI [ argument \" ...\"]\n.br\n.B pquant\n"
          ".BR \\-\\-help | \\-\\-version\n.SH DESCRIPTION\n",
          f);
    fputs("Takes a trained object detector and gives back the fastest version of it that\n"
          "is still accurate: INT8 wherever that is faster and the mean average precision\n"
          "survives, full precision in the few layers that need it.\n"
          "Models are .pth checkpoints of DAMO\\-YOLO, .onnx files of convolutional\n"
          "detectors and .pqe engine files.\n.SH COMMANDS\n",
          f);
    for (int i = 0; i < N_COMMANDS; i++) {
        fputs(".TP\n.BR pquant\\-", f);
        roff(f, dashed(command[i].name), true);
        fputs(" (1)\n", f);
        roff(f, command[i].summary, false);
        fputs("\n", f);
    }
    fputs(exit_status, f);
    fputs(".SH ENVIRONMENT\n"
          ".TP\n.BR PQUANT_OPENVINO \", \" PQUANT_ONNXRUNTIME\n"
          "where the libraries of these engines are: a folder or the file\n"
          ".TP\n.B PQ_CPU_MASK\n"
          "none, avx2 or avx512: use no instruction sets beyond these\n",
          f);
    finish(f, "pquant.1");
}

/* ---- completions ---- */

/* The names of an option, "--quiet,-q", with `between` and `before` each. */
static void names(FILE *f, const char *name, const char *before, const char *between)
{
    for (const char *p = name; *p; p += *p == ',') {
        const int len = (int)strcspn(p, ",");
        fprintf(f, "%s%s%.*s", p == name ? "" : between, before, len, p);
        p += len;
    }
}

static void words(FILE *f, const choices *c)
{
    for (size_t k = 0; k < c->n; k++) fprintf(f, "%s%s", k ? " " : "", c->word[k]);
}

static void bash_options(const char *name, const cli_opt *opt, size_t n)
{
    char before[80];
    snprintf(before, sizeof before, "%s:", name);
    for (size_t i = 0; i < n; i++) {
        const choices c = choices_of(&opt[i]);
        if (!c.n) continue;
        fputs("        ", to.bash);
        names(to.bash, opt[i].name, before, "|");
        fputs(") words='", to.bash);
        words(to.bash, &c);
        fprintf(to.bash, "' files=%s ;;\n", c.closed ? "" : "yes");
    }
    fprintf(to.bash, "        %s*) options='", before);
    for (size_t i = 0; i < n; i++) {
        names(to.bash, opt[i].name, "", " ");
        fputc(' ', to.bash);
    }
    fputs("--help' ;;\n", to.bash);
}

static void bash_top(void)
{
    fputs("# Completion of pquant for bash; made from the tables of --help.\n_pquant()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local words= files= options=\n"
          "    [[ $cur == = ]] && cur=\n"
          "    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    if [[ $COMP_CWORD == 1 ]]; then\n        words='",
          to.bash);
    for (int i = 0; i < N_COMMANDS; i++) fprintf(to.bash, "%s ", dashed(command[i].name));
    fputs("--help --version'\n    else\n        case ${COMP_WORDS[1]//_/-}:$prev in\n", to.bash);
}

static void bash_end(void)
{
    fputs("        esac\n    fi\n"
          "    [[ $cur == -* && $options ]] && words=$options\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "    [[ $files ]] || return 0\n"
          "    compopt -o filenames 2>/dev/null\n"
          "    mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$cur\")\n"
          "}\ncomplete -o default -F _pquant pquant\n",
          to.bash);
}

static void zsh_text(const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", to.zsh);
        else if (strchr("[]:\\", *text))
            fprintf(to.zsh, "\\%c", *text);
        else
            fputc(*text, to.zsh);
    }
}

static void zsh_option(const cli_opt *o, const char *name, int len)
{
    const choices c = choices_of(o);
    fprintf(to.zsh, " \\\n        '%.*s%s[", len, name, o->arg && name[1] == '-' ? "=" : "");
    zsh_text(o->help);
    fputc(']', to.zsh);
    if (o->arg) {
        fputc(':', to.zsh);
        zsh_text(o->arg);
        fputc(':', to.zsh);
        if (c.n) fputs("(", to.zsh), words(to.zsh, &c), fputs(")", to.zsh);
        if (!c.n && o->kind == CLI_TEXT) fputs("_files", to.zsh);
    }
    fputc('\'', to.zsh);
}

static void zsh_options(const char *name, const cli_opt *opt, size_t n)
{
    fprintf(to.zsh, "    %s) _arguments", name);
    for (size_t i = 0; i < n; i++) {
        for (const char *p = opt[i].name; *p; p += *p == ',') {
            const int len = (int)strcspn(p, ",");
            zsh_option(&opt[i], p, len);
            p += len;
        }
    }
    fputs(" \\\n        '--help[the options and their defaults]' '*:file:_files' ;;\n", to.zsh);
}

static void zsh_top(void)
{
    fputs("#compdef pquant\n# Completion of pquant for zsh; made from the tables of --help.\n"
          "if (( CURRENT == 2 )); then\n    local -a commands\n    commands=(\n",
          to.zsh);
    for (int i = 0; i < N_COMMANDS; i++) {
        fprintf(to.zsh, "        '%s:", dashed(command[i].name));
        zsh_text(command[i].summary);
        fputs("'\n", to.zsh);
    }
    fputs("    )\n    _describe command commands\n    return\nfi\n"
          "shift words\n(( CURRENT-- ))\ncase ${words[1]//_/-} in\n",
          to.zsh);
}

/* A command asked before it parsed. */
int cli_usage(const char *name, const char *fmt, ...)
{
    fprintf(stderr, "pquant-manual: %s: %s\n", name, fmt);
    exit(1);
}

int cli_parse(const char *name, const char *usage, const cli_opt *opt, size_t n_opts, int argc,
              char **argv, const char **word, size_t max_words, size_t *n_words)
{
    (void)argc, (void)argv, (void)word, (void)max_words;
    *n_words = 0;
    page(name, usage, opt, n_opts);
    bash_options(name, opt, n_opts);
    zsh_options(name, opt, n_opts);
    return CLI_DONE;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: pquant-manual FOLDER YYYY-MM-DD\n", stderr);
        return 2;
    }
    to.folder = argv[1];
    to.date = argv[2];
    to.bash = create("pquant.bash");
    to.zsh = create("_pquant");
    overview();
    bash_top();
    zsh_top();
    for (int i = 0; i < N_COMMANDS; i++) {
        char *no_arguments[] = {NULL, NULL};
        to.summary = command[i].summary;
        if (command[i].run(1, no_arguments) != CLI_DONE) return 1;
    }
    bash_end();
    fputs("esac\n", to.zsh);
    finish(to.bash, "pquant.bash");
    finish(to.zsh, "_pquant");
    return 0;
}
