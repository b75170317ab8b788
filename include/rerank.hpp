// SPDX-License-Identifier: Apache-2.0
// rerank.hpp - librerank for C++17: the same as rerank.h, with owners and exceptions.  Header only.
//
//     rerank::Engine engine("models/starter");
//     rerank::Result result = engine.score("Where is Paris?", { "Paris is in France.", "Bread." });
//
//     for (std::uint32_t i : result.order()) std::printf("%u %.4f\n", i, result[i].score);
//
// Everything that can fail throws rerank::Error.  Threads: any may use an engine, as in rerank.h.  The
// destructor of an engine finishes every accepted request, so that no future is left behind.
#ifndef RERANK_HPP
#define RERANK_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rerank.h"

namespace rerank
{

using Score = struct rr_score; // rr_score alone is the function

// code() is one of enum rr_status, what() the message of the library.
class Error : public std::runtime_error
{
  public:
    explicit Error(const rr_error &err) : std::runtime_error(err.msg), code_(err.code)
    {
    }
    int code() const noexcept
    {
        return code_;
    }
    const char *name() const noexcept
    {
        return rr_status_name(code_);
    }

  private:
    int code_;
};

namespace detail
{
inline rr_text view(std::string_view s) noexcept
{
    return rr_text{ s.data(), s.size() };
}

inline void check(int rc, const rr_error &err)
{
    if (rc != RR_OK) throw Error(err);
}

struct Close {
    void operator()(rr_engine *engine) const noexcept
    {
        rr_close(engine);
    }
    void operator()(rr_result *result) const noexcept
    {
        rr_result_free(result);
    }
    void operator()(rr_tokens *tokens) const noexcept
    {
        rr_tokens_free(tokens);
    }
};

// A range over an array that somebody else owns.
template <class T> class View
{
  public:
    View(const T *data, std::size_t size) noexcept : data_(data), size_(size)
    {
    }
    const T *begin() const noexcept
    {
        return data_;
    }
    const T *end() const noexcept
    {
        return data_ + size_;
    }
    std::size_t size() const noexcept
    {
        return size_;
    }
    const T &operator[](std::size_t i) const noexcept
    {
        return data_[i];
    }

  private:
    const T *data_;
    std::size_t size_;
};
} // namespace detail

// Options with their defaults; fields as in struct rr_options.  Strings are not copied: they have
// to live until the engine is open.
struct Options : rr_options {
    explicit Options(const char *model_folder)
    {
        rr_options_init(this);
        model = model_folder;
    }
};

// What a request brought: one Score per document in the order of the input, and the order.
class Result
{
  public:
    explicit Result(rr_result *owned) noexcept : result_(owned)
    {
    }

    std::size_t size() const noexcept
    {
        return result_->n_documents;
    }
    const Score &operator[](std::size_t document) const noexcept
    {
        return result_->scores[document];
    }
    detail::View<Score> scores() const noexcept
    {
        return { result_->scores, size() };
    }
    detail::View<std::uint32_t> order() const noexcept
    {
        return { result_->order, size() };
    }
    const rr_result &raw() const noexcept
    {
        return *result_;
    } // timings, counts

  private:
    std::unique_ptr<rr_result, detail::Close> result_;
};

class Engine
{
  public:
    explicit Engine(const std::string &model) : Engine(Options(model.c_str()))
    {
    }
    explicit Engine(const rr_options &options)
    {
        rr_engine *engine = nullptr;
        rr_error err{};
        int rc = rr_open(&engine, &options, &err);

        engine_.reset(engine);
        detail::check(rc, err);
    }

    // Scores and waits.  request, if given, has further choices; its texts are replaced.
    Result score(std::string_view query, const std::vector<std::string_view> &documents,
                 rr_request request = {}) const
    {
        std::vector<rr_text> texts = views(documents);
        rr_result *result = nullptr;
        rr_error err{};

        request.query = detail::view(query);
        request.documents = texts.data();
        request.n_documents = texts.size();
        detail::check(rr_score(get(), &request, &result, &err), err);
        return Result(result);
    }

    // Scores without a waiting thread; the texts are kept until it is done.  The future gives the
    // result or throws.  Throws at once when the request is refused, as with RR_EBUSY.
    std::future<Result> submit(std::string query, std::vector<std::string> documents,
                               rr_request request = {}) const
    {
        auto job = std::make_unique<Job>(std::move(query), std::move(documents), request);
        std::future<Result> future = job->promise.get_future();
        rr_error err{};

        detail::check(rr_submit(get(), &job->request, done, job.get(), nullptr, &err), err);
        job.release(); // done frees it, and may have done so already
        return future;
    }

    std::vector<rr_token> tokenize(std::string_view text, bool add_special = true) const
    {
        rr_tokens *tokens = nullptr;
        rr_error err{};

        detail::check(rr_tokenize(get(), detail::view(text), add_special, &tokens, &err), err);
        std::unique_ptr<rr_tokens, detail::Close> owner(tokens);
        return { tokens->tokens, tokens->tokens + tokens->n };
    }

    std::string decode(const std::vector<std::int32_t> &ids, bool skip_special = true) const
    {
        rr_text text{};
        rr_error err{};

        detail::check(rr_decode(get(), ids.data(), ids.size(), skip_special, &text, &err), err);
        std::unique_ptr<const char, std::function<void(const char *)>> owner(
            text.data, [text](const char *) { rr_text_free(text); });
        return std::string(text.data ? text.data : "", text.len);
    }

    const rr_info &info() const noexcept
    {
        return *rr_engine_info(get());
    }

    rr_stats stats() const noexcept
    {
        rr_stats out;

        rr_engine_stats(get(), &out);
        return out;
    }

    rr_health health() const noexcept
    {
        rr_health out;

        rr_engine_health(get(), &out);
        return out;
    }

    rr_engine *get() const noexcept
    {
        return engine_.get();
    } // for the rest of rerank.h

  private:
    struct Job {
        Job(std::string q, std::vector<std::string> d, const rr_request &r)
            : query(std::move(q)), documents(std::move(d)), request(r)
        {
            texts.reserve(documents.size());
            for (const std::string &text : documents) texts.push_back(detail::view(text));
            request.query = detail::view(query);
            request.documents = texts.data();
            request.n_documents = texts.size();
        }

        std::string query;
        std::vector<std::string> documents;
        std::vector<rr_text> texts;
        rr_request request;
        std::promise<Result> promise;
    };

    static std::vector<rr_text> views(const std::vector<std::string_view> &documents)
    {
        std::vector<rr_text> texts;

        texts.reserve(documents.size());
        for (std::string_view text : documents) texts.push_back(detail::view(text));
        return texts;
    }

    static void done(void *user, rr_result *result, const rr_error *err)
    {
        std::unique_ptr<Job> job(static_cast<Job *>(user));

        if (result)
            job->promise.set_value(Result(result));
        else
            job->promise.set_exception(std::make_exception_ptr(Error(*err)));
    }

    std::unique_ptr<rr_engine, detail::Close> engine_;
};

} // namespace rerank

#endif
