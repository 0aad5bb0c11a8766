/* What corrections gave, in short: for people and for run.json. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char *const stage_name[PQ_STAGES] = {"ranges alone", "equalisation", "re-encoding",
                                                  "reconstruction"};

static bool add_checked(cJSON *to, const pq_checked *k)
{
    static const char *const key[PQ_STAGES] = {"ranges_alone", "with_equalisation",
                                               "with_reencoding", "with_reconstruction"};
    char dropped[80] = "";
    if (!k->n_images) return true;
    bool ok = cJSON_AddNumberToObject(to, "checked_images", (double)k->n_images) != NULL;
    cJSON *o = cJSON_AddObjectToObject(to, "detections_move");
    for (int i = 0; ok && i < PQ_STAGES; i++) {
        if (k->error[i] >= 0) ok = cJSON_AddNumberToObject(o, key[i], k->error[i]) != NULL;
        const size_t n = strlen(dropped);
        if (k->dropped[i])
            snprintf(dropped + n, sizeof dropped - n, "%s%s", n ? ", " : "", stage_name[i]);
    }
    return ok && (!dropped[0] || cJSON_AddStringToObject(to, "dropped", dropped));
}

bool cli_add_corrections(cJSON *to, const pq_corrections *c)
{
    pq_correction_summary s;
    if (!c) return true;
    pq_corrections_summarize(c, &s);
    cJSON *o = cJSON_AddObjectToObject(to, "corrections");
    return cJSON_AddNumberToObject(o, "equalized_values", (double)s.equalized) &&
           cJSON_AddNumberToObject(o, "unused_bits_before", s.bits_before) &&
           cJSON_AddNumberToObject(o, "unused_bits", s.bits) &&
           cJSON_AddNumberToObject(o, "reencoded_values", (double)s.encoded) &&
           cJSON_AddNumberToObject(o, "reencoding_gain", s.encoding_gain) &&
           cJSON_AddNumberToObject(o, "biases", (double)s.biased) &&
           cJSON_AddNumberToObject(o, "bias_gain", s.bias_gain) &&
           cJSON_AddNumberToObject(o, "weights", (double)s.rounded) &&
           cJSON_AddNumberToObject(o, "gain", s.fix_gain) &&
           cJSON_AddNumberToObject(o, "equalize_seconds", c->seconds[0]) &&
           cJSON_AddNumberToObject(o, "calibrate_seconds", c->seconds[1]) &&
           cJSON_AddNumberToObject(o, "correct_seconds", c->seconds[2]) &&
           cJSON_AddNumberToObject(o, "of_which_reencoding", s.encoding_seconds) &&
           cJSON_AddNumberToObject(o, "of_which_reconstruction", s.fix_seconds) &&
           add_checked(o, &c->checked);
}

/* One line: what was measured, and what went for it. */
static void print_checked(const pq_checked *k)
{
    if (!k->n_images) return;
    printf("checked       on %zu images kept apart: detections move", k->n_images);
    for (int i = 0, n = 0; i < PQ_STAGES; i++)
        if (k->error[i] >= 0)
            printf("%s %.4f with %s%s", n++ ? "," : "", k->error[i], stage_name[i],
                   k->dropped[i] ? " (dropped)" : "");
    printf("\n");
}

void cli_print_corrections(const pq_corrections *c)
{
    pq_correction_summary s;
    if (!c) return;
    pq_corrections_summarize(c, &s);
    printf("\nequalized     %4zu values: %.1f bits of the average channel unused, %.1f before; "
           "%.1f s\n",
           s.equalized, s.bits, s.bits_before, c->seconds[0]);
    printf("re-encoded    %4zu values: errors behind them %.2f times smaller; %.1f s\n", s.encoded,
           s.encoding_gain, s.encoding_seconds);
    printf("biases        %4zu corrected: errors %.2f times smaller by that alone\n", s.biased,
           s.bias_gain);
    printf(
        "weights       %4zu rounded by reconstruction: errors %.2f times smaller in all; %.1f s\n",
        s.rounded, s.fix_gain, s.fix_seconds);
    print_checked(&c->checked);
}
