/** @file cli.h  What the subcommands share: options, the model, progress, exit status. */
#ifndef PQ_CLI_H
#define PQ_CLI_H

#include <pquant/pquant.h>

#include "base/json.h"

/** Exit status of the command. */
enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NOT_WORTH = 3 };

typedef enum cli_kind { CLI_FLAG, CLI_TEXT, CLI_INT, CLI_REAL } cli_kind;

/** One option. `to` points at a bool, const char *, int64_t or double. */
typedef struct cli_opt {
    const char *name; /* "--engine" or "-o"; "--engine,-e" has two */
    cli_kind kind;
    void *to;
    const char *arg;  /* how the argument is called in --help; NULL for flags */
    const char *help; /* with its default in words */
} cli_opt;

/**
 * Parse argv[1 ..]; words that are no options go to word[0 .. *n_words-1] (room for max_words).
 * Returns -1 to go on, or the exit status: 0 after --help, 2 on wrong usage (with one line on
 * stderr).
 */
int cli_parse(const char *command, const char *usage, const cli_opt *opt, size_t n_opts, int argc,
              char **argv, const char **word, size_t max_words, size_t *n_words);

/** One line on stderr, exit status 1 (2 for INVALID, which the caller's input caused). */
int cli_fail(const pq_ctx *ctx, pq_status st);
int cli_usage(const char *command, const char *fmt, ...) PQ_PRINTF(2, 3);

/** A context that logs warnings to stderr and draws a progress bar on a terminal. */
pq_status cli_context(pq_ctx **out, bool quiet);

/** Print a JSON document on stdout and delete it. */
int cli_print_json(pq_ctx *ctx, cJSON *doc);

/** What most commands take. Members stay zero where the option was not given. */
typedef struct cli_common {
    const char *engine;             /* --engine */
    const char *engine_path;        /* --engine-path */
    const char *scheme;             /* --scheme */
    const char *config;             /* -f */
    const char *sidecar, *img_size; /* --sidecar, --img-size */
    int64_t threads, batch, size;   /* size: of a square input, where a command has it so */
    double conf, iou;               /* --conf-thres, --iou-thres; < 0: default */
    int64_t max_det;
    const char *data, *ann; /* --data, --ann */
    const char *calib_data, *calibrator, *ranges;
    int64_t calib_images;
    bool no_equalize, no_bias_correct, no_adaround;
    bool rounds_outputs; /* int8 plans round their outputs whatever the engine */
    bool json, quiet;
    int argc; /* the command line from the command's name on, for run.json; may stay 0 */
    char **argv;
} cli_common;
void cli_common_init(cli_common *c);
/** cli_context as --quiet and --engine-path say. */
pq_status cli_context_for(pq_ctx **out, const cli_common *c);

/** Groups of options for a command's table. */
#define CLI_OPT_MODEL(c)                                                                           \
    {"--config,-f", CLI_TEXT, &(c).config, "CONFIG",                                               \
     "DAMO-YOLO config that a .pth must agree with"},                                              \
        {"--batch", CLI_INT, &(c).batch, "N", "batch size (default 1)"},                           \
        {"--img-size", CLI_TEXT, &(c).img_size, "N|HxW", "input size (default: the model's)"},     \
        {"--sidecar", CLI_TEXT, &(c).sidecar, "FILE",                                              \
         "how outputs are read, input, classes (default: MODEL's name with .json, if it is one)"}, \
    {                                                                                              \
        "--quiet,-q", CLI_FLAG, &(c).quiet, NULL, "no warnings, no progress"                       \
    }
#define CLI_OPT_ENGINE_PATH(c)                                                                     \
    {                                                                                              \
        "--engine-path", CLI_TEXT, &(c).engine_path, "PATH",                                       \
            "folders or files with engines' libraries, looked into first"                          \
    }
#define CLI_OPT_ENGINE(c)                                                                          \
    {"--engine", CLI_TEXT, &(c).engine, "NAME", "engine to run on (default cpu)"},                 \
        CLI_OPT_ENGINE_PATH(c),                                                                    \
    {                                                                                              \
        "--threads", CLI_INT, &(c).threads, "N", "threads (default: all)"                          \
    }
#define CLI_OPT_CALIB(c)                                                                           \
    {"--calib-data", CLI_TEXT, &(c).calib_data, "IMAGES", "folder of calibration images"},         \
        {"--calib-images", CLI_INT, &(c).calib_images, "N",                                        \
         "use the first N of them (default 128)"},                                                 \
        {"--calibrator", CLI_TEXT, &(c).calibrator, "NAME",                                        \
         "auto, max, percentile, entropy or mse (default auto)"},                                  \
        {"--ranges", CLI_TEXT, &(c).ranges, "FILE", "ranges.json instead of calibrating"},         \
        {"--scheme", CLI_TEXT, &(c).scheme, "s8|u8", "activation scheme (default: the engine's)"}, \
        CLI_OPT_CORRECT(c)
/** Switches of what calibrating corrects. */
#define CLI_OPT_CORRECT(c)                                                                         \
    {"--no-equalize", CLI_FLAG, &(c).no_equalize, NULL, "no cross-layer equalisation"},            \
        {"--no-bias-correct", CLI_FLAG, &(c).no_bias_correct, NULL, "no bias correction"},         \
    {                                                                                              \
        "--no-adaround", CLI_FLAG, &(c).no_adaround, NULL, "no adaptive rounding"                  \
    }
#define CLI_OPT_DATA(c)                                                                            \
    {"--data", CLI_TEXT, &(c).data, "IMAGES", "folder of evaluation images"},                      \
    {                                                                                              \
        "--ann", CLI_TEXT, &(c).ann, "COCO.json", "their annotations"                              \
    }
#define CLI_OPT_HEAD(c)                                                                            \
    {"--conf-thres", CLI_REAL, &(c).conf, "X", "least score (default: the family's)"},             \
        {"--iou-thres", CLI_REAL, &(c).iou, "X", "suppression IoU (default: the family's)"},       \
    {                                                                                              \
        "--max-det", CLI_INT, &(c).max_det, "N", "most boxes an image (default: the family's)"     \
    }
#define CLI_OPT_JSON(c)                                                                            \
    {                                                                                              \
        "--json", CLI_FLAG, &(c).json, NULL, "one JSON document on stdout"                         \
    }

/** A model ready to work with. plan is set when the file was a .pqe. */
typedef struct cli_model {
    const char *path;
    pq_graph *graph; /* folded */
    pq_plan *plan;
    bool has_head;
    pq_head head;
    pq_prep prep;
    pq_sidecar *sidecar; /* NULL: none */
    char **class_name;   /* [head.n_classes], or NULL: of the sidecar, the file, or COCO's 80 */
    int32_t *class_map;  /* of cli_match_classes */
} cli_model;
/** Read and fold. Plans need cli_model_load, which hashes the weights too. */
pq_status cli_model_read(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c);
pq_status cli_model_load(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c);
void cli_model_clear(cli_model *m);
/** OK, or why the model's outputs cannot be decoded. */
pq_status cli_need_head(pq_ctx *ctx, const cli_model *m);
/** Let class i of the model be the annotations' category of its id, else of its name, else of its
 *  place. Errors: FORMAT (they do not fit; what to do). */
pq_status cli_match_classes(pq_ctx *ctx, cli_model *m, const pq_coco *coco);
/** Fill class_name; called by cli_model_read. */
pq_status cli_name_classes(pq_ctx *ctx, cli_model *m);
/** Seconds of CLOCK_MONOTONIC. */
double cli_now(void);
/** "90", "90s", "10m" or "2h": false where it is none of them. */
bool cli_parse_seconds(const char *text, double *seconds);
/** "N" or "HxW". Errors: INVALID. */
pq_status cli_parse_size(pq_ctx *ctx, const char *text, int64_t *h, int64_t *w);

/** Ranges from --ranges, or by calibrating on --calib-data. eval (may be NULL): images that will be
 *  evaluated; an overlap with them is said aloud. Errors: INVALID where neither was given. */
pq_status cli_ranges(pq_ctx *ctx, pq_ranges **out, const cli_model *m, const cli_common *c,
                     const pq_dataset *eval);
/** Ranges and what goes with them. */
typedef struct cli_calibration {
    pq_ranges *ranges;
    pq_corrections *corrections; /* NULL: none */
} cli_calibration;
/** Ranges and corrections for plans of `engine`: from --ranges (and the corrections beside it), or
 *  made from --calib-data. journal (may be NULL): where finished operators are kept. Errors: as
 *  cli_ranges. */
pq_status cli_calibrate(pq_ctx *ctx, cli_calibration *out, const cli_model *m, const cli_common *c,
                        const pq_engine *engine, const pq_dataset *eval, const char *journal);
void cli_calibration_clear(cli_calibration *k);
/** A summary of corrections, as "corrections" of an object and as four lines; nothing for NULL. */
bool cli_add_corrections(cJSON *to, const pq_corrections *c);
void cli_print_corrections(const pq_corrections *c);
/** Can a file of that name be written? Asked before minutes of work go into it. Errors: IO. */
pq_status cli_try_writing(pq_ctx *ctx, const char *path);
/** NAME.json of ranges as NAME plus an ending: where their corrections or a journal are. Memory:
 *  *out is yours (pq_free). */
pq_status cli_beside_ranges(pq_ctx *ctx, char **out, const char *ranges, const char *ending);
/** Writes ranges.json and, where there are corrections, ranges.corrections.json beside it. */
pq_status cli_calibration_save(pq_ctx *ctx, const cli_calibration *k, const char *path);
/** --scheme, or the engine's default. */
pq_status cli_scheme(pq_ctx *ctx, pq_scheme *out, const cli_common *c, const pq_engine *engine);
/** A plan by word: fp32, bf16, fp16, int8 (with *calibration, made on first need) or a
 *  plan.json. */
pq_status cli_plan(pq_ctx *ctx, pq_plan **out, const char *word, const cli_model *m,
                   const cli_common *c, const pq_engine *engine, cli_calibration *calibration,
                   const pq_dataset *eval);

/** Evaluation data: annotations and images. */
typedef struct cli_data {
    pq_coco *coco;
    pq_dataset *images;
} cli_data;
pq_status cli_data_load(pq_ctx *ctx, cli_data *d, const cli_common *c);
/** The same for a model: its classes are matched with the annotations. One whose head is not known
 *  needs no annotations: the images of a folder, coco NULL. */
pq_status cli_data_for(pq_ctx *ctx, cli_data *d, cli_model *m, const cli_common *c);
void cli_data_clear(cli_data *d);
/** -1, or the exit status where --data or the calibration's source is missing. */
int cli_need_data(const char *command, const cli_common *c);
/** What a plan on an engine finds, matched with the ground truth. Memory: pq_eval_free. */
pq_status cli_match(pq_ctx *ctx, pq_eval_matches **out, const cli_model *m, const pq_plan *plan,
                    const pq_engine *engine, const cli_data *d, const cli_common *c);
/** AP and the rest of a plan on an engine. */
pq_status cli_evaluate(pq_ctx *ctx, pq_figures *out, const cli_model *m, const pq_plan *plan,
                       const pq_engine *engine, const cli_data *d, const cli_common *c);
/** Adds a number; nothing where it is not finite. False without memory. */
bool cli_add_number(cJSON *to, const char *key, double v);
/** Adds the 12 figures to an object. */
bool cli_add_figures(cJSON *to, const pq_figures *f);

/** "a,b,c" as words. Memory: cli_list_clear. */
typedef struct cli_list {
    char *text;
    const char **at;
    size_t n;
} cli_list;
pq_status cli_list_split(pq_ctx *ctx, cli_list *out, const char *text);
void cli_list_clear(cli_list *l);

/** Words checked before anything is read: -1, or 2 with a line on stderr for a precision that does
 * not exist, int8 without ranges, an engine that does not exist. Lists are separated by commas. */
int cli_check_precisions(const char *command, const char *list, const cli_common *c);
int cli_check_engines(const char *command, const char *list);
/** Is the file there, and a .pqe by its first bytes? */
bool cli_is_pqe(const char *path);

#define X(name, summary) int cmd_##name(int argc, char **argv);
#include "cli/commands.def"

#endif
