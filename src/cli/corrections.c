/* What corrections gave, in short: for people and for run.json. */
#include <stdio.h>

#include "cli/cli.h"

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
           cJSON_AddNumberToObject(o, "of_which_reconstruction", s.fix_seconds);
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
}
