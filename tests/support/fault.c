/* SPDX-License-Identifier: Apache-2.0 */
/* fault.c - see fault.h. */
#include "support/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rerank_types.h"

size_t fault_memory_in_use(void)
{
    size_t total = 0, now, peak;
    int tag;

    for (tag = 0; tag < RR_MEM_TAGS; tag++) {
        rr_mem_usage((enum rr_mem_tag)tag, &now, &peak);
        total += now;
    }
    return total;
}

struct fault_report fault_each(fault_fn *fn, void *user)
{
    struct fault_report report = { 0, 0 };
    size_t before = fault_memory_in_use();
    uint64_t n;

    for (n = 1;; n++) {
        uint64_t made;
        int rc;

        rr_mem_fault(n, false);
        rc = fn(user);
        made = rr_mem_fault_count();
        rr_mem_fault(0, false);
        if (fault_memory_in_use() != before) {
            fail_msg("allocation %llu failed and %td bytes stayed behind", (unsigned long long)n,
                     (ptrdiff_t)(fault_memory_in_use() - before));
        }
        if (made < n) { /* nothing failed this time */
            assert_int_equal(rc, RR_OK);
            report.allocations = made;
            return report;
        }
        if (rc == RR_OK) {
            report.survived++;
        } else if (rc != RR_ENOMEM) {
            fail_msg("allocation %llu failed and gave status %d", (unsigned long long)n, rc);
        }
    }
}
