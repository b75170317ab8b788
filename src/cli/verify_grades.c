/* SPDX-License-Identifier: Apache-2.0 */
/* verify_grades.c - what a list says about the relevance of its documents.
 * Layer: cli (L6).  Threads: any. */
#include "base/err.h"
#include "cli/verify.h"

#define MAX_GRADE 100

/* "positive": the index of the relevant document, or an array of such. */
static int read_positive(const json_t *positive, float *grades, size_t n, struct rr_error *err)
{
    size_t i, m = json_is_array(positive) ? json_array_size(positive) : 1;

    for (i = 0; i < m; i++) {
        const json_t *at = json_is_array(positive) ? json_array_get(positive, i) : positive;

        if (!json_is_integer(at) || json_integer_value(at) < 0 ||
            (size_t)json_integer_value(at) >= n)
            return rr_fail(err, RR_EFORMAT,
                           "\"positive\" is no index of a document, nor an array of some");
        grades[json_integer_value(at)] = 1;
    }
    return RR_OK;
}

int rr_verify_grades(const json_t *list, float *grades, size_t n, bool *known, struct rr_error *err)
{
    const json_t *positive = json_object_get(list, "positive");
    const json_t *labels = json_object_get(list, "labels");
    size_t i;

    if (json_is_null(labels)) labels = NULL;
    *known = labels || (positive && !json_is_null(positive));
    for (i = 0; i < n; i++) grades[i] = 0;
    if (labels) {
        if (json_array_size(labels) != n)
            return rr_fail(err, RR_EFORMAT, "\"labels\" has not as many members as \"documents\"");
        for (i = 0; i < n; i++) {
            const json_t *label = json_array_get(labels, i);
            double grade = json_number_value(label);

            if (!json_is_number(label) || grade < 0 || grade > MAX_GRADE)
                return rr_fail(err, RR_EFORMAT, "a label is not a number from 0 to 100");
            grades[i] = (float)grade;
        }
    } else if (*known) {
        return read_positive(positive, grades, n, err);
    }
    return RR_OK;
}
