// SPDX-License-Identifier: Apache-2.0
// use_cxx.cc - the public headers from C++17, linked against the shared library.
#include <cstdio>
#include <cstring>
#include <string>

#include "rerank.h"
#include "rerank_backend.h"

static bool fails(bool ok, const char *what)
{
    if (!ok) std::fprintf(stderr, "use_cxx: %s\n", what);
    return !ok;
}

int main()
{
    rr_options options;
    rr_engine *engine = nullptr;
    rr_error err{};

    rr_options_init(&options);
    if (fails(options.struct_size == sizeof(options), "struct_size")) return 1;
    if (fails(std::string(rr_version()) == RR_VERSION, "version of library and header")) return 1;
    if (fails(std::strcmp(rr_status_name(RR_EBUSY), "RR_EBUSY") == 0, "status name")) return 1;

    options.model = "/nonexistent/model";
    int rc = rr_open(&engine, &options, &err);
    if (fails(rc != RR_OK && err.code == rc && err.msg[0] != 0, "error of rr_open")) return 1;
    if (fails(engine == nullptr, "no engine after an error")) return 1;
    rr_close(engine);
    return 0;
}
