// SPDX-License-Identifier: Apache-2.0
// use_hpp.cc - rerank.hpp, linked against the shared library: scores, futures, tokens, errors.
//
//     use_hpp MODEL
#include "rerank.hpp"

#include <cstdio>

static int failures;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            std::fprintf(stderr, "use_hpp: line %d: %s\n", __LINE__, #condition); \
            failures++; \
        } \
    } while (0)

template <class F> static int code_of(F f)
{
    try {
        f();
    } catch (const rerank::Error &e) {
        CHECK(e.what()[0] != 0 && std::string(e.name()) == rr_status_name(e.code()));
        return e.code();
    }
    return RR_OK;
}

static void use(const char *model)
{
    rerank::Engine engine{ std::string(model) };
    rerank::Result first = engine.score("Where is Paris?", { "Bread.", "Paris is in France.", "" });
    std::vector<std::future<rerank::Result>> futures;

    CHECK(first.size() == 3 && first.scores().size() == 3 && first.order().size() == 3);
    for (std::size_t i = 1; i < 3; i++)
        CHECK(first[first.order()[i - 1]].logit >= first[first.order()[i]].logit);
    CHECK(first.raw().tokens > 0);

    rerank::Engine moved = std::move(engine);
    for (int i = 0; i < 20; i++)
        futures.push_back(moved.submit("Where is Paris?", { "Bread.", "Paris is in France.", "" }));
    for (auto &future : futures) {
        rerank::Result again = future.get();
        for (std::size_t i = 0; i < 3; i++) CHECK(again[i].logit == first[i].logit);
    }

    rr_request strict{};
    strict.no_truncate = true;
    strict.max_length = 8;
    std::string longer(400, 'x');
    for (std::size_t i = 1; i < longer.size(); i += 2) longer[i] = ' ';
    CHECK(code_of([&] { (void)moved.score("q", { longer }, strict); }) == RR_ETOOBIG);
    CHECK(code_of([&] { (void)moved.submit("q", { longer }, strict).get(); }) == RR_ETOOBIG);
    CHECK(code_of([&] { (void)moved.score("q", {}); }) == RR_EINVAL);
    CHECK(code_of([&] { (void)moved.submit("q", {}); }) == RR_EINVAL);

    std::vector<std::int32_t> ids;
    for (const rr_token &token : moved.tokenize("bread and water", false)) ids.push_back(token.id);
    CHECK(!ids.empty() && moved.decode(ids) == "bread and water");
    CHECK(moved.decode({}).empty());
    CHECK(moved.info().max_length > 0 && moved.stats().requests_done >= 21 && moved.health().ok);

    auto late = moved.submit("q", { "a" });
    rerank::Engine(std::move(moved)); // closes: what was accepted is finished first
    CHECK(late.get().size() == 1);
}

int main(int argc, char **argv)
{
    CHECK(code_of([] { rerank::Engine("/nonexistent/model"); }) == RR_ENOENT);
    try {
        use(argc > 1 ? argv[1] : "models/starter");
    } catch (const std::exception &e) {
        std::fprintf(stderr, "use_hpp: %s\n", e.what());
        return 1;
    }
    if (!failures) std::puts("rerank.hpp: ok");
    return failures ? 1 : 0;
}
